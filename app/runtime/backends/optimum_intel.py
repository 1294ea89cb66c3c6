"""optimum-intel's OVModel classes: OpenVINO, in the environment "optimum-intel" (transformers 4.57)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimum.exporters.openvino.convert import export_from_model
from optimum.intel import openvino
from transformers import PretrainedConfig, PreTrainedModel

from app.catalog import ModelSpec
from app.runtime.backends.open_vino import compile_options
from app.runtime.backends.optimum import Head

EXPORTER = "openvino"
DISTRIBUTIONS = ("optimum", "optimum-intel", "openvino")
"""Whose versions an export depends on."""

_NUMBERS = {"int8": ("i8", "u8", "i4", "u4", "nf4"), "float16": ("f16",)}
"""By what is computed in, the types of weights that an IR file names."""


def open_model(head: Head, root: Path, below: str, config: PretrainedConfig, *, num_threads: int, dtype: str) -> Any:
    """root: with a configuration. below: the folder in it that the IR files are in. dtype: float32 or bfloat16. Raises
    ModelFailed."""
    options = {
        **compile_options(num_threads=num_threads, dtype=dtype),
        "KV_CACHE_PRECISION": "f32",  # OpenVINO's own choice is 8 bits
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # and so it is for what is multiplied with weights in 8 bits
    }
    return getattr(openvino, f"OVModel{head.name}").from_pretrained(
        str(root), config=config, device="CPU", ov_config=options, **_places(root, below)
    )


def _places(root: Path, below: str) -> dict[str, str]:
    """Classes of one network look into a subfolder; those of several take the path of each."""
    if not (root / below / "openvino_encoder_model.xml").is_file():
        return {"subfolder": below}
    parts = ("encoder", "decoder", "decoder_with_past")
    return {f"{part}_file_name": str(Path(below, f"openvino_{part}_model.xml")) for part in parts}


def write(spec: ModelSpec, part: Path, head: Head, eager: PreTrainedModel) -> None:
    """An export of the model into that folder, in float32."""
    export_from_model(eager, part, task=head.export_task, ov_config=openvino.OVConfig(dtype="fp32"))


def precision_of(path: Path, dtype: str) -> str:
    """What an IR file has its weights in, as in `TOLERANCES`. dtype: what those in float32 are computed in."""
    content = path.read_text()
    for precision, types in _NUMBERS.items():
        if any(f'element_type="{one}"' in content for one in types):
            return precision
    return dtype
