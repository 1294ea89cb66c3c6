"""Data sets of the `datasets` library: by their id of the Hub, downloaded or read as they come, or saved in a folder by
`save_to_disk`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from app.dataset.extras import needed
from app.dataset.files import FolderFiles
from app.dataset.rows import BadRow, Files, Row
from app.errors import InvalidInput, NotServed, PipeserveError

_ROWS = 256  # read at a time
_SAVED_ONE, _SAVED_SEVERAL = "state.json", "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    return (folder / _SAVED_ONE).is_file() or (folder / _SAVED_SEVERAL).is_file()


@dataclass(frozen=True, kw_only=True)
class Part:
    """Of a data set: what `--config`, `--split`, `--revision`, `--streaming` and `--limit` say."""

    config: str | None = None
    split: str | None = None
    revision: str | None = None
    streams: bool = False
    limit: int | None = None


class _Typed:
    """What a `datasets.Dataset` and an `IterableDataset` say of themselves."""

    def __init__(self, data: Any, *, identity: str, files: Files | None) -> None:
        self._data = data
        self.columns = tuple(data.column_names or ())
        self.identity = identity
        self.files = files

    def arrow_schema(self) -> Any:
        return None if self._data.features is None else self._data.features.arrow_schema

    def label_names(self, column: str) -> tuple[str, ...] | None:
        """Of a column of class labels, or of lists of them."""
        feature = (self._data.features or {}).get(column)
        names = getattr(getattr(feature, "feature", feature), "names", None)
        return None if names is None else tuple(names)


class ArrowDataset(_Typed):
    """On disk and mapped into memory, however large it is. Images and sounds are left as the files that they are."""

    def __init__(self, data: Any, files: Files | None = None, identity: str | None = None) -> None:
        """data: a `datasets.Dataset`. identity: where others have the same rows; else the library's own."""
        datasets = needed("datasets", "data")
        undecoded = {datasets.Image: datasets.Image(decode=False), datasets.Audio: datasets.Audio(decode=False)}
        for name, feature in data.features.items():
            if type(feature) in undecoded:
                data = data.cast_column(name, undecoded[type(feature)])
        super().__init__(data.with_format(None), identity=identity or str(data._fingerprint), files=files)
        self.num_rows = int(data.num_rows)

    def rows(self) -> Iterator[Row]:
        for start in range(0, self.num_rows, _ROWS):
            columns = self._data[start : start + _ROWS]
            for offset in range(min(_ROWS, self.num_rows - start)):
                yield Row(start + offset, {name: values[offset] for name, values in columns.items()})


class StreamedDataset(_Typed):
    """Read from the Hub each time that its rows are: nothing of it is kept on the disk.

    known_rows: of the whole split, where its card says so; else they are counted by reading them. limit: rows that are
    wanted, the first ones.
    """

    def __init__(self, data: Any, *, identity: str, files: Files, known_rows: int | None, limit: int | None) -> None:
        data = data.decode(False)
        typed = data if data.features is not None else data._resolve_features()
        super().__init__(typed, identity=identity, files=files)
        self._known_rows = known_rows
        self._limit = limit

    @cached_property
    def num_rows(self) -> int:
        if self._known_rows is None:
            return sum(1 for _ in self.rows())
        return self._known_rows if self._limit is None else min(self._limit, self._known_rows)

    def rows(self) -> Iterator[Row]:
        """Raises NotServed where the Hub cannot be read any more."""
        try:
            for number, values in enumerate(islice(self._data, self._limit)):
                yield Row(number, values)
        except PipeserveError:
            raise
        except Exception as error:  # whatever a builder or the Hub's client raises
            raise NotServed(f"The data set cannot be read any further: {_first_line(error)}") from None


class _HubFiles:
    """Files of one repository, as a streamed data set names them. repository: how the names begin."""

    def __init__(self, repository: str) -> None:
        self._repository = repository

    def read(self, name: str) -> bytes:
        """Raises BadRow."""
        if not name.startswith(self._repository):
            raise BadRow(f"{name[:200]!r} is no file of the data set.")
        try:
            with needed("fsspec", "data").open(name, "rb") as file:
                return bytes(file.read())
        except Exception as error:  # whatever the Hub's client raises
            raise BadRow(f"{name[:200]!r} cannot be read: {_first_line(error)}") from None


def load_saved(folder: Path, split: str | None) -> ArrowDataset:
    """Raises InvalidInput."""
    datasets = _datasets()
    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder}: {error}") from None
    if not hasattr(found, "keys"):
        return ArrowDataset(found)
    return ArrowDataset(found[_one_split(found, split, str(folder))])


def load_hub(name: str, part: Part) -> ArrowDataset | StreamedDataset:
    """Downloaded once, all splits of it, into the cache of the `datasets` library; or streamed. Raises NotServed,
    InvalidInput."""
    datasets = _datasets()
    try:
        builder = datasets.load_dataset_builder(name, part.config, revision=part.revision)
        split = _one_split(_splits_of(builder), part.split, name)
        identity = f"{builder.cache_dir} {split}"  # in which the configuration and the commit are
        if part.streams:
            return StreamedDataset(
                builder.as_streaming_dataset(split),
                identity=identity,
                files=_HubFiles(f"hf://datasets/{name}@"),
                known_rows=_known_rows(builder, split),
                limit=part.limit,
            )
        builder.download_and_prepare()
        return ArrowDataset(builder.as_dataset(split), FolderFiles(_downloads_of(name)), identity)
    except PipeserveError:
        raise
    except Exception as error:  # whatever a builder raises: it is the user's data set that cannot be had
        raise NotServed(f'"{name}" is no file here, and no data set that can be had: {_first_line(error)}') from None


def _splits_of(builder: Any) -> list[str]:
    """Before anything is downloaded."""
    return [str(one) for one in builder.info.splits or builder.config.data_files or ()]


def _known_rows(builder: Any, split: str) -> int | None:
    found = (builder.info.splits or {}).get(split)
    return None if found is None else found.num_examples or None


def _downloads_of(name: str) -> Path:
    hub = needed("huggingface_hub", "data")
    folder: str = hub.file_download.repo_folder_name(repo_id=name, repo_type="dataset")
    return Path(hub.constants.HF_HUB_CACHE, folder)


def _one_split(there: Any, split: str | None, name: str) -> str:
    """A part of one (`train[:100]`) is left to the library. Raises InvalidInput."""
    if split is None and len(there) == 1:
        return str(next(iter(there)))
    if split is None or (there and split.partition("[")[0] not in there):
        raise InvalidInput(f"{name} has the splits {', '.join(there)}: choose one with --split.")
    return split


def _datasets() -> Any:
    # It tells the Hub which data sets are loaded, but for this; read when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    datasets = needed("datasets", "data")
    datasets.disable_progress_bars()
    datasets.config.TORCH_AVAILABLE = False  # or a streamed data set would import it into the command
    return datasets


def _first_line(error: BaseException) -> str:
    """What the library says of a row that it cannot make is only that: the cause says why."""
    while type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
