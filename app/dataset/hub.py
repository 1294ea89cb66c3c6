"""Data sets of the `datasets` library: by their id of the Hub, or saved in a folder by `save_to_disk`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.dataset.extras import needed
from app.dataset.rows import Row
from app.errors import InvalidInput, NotServed

_ROWS = 256  # read at a time
_SAVED_ONE, _SAVED_SEVERAL = "state.json", "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    return (folder / _SAVED_ONE).is_file() or (folder / _SAVED_SEVERAL).is_file()


class ArrowDataset:
    """On disk and mapped into memory, however large it is. Images and sounds are left as the files that they are."""

    folder: Path | None = None

    def __init__(self, data: Any) -> None:
        """data: a `datasets.Dataset`."""
        datasets = needed("datasets", "data")
        undecoded = {datasets.Image: datasets.Image(decode=False), datasets.Audio: datasets.Audio(decode=False)}
        for name, feature in data.features.items():
            if type(feature) in undecoded:
                data = data.cast_column(name, undecoded[type(feature)])
        self._data = data.with_format(None)
        self.columns = tuple(data.column_names)
        self.num_rows = int(data.num_rows)
        self.identity = str(data._fingerprint)

    def rows(self) -> Iterator[Row]:
        for start in range(0, self.num_rows, _ROWS):
            columns = self._data[start : start + _ROWS]
            for offset in range(min(_ROWS, self.num_rows - start)):
                yield Row(start + offset, {name: values[offset] for name, values in columns.items()})

    def arrow_schema(self) -> Any:
        return self._data.features.arrow_schema

    def label_names(self, column: str) -> tuple[str, ...] | None:
        names = getattr(self._data.features.get(column), "names", None)
        return None if names is None else tuple(names)


def load_saved(folder: Path, split: str | None) -> ArrowDataset:
    """Raises InvalidInput."""
    datasets = _datasets()
    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder}: {error}") from None
    return ArrowDataset(_one_split(found, split, str(folder)))


def load_hub(name: str, subset: str | None, split: str | None) -> ArrowDataset:
    """Downloaded once, into the cache of the `datasets` library. Raises NotServed."""
    datasets = _datasets()
    try:
        found = datasets.load_dataset(name, subset, split=split)
    except Exception as error:  # whatever a builder raises: it is the user's data set that cannot be had
        raise NotServed(f'"{name}" is no file here, and no data set that can be had: {_first_line(error)}') from None
    return ArrowDataset(_one_split(found, split, name))


def _one_split(found: Any, split: str | None, name: str) -> Any:
    if not hasattr(found, "keys"):
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split is None or split not in found:
        raise InvalidInput(f"{name} has the splits {', '.join(found)}: choose one with --split.")
    return found[split]


def _datasets() -> Any:
    # It tells the Hub which data sets are loaded, but for this; read when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    datasets = needed("datasets", "data")
    datasets.disable_progress_bars()
    return datasets


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
