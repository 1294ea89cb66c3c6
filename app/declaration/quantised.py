"""Checkpoints whose weights are quantised: what loading them needs, as far as config.json says. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any


@dataclass(frozen=True)
class Needs:
    """packages: by the names they are installed by. accelerator: whether no CPU computes it."""

    packages: tuple[str, ...]
    accelerator: bool = False


# As transformers 5.23's quantizers ask for them (`validate_environment`). Methods that need nothing are not here: fp8
# and mxfp4, say, are computed in bfloat16 where there is no accelerator.
METHODS: dict[str, Needs] = {
    "gptq": Needs(("optimum", "gptqmodel")),
    "awq": Needs(("gptqmodel",)),
    "auto-round": Needs(("auto-round",)),
    "compressed-tensors": Needs(("compressed-tensors",)),
    "bitsandbytes": Needs(("bitsandbytes",)),
    "torchao": Needs(("torchao",)),
    "quanto": Needs(("optimum-quanto",)),
    "hqq": Needs(("hqq",)),
    "aqlm": Needs(("aqlm",)),
    "quark": Needs(("amd-quark",)),
    "vptq": Needs(("vptq",), accelerator=True),
    "eetq": Needs(("kernels",), accelerator=True),
    "higgs": Needs(("flute-kernel",), accelerator=True),
    "spqr": Needs(("spqr_quant",), accelerator=True),
    "fbgemm_fp8": Needs(("fbgemm-gpu",), accelerator=True),
    "fp_quant": Needs(("fp_quant",), accelerator=True),
}


def method_of(config: dict[str, Any]) -> str | None:
    """How the weights beside a config.json are quantised; None: they are not."""
    stored = config.get("quantization_config")
    if not isinstance(stored, dict):
        return None
    method = stored.get("quant_method")
    if method is None and (stored.get("load_in_8bit") or stored.get("load_in_4bit")):
        return "bitsandbytes"  # as its first checkpoints say it
    return method if isinstance(method, str) else None


def problem_of_checkpoint(method: str, *, is_accelerated: bool | None) -> str | None:
    """Why it cannot be loaded in this environment, in one sentence. is_accelerated: None where it is not known yet on
    what the model will be."""
    needs = METHODS.get(method)
    if needs is None:
        return None
    missing = [package for package in needs.packages if not _is_installed(package)]
    lacks = []
    if missing:
        lacks.append(f"the package{'s' if len(missing) > 1 else ''} {' and '.join(missing)}")
    if needs.accelerator and is_accelerated is False:
        lacks.append("a CUDA device")
    return f"this checkpoint is quantised with {method}, which needs {' and '.join(lacks)}." if lacks else None


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
