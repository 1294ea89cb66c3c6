"""What of a folder goes to the Hub, and what stays here, each with its reason."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.cli.push.subject import Subject
    from app.made_files import Kept

CARD = "README.md"
_SHOWN = (".gitattributes",)
_FOLDERS = {
    "__pycache__": "a cache",
    "node_modules": "a cache",
    "runs": "logs of the training",
    "venv": "an environment",
    "wandb": "logs of the training",
}
_SECRETS = ("*.env", "*.key", "*.pem", "*.token", "credentials*", "id_ed25519*", "id_rsa*", "secrets*", "token")
_TRAINING = ("optimizer.bin", "optimizer.pt", "rng_state*.pth", "scaler.pt", "scheduler.pt", "training_args.bin")
_PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
_WEIGHTS = (*_PICKLES, ".data", ".gguf", ".h5", ".msgpack", ".onnx", ".onnx_data", ".safetensors", ".xml")
"""Which an export stands for. (An index of shards goes with them.)"""
_TEXTS = {
    *(".cfg", ".ini", ".ipynb", ".jinja", ".json", ".jsonl", ".log"),
    *(".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"),
}
_MAX_SEARCHED_BYTES = 2**20
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")


@dataclass(frozen=True, kw_only=True)
class Item:
    """path: in the repository. source: a file, or what is written for it."""

    path: str
    source: Path | bytes

    @property
    def num_bytes(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    def read(self) -> bytes:
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    path: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Parcel:
    items: tuple[Item, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def num_bytes(self) -> int:
        return sum(item.num_bytes for item in self.items)

    def find(self, path: str) -> Item | None:
        return next((item for item in self.items if item.path == path), None)

    def with_item(self, path: str, content: bytes) -> Parcel:
        """In place of what it has there."""
        others = (item for item in self.items if item.path != path)
        items = sorted((*others, Item(path=path, source=content)), key=lambda item: item.path)
        return Parcel(items=tuple(items), left_out=self.left_out)


def pack(subject: Subject, *, excluded: Sequence[str], allow_pickle: bool) -> Parcel:
    """excluded: patterns of paths. Raises ModelFailed where a token, or a pickle that nothing stands for, would go."""
    names = list(_files(subject.folder))
    items, left_out = [], []
    for name in names:
        why = _why_not(name, names, subject, excluded, allow_pickle=allow_pickle)
        if why is None:
            items.append(Item(path=name, source=subject.folder / name))
        else:
            left_out.append(LeftOut(path=name, why=why))
    if not allow_pickle:
        _check_holds_no_pickle(items, names)
    if subject.export is not None:
        items += _of_export(subject.export)
    for item in items:
        _check_holds_no_secret(item)
    return Parcel(items=tuple(sorted(items, key=lambda item: item.path)), left_out=tuple(left_out))


def file_name_of(export: Kept) -> str:
    """Of its first file, in the repository."""
    return _of_export(export)[0].path


def _files(folder: Path) -> Iterator[str]:
    """Relative to it, whatever they are; links to folders are not followed."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in sorted([*names, *links]):
            yield Path(root, name).relative_to(folder).as_posix()


def _why_not(
    name: str, names: Sequence[str], subject: Subject, excluded: Sequence[str], *, allow_pickle: bool
) -> str | None:
    """Why a file stays here; None: it goes."""
    path = PurePosixPath(name)
    if _is_like(name, excluded) or _is_like(path.name, excluded):
        return "excluded"
    if any(part.startswith(".") for part in path.parts) and path.name not in _SHOWN:
        return "hidden"
    if (why := next((_FOLDERS[part] for part in path.parts[:-1] if part in _FOLDERS), None)) is not None:
        return why
    if any(part.startswith("checkpoint-") for part in path.parts[:-1]):
        return "a checkpoint of the training, which can be pushed by itself"
    if _is_like(path.name.lower(), _SECRETS):
        return "by its name, a secret"
    if _is_like(path.name, _TRAINING):
        return "the state of the training"
    if not (subject.folder / name).is_file():
        return "no file, or a link to none"
    if subject.export is not None:
        return _why_not_beside_export(path)
    is_spared = any(PurePosixPath(one).parent == path.parent and one.endswith(".safetensors") for one in names)
    return "a pickle, beside safetensors" if is_spared and not allow_pickle and _is_pickle(name, names) else None


def _why_not_beside_export(path: PurePosixPath) -> str | None:
    if path.suffix in _WEIGHTS or path.name.endswith(".index.json"):
        return "weights, which the export stands for"
    return "the card of the model that the export is made of" if str(path) == CARD else None


def _is_like(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _is_pickle(name: str, names: Sequence[str]) -> bool:
    """By its name. Of an OpenVINO network the weights are called .bin too: numbers, and nothing else."""
    path = PurePosixPath(name)
    return path.suffix in _PICKLES and str(path.with_suffix(".xml")) not in names


def _of_export(export: Kept) -> list[Item]:
    """Where Optimum, and this server, look for them: in `onnx/` or `openvino/`, and of those that are ours, which are
    one file, in 8 bits as `model_quantized.onnx`."""
    files = sorted(path for path in export.folder.iterdir() if ".onnx" in path.name or path.suffix in (".xml", ".bin"))
    if export.recipe.options.get("precision") == "int8" and len(files) == 1:
        return [Item(path="onnx/model_quantized.onnx", source=files[0])]
    below = "openvino" if export.recipe.backend == "optimum-intel" else "onnx"
    return [Item(path=f"{below}/{path.name}", source=path) for path in files]


def _check_holds_no_pickle(items: Sequence[Item], names: Sequence[str]) -> None:
    """Raises ModelFailed."""
    from app.errors import ModelFailed

    pickled = next((item for item in items if _is_pickle(item.path, names)), None)
    if pickled is not None:
        raise ModelFailed(
            f"{pickled.path} is a pickle, which can run any code where it is loaded, and no safetensors stand beside"
            " it: save the model as safetensors, or push it as it is with --allow-pickle."
        )


def _check_holds_no_secret(item: Item) -> None:
    """Raises ModelFailed."""
    from app.errors import ModelFailed

    if isinstance(item.source, bytes) or item.num_bytes > _MAX_SEARCHED_BYTES:
        return
    if PurePosixPath(item.path).suffix in _TEXTS and _TOKEN.search(item.read()):
        raise ModelFailed(
            f"{item.source} holds what looks like a token or a private key: take it out, and revoke it if others have"
            f" seen it; or leave the file here with --exclude {item.path}."
        )
