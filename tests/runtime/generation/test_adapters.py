"""Adapters in the engines, against PEFT's own `generate`, token by token."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from app.catalog import AdapterSpec
from app.errors import ModelFailed
from app.runtime.adapters import Adapter, Adapters
from app.runtime.generation.engine import ContinuousEngine
from app.runtime.generation.gate import runner_of
from app.runtime.generation.request import GenerationRequest, Sampling
from app.runtime.generation.whole import GenerateEngine
from app.runtime.packing import pack
from tests.runtime.generation.driving import Script, arrival, by_generate, prompts_of
from tests.runtime.generation.families import build
from tests.tiny.adapters import KINDS, ia3, lora, save, with_peft

NUM_TOKENS = 8
PROMPTS = prompts_of(3, 40, 9)


def adapters_of(model: PreTrainedModel) -> Adapters:
    return Adapters(model, lambda spec: Path(spec.path), dtype=model.dtype)


def load(adapters: Adapters, folder: Path, serial: int = 0) -> Adapter:
    return adapters.load(AdapterSpec(id=folder.name, path=str(folder), serial=serial))


def engine_with(model: PreTrainedModel, adapters: Adapters) -> ContinuousEngine:
    runner = runner_of(model)
    runner.take_adapters(adapters)
    return ContinuousEngine(runner, None, end_ids=(), limit_tokens=4096, max_length=256, max_sequences=64)


def asked(prompt: Sequence[int], adapter: Adapter | None, **options: object) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, max_tokens=NUM_TOKENS, adapter=adapter, **options)  # type: ignore[arg-type]


@pytest.fixture
def llama() -> PreTrainedModel:
    return build("llama")


@pytest.fixture
def folders(tmp_path: Path, llama: PreTrainedModel) -> dict[str, Path]:
    """Of every kind one."""
    made = {name: save(llama, tmp_path / name, lora(**options), seed=7) for name, options in KINDS.items()}
    return {**made, "ia3": save(llama, tmp_path / "ia3", ia3())}


def test_each_sequence_is_written_as_peft_writes_it(llama: PreTrainedModel, folders: dict[str, Path]) -> None:
    """Adapters of every kind and the model itself together, some of which come in the midst of it."""
    expected: dict[str | None, list[list[int]]] = {None: [by_generate(llama, one, NUM_TOKENS) for one in PROMPTS]}
    for name, folder in folders.items():
        peft = with_peft(llama, folder)
        expected[name] = [by_generate(peft, one, NUM_TOKENS) for one in PROMPTS]
    assert len({str(one) for one in expected.values()}) == len(expected), "Adapters that change nothing tell nothing."
    adapters = adapters_of(llama)
    loaded: dict[str | None, Adapter | None] = {name: load(adapters, folder) for name, folder in folders.items()}
    engine = engine_with(llama, adapters)
    loaded[None] = None
    assert {name for name, one in loaded.items() if adapters.can_mix(one)} == {None, "plain", "ranked"}
    cases = [(name, place) for place in range(len(PROMPTS)) for name in expected]
    given = [arrival(key, asked(PROMPTS[place], loaded[name])) for key, (name, place) in enumerate(cases)]
    script = Script({0: given[::3], 2: given[1::3], 5: given[2::3]}).drive(engine)
    assert {case: script.output(key).tokens for key, case in enumerate(cases)} == {
        (name, place): expected[name][place] for name, place in cases
    }


def test_packed_layers_are_adapted(llama: PreTrainedModel, folders: dict[str, Path]) -> None:
    """Before and after packing the same tokens, with adapters that came before and after it."""
    expected = {name: by_generate(with_peft(llama, folders[name]), PROMPTS[0], NUM_TOKENS) for name in folders}
    adapters = adapters_of(llama)
    before = load(adapters, folders["plain"])
    assert pack(llama) and not adapters.need_weights
    after = [load(adapters, folders[name]) for name in ("ranked", "head", "embedding")]
    engine = engine_with(llama, adapters)
    given = [arrival(key, asked(PROMPTS[0], one)) for key, one in enumerate((before, *after))]
    script = Script({0: given}).drive(engine)
    for key, name in enumerate(("plain", "ranked", "head", "embedding")):
        assert script.output(key).tokens == expected[name]
    with pytest.raises(ModelFailed, match="packed: declare the adapter"):
        load(adapters, folders["dora"])


def test_layer_tells_what_models_ask_of_it(llama: PreTrainedModel) -> None:
    """Of the layer within, packed or not; what neither has is an error as everywhere."""
    adapters_of(llama)
    layers = [llama.lm_head, llama.model.layers[0].mlp.down_proj]
    told = [(tuple(layer.weight.shape), layer.in_features, layer.out_features) for layer in layers]
    assert told == [((160, 32), 32, 160), ((32, 48), 48, 32)]
    assert type(copy.deepcopy(llama).lm_head) is type(llama.lm_head)
    assert pack(llama)
    assert [(tuple(layer.weight.shape), layer.in_features, layer.out_features) for layer in layers] == told
    assert not hasattr(llama.lm_head, "nothing")


def test_adapter_that_reads_weights_keeps_them_from_being_packed(
    llama: PreTrainedModel, folders: dict[str, Path]
) -> None:
    adapters = adapters_of(llama)
    load(adapters, folders["dora"])
    assert adapters.need_weights


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "phi3", "opt"])
def test_families_name_and_shape_their_layers_in_other_ways(family: str, tmp_path: Path) -> None:
    """Conv1D, experts, joined layers: what cannot mix is computed by itself."""
    model = build(family)
    targets = {"gpt2": ["c_attn", "c_fc"], "phi3": ["qkv_proj", "gate_up_proj"], "opt": ["q_proj", "fc1"]}
    config = lora(target_modules=targets.get(family, ["q_proj", "o_proj"]), fan_in_fan_out=family == "gpt2")
    folder = save(model, tmp_path / "one", config)
    expected = [
        by_generate(model, PROMPTS[1], NUM_TOKENS),
        by_generate(with_peft(model, folder), PROMPTS[1], NUM_TOKENS),
    ]
    assert expected[0] != expected[1]
    adapters = adapters_of(model)
    adapter = load(adapters, folder)
    script = Script({0: [arrival(0, asked(PROMPTS[1], None)), arrival(1, asked(PROMPTS[1], adapter))]})
    script.drive(engine_with(model, adapters))
    assert [script.output(key).tokens for key in (0, 1)] == expected


@pytest.mark.parametrize("family", ["bloom", "mpt"])
def test_models_outside_the_gate_are_adapted_call_by_call(family: str, tmp_path: Path) -> None:
    model = build(family)
    folder = save(model, tmp_path / "one", lora(target_modules=["query_key_value" if family == "bloom" else "Wqkv"]))
    expected = [by_generate(one, PROMPTS[2], NUM_TOKENS) for one in (model, with_peft(model, folder))]
    assert expected[0] != expected[1]
    adapters = adapters_of(model)
    adapter = load(adapters, folder)
    engine = GenerateEngine(model, None, end_ids=(), max_rows=8, max_tokens=4096, adapters=adapters)
    script = Script({0: [arrival(key, asked(PROMPTS[2], one)) for key, one in enumerate((None, adapter, None))]})
    script.drive(engine)
    assert [script.output(key).tokens for key in range(3)] == [expected[0], expected[1], expected[0]]


def test_prefixes_are_of_one_adapter(llama: PreTrainedModel, folders: dict[str, Path]) -> None:
    """Neither of another one, nor of the model itself, nor of one that had the same name before."""
    adapters = adapters_of(llama)
    first, second = load(adapters, folders["plain"]), load(adapters, folders["ranked"])
    engine = engine_with(llama, adapters)
    adapters.drop(first.key)
    again = load(adapters, folders["plain"], serial=1)
    cached = []
    for adapter in (None, first, second, again, None, second):
        script = Script({0: [arrival(0, asked(PROMPTS[1], adapter))]}).drive(engine)
        cached.append(script.output(0).num_cached)
    assert cached == [0, 0, 0, 0, len(PROMPTS[1]) - 1, len(PROMPTS[1]) - 1]


def test_drawn_tokens_are_those_of_the_adapter_alone(llama: PreTrainedModel, folders: dict[str, Path]) -> None:
    """A seed means the same in company as alone."""
    adapters = adapters_of(llama)
    loaded = [None, load(adapters, folders["plain"]), load(adapters, folders["dora"])]
    engine = engine_with(llama, adapters)
    sampling = Sampling(temperature=1.0, seed=5)
    alone = []
    for adapter in loaded:
        script = Script({0: [arrival(0, asked(PROMPTS[0], adapter, sampling=sampling))]}).drive(engine)
        alone.append(script.output(0).tokens)
    given = [arrival(key, asked(PROMPTS[0], one, sampling=sampling)) for key, one in enumerate(loaded)]
    together = Script({0: given}).drive(engine)
    assert [together.output(key).tokens for key in range(3)] == alone


@pytest.mark.parametrize("kind", ["ranked", "dora", "head", "ia3", "embedding"])
def test_low_precision_is_that_of_peft(kind: str, folders: dict[str, Path], llama: PreTrainedModel) -> None:
    """In bfloat16 too the adapter's own weights compute in float32, as PEFT has it: equal logits, bit by bit."""
    model = copy.deepcopy(llama).bfloat16()
    ids = torch.tensor([PROMPTS[1]])
    with torch.inference_mode():
        expected = with_peft(model, folders[kind])(input_ids=ids).logits
        adapters = adapters_of(model)
        with adapters.active(load(adapters, folders[kind])):
            assert torch.equal(model(input_ids=ids).logits, expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bias": "all"}, "biases"),
        ({"trainable_token_indices": [1, 2]}, "single tokens"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
    ],
)
def test_what_all_adapters_would_share_is_refused(
    options: dict[str, object], says: str, tmp_path: Path, llama: PreTrainedModel
) -> None:
    folder = save(llama, tmp_path / "one", lora(**options))
    with pytest.raises(ModelFailed, match=says):
        load(adapters_of(llama), folder)


def test_adapter_of_another_model_is_told_so(tmp_path: Path, llama: PreTrainedModel) -> None:
    """By its names, its sizes, its missing weights."""
    other = save(build("gpt2"), tmp_path / "names", lora(target_modules=["c_attn"], fan_in_fan_out=True))
    larger = save(build("llama", hidden_size=64), tmp_path / "sizes", lora())
    adapters = adapters_of(llama)
    for folder in (other, larger):
        with pytest.raises(ModelFailed, match=r"does not fit this model \(it was made for "):
            load(adapters, folder)
    fewer = save(build("llama", num_hidden_layers=1), tmp_path / "fewer", lora())
    with pytest.raises(ModelFailed, match="lack some"):
        load(adapters, fewer)
