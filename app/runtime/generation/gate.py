"""Which models the continuous engine computes: those on which it is exact. docs/generation.md has the table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from app.runtime.generation.attention import NotPossible
from app.runtime.generation.request import GenerationRequest
from app.runtime.generation.rows import Rows
from app.runtime.generation.runner import Runner
from app.runtime.generation.scheduler import Chunk, Scheduler
from app.runtime.generation.sequence import Sequence as Text

_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_LOW_PRECISION_TOLERANCE = 0.1
"""Of the spread of the logits: far from what a wrong mask or position does, far above what rounding does."""
_PROMPTS = ((1, 2, 3, 4, 5, 6, 7), (9, 8, 7))


def runner_of(model: PreTrainedModel) -> Runner:
    """Raises NotPossible, with the reason, for a model that goes through `generate`."""
    if not getattr(model, "_supports_attention_backend", False):
        raise NotPossible("its attention cannot be replaced")
    if getattr(model, "_is_stateful", False):
        raise NotPossible("it keeps a state beside keys and values")
    if model.config.is_encoder_decoder:
        raise NotPossible("it has an encoder")
    others = sorted(set(getattr(model.config, "layer_types", None) or ()) - _LAYER_TYPES)
    if others:
        raise NotPossible(f"it has layers of {', '.join(others)}")
    runner = Runner(model)
    if len(runner.memory.layers) != model.config.num_hidden_layers:
        raise NotPossible("not every layer attends by keys and values")
    _compare(model, runner)
    return runner


@torch.inference_mode()
def _compare(model: PreTrainedModel, runner: Runner) -> None:
    """Two prompts side by side, the first in two steps, against the model by itself."""
    size = runner.vocabulary_size
    prompts = [[token % size for token in prompt] for prompt in _PROMPTS]
    wanted = [model(input_ids=torch.tensor([prompt], device=model.device)).logits[0, -1] for prompt in prompts]
    rows = Rows(limit_tokens=128, max_length=64)
    scheduler = Scheduler(rows, max_sequences=2)
    for key, prompt in enumerate(prompts):
        scheduler.add(Text(key, GenerationRequest(prompt=prompt), key, list(prompt), len(prompt)))
    found: dict[int, torch.Tensor] = {}
    with runner.attending():
        while len(found) < len(prompts):
            plan = scheduler.schedule(5)
            created, _ = rows.take_changes()
            runner.change(created)
            logits = runner.run(plan)
            for chunk in plan.chunks:
                scheduler.computed(chunk)
            found |= _last_logits(logits.of, logits.values)
    runner.forget()
    for key, expected in enumerate(wanted):
        spread = float(expected.max() - expected.min()) or 1.0
        difference = float((found[key] - expected).abs().max()) / spread
        if not difference <= _TOLERANCE.get(model.dtype, _LOW_PRECISION_TOLERANCE):
            raise NotPossible(f"its logits differ by {difference:.2g} of their spread")


def _last_logits(of: Sequence[tuple[Chunk, slice]], values: torch.Tensor) -> dict[int, torch.Tensor]:
    return {chunk.sequence.key: values[place.stop - 1] for chunk, place in of if chunk.is_last}
