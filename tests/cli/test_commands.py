"""The `pipeserve` command: as a process where that matters, else in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from tests.fake_hub import COMMIT, FakeHub, serve

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def pipeserve(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return pipeserve_within(110, *arguments, **variables)


def pipeserve_within(timeout_s: float, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """timeout_s: less than pytest allows the test, so that what hangs says what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def here(*arguments: str, **variables: str) -> Result:
    """In this process."""
    return CliRunner().invoke(cli, list(arguments), env=variables)


def test_check_of_the_default_catalogue_passes() -> None:
    """`pipeserve check` reads models.yaml of the current folder."""
    done = pipeserve("check")
    assert done.returncode == 0, done.stderr
    assert "question-answering" in done.stdout


def test_check_reports_form_and_files(tmp_path: Path) -> None:
    """A mistake of form is on stderr, an entry that cannot be served on stdout; both exit with 1."""
    (tmp_path / "typo.yaml").write_text("models: [{taks: ner}]")
    done = here("check", str(tmp_path / "typo.yaml"))
    assert done.exit_code == 1
    assert 'unknown key "taks"' in done.stderr
    (tmp_path / "gone.yaml").write_text("models: [{task: ner, model: ./gone}]")
    done = here("check", str(tmp_path / "gone.yaml"))
    assert done.exit_code == 1
    assert "There is no folder" in done.stdout
    (tmp_path / "adapters.yaml").write_text("models: [{id: a, task: ner, adapters: {sql: ./gone}}]")
    done = here("check", str(tmp_path / "adapters.yaml"))
    assert done.exit_code == 1
    assert "FAILED  a:sql: there is no folder" in done.stdout


def test_environments_are_listed_and_their_lack_is_told(tmp_path: Path) -> None:
    """`env list`, `env check`, `env create` and `check` each say what to do; nothing is built by that."""
    cache = ("--cache-dir", str(tmp_path / "cache"))
    assert "optimum        not built" in here("env", "list", *cache).stdout
    done = here("env", "check", "optimum", *cache)
    assert (done.exit_code, "`pipeserve env create optimum`" in done.stderr) == (1, True)
    done = here("env", "create", "optimun", *cache)
    assert (done.exit_code, "give --requirements FILE" in done.stderr) == (1, True)
    done = here("env", "remove", "../optimum", *cache)
    assert (done.exit_code, "cannot name an environment" in " ".join(done.stderr.split())) == (2, True)
    (tmp_path / "models.yaml").write_text("models: [{id: a, task: ner, env: optimum}]")
    done = here("check", str(tmp_path / "models.yaml"), *cache)
    assert done.exit_code == 1
    assert 'FAILED  a: the environment "optimum" is not built yet' in done.stdout
    assert not (tmp_path / "cache").exists()


def test_a_python_of_ones_own_is_checked(tmp_path: Path) -> None:
    """`env check --python` imports there what a worker imports: ours has that, but no library of Optimum's."""
    done = pipeserve("env", "check", "mine", "--python", sys.executable, "--cache-dir", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok      mine: Python 3." in done.stdout
    assert "transformers 5." in done.stdout


def test_online_check_asks_the_hub(tmp_path: Path) -> None:
    """Also about entries that declare their task; each refusal is a sentence with what to do."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.json").write_text('{"architectures": ["BertForMaskedLM"]}')
    models = [
        {"model": "acme/mine"},
        {"id": "wrong", "model": "acme/mine", "task": "ner"},
        {"model": "acme/gated", "task": "ner"},
        {"model": "acme/nothing", "task": "ner"},
    ]
    file = tmp_path / "models.yaml"
    file.write_text(json.dumps({"models": models}))
    with serve(FakeHub({"acme/mine": mine, "acme/gated": mine}, gated=frozenset({"acme/gated"}))) as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub")}
        before = pipeserve("check", str(file), **variables)
        done = pipeserve("check", str(file), "--online", **variables)
        after = pipeserve("check", str(file), **variables)
    assert before.returncode == 0, before.stdout
    assert "later   acme/mine: its task will be read from the Hub (acme/mine, not yet on this disk)" in before.stdout
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == f"ok      acme/mine: fill-mask (acme/mine, known from the Hub's cache as {COMMIT})"
    assert "FAILED  wrong: acme/mine: a BertForMaskedLM cannot do token-classification" in lines[1]
    assert "accept its licence" in lines[2]
    assert "does not exist" in lines[3]
    assert "ok      acme/mine: fill-mask" in after.stdout


def test_check_needs_no_torch_and_no_network(tmp_path: Path) -> None:
    """`check` is for CI and editors: neither torch nor transformers is imported."""
    code = (
        "import sys; from app.cli import cli; cli(['check'], standalone_mode=False);"
        "assert not {'torch', 'transformers', 'fastapi'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_serve_stops_at_a_mistake_of_form(tmp_path: Path) -> None:
    """A sentence, not a traceback."""
    (tmp_path / "typo.yaml").write_text("models: [{task: no-such-task}]")
    done = pipeserve("serve", "--models", str(tmp_path / "typo.yaml"))
    assert done.returncode == 1
    assert "no-such-task" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PIPESERVE_PORT", "many"),
        ("PIPESERVE_LOG_LEVEL", "loud"),
        ("PIPESERVE_DRAIN", "soon"),
        ("PIPESERVE_PORT", "-1"),
    ],
)
def test_wrong_variable_is_named(name: str, value: str) -> None:
    """Settings from the environment are checked like flags."""
    done = here("serve", **{name: value})
    assert done.exit_code == 2
    assert name in done.stderr


def test_port_in_use_is_a_sentence(tmp_path: Path) -> None:
    """The address is named, and nothing is started."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = pipeserve("serve", "--port", str(port), "--cache-dir", str(tmp_path))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_version_imports_nothing_heavy() -> None:
    """`pipeserve version` answers at once."""
    done = pipeserve("version")
    assert done.stdout.startswith("pipeserve ")
