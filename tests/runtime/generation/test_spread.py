"""A model that accelerate has spread over devices: each layer's keys and values lie where it computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from transformers import PreTrainedModel

from app.runtime.generation.attention import DecodeGroup, Layout, PrefillChunk
from app.runtime.generation.gate import runner_of
from app.runtime.generation.making import make_engine, pool_tokens
from app.runtime.generation.paged import PagedRunner
from app.runtime.generation.request import GenerationRequest
from app.runtime.generation.runner import RowsRunner
from app.runtime.generation.scheduler import Scheduler
from app.runtime.generation.sequence import Sequence
from tests.runtime.generation.driving import Script, arrival, by_generate, prompts_of
from tests.runtime.generation.families import build

CPU, META = torch.device("cpu"), torch.device("meta")
ON_CPU = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.rotary_emb": "cpu"}
REST = ("model.layers.1", "model.norm", "lm_head")
PROMPTS = prompts_of(3, 40, 9)


def spread(family: str, rest: str, **options: Any) -> PreTrainedModel:
    """With accelerate's hooks on every module; all but its beginning on another device, or on the same."""
    return dispatch_model(build(family), {**ON_CPU, **dict.fromkeys(REST, rest)}, main_device="cpu", **options)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss"])
def test_spread_model_writes_what_it_writes_alone(family: str) -> None:
    """The gate lets it in, and its hooks change no token."""
    expected = [by_generate(build(family), prompt, 12) for prompt in PROMPTS]
    model = spread(family, "cpu", force_hooks=True)
    assert hasattr(model, "_hf_hook")
    engine = make_engine(model, None, max_length=256, pool_bytes=None, takes_files=False)
    assert engine.is_continuous
    given = [arrival(key, GenerationRequest(prompt=prompt, max_tokens=12)) for key, prompt in enumerate(PROMPTS)]
    script = Script({0: given[:2], 3: given[2:]}).drive(engine)
    assert [script.output(key).tokens for key in range(3)] == expected


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_each_layer_has_its_keys_and_values_on_its_own_device(family: str) -> None:
    """Through a prompt and the steps after it. (The second device is one that computes shapes alone.)"""
    model = spread(family, "meta")
    model._hf_hook.io_same_device = False  # nothing comes back from there
    runner = RowsRunner(model)
    assert [layer.device for layer in runner.memory.layers] == [CPU, META]
    assert runner.memory.bytes_per_token == {CPU: 128, META: 128}
    scheduler = Scheduler(runner.make_room(limit_tokens=256, max_length=64), max_sequences=2)
    texts = [Sequence(key, GenerationRequest(prompt=[1, 2, 3]), key, [key, 2, 3], 3) for key in range(2)]
    for text in texts:
        scheduler.add(text)
    with runner.attending():
        for _ in range(3):
            plan = scheduler.schedule(64)
            with runner.step():
                logits = runner.run(plan)
            assert logits.values.device == META and len(logits.values) == 2
            for chunk in plan.chunks:
                scheduler.computed(chunk)
                chunk.sequence.tokens.append(5)
    devices = [runner.memory.of(texts[0].place.slab.slab_id, layer)[0].device for layer in (0, 1)]
    assert devices == [CPU, META]


def test_pages_lie_on_the_devices_of_their_layers() -> None:
    """And a step's places are copied to each of them once."""
    model = spread("llama", "meta")
    model._hf_hook.io_same_device = False  # nothing comes back from there
    runner = PagedRunner(model, page_tokens=16, kernel_of=lambda layer: None)
    scheduler = Scheduler(runner.make_room(limit_tokens=64, max_length=64), max_sequences=1)
    text = Sequence(0, GenerationRequest(prompt=[1, 2, 3]), 0, [1, 2, 3], 3)
    scheduler.add(text)
    with runner.attending():
        for _ in range(2):
            plan = scheduler.schedule(64)
            assert runner.run(plan).values.device == META
            scheduler.computed(*plan.chunks)
            text.tokens.append(5)
    assert [runner.memory.of(layer)[0].device for layer in (0, 1)] == [CPU, META]


def test_layout_is_copied_once_for_each_device() -> None:
    """And not at all for the device that it was made on."""
    places = torch.zeros(2, dtype=torch.long)
    layout = Layout([DecodeGroup(slice(0, 2), 0, 0, 2, places, places, 1)], [PrefillChunk(slice(2, 5), 0, 2, 0)])
    assert layout.on(CPU) is layout
    there = layout.on(META)
    assert layout.on(META) is there
    assert there.decodes[0].rows.device == there.decodes[0].positions.device == META
    assert there.prefills == layout.prefills
    assert [layout.prefills[0].mask(None, device).device for device in (CPU, META, CPU)] == [CPU, META, CPU]


def test_memory_is_what_the_fullest_device_has_left() -> None:
    """A quarter of it, by what its own layers need of each token; and no more than eight contexts."""
    left = {CPU: 4 * 128 * 100, META: 4 * 256 * 30}
    assert pool_tokens({CPU: 128, META: 256}, 256, left.__getitem__) == 30
    assert pool_tokens({CPU: 128, META: 256}, 2, left.__getitem__) == 16


def test_gate_compares_a_spread_model_too() -> None:
    """Its logits come back to where its tokens went in."""
    assert runner_of(spread("qwen3", "cpu", force_hooks=True)).memory.bytes_per_token == {CPU: 256}
