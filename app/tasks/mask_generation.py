"""mask-generation: a mask for everything in an image, without names."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.tasks.base import Example, Parameters, Task
from app.tasks.media import Image, single_media
from app.tasks.samples import PNG, PNG_BASE64


class MaskGenerationParameters(Parameters):
    points_per_batch: int | None = Field(
        default=None, ge=1, le=1024, description="Points that are asked about together. Unset: 64."
    )
    points_per_crop: int | None = Field(
        default=None, ge=1, le=128, description="Points along each side of the image. Unset: 32."
    )
    crops_n_layers: int | None = Field(
        default=None, ge=0, le=3, description="Ask again about 4, 16, ... crops of the image. Unset: 0."
    )
    crop_overlap_ratio: float | None = Field(default=None, ge=0, lt=1, description="Of crops. Unset: 0.34.")
    crop_n_points_downscale_factor: int | None = Field(
        default=None, ge=1, le=16, description="Fewer points in each layer of crops. Unset: 1."
    )
    pred_iou_thresh: float | None = Field(default=None, ge=0, le=1, description="Of the model's score. Unset: 0.88.")
    stability_score_thresh: float | None = Field(
        default=None, ge=0, le=1, description="Of how little a mask changes with its threshold. Unset: 0.95."
    )
    stability_score_offset: float | None = Field(default=None, description="By how much it is changed. Unset: 1.")
    mask_threshold: float | None = Field(default=None, description="From which number on a pixel is in. Unset: 0.")
    crops_nms_thresh: float | None = Field(
        default=None, ge=0, le=1, description="Overlap from which on two masks are one. Unset: 0.7."
    )


class Mask(BaseModel):
    """mask: a PNG in base64, white where the thing is."""

    score: float
    mask: str


TASK = Task(
    name="mask-generation",
    summary="A mask for everything in an image, the surest first.",
    modality="image",
    input_type=Image,
    parameters=MaskGenerationParameters,
    output_type=list[Mask] | list[list[Mask]],
    auto_classes=("AutoModelForMaskGeneration",),
    needs=("image_processor",),
    stages="app.runtime.vision.masks:MaskGenerationStages",
    warm_up=(PNG, {"points_per_crop": 2}),
    is_repeatable=True,
    default_model="facebook/sam-vit-base",
    example=Example(
        body={"inputs": PNG_BASE64, "parameters": {"points_per_crop": 4}},
        answer=[{"score": 0.99, "mask": "iVBORw0KGgo..."}],
    ),
    batching="Equally many points of any images; each image is embedded once.",
    media_field="inputs",
    normalize=single_media("image", parameters=tuple(MaskGenerationParameters.model_fields)),
)
