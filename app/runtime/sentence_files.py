"""What sentence-transformers' files in a model's folder say: how token vectors become one vector per text.

The forms are those that sentence-transformers 2 to 6 write: `modules.json`, `N_Pooling/config.json`,
`N_Dense/`, `sentence_bert_config.json`, `config_sentence_transformers.json`.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from app.errors import ModelFailed, NotAvailable
from app.fetching import check_weights

POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""In the order in which sentence-transformers concatenates them."""

_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SYNONYMS = {"last": "lasttoken", "last_token": "lasttoken", "mean_sqrt_len": "mean_sqrt_len_tokens"}
_TRANSFORMER_CONFIGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


class Residual(nn.Module):
    """A Dense layer whose input is added to its output (`use_residual`)."""

    def __init__(self, inner: nn.Module, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.inner = inner
        self.residual = nn.Identity() if num_inputs == num_outputs else nn.Linear(num_inputs, num_outputs, bias=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.inner(vectors) + self.residual(vectors)
        return added


class UnitLength(nn.Module):
    """A Normalize module that others follow; the last one is `SentenceFiles.normalize`."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(vectors, dim=-1)


@dataclass(frozen=True, kw_only=True)
class SentenceFiles:
    """modes: empty for token vectors. layers: what follows pooling, float32 on CPU. normalize: whether a Normalize
    module comes last. has_files: false where the operator declared the pooling."""

    modes: tuple[str, ...]
    include_prompt: bool = True
    layers: nn.Sequential = field(default_factory=nn.Sequential)
    normalize: bool = False
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    has_files: bool = True


def pooling_modes(name: str) -> tuple[str, ...]:
    """The modes of a declared `pooling`, such as "mean" or "cls"; none for "none". Raises ModelFailed."""
    if name == "none":
        return ()
    mode = _SYNONYMS.get(name, name)
    if mode not in POOLING_MODES:
        raise ModelFailed(f'pooling "{name}" is unknown; there are none, {", ".join(POOLING_MODES)}.')
    return (mode,)


def transformer_folder(folder: Path) -> Path:
    """Where the transformer itself lies: in models of sentence-transformers' early days in `0_Transformer`."""
    modules = _modules(folder)
    return folder / modules[0]["path"] if modules else folder


def read_sentence_files(folder: Path, *, allow_pickle: bool = False) -> SentenceFiles | None:
    """None where there is no `modules.json`. Raises ModelFailed for broken files, NotAvailable for unknown modules."""
    modules = _modules(folder)
    if modules is None:
        return None
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise NotAvailable(f"Sentence embeddings made by the modules {', '.join(kinds)} are not supported.")
    layers: list[nn.Module] = []
    for kind, module in zip(kinds[2:], modules[2:], strict=True):
        if (layer := _layer(kind, folder / module["path"], allow_pickle=allow_pickle)) is not None:
            layers.append(layer)
    normalize = bool(layers) and isinstance(layers[-1], UnitLength)
    transformer = _transformer_config(folder / modules[0]["path"])
    settings = _read_json(folder / "config_sentence_transformers.json") or {}
    pooling = _read_json(folder / modules[1]["path"] / "config.json") or {}
    return SentenceFiles(
        modes=_modes(pooling),
        include_prompt=bool(pooling.get("include_prompt", True)),
        layers=nn.Sequential(*(layers[:-1] if normalize else layers)).eval(),
        normalize=normalize,
        max_seq_length=transformer.get("max_seq_length"),
        do_lower_case=bool(transformer.get("do_lower_case", False)),
        prompts={name: prompt for name, prompt in (settings.get("prompts") or {}).items() if prompt is not None},
        default_prompt_name=settings.get("default_prompt_name"),
        similarity=_similarity(settings.get("similarity_fn_name")),
    )


def _modules(folder: Path) -> list[dict[str, Any]] | None:
    modules = _read_json(folder / "modules.json")
    if modules is None:
        return None
    if not isinstance(modules, list) or not modules or not all("path" in one and "type" in one for one in modules):
        raise ModelFailed(f"{folder / 'modules.json'} is not a list of modules.")
    for path in (PurePosixPath(str(module["path"])) for module in modules):
        if path.is_absolute() or ".." in path.parts:
            raise ModelFailed(f"{folder / 'modules.json'} leads out of the model's folder, to {str(path)[:200]}.")
    return sorted(modules, key=lambda module: int(module.get("idx", 0)))


def _modes(pooling: dict[str, Any]) -> tuple[str, ...]:
    given = pooling.get("pooling_mode")  # since sentence-transformers 5.2
    if given is None:
        return tuple(mode for key, mode in _LEGACY_MODES.items() if pooling.get(key)) or ("mean",)
    modes = (given,) if isinstance(given, str) else tuple(given)
    for mode in modes:
        if mode not in POOLING_MODES:
            raise NotAvailable(f'The model pools by "{mode}", which is not supported.')
    return modes


def _similarity(name: str | None) -> str:
    if name is not None and name not in SIMILARITIES:
        raise NotAvailable(f'The model compares by "{name}", which is not supported.')
    return name or "cosine"


def _transformer_config(folder: Path) -> dict[str, Any]:
    for name in _TRANSFORMER_CONFIGS:
        if (config := _read_json(folder / name)) is not None:
            return dict(config)
    return {}


def _layer(kind: str, folder: Path, *, allow_pickle: bool) -> nn.Module | None:
    if kind == "Normalize":
        return UnitLength()
    if kind == "Dropout":
        return None  # it does nothing outside training
    if kind in ("LayerNorm", "Dense"):
        check_weights(folder, allow_pickle=allow_pickle)
    if kind == "LayerNorm":
        norm = nn.LayerNorm(int(_required(folder)["dimension"]))
        norm.load_state_dict(_state(folder, "norm."))
        return norm
    if kind == "Dense":
        return _dense(folder)
    raise NotAvailable(f"Sentence embeddings with a module {kind} are not supported.")


def _dense(folder: Path) -> nn.Module:
    config = _required(folder)
    if config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise NotAvailable("A Dense module that works on token vectors is not supported.")
    num_inputs, num_outputs = int(config["in_features"]), int(config["out_features"])
    linear = nn.Linear(num_inputs, num_outputs, bias=bool(config.get("bias", True)))
    linear.load_state_dict(_state(folder, "linear."))
    dense = nn.Sequential(linear, _activation(config.get("activation_function", "torch.nn.Tanh")))
    if not config.get("use_residual"):
        return dense
    residual = Residual(dense, num_inputs, num_outputs)
    if num_inputs != num_outputs:
        residual.residual.load_state_dict(_state(folder, "residual."))
    return residual


def _activation(name: str | None) -> nn.Module:
    """A module class of torch by its full name; nothing else is imported on a model's word."""
    if name is None:
        return nn.Identity()
    module_name, _, class_name = name.rpartition(".")
    if not f"{module_name}.".startswith("torch.nn."):
        raise NotAvailable(f"A Dense module with the activation {name} is not supported: it is not one of torch.nn.")
    found = getattr(importlib.import_module(module_name), class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelFailed(f"The activation {name} of a Dense module does not exist.")
    activation: nn.Module = found()
    return activation


def _state(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """The module's tensors whose names begin so, without the prefix, as float32."""
    path = folder / "model.safetensors"
    tensors: dict[str, torch.Tensor]
    if path.exists():
        tensors = load_file(path)
    else:  # `_layer` refused it unless the entry allows pickle
        tensors = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    return {name.removeprefix(prefix): one.float() for name, one in tensors.items() if name.startswith(prefix)}


def _required(folder: Path) -> dict[str, Any]:
    config = _read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ModelFailed(f"{folder / 'config.json'} is missing.")
    return config


def _read_json(path: Path) -> Any:
    """None where the file does not exist. Raises ModelFailed where it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ModelFailed(f"{path} is not valid JSON: {error}.") from error
