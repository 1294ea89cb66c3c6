"""What a tokenizer's files say, as far as it is needed without transformers."""

from __future__ import annotations

import json
from typing import Any

from app.declaration.inference import FindFile

_FILES = ("special_tokens_map.json", "tokenizer_config.json")
_USUAL = "[MASK]"


def mask_token(find: FindFile) -> str:
    """BERT's where the files do not say."""
    for name in _FILES:
        found = _mask_in(find, name)
        if found is not None:
            return found
    return _USUAL


def _mask_in(find: FindFile, name: str) -> str | None:
    path = find(name)
    try:
        content: Any = json.loads(path.read_bytes()) if path is not None else {}
    except (OSError, ValueError):
        return None  # the worker will say what is wrong with it
    token = content.get("mask_token") if isinstance(content, dict) else None
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None
