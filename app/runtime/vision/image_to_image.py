"""image-to-image, which transformers 5 no longer has: super-resolution on AutoModelForImageToImage.

As the pipeline of transformers 4.57 did it: the model's picture, clamped and rounded to 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from app.media.answers import Picture
from app.runtime.base import Item
from app.runtime.finite import require_finite
from app.runtime.vision.images import ImageStages


class ImageToImageStages(ImageStages):
    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Picture:
        pixels = outputs[0]["reconstruction"][0].clamp(0, 1).permute(1, 2, 0).numpy()
        require_finite(pixels)
        image = Image.fromarray((pixels * 255.0).round().astype(np.uint8))
        target = parameters.get("target_size")
        if target is not None:
            image = image.resize((target["width"], target["height"]), Image.Resampling.LANCZOS)
        return Picture(image)
