"""The JSON schema of models.yaml says of a file what the server says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from app.catalog import read_catalog
from app.declaration.schema import models_schema
from app.declaration.text import read_yaml
from app.errors import CatalogError
from scripts import generate_models_yaml_reference
from tests.cli.test_commands import pipeserve

REPOSITORY = Path(__file__).resolve().parent.parent.parent
VALIDATOR = jsonschema.Draft7Validator(models_schema())


def written() -> Iterator[tuple[str, str]]:
    """Every models.yaml of the repository: files, and what pages show."""
    for path in (REPOSITORY / "models.yaml", REPOSITORY / "demo" / "models.yaml"):
        yield str(path.relative_to(REPOSITORY)), path.read_text()
    for path in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)):
            if re.search(r"^models:\s+(-|\[)", block, re.MULTILINE):  # Helm's values have other `models:`
                yield f"{path.relative_to(REPOSITORY)}:{number}", block


WRITTEN = dict(written())
RIGHT: dict[str, Any] = {
    "task alone": {"models": [{"task": "ner"}]},
    "durations": {"models": [{"task": "ner", "keep_alive": -1, "queue": {"deadline": "500ms", "max_wait": 2.5}}]},
    "never, as text": {"models": [{"task": "ner", "keep_alive": "-1"}]},
    "sizes": {"models": [{"task": "ner", "memory": "1.5 GB", "cache": 1024, "kv_cache": "8GiB"}]},
    "devices": {"models": [{"task": "ner", "devices": [0, "cuda:1"]}], "budget": {"cuda:0": "80%", "cpu": 1024}},
    "a map of devices": {"models": [{"task": "text-generation", "device_map": {"model.layers.0": 0}}]},
    "adapters by name": {"models": [{"task": "text-generation", "model": "a/b", "adapters": {"sql": "acme/sql"}}]},
    "adapters listed": {"models": [{"task": "ner", "adapters": ["acme/sql", {"path": "acme/poet", "id": "poet"}]}]},
    "no value": {"models": [{"task": "ner", "model": None, "device": None}]},
    "moderations": {
        "models": [{"id": "harms", "task": "text-classification"}],
        "moderations": {"harms": {"labels": {"toxic": "harassment", "threat": ["violence"]}}},
    },
    "defaults": {"models": [{"task": "ner"}], "defaults": {"batch": {"max_items": 8}, "dtype": "float16"}},
}
WRONG: dict[str, Any] = {
    "no models": {"defaults": {}},
    "an empty list": {"models": []},
    "neither task nor model": {"models": [{"id": "a"}]},
    "a key that is none": {"models": [{"task": "ner", "keepalive": 5}]},
    "a key of the file that is none": {"models": [{"task": "ner"}], "default": {}},
    "a key inside another": {"models": [{"task": "ner", "batch": {"size": 8}}]},
    "an id for all": {"models": [{"task": "ner"}], "defaults": {"id": "a"}},
    "a task that is none": {"models": [{"task": "ners"}]},
    "a unit that is none": {"models": [{"task": "ner", "keep_alive": "5 minutes"}]},
    "a negative time": {"models": [{"task": "ner", "keep_alive": "-5s"}]},
    "a size that is none": {"models": [{"task": "ner", "memory": "much"}]},
    "a device that is none": {"models": [{"task": "ner", "device": "gpu"}]},
    "a backend that is none": {"models": [{"task": "ner", "backend": "tensorflow"}]},
    "a class that is none": {"models": [{"task": "ner", "auto_class": "AutoModelForEverything"}]},
    "text for yes or no": {"models": [{"task": "ner", "pinned": "yes, please"}]},
    "too many items": {"models": [{"task": "ner", "batch": {"max_items": 100_000}}]},
}


def is_read(document: Any, folder: Path) -> bool:
    """By the server; what it says of models' own files aside."""
    file = folder / "models.yaml"
    file.write_text(json.dumps(document))
    try:
        read_catalog(file)
    except CatalogError:
        return False
    return True


def test_file_in_docs_is_the_schema() -> None:
    """Regenerate it with `python -m scripts.generate_models_yaml_reference`; the command prints the same."""
    assert generate_models_yaml_reference.SCHEMA.read_text() == generate_models_yaml_reference.schema()
    assert pipeserve("schema").stdout == generate_models_yaml_reference.schema()
    jsonschema.Draft7Validator.check_schema(models_schema())


@pytest.mark.parametrize("where", WRITTEN)
def test_files_that_are_written_somewhere_are_right(where: str) -> None:
    """Those that the repository serves and those that its pages show."""
    assert [error.message for error in VALIDATOR.iter_errors(read_yaml(WRITTEN[where]).value)] == []


@pytest.mark.parametrize("case", RIGHT)
def test_what_the_server_reads_is_right(case: str, tmp_path: Path) -> None:
    """An editor marks nothing that may be written."""
    assert is_read(RIGHT[case], tmp_path)
    assert [error.message for error in VALIDATOR.iter_errors(RIGHT[case])] == []


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_marked(case: str, tmp_path: Path) -> None:
    """What the server refuses for its form an editor has marked before."""
    assert not is_read(WRONG[case], tmp_path)
    assert not VALIDATOR.is_valid(WRONG[case])


def test_keys_are_explained() -> None:
    """An editor shows what each means."""
    schema = models_schema()
    forms = [schema, *schema["$defs"].values()]
    assert [key for form in forms for key, one in form["properties"].items() if not one.get("description")] == []
