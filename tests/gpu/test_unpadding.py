"""Encoders without padding on a real GPU: by torch's kernel in half precision. Skipped without CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.runtime.unpadding import is_unpadded
from tests.models import build
from tests.runtime.compute import answer, answer_together, load

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA sees")

TEXTS = ["I loved this film.", "Terrible", "The cat sleeps on the sofa in a very old house by the river of London."]


@pytest.mark.parametrize(("dtype", "is_without"), [("bfloat16", True), ("float32", False)])
def test_texts_together_are_as_alone(dtype: str, is_without: bool, tmp_path: Path) -> None:
    """The kernel takes half precision alone: float32 keeps its padding."""
    folder = build("encoder", tmp_path)
    model: Any = load(folder, "feature-extraction", device="cuda", dtype=dtype, pooling="mean")
    stages = model.stages("feature-extraction")
    assert is_unpadded(stages._embedder.model) is is_without
    (together,) = answer_together(stages, [(TEXTS, {})])
    for text, given in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(given, answer(stages, text), rtol=0.05, atol=0.05)
