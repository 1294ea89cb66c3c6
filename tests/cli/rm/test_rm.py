"""`pipeserve rm` on caches that the test builds: what goes, what stays, and when it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.fingerprint import fingerprint
from app.made_files import MadeFiles, Recipe
from tests.cli.push.folders import WEIGHTS, cache, write, write_model
from tests.cli.several import Done, run_several
from tests.serving import Quiet, serving

NOBODY = "http://127.0.0.1:9"
OLD, NEW = "a" * 40, "b" * 40


@dataclass(frozen=True)
class Removals:
    """Commands that were run, by name, in one process, and the folder of both caches afterwards."""

    folder: Path
    done: dict[str, Done]

    def repository(self, name: str) -> Path:
        return self.folder / "home" / "hub" / f"models--acme--{name}"

    def exports(self) -> set[str]:
        return {kept.recipe.source for kept in MadeFiles(self.folder / "cache").all()}


@pytest.fixture(scope="module")
def removals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Removals]:
    folder = tmp_path_factory.mktemp("rm")
    home = folder / "home"
    for name in ("plain", "loaded", "adapted", "locked", "free", "unreachable"):
        snapshot = cache(home, f"acme/{name}")
        export(folder, snapshot, "int8")
    cache(home, "acme/versions", OLD, ref=None, notes__txt=b"old")
    cache(home, "acme/versions", NEW)
    write(home / "hub" / "models--acme--half" / "refs" / "main", OLD.encode())
    write(home / "hub" / "models--acme--half" / "blobs" / "x.incomplete", b"half")
    cache(home, "acme/linked", OLD)
    weights = write(folder / "mine.safetensors", b"mine")
    (cache(home, "acme/linked", NEW) / "extra.safetensors").symlink_to(weights)
    (home / "hub" / "models--acme--far").symlink_to(cache(folder / "other", "acme/far").parent.parent)
    mine = write_model(folder / "mine")
    export(folder, mine, "float32")
    models = declare(
        folder,
        {"id": "mine", "model": str(mine), "task": "ner"},
        {"id": "old", "model": "acme/versions", "revision": OLD, "task": "ner"},
        {"id": "new", "model": "acme/versions", "task": "ner"},
        {"id": "reviews", "model": "acme/loaded", "task": "ner"},
    )
    card = {"id": "other", "state": "ready", "model": "acme/else", "root": "acme/else"}
    with ExitStack() as servers:
        loaded = [{**card, "id": "reviews"}, {**card, "id": "a", "root": "acme/adapted"}]
        having = servers.enter_context(listing(loaded))
        closed = servers.enter_context(listing([], status=401))
        unloaded = {**card, "state": "unloaded", "model": "acme/free"}
        others = servers.enter_context(listing([card, unloaded, {"id": "of another server"}]))
        commands = {
            "dry": ["acme/plain", "--exports", "--dry-run", "--json"],
            "nobody to ask": ["acme/plain"],
            "nobody to ask, as data": ["acme/plain", "--json"],
            "removed": ["acme/plain", "--exports", "--yes"],
            "again": ["acme/plain", "--yes"],
            "a folder": [str(mine), "--exports", "--yes"],
            "an entry's folder": ["mine", "--yes"],
            "its exports": ["mine", "--exports", "--yes"],
            "a revision": ["old", "--yes"],
            "no such revision": ["acme/versions", "--revision", OLD, "--yes"],
            "half": ["acme/half", "--yes", "--json"],
            "a linked file": ["acme/linked", "--revision", NEW, "--yes"],
            "a linked repository": ["acme/far", "--yes"],
            "loaded": ["reviews", "--yes", "--url", having],
            "adapter loaded": ["acme/adapted", "--yes", "--url", having],
            "not told": ["acme/locked", "--yes", "--url", closed],
            "unreachable": ["acme/unreachable", "--yes", "--url", NOBODY],
            "forced": ["acme/locked", "--yes", "--force", "--url", closed],
            "not loaded": ["acme/free", "--yes", "--url", others],
        }
        done = run_several({name: ["rm", *command, *models] for name, command in commands.items()}, **variables(folder))
    yield Removals(folder, done)


def variables(folder: Path) -> dict[str, str]:
    return {"HF_HOME": str(folder / "home"), "PIPESERVE_CACHE_DIR": str(folder / "cache")}


def declare(folder: Path, *entries: dict[str, Any]) -> tuple[str, str]:
    (folder / "models.yaml").write_text(json.dumps({"models": entries}))
    return "--models", str(folder / "models.yaml")


def export(folder: Path, source: Path, precision: str) -> None:
    def make(place: Path) -> dict[str, float]:
        write(place / "model.onnx", b"network")
        return {}

    recipe = Recipe(
        source=fingerprint(source), task="text-classification", backend="onnx", options={"precision": precision}
    )
    MadeFiles(folder / "cache").get(recipe, make)


@contextmanager
def listing(cards: list[dict[str, Any]], status: int = 200) -> Iterator[str]:
    """A server that says of these models what it says."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            body = json.dumps({"data": cards} if status == 200 else {"error": "wants a key"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        yield url


def test_what_would_go_is_told_with_its_size(removals: Removals) -> None:
    """By a dry run, which asks no server."""
    size = len(WEIGHTS) + sum(path.stat().st_size for path in (removals.folder / "mine").glob("config.json"))
    assert removals.done["dry"].json() == {
        "found": [
            {"kind": "files", "name": "acme/plain", "bytes": size},
            {"kind": "export", "name": "acme/plain as onnx-int8, for text-classification", "bytes": len(b"network")},
        ],
        "bytes": size + len(b"network"),
        "is_removed": False,
    }


def test_nothing_goes_where_nobody_can_be_asked(removals: Removals) -> None:
    """Neither of a pipe nor of a program that wants JSON."""
    for name in ("nobody to ask", "nobody to ask, as data"):
        assert "--yes removes it" in removals.done[name].problem


def test_files_and_exports_of_a_model_go_and_no_others(removals: Removals) -> None:
    """Then there is nothing to remove."""
    assert "are free again" in removals.done["removed"].told()
    assert not removals.repository("plain").exists()
    assert not any(source.startswith("acme--plain@") for source in removals.exports())
    assert any(source.startswith("acme--free@") for source in removals.exports())
    assert "acme/plain is not in the cache" in removals.done["again"].problem


def test_folder_of_ones_own_stays(removals: Removals) -> None:
    """Of an entry that is one, what was made of it may go."""
    assert "is a folder of yours" in removals.done["a folder"].problem
    assert "which stays; --exports removes what was made of it" in removals.done["an entry's folder"].problem
    removals.done["its exports"].told()
    mine = removals.folder / "mine"
    assert (mine / "model.safetensors").read_bytes() == WEIGHTS
    assert fingerprint(mine) not in removals.exports()


def test_one_revision_goes_and_the_other_can_still_be_read(removals: Removals) -> None:
    """Blobs that both have stay; an entry's own revision is the one that goes, and who else names the repository is
    told."""
    assert "acme/versions is what new would download again" in removals.done["a revision"].told()
    snapshots = removals.repository("versions") / "snapshots"
    assert [path.name for path in snapshots.iterdir()] == [NEW]
    assert (snapshots / NEW / "model.safetensors").read_bytes() == WEIGHTS
    assert f"acme/versions at {OLD} is not in the cache" in removals.done["no such revision"].problem


def test_what_a_download_left_that_broke_off_goes(removals: Removals) -> None:
    """huggingface_hub does not list it: a branch names a commit of which there is no file."""
    (found,) = removals.done["half"].json()["found"]
    assert found == {"kind": "files", "name": "acme/half (not whole)", "bytes": len(OLD) + len(b"half")}
    assert not removals.repository("half").exists()


def test_what_a_cache_is_linked_to_is_not_touched(removals: Removals) -> None:
    """A file, or a whole repository, that somebody has elsewhere."""
    assert "is not in the cache" in removals.done["a linked file"].problem
    assert "is a link to" in removals.done["a linked repository"].problem
    assert (removals.folder / "mine.safetensors").read_bytes() == b"mine"
    assert len(list((removals.repository("linked") / "snapshots").iterdir())) == 2
    assert len(list((removals.folder / "other").rglob("model.safetensors"))) == 1


@pytest.mark.parametrize(
    ("name", "repository", "says"),
    [
        ("loaded", "loaded", "has reviews loaded: `pipeserve stop` unloads a model"),
        ("adapter loaded", "adapted", "has a loaded"),
        ("not told", "", "is not known: .*PIPESERVE_API_KEY.* --force removes"),
        ("unreachable", "unreachable", "is not known: .*--force removes"),
    ],
)
def test_what_a_server_has_loaded_stays(removals: Removals, name: str, repository: str, says: str) -> None:
    """By its entry, its repository or that of an adapter; one that was named and does not tell may have it."""
    assert re.search(says, removals.done[name].problem), removals.done[name]
    assert removals.repository(repository).exists() or not repository


def test_what_no_server_has_goes(removals: Removals) -> None:
    """Nor does a server matter that is none of ours; and who insists has it removed."""
    removals.done["forced"].told()
    removals.done["not loaded"].told()
    assert not removals.repository("locked").exists()
    assert not removals.repository("free").exists()


def test_unused_is_what_no_entry_names(tmp_path: Path) -> None:
    """Tokenizers and adapters count; data sets are nobody's business; without a models.yaml everything would be."""
    entry = {"id": "a", "model": "acme/a", "tokenizer": "acme/words", "task": "ner", "adapters": {"sql": "acme/sql"}}
    models = declare(tmp_path, entry)
    for name in ("acme/a", "acme/words", "acme/sql", "acme/left", "acme/over"):
        cache(tmp_path / "home", name)
    data = cache(tmp_path / "home", "acme/data").parent.parent
    data.rename(data.with_name("datasets--acme--data"))
    done = run_several(
        {
            "all": ["rm", "--unused", "--yes", "--json", *models],
            "again": ["rm", "--unused", "--yes", *models],
            "without": ["rm", "--unused", "--yes", "--models", str(tmp_path / "none.yaml")],
        },
        **variables(tmp_path),
    )
    assert [one["name"] for one in done["all"].json()["found"]] == ["acme/left", "acme/over"]
    left = sorted(path.name for path in data.parent.iterdir() if path.name != "CACHEDIR.TAG")
    assert left == ["datasets--acme--data", "models--acme--a", "models--acme--sql", "models--acme--words"]
    assert done["again"].told() == "There is nothing to remove.\n"
    assert "there is no such file" in done["without"].problem


def test_models_are_named_or_unused_ones_asked_for() -> None:
    """One of the two: else it is an argument that is wrong, exit code 2."""
    for arguments in ([], ["acme/a", "--unused"], ["--unused", "--revision", "main"]):
        assert CliRunner().invoke(cli, ["rm", *arguments]).exit_code == 2


def test_environment_goes_unless_others_have_it(tmp_path: Path) -> None:
    """That which this server built, not one that models.yaml declares."""
    mine = str(write_model(tmp_path / "mine"))
    entry = {"model": mine, "task": "ner", "env": "tools"}
    python = write(tmp_path / "cache" / "environments" / "tools" / "bin" / "python", b"")
    write(python.parent.parent / "pipeserve.json", b"{}")

    def removed(*entries: dict[str, Any]) -> Any:
        models = declare(tmp_path, *entries)
        command = [
            "rm",
            "a",
            "--environment",
            "--yes",
            "--cache-dir",
            str(tmp_path / "cache"),
            "--url",
            NOBODY,
            "--force",
        ]
        return CliRunner().invoke(cli, [*command, *models])

    shared = removed({"id": "a", **entry}, {"id": "b", **entry})
    assert (shared.exit_code, "is that of b too" in shared.stderr) == (1, True)
    assert python.exists()
    alone = removed({"id": "a", **entry})
    assert (alone.exit_code, python.exists()) == (0, False), alone.output
    assert "which stays" in removed({"id": "a", **entry}).stderr
