"""Which part of a model goes to which device, and what is said where that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.accelerate import _get_device_map

from app.catalog import ModelSpec
from app.errors import ModelFailed, NotAvailable, OutOfMemory
from app.runtime.placement import Placement, free_bytes, placement_of
from tests.runtime.compute import load

CPU = torch.device("cpu")
TWO = (torch.device("cuda:0"), torch.device("cuda:1"))
PARTS = {"model.embed_tokens": "cpu", "model.layers": "cpu", "model.norm": "cpu", "lm_head": "cpu"}


def spec(**declared: Any) -> ModelSpec:
    return ModelSpec(id="m", model="x/y", **declared)


@pytest.fixture(scope="module")
def empty() -> LlamaForCausalLM:
    """Eight layers of about 20,000 numbers between 5,000 and 5,000 more; on no device yet."""
    sizes = {"hidden_size": 32, "intermediate_size": 160, "num_attention_heads": 4, "num_hidden_layers": 8}
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(vocab_size=160, **sizes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with its output layer tied to its embeddings."""
    path = tmp_path_factory.mktemp("llama")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=160, tie_word_embeddings=True, **sizes)).save_pretrained(path)
    return path


def spread(model: LlamaForCausalLM, how: str, free_bytes: int) -> dict[str, Any]:
    """What transformers makes of the options; each device has so much free."""
    options = Placement(TWO, how).options(lambda device: free_bytes)
    found: dict[str, Any] = _get_device_map(model, options["device_map"], options["max_memory"], None)
    return found


@pytest.mark.parametrize("how", ["auto", "balanced"])
def test_balanced_layers_are_in_two_halves(empty: LlamaForCausalLM, how: str) -> None:
    """In order, no layer split, and nothing on the host."""
    found = spread(empty, how, 2**30)
    layers = [found[f"model.layers.{number}"] for number in range(8)]
    assert layers == sorted(layers) and 3 <= layers.count(0) <= 5
    assert set(found.values()) == {0, 1}
    assert (found["model.embed_tokens"], found["lm_head"]) == (0, 1)


def test_sequential_fills_the_first_device_first(empty: LlamaForCausalLM) -> None:
    """All of a small model, and what fits of a large one."""
    assert set(spread(empty, "sequential", 2**30).values()) == {0}
    found = spread(empty, "sequential", 600_000)
    assert [found[f"model.layers.{number}"] for number in (0, 7)] == [0, 1]


def test_a_model_that_does_not_fit_runs_out_of_memory(empty: LlamaForCausalLM) -> None:
    """Rather than compute from the host's memory or from a disk: others are evicted for it, and it is tried again."""
    empty.hf_device_map = spread(empty, "auto", 200_000)
    with pytest.raises(OutOfMemory, match=r"do not fit on cuda:0, cuda:1: there is no room from .*layers"):
        Placement(TWO, "auto").check(empty)
    empty.hf_device_map = spread(empty, "auto", 2**30)
    Placement(TWO, "auto").check(empty)


def test_map_is_taken_as_it_is() -> None:
    """With accelerate's numbers for accelerators."""
    device_map = {"model": TWO[1], "lm_head": TWO[0]}
    assert Placement(TWO, device_map).options(free_bytes) == {"device_map": {"model": 1, "lm_head": 0}}
    assert Placement((CPU,), {"": CPU}).options(free_bytes) == {"device_map": {"": "cpu"}}
    assert Placement((CPU,)).options(free_bytes) == {}


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, Placement((CPU,))),
        ({"device": "cpu"}, Placement((CPU,))),
        ({"devices": ("cpu",), "device_map": "auto"}, Placement((CPU,))),
        ({"device_map": "auto"}, Placement((CPU,))),
        ({"device_map": {"model": "cpu", "lm_head": "cpu"}}, Placement((CPU,), {"model": CPU, "lm_head": CPU})),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="it is about a machine without accelerators")
def test_what_is_declared_is_where_it_goes(declared: dict[str, Any], expected: Placement) -> None:
    """On a machine without accelerators there is nothing to spread over."""
    assert placement_of(spec(**declared)) == expected


@pytest.mark.parametrize(
    "declared",
    [
        {"device": "cuda:99"},
        {"devices": ("cuda:98", "cuda:99")},
        {"device_map": {"model": "cuda:99", "lm_head": "cuda:98"}},
    ],
)
def test_device_that_is_not_there_is_a_sentence(folder: Path, declared: dict[str, Any]) -> None:
    """Of the entry, however it is named; nothing is loaded elsewhere instead."""
    with pytest.raises(NotAvailable, match=r"There is no device cuda:9\d here: \d+ CUDA devices are seen"):
        load(folder, "text-generation", **declared)


@pytest.mark.parametrize(
    ("device_map", "says"),
    [
        ({**PARTS, "model.lyers": "cpu"}, 'device_map: the model has no "model.lyers"'),
        ({"model.layers": "cpu", "lm_head": "cpu"}, 'device_map: it gives no device to "model.embed_tokens.weight"'),
    ],
)
def test_wrong_map_is_a_sentence(folder: Path, device_map: dict[str, str], says: str) -> None:
    """A module that the model has not, and one that the map forgot."""
    model = LlamaForCausalLM.from_pretrained(folder)
    with pytest.raises(ModelFailed, match=says):
        Placement((CPU,), {name: torch.device(device) for name, device in device_map.items()}).check(model)
