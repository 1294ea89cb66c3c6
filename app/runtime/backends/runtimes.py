"""The backends that compute exported networks, by name; each is imported when a model wants it."""

from __future__ import annotations

import importlib
from typing import Any

from app.errors import NotAvailable

_MODULES = {"onnx": "app.runtime.backends.onnx_runtime", "openvino": "app.runtime.backends.open_vino"}


def exported_runtime(backend: str) -> Any:
    """The backend's module: `open_session` and `DISTRIBUTIONS`. Raises NotAvailable."""
    if backend not in _MODULES:
        raise NotAvailable(f"The backend {backend} is not available in this installation.")
    try:
        return importlib.import_module(_MODULES[backend])
    except ImportError as error:
        raise NotAvailable(
            f'backend: {backend} needs packages that are not installed ({error}): pip install "pipeserve[{backend}]".'
        ) from error
