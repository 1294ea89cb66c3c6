"""Model folders with a `handler.py`, as people write them for Inference Endpoints."""

from __future__ import annotations

from pathlib import Path

ECHO = """
import json
import os
from pathlib import Path
from typing import Any

from beside import LIMIT


class EndpointHandler:
    def __init__(self, path=""):
        self.words = Path(path, "words.txt").read_text().split()

    def __call__(self, data: dict[str, Any]) -> Any:
        inputs = data.pop("inputs", None)
        if inputs == "fail":
            raise RuntimeError("a secret of the handler")
        if inputs == "refuse":
            raise ValueError("inputs must not be refused.")
        if inputs == "parse":
            return json.loads("{")
        if inputs == "exit":
            os._exit(3)
        if inputs == "object":
            return {"it": object()}
        if inputs == "nan":
            return [float("nan")]
        size = len(inputs) if isinstance(inputs, (str, bytes, list)) else None
        return {"type": type(inputs).__name__, "size": size, "rest": data, "words": self.words, "limit": LIMIT}
"""
"""Answers what it was given; reads a file of its folder, and imports another."""


def handler_folder(folder: Path, code: str = ECHO) -> Path:
    """Makes the folder."""
    folder.mkdir(parents=True)
    (folder / "handler.py").write_text(code)
    (folder / "beside.py").write_text("LIMIT = 7\n")
    (folder / "words.txt").write_text("some words")
    (folder / "requirements.txt").write_text("a-library-that-nobody-has==1.0\n")
    return folder
