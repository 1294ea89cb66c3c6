"""Files that a visitor gave. Paths come back from browsers, which may write there what they like."""

from __future__ import annotations

import base64
from pathlib import Path


def read_upload(path: str, folder: Path) -> str:
    """In base64. folder: that uploads lie in. Raises ValueError for a path that leads anywhere else."""
    found = Path(path).resolve()
    if not found.is_relative_to(folder.resolve()) or not found.is_file():
        raise ValueError("This file is not here any more; choose it again.")
    return base64.b64encode(found.read_bytes()).decode()
