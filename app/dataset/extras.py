"""Libraries of the extras `data` and `eval`, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from app.errors import NotAvailable


def needed(module: str, extra: str) -> Any:
    """Raises NotAvailable, which says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise NotAvailable(f"This needs {library} ({error}): pip install 'pipeserve[{extra}]'.") from None
