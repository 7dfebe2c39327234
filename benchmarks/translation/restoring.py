"""What the benchmarks of restoration share: photographs as tensors, and how far their patches are from true ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparring.core.game import Batch
from sparring.domains import open_domain
from sparring.imaging.features import open_features
from sparring.imaging.show import sheet
from sparring.metrics.frechet import frechet_distance

PATCH = 32
MACHINE = ("machine.precision=32", "machine.compile=false", "machine.channels_last=false", "machine.threads=1")


def read(folder: Path) -> list[Tensor]:
    """The images of a folder by name, each (1, 3, H, W) in [-1, 1]."""
    images = []
    for file in sorted(each for each in folder.iterdir() if each.suffix in (".png", ".jpg")):
        with Image.open(file) as opened:
            pixels = torch.frombuffer(bytearray(opened.convert("RGB").tobytes()), dtype=torch.uint8)
            images.append(pixels.view(1, opened.height, opened.width, 3).permute(0, 3, 1, 2).float() / 127.5 - 1)
    return images


def patches(images: Sequence[Tensor], size: int = PATCH, step: int | None = None) -> Tensor:
    """All patches on a grid, (N, 3, size, size); step: from one to the next, None: half the size."""
    step = step or size // 2
    found = [x.unfold(2, size, step).unfold(3, size, step).permute(0, 2, 3, 1, 4, 5).flatten(0, 2) for x in images]
    return torch.cat(found)


class PatchDistance:
    """Fréchet distances of patches of 32 pixels, in features that a classifier learnt, without labels, of `photographs`."""

    def __init__(self, photographs: Sequence[Tensor], out: Path) -> None:
        file = out / f"patches-{PATCH}.npy"
        if not file.exists():
            pixels = ((patches(photographs, step=PATCH) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
            np.save(file, pixels.numpy())
        self.features: Any = open_features("classifier", open_domain("image").open_data({"source": str(file)}))

    def __call__(self, made: Sequence[Tensor] | Tensor, true: Sequence[Tensor] | Tensor) -> float:
        """Of two lists of images, or of two stacks of patches as they are."""
        sides = [each if isinstance(each, Tensor) else patches(each) for each in (made, true)]
        ours, theirs = (
            torch.cat([self.features(Batch(data=part))["features"] for part in side.split(256)]) for side in sides
        )
        return float(frechet_distance(theirs, ours))


def rows(columns: dict[str, Tensor]) -> Image.Image:
    """A sheet: a column an entry, a row an image."""
    laid = torch.stack(list(columns.values()), dim=1).flatten(0, 1)
    return sheet(laid, columns=len(columns), headings=list(columns), upscale=False)
