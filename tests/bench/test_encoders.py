"""The contest: who cannot run says why, who answers wrongly is not measured, and the best setting is found."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.contestants import CLASSIFICATION, EMBEDDING, Contestant, Dialect, Model, Setting, ours, rivals
from bench.encoders import Cell, Contest, agreement, hold, plan
from bench.environments import Environment, reason_of

SERVER = """
import http.server, json, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer([])

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(float(sys.argv[2]))
        self.answer([[1.0, float(sys.argv[3])] for _ in asked])

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
DIALECTS: Mapping[str, Dialect] = {
    EMBEDDING: Dialect(
        path="/", write=lambda texts: [texts] if isinstance(texts, str) else texts, read=lambda body: list(body)
    )
}


def scripted(*settings: Setting) -> Contestant:
    """A setting's arguments: seconds of an answer, and the second number of each vector. None: it ends at once."""

    def command(setting: Setting, model: Model, port: int, scratch: Path) -> list[str]:
        if not setting.arguments:
            return [sys.executable, "-c", "raise SystemExit('ValueError: no such thing')"]
        return [sys.executable, "-c", SERVER, str(port), *setting.arguments]

    return Contestant(name="scripted", command=command, dialects=DIALECTS, settings=settings, health="/")


def only(contestant: Contestant, held: Contest) -> dict[str, Any]:
    """The row of one that has no rivals."""
    (row,) = hold(held, [contestant], [])["servers"]
    return dict(row)


def contest(tmp_path: Path, *, task: str = EMBEDDING, folder: Path | None = None, is_quick: bool = False) -> Contest:
    return Contest(
        model=Model(name="a model", task=task, folder=folder or tmp_path),
        cells=[Cell(texts="short", concurrency=2), Cell(texts="short", client_batch=32, concurrency=1)],
        seconds=0.2,
        scratch=tmp_path,
        may_install=False,
        is_quick=is_quick,
        chosen={},
    )


def test_contestant_that_ends_says_why(tmp_path: Path) -> None:
    """Its row has what it said last, and no figures."""
    row = only(scripted(Setting(name="only")), contest(tmp_path))
    assert row["cells"] == []
    assert row["reason"] == "it ended with 1 before it answered / (ValueError: no such thing)"


def test_contestant_without_an_environment_says_so(tmp_path: Path) -> None:
    """Nothing is installed behind the back of --skip-install."""
    missing = Environment("no-such-rival", "pip")
    row = only(scripted(Setting(name="only", environment=missing)), contest(tmp_path))
    assert row["reason"] == "its environment is not installed (.cache/rivals/no-such-rival), and may not be now"
    assert not missing.folder.exists()


def test_contestant_with_other_answers_is_not_measured(tmp_path: Path) -> None:
    """A fast wrong answer is no figure."""
    right, wrong = (scripted(Setting(name="only", arguments=("0", second))) for second in "01")
    first, row = hold(contest(tmp_path), [right], [wrong])["servers"]
    assert len(first["cells"]) == 2
    assert row["cells"] == []
    assert row["reason"] == "its answers differ: cosine 0.7071 to ours"


def test_fastest_setting_that_runs_is_measured(tmp_path: Path) -> None:
    """The others are told with their figures or reasons; texts are counted, not requests."""
    broken = Setting(name="broken")
    slow, fast = Setting(name="slow", arguments=("0.2", "0")), Setting(name="fast", arguments=("0.01", "0"))
    held = contest(tmp_path)
    row = only(scripted(broken, slow, fast), held)
    assert row["settings"] == held.chosen["scripted"] == "fast"
    assert [one["settings"] for one in row["tried"]] == ["broken", "slow", "fast"]
    assert "it ended with 1" in row["tried"][0]["reason"]
    alone, batched = row["cells"]
    assert alone["texts_per_s"] == alone["requests_per_s"]
    assert batched["texts_per_s"] == 32 * batched["requests_per_s"]


def test_answers_are_compared_by_their_least_cosine() -> None:
    """One that is off is enough, and other lengths are no answer."""
    assert agreement([[1.0, 0.0], [0.0, 2.0]], [[2.0, 0.0], [0.0, 1.0]]) == pytest.approx(1)
    assert agreement([[1.0, 0.0], [0.0, 2.0]], [[2.0, 0.0], [1.0, 0.0]]) == 0
    assert agreement([[1.0, 0.0]], [[1.0]]) == 0
    assert agreement([[1.0]], []) == 0


@pytest.mark.parametrize("task", [EMBEDDING, CLASSIFICATION])
def test_quick_plan_is_a_part_of_the_whole(task: str) -> None:
    """And holds what is judged: short and mixed texts at 1, 32 and 128."""
    model = Model(name="a model", task=task, folder=Path())
    quick, whole = plan(model, is_quick=True), plan(model, is_quick=False)
    assert set(quick) < set(whole)
    assert {Cell(texts=texts, concurrency=n) for texts in ("short", "mixed") for n in (1, 32, 128)} <= set(quick)


def test_every_rival_of_the_issue_is_there() -> None:
    """Each with at least one setting, and names that tell them apart."""
    names = [one.name for one in rivals()]
    wanted = {
        "infinity",
        "infinity (default)",
        "LitServe",
        "BentoML",
        "Ray Serve",
        "MLServer",
        "plain FastAPI",
        "vLLM (CPU)",
    }
    assert set(names) == wanted and len(names) == len(wanted)
    for rival in rivals():
        assert len({setting.name for setting in rival.settings}) == len(rival.settings) >= 1


def test_reason_is_the_line_that_says_most() -> None:
    """An error's, else the last one."""
    assert reason_of("ValueError: no\nbye\n") == "ValueError: no"
    assert reason_of("starting\nbye\n") == "bye"
    assert reason_of("") == "it said nothing"


def test_reason_names_no_folder_of_this_machine() -> None:
    """It is published; routes are no folders."""
    assert reason_of("OSError: /tmp/abc/x-1/models.yaml is not there") == "OSError: models.yaml is not there"
    assert reason_of("nothing answered /v2/health/ready") == "nothing answered /v2/health/ready"


@pytest.mark.slow
@pytest.mark.timeout(600)  # two servers start, and the machine may be busy
def test_ours_and_a_plain_server_agree_and_are_measured(tmp_path: Path) -> None:
    """A tiny classifier through real servers and the real client."""
    from tests.models import build  # torch: not for the others

    folder = build("sequence-classification", tmp_path, max_length=512)
    plain = [one for one in rivals() if one.name == "plain FastAPI"]
    found = hold(contest(tmp_path, task=CLASSIFICATION, folder=folder), [ours()], plain)
    for row in found["servers"]:
        assert row.get("reason") is None
        assert [cell["num_failed"] for cell in row["cells"]] == [0, 0]
    assert found["servers"][1]["agreement"] == pytest.approx(1)
