"""Pictures of one coloured shape on a coloured ground, drawn by the project: for image-classification."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn.functional import cross_entropy
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil

NAMES = ("circle", "square", "triangle", "star")
SIZE = 64
NUM_PICTURES = 800
EPOCHS = 8
HELD_OUT_SEEDS = range(100_000, 100_040)
STAR_SEED = 100_003  # one of those


def picture(seed: int, size: int = SIZE) -> tuple[Image.Image, int]:
    """A picture of size × size pixels and the number of its shape in NAMES; any seed has another one."""
    chance = random.Random(seed)
    kind = seed % len(NAMES)
    ground = tuple(chance.randrange(256) for _ in range(3))
    colour = _far_from(ground, chance)
    scale = 4  # drawn larger and made small, so that edges are smooth
    image = Image.new("RGB", (size * scale, size * scale), ground)
    radius = chance.uniform(0.22, 0.4) * size * scale
    centre = tuple(chance.uniform(radius, size * scale - radius) for _ in range(2))
    draw = ImageDraw.Draw(image)
    if NAMES[kind] == "circle":
        draw.ellipse([centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius], fill=colour)
    else:
        draw.polygon(_corners(NAMES[kind], centre, radius, chance.uniform(-0.3, 0.3)), fill=colour)
    return image.resize((size, size), Image.Resampling.LANCZOS), kind


def image_processor() -> ViTImageProcessorPil:
    sides = {"height": SIZE, "width": SIZE}
    return ViTImageProcessorPil(size=sides, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def train(processor: ViTImageProcessorPil) -> ResNetForImageClassification:
    """A small ResNet from nothing, on NUM_PICTURES pictures, mirrored and in negative colours as well."""
    torch.manual_seed(0)
    names = dict(enumerate(NAMES))
    config = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64],
        depths=[1, 1, 1],
        layer_type="basic",
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    model = ResNetForImageClassification(config).train()
    drawn = [picture(seed) for seed in range(NUM_PICTURES)]
    pixels = torch.tensor(np.stack([np.asarray(image) for image, _ in drawn])).permute(0, 3, 1, 2) / 127.5 - 1
    kinds = torch.tensor([kind for _, kind in drawn])
    batches = NUM_PICTURES // 32
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=EPOCHS * batches, pct_start=0.2)
    for _ in range(EPOCHS):
        order = torch.randperm(NUM_PICTURES)
        for start in range(0, batches * 32, 32):
            chosen = order[start : start + 32]
            batch = pixels[chosen]
            batch = batch.flip(-1) if torch.rand(()) < 0.5 else batch
            batch = -batch if torch.rand(()) < 0.5 else batch
            optimizer.zero_grad()
            loss = cross_entropy(model(batch).logits, kinds[chosen])
            loss.backward()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it without types
            optimizer.step()
            schedule.step()
    return model.eval()


def _far_from(ground: tuple[int, ...], chance: random.Random) -> tuple[int, ...]:
    while True:
        colour = tuple(chance.randrange(256) for _ in range(3))
        if sum(abs(a - b) for a, b in zip(colour, ground, strict=True)) > 200:
            return colour


def _corners(name: str, centre: tuple[float, ...], radius: float, turn: float) -> list[tuple[float, float]]:
    count = {"square": 4, "triangle": 3, "star": 10}[name]
    first = turn - math.pi / 2 + (math.pi / 4 if name == "square" else 0)
    return [
        (
            centre[0] + length * math.cos(first + 2 * math.pi * corner / count),
            centre[1] + length * math.sin(first + 2 * math.pi * corner / count),
        )
        for corner in range(count)
        for length in [radius * (0.42 if name == "star" and corner % 2 else 1.0)]
    ]
