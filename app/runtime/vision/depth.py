"""The stages of depth-estimation."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from app.media.answers import Picture
from app.runtime.base import Item
from app.runtime.finite import require_finite
from app.runtime.vision.images import ImageStages


class DepthEstimationStages(ImageStages):
    """The depth of each pixel of the image, as the model measures it, and as a picture from black to white."""

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> dict[str, Any]:
        (item,), (output,) = items, outputs
        found = self._parts.image_processor.post_process_depth_estimation(
            SimpleNamespace(**output), [item.features.size]
        )
        depth = found[0]["predicted_depth"].numpy().reshape(item.features.size)
        require_finite(depth)
        return {"predicted_depth": np.ascontiguousarray(depth), "depth": Picture(_picture(depth))}


def _picture(depth: Any) -> Image.Image:
    """A map that is the same everywhere, rounding aside, is black: there is no range to spread over."""
    spread = depth.max() - depth.min()
    scaled = (depth - depth.min()) / spread if spread > 1e-5 * np.abs(depth).max() else np.zeros_like(depth)
    return Image.fromarray((scaled * 255).astype("uint8"))
