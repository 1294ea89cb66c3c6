"""`pipeserve push` into a Hub of our own, by huggingface_hub as it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.fingerprint import fingerprint
from app.made_files import MadeFiles, Recipe
from tests.cli.push.folders import CONFIG, WEIGHTS, cache, write, write_adapter, write_model
from tests.cli.several import Done, run_several
from tests.fake_hub import TOKEN, FakeHub, serve
from tests.fake_hub_uploads import metadata_of


@dataclass(frozen=True)
class Pushes:
    """Commands that were run, by name, in one process; the Hub afterwards; the folder that all was pushed from."""

    hub: FakeHub
    folder: Path
    done: dict[str, Done]

    def pushed(self, repository: str, path: str) -> str:
        return (self.hub.repositories[repository] / path).read_text()


@pytest.fixture(scope="module")
def pushes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushes]:
    folder = tmp_path_factory.mktemp("push")
    plain, better = str(write_model(folder / "plain", __env=b"K=1")), str(write_model(folder / "better", a__txt=b"a"))
    large = str(write_model(folder / "large", model__safetensors=b"large", onnx_in_model__onnx=b"network"))
    trained_on = str(folder / "base")
    bare = write_adapter(folder / "bare", trained_on)
    (bare / "README.md").unlink()
    adapters = {"sql": str(write_adapter(folder / "sql", trained_on)), "bare": str(bare)}
    entry = {"id": "reviews", "model": "acme/base", "task": "text-classification", "adapters": adapters}
    models = declare(folder, entry)
    cache(folder / "home", "acme/base")
    hub = FakeHub(
        {
            "acme/base": write_model(folder / "base", README__md=b"---\nlicense: mit\n---\n"),
            "acme/closed": write_model(folder / "closed"),
            "ada/branched": write_model(folder / "branched"),
        }
    )
    hub.uploads.closed.add("acme/closed")
    hub.uploads.refused.append(hashlib.sha256(b"network").hexdigest())
    commands = {
        "first": [plain, "--to", "ada/reviews", "--private", "--message", "Reviews"],
        "again": [plain, "--to", "ada/reviews"],
        "as data": [plain, "--to", "ada/reviews", "--json"],
        "adapter alone": [adapters["sql"], "--to", "ada/alone"],
        "adapter with a card": ["reviews:sql", "--to", "ada/sql", *models],
        "adapter without": ["bare", "--to", "ada/bare", *models],
        "copy": ["reviews", "--to", "ada/copy", *models],
        "broken off": [large, "--to", "ada/large"],
        "goes on": [large, "--to", "ada/large"],
        "closed": [better, "--to", "acme/closed"],
        "proposed": [better, "--to", "acme/closed", "--pr"],
        "branched": [better, "--to", "ada/branched", "--branch", "next", "--json"],
        "nowhere": [better, "--to", "ada/nothing", "--pr"],
        "published": [better, "--to", "ada/branched", "--private"],
        "wrong token": [plain, "--to", "ada/reviews", "--token", "hf_wrong"],
    }
    with serve(hub):
        done = run_several(
            {name: ["push", *command] for name, command in commands.items()},
            HF_ENDPOINT=hub.url,
            HF_HUB_DISABLE_XET="1",
            HF_HUB_OFFLINE="0",
            HF_HOME=str(folder / "home"),
            HF_TOKEN=TOKEN,
            PIPESERVE_CACHE_DIR=str(folder / "cache"),
        )
        yield Pushes(hub, folder, done)


def dry(tmp_path: Path, *arguments: str) -> Any:
    """Of a dry run in this process: its JSON, or why there is none."""
    command = ["push", *arguments, "--dry-run", "--json", "--cache-dir", str(tmp_path / "cache")]
    done = CliRunner().invoke(cli, command)
    return json.loads(done.stdout) if done.exit_code == 0 else done.stderr


def declare(folder: Path, *entries: dict[str, Any]) -> tuple[str, str]:
    (folder / "models.yaml").write_text(json.dumps({"models": entries}))
    return "--models", str(folder / "models.yaml")


def test_folder_becomes_a_repository(pushes: Pushes) -> None:
    """Private where that is asked for, with a card, which is not written into the folder."""
    told = pushes.done["first"].told()
    assert "stays here: .env (hidden)" in told
    assert pushes.hub.files("ada/reviews") == ["README.md", "config.json", "model.safetensors"]
    assert pushes.pushed("ada/reviews", "model.safetensors") == WEIGHTS.decode()
    assert json.loads(pushes.pushed("ada/reviews", "config.json")) == CONFIG
    card = pushes.pushed("ada/reviews", "README.md")
    assert metadata_of(card) == {"library_name": "transformers", "pipeline_tag": "text-classification"}
    assert '{"model": "ada/reviews", "task": "text-classification"}' in card
    assert sorted(path.name for path in (pushes.folder / "plain").iterdir()) == [
        ".env",
        "config.json",
        "model.safetensors",
    ]
    commit = pushes.hub.uploads.commits[0]
    assert (commit.repository, commit.message, commit.revision) == ("ada/reviews", "Reviews", "main")
    assert pushes.hub.uploads.private == {"ada/reviews"}
    assert commit.paths == ("README.md", "config.json", "model.safetensors")


def test_pushed_again_there_is_nothing_to_do(pushes: Pushes) -> None:
    """The card that the repository has is not replaced by one of ours."""
    told = pushes.done["again"].told()
    assert "there is nothing to commit" in told
    assert "The card that ada/reviews has stays as it is." in told
    sent = pushes.done["as data"].json()["sent"]
    assert (sent["commit"], sent["is_new"]) == (None, False)
    assert [one.repository for one in pushes.hub.uploads.commits].count("ada/reviews") == 1


def test_adapter_that_was_trained_on_a_folder_names_a_base_that_others_find(pushes: Pushes) -> None:
    """That of its entry, in its configuration and in PEFT's card, which the Hub would refuse; your folder stays."""
    assert '"base_model" with value' in pushes.done["adapter alone"].problem
    assert "What goes says that its base is acme/base" in pushes.done["adapter with a card"].told()
    for name in ("ada/sql", "ada/bare"):
        config = json.loads(pushes.pushed(name, "adapter_config.json"))
        assert (config["base_model_name_or_path"], config["task_type"]) == ("acme/base", "SEQ_CLS")
    theirs = metadata_of(pushes.pushed("ada/sql", "README.md"))
    assert theirs == {"base_model": "acme/base", "tags": ["base_model:adapter:acme/base"]}
    assert str(pushes.folder / "base") in (pushes.folder / "sql" / "adapter_config.json").read_text()


def test_card_of_an_adapter_has_the_licence_of_its_base(pushes: Pushes) -> None:
    """Where it has none of its own."""
    pushes.done["adapter without"].told()
    card = pushes.pushed("ada/bare", "README.md")
    assert metadata_of(card) == {
        "base_model": "acme/base",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "license": "mit",
        "pipeline_tag": "text-classification",
    }
    assert '{"model": "acme/base", "adapters": {"bare": "ada/bare"}}' in card


def test_entry_of_the_hub_is_pushed_from_the_cache(pushes: Pushes) -> None:
    """Links to blobs become files; the copy says where it is from."""
    pushes.done["copy"].told()
    assert pushes.pushed("ada/copy", "model.safetensors") == WEIGHTS.decode()
    told = metadata_of(pushes.pushed("ada/copy", "README.md"))
    assert (told["base_model"], told["license"], "base_model_relation" in told) == ("acme/base", "mit", False)


def test_push_that_broke_off_goes_on(pushes: Pushes) -> None:
    """Nothing was half there in between, and what the Hub had is not sent again."""
    assert "answered 400" in pushes.done["broken off"].problem
    assert "out of order" in pushes.done["broken off"].problem
    pushes.done["goes on"].told()
    (commit,) = [one for one in pushes.hub.uploads.commits if one.repository == "ada/large"]
    assert commit.paths == ("README.md", "config.json", "model.safetensors", "onnx/model.onnx")
    digests = {hashlib.sha256(content).hexdigest() for content in (b"large", b"network")}
    assert sorted(one for one in pushes.hub.uploads.puts if one in digests) == sorted(
        [hashlib.sha256(b"network").hexdigest(), *digests]
    )


def test_who_may_not_write_may_propose(pushes: Pushes) -> None:
    """And is told so, in the Hub's words; but not where there is no repository."""
    assert "may not write to acme/closed (you are not of this organization)" in pushes.done["closed"].problem
    assert "--pr proposes it" in pushes.done["closed"].problem
    assert "/discussions/1 has it" in pushes.done["proposed"].told()
    assert [one.is_proposed for one in pushes.hub.uploads.commits if one.repository == "acme/closed"] == [True]
    assert "ada/nothing does not exist" in pushes.done["nowhere"].problem


def test_branch_is_made(pushes: Pushes) -> None:
    """And main stays as it is."""
    sent = pushes.done["branched"].json()["sent"]
    assert sent["commit"] == pushes.hub.head("ada/branched", "next")
    assert [one.revision for one in pushes.hub.uploads.commits if one.repository == "ada/branched"] == ["next"]
    assert pushes.hub.files("ada/branched") == ["config.json", "model.safetensors"]


def test_what_is_to_be_private_is_not_pushed_to_a_public_repository(pushes: Pushes) -> None:
    """The Hub would take it, and leave it public."""
    assert "is there already, and is public" in pushes.done["published"].problem


def test_without_a_good_token_nothing_is_sent(pushes: Pushes, tmp_path: Path) -> None:
    """One that the Hub does not know, which is told nobody; and none; and where the Hub is not to be asked."""
    wrong = pushes.done["wrong token"]
    assert "does not know the token" in wrong.problem
    assert "hf_wrong" not in wrong.stdout + wrong.stderr
    command = ["push", str(write_model(tmp_path / "m")), "--to", "ada/m"]
    assert "set HF_TOKEN" in CliRunner().invoke(cli, command, env={"HF_TOKEN": ""}).stderr
    assert "HF_HUB_OFFLINE" in CliRunner().invoke(cli, command, env={"HF_TOKEN": TOKEN}).stderr


def kept(tmp_path: Path, source: Path, *, precision: str, **files: bytes) -> None:
    """An export in the cache folder."""

    def make(folder: Path) -> dict[str, float]:
        for name, content in (files or {"model__onnx": precision.encode()}).items():
            write(folder / name.replace("__", "."), content)
        return {"difference": 0.0123}

    recipe = Recipe(
        source=fingerprint(source),
        task="text-classification",
        backend="onnx",
        options={"precision": precision, "auto_class": None},
        versions={"onnxruntime": "1.32.0"},
    )
    MadeFiles(tmp_path / "cache").get(recipe, make)


def test_export_of_an_entry_goes_in_place_of_its_weights(tmp_path: Path) -> None:
    """Where Optimum and this server look for it, with a card of its own that says what it is made of and how far it is
    from that; by `--variant` whatever else was made."""
    folder = write_model(tmp_path / "reviews", README__md=b"of the model", tokenizer__json=b"{}")
    kept(tmp_path, folder, precision="float32", model__onnx=b"net", model__onnx__data=b"numbers")
    kept(tmp_path, folder, precision="int8")
    entry = {"id": "reviews", "model": str(folder), "task": "text-classification"}
    models = declare(tmp_path, {**entry, "backend": "onnx", "quantization": "int8"}, {**entry, "id": "plain"})
    pushed = dry(tmp_path, "reviews", "--to", "ada/reviews-onnx", "--base-model", "acme/reviews", *models)
    assert [file["path"] for file in pushed["files"]] == [
        "README.md",
        "config.json",
        "onnx/model_quantized.onnx",
        "tokenizer.json",
    ]
    assert metadata_of(pushed["card"]) == {
        "base_model": "acme/reviews",
        "base_model_relation": "quantized",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["onnx"],
    }
    assert '"backend": "onnx", "file_name": "onnx/model_quantized.onnx"' in pushed["card"]
    assert "at most 1.2e-02" in pushed["card"]
    other = dry(tmp_path, "plain", "--to", "ada/reviews-onnx", "--variant", "onnx", *models)
    assert [file["path"] for file in other["files"]][2:4] == ["onnx/model.onnx", "onnx/model.onnx.data"]
    assert '"backend": "onnx"}' in other["card"]
    weights = dry(tmp_path, "reviews", "--to", "ada/reviews", "--variant", "weights", *models)
    assert "model.safetensors" in [file["path"] for file in weights["files"]]
    assert weights["card"] is None
    missing = dry(tmp_path, "plain", "--to", "ada/reviews", "--variant", "openvino", *models)
    assert "no export openvino of plain" in missing
    assert "only " in missing


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "is neither a folder nor an entry of"),
        ("far", "`pipeserve pull far` downloads it"),
        ("gone", "There is no folder|does not exist"),
        ("{empty}", "holds no model"),
        ("{partial}", "does not hold all weights"),
    ],
)
def test_what_is_no_model_is_a_sentence(tmp_path: Path, name: str, says: str) -> None:
    """And what to do about it."""
    (tmp_path / "empty").mkdir()
    (write_model(tmp_path / "partial") / "model.safetensors").unlink()
    models = declare(tmp_path, {"id": "far", "model": "acme/far", "task": "ner"}, {"id": "gone", "model": "./gone"})
    told = dry(tmp_path, name.format(empty=tmp_path / "empty", partial=tmp_path / "partial"), "--to", "ada/x", *models)
    assert any(part in told for part in says.split("|")), told


def test_repository_needs_an_owner(tmp_path: Path) -> None:
    """It is an argument that is wrong: exit code 2."""
    done = CliRunner().invoke(cli, ["push", str(tmp_path), "--to", "reviews"])
    assert (done.exit_code, "OWNER/NAME" in done.stderr) == (2, True)
