"""Which models the continuous engine computes: those on which it is exact. docs/generation.md has the table."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from app.runtime.generation.attention import NotPossible
from app.runtime.generation.graphs import CudaRecorder
from app.runtime.generation.paged import PagedRunner
from app.runtime.generation.request import GenerationRequest
from app.runtime.generation.runner import RowsRunner, Runner
from app.runtime.generation.scheduler import Scheduler
from app.runtime.generation.sequence import Sequence as Text

logger = logging.getLogger(__name__)

_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_LOW_PRECISION_TOLERANCE = 0.1
"""Of the spread of the logits: far from what a wrong mask or position does, far above what rounding does."""
_PROMPTS = ((1, 2, 3, 4, 5, 6, 7, 8), (9, 8, 7, 6))
"""With the token after each."""
_LIMIT_TOKENS = 512
"""Two pages at least."""


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
    if model.device.type != "cuda":
        return checked(model, RowsRunner(model))
    return pages_or_rows(model, lambda: PagedRunner(model, recorder_of=CudaRecorder))


def pages_or_rows(model: PreTrainedModel, make_paged: Callable[[], Runner]) -> Runner:
    """Rows where pages are not what the model computes by itself, or cannot be computed here."""
    try:
        return checked(model, make_paged())
    except (NotPossible, RuntimeError) as error:  # of a kernel that refuses what it should take
        runner = checked(model, RowsRunner(model))
        logger.warning("keys and values lie in rows, not in pages, and texts take longer: %s", error)
        return runner


def checked(model: PreTrainedModel, runner: Runner) -> Runner:
    """Raises NotPossible if the runner does not compute what the model computes by itself."""
    if len(runner.memory.layers) != model.config.num_hidden_layers:
        raise NotPossible("not every layer attends by keys and values")
    _compare(model, runner)
    return runner


@torch.inference_mode()
def _compare(model: PreTrainedModel, runner: Runner) -> None:
    """Two prompts side by side, the first in two steps, then one more token of each; against the model by itself."""
    size = runner.vocabulary_size
    texts = [[token % size for token in prompt] for prompt in _PROMPTS]
    wanted = [model(input_ids=torch.tensor([text], device=model.device)).logits[0, -2:] for text in texts]
    scheduler = Scheduler(runner.make_room(limit_tokens=_LIMIT_TOKENS, max_length=64), max_sequences=len(texts))
    sequences = [
        Text(key, GenerationRequest(prompt=text[:-1]), key, text[:-1], len(text) - 1) for key, text in enumerate(texts)
    ]
    for sequence in sequences:
        scheduler.add(sequence)
    found: list[list[torch.Tensor]] = [[] for _ in texts]
    with runner.attending():
        while not all(len(logits) == 2 for logits in found):
            plan = scheduler.schedule(5)
            with runner.step():
                computed = runner.run(plan)
            for chunk in plan.chunks:
                scheduler.computed(chunk)
            for chunk, place in computed.of:
                key = chunk.sequence.key
                found[key].append(computed.values[place.stop - 1].clone())
                chunk.sequence.tokens.append(texts[key][-1])
    runner.forget()
    for logits, expected in zip(found, wanted, strict=True):
        spread = float(expected.max() - expected.min()) or 1.0
        difference = float((torch.stack(logits) - expected).abs().max()) / spread
        if not difference <= _TOLERANCE.get(model.dtype, _LOW_PRECISION_TOLERANCE):
            raise NotPossible(f"its logits differ by {difference:.2g} of their spread")
