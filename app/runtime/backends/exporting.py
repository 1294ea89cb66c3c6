"""A transformers model -> an ONNX file that takes batches and inputs of any size, compared with the model on the spot.

What the network is given is not guessed from its class: the task's own stages compute a short and a longer request
with the model as it is, and what they call it with is recorded. Sizes that differ between the two are dynamic.
"""

from __future__ import annotations

import io
import logging
import warnings
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from app.errors import ModelFailed
from app.runtime.backends.network import Session
from app.runtime.base import Item
from app.runtime.model import TransformersModel

logger = logging.getLogger(__name__)

DISTRIBUTIONS = ("torch", "transformers", "onnx", "onnxscript")
"""Whose versions an export depends on, beside the backend's own."""

FILE = "model.onnx"

TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2, "int8": 2e-1}
"""By what is computed in: the largest difference from transformers' output that an export may have, as a share of the
largest number in that output. Float32 differs by the order of sums, float16 keeps 11 bits of each number and bfloat16
8, and dynamic int8 rounds weights to 128 steps and what flows between layers to 256."""

OUTPUTS: dict[str, tuple[str, ...]] = {
    "audio-classification": ("logits",),
    "automatic-speech-recognition": ("logits",),
    "depth-estimation": ("predicted_depth",),
    "feature-extraction": ("last_hidden_state",),
    "fill-mask": ("logits",),
    "image-classification": ("logits",),
    "image-feature-extraction": ("last_hidden_state", "pooler_output?"),
    "image-segmentation": (
        "logits?",
        "pred_boxes?",
        "pred_masks?",
        "class_queries_logits?",
        "masks_queries_logits?",
    ),
    "object-detection": ("logits", "pred_boxes"),
    "question-answering": ("start_logits", "end_logits"),
    "sentence-similarity": ("last_hidden_state",),
    "text-classification": ("logits",),
    "text-ranking": ("logits",),
    "token-classification": ("logits",),
    "zero-shot-classification": ("logits",),
}
"""What each task's stages read of the model's output; with "?" where they can do without."""

_TALKATIVE = ("onnx_ir", "onnxscript", "torch.onnx")
"""They log hundreds of lines about each export, the worker one. And torch warns of torchvision, which is not wanted."""

_MAX_INLINE_BYTES = 2**30  # a protobuf holds 2 GiB at most


@dataclass(frozen=True, slots=True)
class Recording:
    """One call of the model: tensors by name."""

    inputs: dict[str, torch.Tensor]
    constants: dict[str, Any]
    outputs: dict[str, torch.Tensor]


def export(
    model: TransformersModel,
    network: nn.Module,
    place: Path,
    *,
    precision: str,
    open_session: Callable[[Path], Session],
) -> dict[str, Any]:
    """Writes `FILE` into the folder. The answer is its facts: `difference`, from the model, as in `TOLERANCES`.

    network: the model's own, in float32 on the CPU. Raises ModelFailed for models that torch cannot export, and for
    exports that are off by more than their precision may be.
    """
    recordings = record(model, network)
    _write(network, recordings, place / FILE)
    if precision == "int8":
        _quantize(place / FILE)
    return {"difference": require_close(open_session(place / FILE), recordings, precision)}


def record(model: TransformersModel, network: nn.Module) -> list[Recording]:
    """Calls of the first task's stages: the first of two long rows, the second of short ones."""
    task = model.tasks()[0]
    calls: list[tuple[dict[str, Any], Any]] = []
    hook = network.register_forward_hook(
        lambda module, arguments, keywords, output: calls.append((keywords, output)), with_kwargs=True
    )
    try:
        for items in _batches(model, task):
            list(model.stages(task).forward(items))
    finally:
        hook.remove()
    if len(calls) != len(_batches(model, task)):
        raise ModelFailed(f"{task} by this model is more than one computation of one network: use backend: torch.")
    return [_recording(keywords, output, task) for keywords, output in calls]


def _batches(model: TransformersModel, task: str) -> list[list[Item]]:
    """Long and short ones, and where the stages put them together, both in one."""
    one_input, parameters = model.warm_up_request(task)
    stages = model.stages(task)
    short, long = stages.prepare([one_input, longer(one_input)], parameters)
    batches = [[*long, *long], short[:1], [*short, *short, *short]]
    if short[0].group == long[0].group:
        batches.append([*short, *long])
    return batches


def longer(value: Any) -> Any:
    """The same request with more words, a longer sound, a larger image of another shape."""
    match value:
        case str():
            return value + " a b" * 6
        case bytes() if value.startswith(b"RIFF"):
            return _longer_sound(value)
        case bytes():
            return _larger_image(value)
        case list():
            return [longer(one) for one in value]
        case dict():
            return {name: longer(one) for name, one in value.items()}
    return value


def _longer_sound(data: bytes) -> bytes:
    written = io.BytesIO()
    with wave.open(io.BytesIO(data)) as sound, wave.open(written, "wb") as longer:
        longer.setparams(sound.getparams())
        frames = sound.readframes(sound.getnframes())
        longer.writeframes(frames + frames)
    return written.getvalue()


def _larger_image(data: bytes) -> bytes:
    written = io.BytesIO()
    image = Image.open(io.BytesIO(data))
    image.resize((image.width * 3 // 2, image.height * 2)).save(written, "PNG")
    return written.getvalue()


def _recording(keywords: Mapping[str, Any], output: Any, task: str) -> Recording:
    """Copies: what is computed in inference mode cannot be exported."""
    inputs = {name: value.clone() for name, value in keywords.items() if isinstance(value, torch.Tensor)}
    constants = {name: value for name, value in keywords.items() if name not in inputs}
    names = [name.removesuffix("?") for name in OUTPUTS[task]] if task in OUTPUTS else list(output)
    outputs = {name: output[name].clone() for name in names if isinstance(output.get(name), torch.Tensor)}
    return Recording(inputs, constants, outputs)


class _Exportable(nn.Module):
    """The inputs of a recorded call in its order -> its outputs in their order."""

    def __init__(self, network: nn.Module, call: Recording) -> None:
        super().__init__()
        self.network, self.constants = network, call.constants
        self.inputs, self.outputs = tuple(call.inputs), tuple(call.outputs)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.network(**dict(zip(self.inputs, inputs, strict=True)), **self.constants)
        return tuple(found[name] for name in self.outputs)


def _write(network: nn.Module, recordings: Sequence[Recording], path: Path) -> None:
    longest, shortest = recordings[0], recordings[1]
    wrapped = _Exportable(network, longest).eval()
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own deprecated calls, in every export
            program = torch.onnx.export(
                wrapped,
                tuple(longest.inputs.values()),
                dynamo=True,
                dynamic_shapes=(_dynamic_shapes(longest.inputs, shortest.inputs),),
                input_names=list(longest.inputs),
                output_names=list(longest.outputs),
                verbose=False,
            )
    except Exception as error:  # of torch's exporter: they have no common base
        raise ModelFailed(f"torch cannot export this model, so use backend: torch. {_first_line(error)}") from error
    assert program is not None
    program.save(path, external_data=True)


def _dynamic_shapes(longest: Mapping[str, torch.Tensor], shortest: Mapping[str, torch.Tensor]) -> tuple[Any, ...]:
    """The batch, and whatever the stages made of another size."""
    dynamic = torch.export.Dim.DYNAMIC
    return tuple(
        {axis: dynamic for axis in range(value.dim()) if axis == 0 or value.shape[axis] != shortest[name].shape[axis]}
        for name, value in longest.items()
    )


def _quantize(path: Path) -> None:
    """Weights of matrix products in 7 of 8 bits, each column with a scale of its own; what they are multiplied with is
    rounded as it comes. With all 8, products that ONNX Runtime adds in 16 bits may saturate on processors without VNNI
    (its page "Quantize ONNX models"); unsigned ones cannot, but are slower (docs/lab-log.md)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_name("float32.onnx")
    data = path.with_name(f"{path.name}.data")
    num_bytes = sum(file.stat().st_size for file in (path, data) if file.exists())
    path.rename(whole)
    quantize_dynamic(
        whole,
        path,
        weight_type=QuantType.QInt8,
        reduce_range=True,
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"],
        use_external_data_format=num_bytes > _MAX_INLINE_BYTES,
    )
    whole.unlink()
    data.unlink(missing_ok=True)


def require_close(session: Session, recordings: Sequence[Recording], precision: str) -> float:
    """The largest difference from all that was recorded. Raises ModelFailed where it is more than `TOLERANCES` says."""
    return require_small(max(_difference(session, one) for one in recordings), precision)


def require_small(difference: float, precision: str) -> float:
    """Logs and gives it back. Raises ModelFailed where it is more than `TOLERANCES` says."""
    logger.info("the export differs from torch by %.1e of the largest output (%s)", difference, precision)
    if not difference <= TOLERANCES[precision]:  # NaN is no small difference
        raise ModelFailed(
            f"The export computes something else than the model: its outputs differ by {difference:.1e} of the largest,"
            f" and in {precision} it may be {TOLERANCES[precision]:.0e}. Use backend: torch."
        )
    return difference


def _difference(session: Session, recording: Recording) -> float:
    """The largest, as a share of the largest number that the model put out. What padding computes is not looked at."""
    inputs = {name: value.to(session.inputs[name]).contiguous() for name, value in recording.inputs.items()}
    found = session.run({name: inputs[name] for name in session.inputs})
    shares = []
    for name, expected in recording.outputs.items():
        is_used = torch.isfinite(expected) & _is_no_padding(expected, recording.inputs.get("attention_mask"))
        wanted, computed = expected[is_used], found[name].float()[is_used]
        shares.append(float((computed - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)))
    return max(shares)


def _is_no_padding(output: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """For each of the output's numbers, where it has one row for each token."""
    if mask is None or output.dim() < 2 or output.shape[:2] != mask.shape:
        return torch.ones_like(output, dtype=torch.bool)
    return (mask > 0).reshape(*mask.shape, *[1] * (output.dim() - 2)).expand_as(output)


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0][:200]}" if lines else type(cause).__name__
