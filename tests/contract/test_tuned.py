"""A server honours what `pipeserve tune` stored for `backend: auto`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from app.catalog import read_entry
from app.environments.places import Environments
from app.tuning.choices import FILE, Choice, Choices, Machine, key_of
from tests.contract.conftest import StartServer


def store(folder: Path, model: Path, **changes: Any) -> None:
    """A choice of another type for this model, as on this machine; changes: of its circumstances."""
    machine = Machine.here(Environments(folder, {}))
    spec = read_entry({"model": str(model), "task": "text-classification", "backend": "auto"}, folder)
    choice = Choice(
        model=spec.model,
        revision=None,
        tasks=list(spec.tasks),
        device=machine.device(spec),
        keys={"backend": "torch", "dtype": "bfloat16"},
        at="2026-11-25T12:00:00+00:00",
        circumstances=msgspec.structs.replace(machine.circumstances(spec), **changes),
    )
    Choices(folder / FILE).keep(key_of(spec, choice.device), choice)


def test_stored_choice_serves_and_a_stale_one_does_not(
    start_server: StartServer, models_dir: Path, tmp_path: Path
) -> None:
    """`/v1/models` says what was chosen and when; a choice of other versions is named in the log and not used."""
    store(tmp_path, models_dir / "sequence-classification")
    store(tmp_path, models_dir / "nli", versions={"torch": "1.0"})
    entries = [
        {"id": "tuned", "task": "text-classification", "model": "sequence-classification", "backend": "auto"},
        {"id": "stale", "task": "text-classification", "model": "nli", "backend": "auto"},
        {"id": "untuned", "task": "text-classification", "model": "cross-encoder", "backend": "auto"},
    ]
    server = start_server(entries)
    for model in ("tuned", "stale", "untuned"):
        assert server.post(f"/v1/text-classification/{model}", {"inputs": "a good film"}).status_code == 200
    cards = {card["id"]: card for card in server.get("/v1/models").json()["data"]}
    assert cards["tuned"]["dtype"] == "bfloat16"
    assert cards["tuned"]["tuned"] == {
        "keys": {"backend": "torch", "dtype": "bfloat16"},
        "at": "2026-11-25T12:00:00+00:00",
    }
    for model in ("stale", "untuned"):
        assert cards[model]["dtype"] == "float32"
        assert cards[model]["backend"] == "torch"
        assert cards[model]["tuned"] is None
    log = "".join(server.log)
    assert "stale: its stored choice (torch bfloat16" in log
    assert "torch: 1.0 then" in log
    assert "untuned: its stored choice" not in log
