"""A network of an export in the place of a transformers model: what it is given, and how many threads compute it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from app.errors import ModelFailed
from app.runtime.backends.network import ExportedNetwork, in_place_of, outputs_for


class Counting:
    """A session that answers with how many threads it has, and remembers what it was given."""

    inputs: Mapping[str, torch.dtype] = {"pixel_values": torch.float32}
    outputs: tuple[str, ...] = ("logits",)

    def __init__(self, num_threads: int) -> None:
        self.num_threads = num_threads
        self.given: list[str] = []

    def run(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        self.given = list(inputs)
        return {"logits": torch.tensor([[float(self.num_threads)]])}


def network(open_again: Any = Counting, *, num_threads: int = 2) -> ExportedNetwork:
    with torch.device("meta"):
        skeleton = BertForSequenceClassification(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    return in_place_of(skeleton, Counting(num_threads), {"logits": "logits"}, open_again)


def threads_of(network: ExportedNetwork) -> float:
    return float(network(pixel_values=torch.ones(1, 3, 4, 4)).logits)


def test_more_threads_are_used_and_fewer_leave_it_open() -> None:
    """Opening takes long: it is for a grant beyond all before it."""
    opened: list[int] = []

    def open_again(num_threads: int) -> Counting:
        opened.append(num_threads)
        return Counting(num_threads)

    exported = network(open_again)
    for granted, expected in ((2, 2), (1, 2), (5, 5), (3, 5), (5, 5)):
        exported.set_num_threads(granted)
        assert threads_of(exported) == expected
    assert opened == [5]


def test_export_that_is_gone_computes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody emptied the cache folder: with the threads that it has, and a line in the log."""

    def gone(num_threads: int) -> Counting:
        raise ModelFailed("it is gone")

    exported = network(gone)
    exported.set_num_threads(4)
    assert threads_of(exported) == 2
    assert "goes on with 2 compute threads: it is gone" in caplog.text


def test_mask_that_hides_nothing_needs_no_input() -> None:
    """Optimum exports models of sounds without one. Padding that it would hide is no sound."""
    exported, pixels = network(), torch.ones(1, 3, 4, 4)
    exported(pixel_values=pixels, pixel_mask=torch.ones(1, 4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="no input pixel_mask"):
        exported(pixel_values=pixels, pixel_mask=torch.zeros(1, 4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="no input labels"):
        exported(pixel_values=pixels, labels=torch.ones(1))


def test_export_gives_at_least_one_of_what_is_read() -> None:
    """A task whose models answer in different forms can do without each, not without all."""
    wanted = ("masks?", "logits?")
    assert outputs_for(wanted, Counting(1), file_name="a.onnx", task="b") == {"logits": "logits"}
    with pytest.raises(ModelFailed, match=r"a\.onnx gives logits, nothing that b reads"):
        outputs_for(("masks?",), Counting(1), file_name="a.onnx", task="b")
