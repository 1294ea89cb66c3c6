"""The files of a model: a local folder as it is, or what is needed of a repository on the Hub, downloaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError, of requests or of httpx
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils.tqdm import tqdm

from app.catalog import ADAPTER_CONFIG, PREPROCESSORS, AdapterSpec, ModelSpec
from app.channel.messages import Progress
from app.declaration.exports import Export, export_names, standing
from app.errors import ModelFailed
from app.hub import no_answer, refusal

ReportProgress = Callable[[Progress], None]
Stems = tuple[str, str]
STEMS: Stems = ("model", "pytorch_model")
"""Of the names of a model's weights, in safetensors and in pickles."""
ADAPTER_STEMS: Stems = ("adapter_model", "adapter_model")

_TEXT_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab", ".bpe")
_MODULE_FOLDER = re.compile(r"\d+_\w+")  # of sentence-transformers, such as 1_Pooling
_FIRST_FILES = ("config.json", ADAPTER_CONFIG, "tokenizer_config.json", "tokenizer.json", "vocab.txt", "handler.py")
_REPORT_BYTES = 2**20


def fetch_all(spec: ModelSpec, report: ReportProgress) -> Path:
    """All that a load of the entry needs; the model's folder. Raises ModelFailed with what to do about it."""
    folder = fetch_model(spec, report)
    for name in PREPROCESSORS:
        if getattr(spec, name) is not None:
            fetch_preprocessor(spec, name, report)
    for adapter in spec.adapters:
        fetch_adapter_of(spec, adapter, report)
    return folder


def fetch_model(spec: ModelSpec, report: ReportProgress) -> Path:
    """Its folder, with weights or the export that stands for them; of one with a handler, all files. Raises ModelFailed
    with what to do about it."""
    return fetch(
        spec.model,
        revision=spec.revision,
        is_offline=spec.offline,
        allow_pickle=spec.allow_pickle,
        with_code=spec.trust_remote_code,
        with_weights=spec.file_name is None,
        is_whole=bool(spec.has_handler),
        report=report,
        instead=export_names(spec),
    )


def fetch_preprocessor(spec: ModelSpec, name: str, report: ReportProgress) -> Path:
    """The folder of one that the entry takes from elsewhere. Raises ModelFailed with what to do about it."""
    return fetch(
        getattr(spec, name),
        revision=None,
        is_offline=spec.offline,
        allow_pickle=spec.allow_pickle,
        with_code=spec.trust_remote_code,
        with_weights=name == "vocoder",
        report=report,
    )


def fetch_adapter_of(spec: ModelSpec, adapter: AdapterSpec, report: ReportProgress) -> Path:
    """The folder of one of its PEFT adapters. Raises ModelFailed with what to do about it."""
    return fetch_adapter(
        adapter.path,
        revision=adapter.revision,
        is_offline=spec.offline,
        allow_pickle=spec.allow_pickle,
        report=report,
    )


def fetch(
    model: str,
    *,
    revision: str | None,
    is_offline: bool,
    allow_pickle: bool,
    with_code: bool,
    with_weights: bool,
    report: ReportProgress,
    is_whole: bool = False,
    stems: Stems = STEMS,
    instead: Sequence[Export] = (),
) -> Path:
    """The folder of a model or, without weights, of a tokenizer. is_whole: all of the repository's files, whatever they
    are (a handler may read any); then nothing is asked of its weights. stems: of the names of its weights, in
    safetensors and in pickles. instead: exports that stand for the weights: the first of them that is there.

    Reads HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE and HF_HOME. Raises ModelFailed with what to do about it.
    """
    folder = Path(model)
    with_weights = with_weights and not is_whole
    if folder.is_absolute():
        with_weights = with_weights and not standing(instead, _names(folder))
        return _local(folder, stems, allow_pickle=allow_pickle, with_weights=with_weights)
    cached = partial(
        _cached, model, revision, stems=stems, allow_pickle=allow_pickle, with_weights=with_weights, instead=instead
    )
    if is_offline or constants.HF_HUB_OFFLINE:
        return cached("the Hub is not to be asked (offline)")
    try:
        # Its own default is to wait for ever, and a load that waits is not known to hang: its worker's heart beats.
        info = huggingface_hub.HfApi().model_info(model, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        names = [file.rfilename for file in info.siblings or []]
        chosen = names
        if not is_whole:
            found = standing(instead, names)
            chosen = _chosen(
                names,
                model,
                stems,
                allow_pickle=allow_pickle,
                with_code=with_code,
                with_weights=with_weights and not found,
            )
            chosen += found
        return Path(
            snapshot_download(model, revision=revision, allow_patterns=chosen, tqdm_class=_progress_bar(report))
        )
    except (HFValidationError, HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        if (refused := refusal(error, model, revision)) is not None:
            raise ModelFailed(refused) from error
        return cached(no_answer(error))


def fetch_adapter(
    path: str, *, revision: str | None, is_offline: bool, allow_pickle: bool, report: ReportProgress
) -> Path:
    """The folder of a PEFT adapter. Raises ModelFailed with what to do about it."""
    folder = fetch(
        path,
        revision=revision,
        is_offline=is_offline,
        allow_pickle=allow_pickle,
        with_code=False,
        with_weights=True,
        report=report,
        stems=ADAPTER_STEMS,
    )
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelFailed(f"{path} holds no {ADAPTER_CONFIG}, so it is no adapter of PEFT's.")
    return folder


def _cached(
    model: str,
    revision: str | None,
    why: str,
    *,
    stems: Stems,
    allow_pickle: bool,
    with_weights: bool,
    instead: Sequence[Export] = (),
) -> Path:
    """The repository as it was downloaded before.

    Not by `snapshot_download(local_files_only=True)`: it wants all files of the repository, and we take only some.
    """
    at = "" if revision is None else f" at revision {revision}"
    found = next(filter(None, (_in_cache(model, name, revision) for name in _FIRST_FILES)), None)
    if found is None:
        raise ModelFailed(f"{model}{at} is not in the local cache, and {why}.")
    folder = found.parent
    names = _names(folder)
    with_weights = with_weights and not standing(instead, names)
    if with_weights and (not any(name.endswith((".safetensors", ".bin")) for name in names) or _missing_shards(folder)):
        raise ModelFailed(f"The weights of {model}{at} are not in the local cache, and {why}.")
    return _local(folder, stems, allow_pickle=allow_pickle, with_weights=with_weights)


def _in_cache(model: str, name: str, revision: str | None) -> Path | None:
    try:
        found = try_to_load_from_cache(model, name, revision=revision)
    except HFValidationError as error:
        raise ModelFailed(str(refusal(error, model, revision))) from error
    return Path(found) if isinstance(found, str) else None


def _missing_shards(folder: Path) -> bool:
    """Whether an index names weights that are not there (a download that was cut off)."""
    for index in folder.glob("*.index.json"):
        files = set(json.loads(index.read_text()).get("weight_map", {}).values())
        if any(not (folder / file).exists() for file in files):
            return True
    return False


def check_weights(folder: Path, *, allow_pickle: bool) -> None:
    """Raises ModelFailed where there are none, or only pickled ones and these are not allowed."""
    _weights(_names(folder), str(folder), STEMS, allow_pickle=allow_pickle)


def has_weights(folder: Path, *, allow_pickle: bool) -> bool:
    """Whether all of a model's own weights are there, beside exports of it."""
    try:
        check_weights(folder, allow_pickle=allow_pickle)
    except ModelFailed:
        return False
    return not _missing_shards(folder)


def _names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def _local(folder: Path, stems: Stems, *, allow_pickle: bool, with_weights: bool) -> Path:
    if not folder.is_dir():
        raise ModelFailed(f"The folder {folder} does not exist.")
    if with_weights:
        for name in _weights(_names(folder), str(folder), stems, allow_pickle=allow_pickle):
            if not os.access(folder / name, os.R_OK):  # of which safetensors says that there is no such file
                raise ModelFailed(f"{folder / name} cannot be read: it must be readable by the server's user.")
    return folder


def _chosen(
    names: list[str], model: str, stems: Stems, *, allow_pickle: bool, with_code: bool, with_weights: bool
) -> list[str]:
    """The files to download: texts and weights at the root and in sentence-transformers' module folders."""
    chosen = [name for name in names if _is_near(name) and name.endswith(_TEXT_SUFFIXES)]
    if with_code:
        chosen += [name for name in names if name.endswith(".py")]
    if with_weights:
        chosen += _weights(names, model, stems, allow_pickle=allow_pickle)
    return chosen


def _weights(names: Sequence[str], model: str, stems: Stems, *, allow_pickle: bool) -> list[str]:
    """Of each folder the safetensors files, else the pickled ones if they are allowed; so too of an adapter among a
    model's files, which transformers puts into the model. Raises ModelFailed."""
    chosen = _of_stems(names, model, stems, allow_pickle=allow_pickle)
    if not chosen:
        raise ModelFailed(f"{model} has no weights: there is neither {stems[0]}.safetensors nor {stems[1]}.bin.")
    if stems == STEMS and ADAPTER_CONFIG in names:
        chosen += _of_stems(names, model, ADAPTER_STEMS, allow_pickle=allow_pickle)
    return chosen


def _of_stems(names: Iterable[str], model: str, stems: Stems, *, allow_pickle: bool) -> list[str]:
    folders: dict[str, list[str]] = {}
    for name in filter(_is_near, names):
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    chosen: list[str] = []
    for files in folders.values():
        safe = [name for name in files if _is_weights(name, stems[0], ".safetensors")]
        pickled = [name for name in files if _is_weights(name, stems[1], ".bin")]
        if not safe and pickled and not allow_pickle:
            raise ModelFailed(
                f"{model} has its weights only in pickle files ({pickled[0]}), which can run any code:"
                " declare allow_pickle: true to load them, or choose a revision with safetensors."
            )
        chosen += safe or pickled
    return chosen


def _is_near(name: str) -> bool:
    folder = name.rpartition("/")[0]
    return folder == "" or _MODULE_FOLDER.fullmatch(folder) is not None


def _is_weights(name: str, stem: str, suffix: str) -> bool:
    """`model.safetensors`, or a shard of it (`model-00001-of-00002.safetensors`)."""
    file = name.rpartition("/")[2]
    return re.fullmatch(rf"{stem}(-\d+-of-\d+)?{re.escape(suffix)}", file) is not None


def _progress_bar(report: ReportProgress) -> type[tqdm]:
    """A progress bar that shows nothing and reports bytes, at most once per MiB."""

    class Reporter(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            # Two bars count bytes: those on the wire (compressed, perhaps) and those of files. The latter have a total.
            is_of_files = not str(options.get("name")).endswith(".transfer")
            self._is_reported = options.get("unit") == "B" and is_of_files
            self._reported = (-_REPORT_BYTES, 0)
            super().__init__(*arguments, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0  # a disabled bar does not count
            done, total = int(self.n), int(self.total or 0)
            is_new = done - self._reported[0] >= _REPORT_BYTES or total != self._reported[1] or done == total
            if self._is_reported and is_new:
                self._reported = (done, total)
                report(Progress(phase="download", done=done, total=total))
            return None

    return Reporter
