"""What a change of an entry means for workers that were told what it was."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import app
from app.catalog import AdapterSpec, BatchSpec, ModelSpec, QueueSpec
from app.fleet.changes import NOT_FOR_WORKERS, difference, with_changes
from app.media.limits import MediaLimits
from tests.fleet.fakes import spec_of

SPEC = spec_of("a", adapters=(AdapterSpec(id="sql", path="/sql"),))
POET = AdapterSpec(id="poet", path="/poet")


def changed(**changes: Any) -> tuple[set[str], bool]:
    found = difference(SPEC, SPEC, msgspec.structs.replace(SPEC, **changes))
    return set(found.keys), found.needs_load


@pytest.mark.parametrize(
    ("changes", "needs_load"),
    [
        ({"model": "another"}, True),
        ({"dtype": "float16"}, True),
        ({"batch": BatchSpec(max_items=2)}, True),
        ({"replicas": 2}, True),
        ({"queue": QueueSpec(max_items=2)}, False),
        ({"parameters": {"top_k": 1}, "aliases": ("b",)}, False),
        ({"media": MediaLimits(max_bytes=1)}, True),
        ({"media": MediaLimits(allow_urls=True, allow_hosts=("a.example",))}, False),
        ({"adapters": (*SPEC.adapters, POET)}, False),
        ({"adapters": (AdapterSpec(id="sql", path="/another"),)}, True),
        ({"adapters": ()}, True),  # it was loaded to take some
        ({"adapters": (POET,)}, False),
    ],
)
def test_workers_go_on_where_they_can(changes: dict[str, Any], needs_load: bool) -> None:
    """With all keys that only the server looks at."""
    assert changed(**changes) == (set(changes), needs_load)


def test_no_key_that_workers_read_is_taken_for_ours() -> None:
    """Adapters are: each job names its own."""
    folder = Path(app.__file__).parent
    files = [*folder.glob("worker/*.py"), *folder.glob("runtime/**/*.py"), folder / "fleet" / "handle.py"]
    read = {name for path in files for name in re.findall(r"\bspec\.(\w+)", path.read_text())}
    assert {"dtype", "batch", "kv_cache_bytes", "threads"} <= read
    assert read & NOT_FOR_WORKERS == {"adapters"}
    assert set(ModelSpec.__struct_fields__) >= NOT_FOR_WORKERS


def test_files_that_were_found_since_are_no_change() -> None:
    """Of an entry that was mended by hand: `check` would have said its problem."""
    declared = msgspec.structs.replace(SPEC, problem="There is no folder a.")
    assert difference(declared, SPEC, SPEC).keys == set()
    assert difference(declared, declared, SPEC).needs_load


def test_what_was_found_out_keeps_what_changed_meanwhile() -> None:
    """Whichever was first."""
    asked = msgspec.structs.replace(SPEC, tasks=())
    found = msgspec.structs.replace(asked, tasks=SPEC.tasks, has_handler=False)
    now = msgspec.structs.replace(asked, aliases=("b",), adapters=(POET,))
    assert with_changes(found, asked, now) == msgspec.structs.replace(found, aliases=("b",), adapters=(POET,))
