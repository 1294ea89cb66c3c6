"""`devices` and `device_map` on a machine that has a CPU alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.conftest import StartServer

REVIEWS: dict[str, Any] = {"task": "text-classification", "model": "sequence-classification"}
URL = "/v1/text-classification"


def test_map_of_devices_reaches_the_worker(start_server: StartServer) -> None:
    """A map that can be answers as the model without one; one that cannot is a FAILED entry with its sentence."""
    entries = [
        {**REVIEWS, "id": "plain"},
        {**REVIEWS, "id": "mapped", "device_map": {"bert": "cpu", "classifier": "cpu"}},
        {**REVIEWS, "id": "wrong", "device_map": {"bert": "cpu", "clasifier": "cpu"}},
        {**REVIEWS, "id": "nowhere", "devices": [98, 99]},
    ]
    server = start_server(entries)
    plain, mapped, wrong, nowhere = (
        server.post(URL, {"inputs": "a good film", "model": entry["id"]}) for entry in entries
    )
    assert mapped.status_code == plain.status_code == 200
    for one, other in zip(mapped.json()[0], plain.json()[0], strict=True):
        assert (one["label"], one["score"]) == (other["label"], pytest.approx(other["score"], abs=1e-6))
    assert server.get("/v1/models/mapped").json()["device"] == "cpu"
    assert wrong.status_code == 503 and 'no "clasifier"' in wrong.json()["error"]
    assert nowhere.status_code == 501
    status = server.get("/v1/models/nowhere").json()
    assert status["state"] == "failed"
    assert "There is no device cuda:98 here: 0 CUDA devices are seen" in status["reason"]
