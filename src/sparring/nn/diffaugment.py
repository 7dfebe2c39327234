"""DiffAugment (Zhao et al. 2020): three changes, each played on every image that the discriminator sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparring.core import chance
from sparring.core.both_sides import BothSides
from sparring.errors import UserError, nearest

SHIFT = 0.125  # of the size, at most
CUTOUT = 0.5  # of the size


class DiffAugment(BothSides):
    """`colour`, `translation` and `cutout`, in this order, on images (N, C, H, W) in [−1, 1] of one to four channels.

    Beyond edges and in holes is 0, the middle of the range. The alpha channel of two or four keeps its values.
    operations: which are played. Raises UserError for an unknown one, naming the nearest.
    """

    def __init__(self, *, operations: Sequence[str] = ("colour", "translation", "cutout")) -> None:
        super().__init__()
        for name in operations:
            if name not in OPERATIONS:
                raise UserError(
                    f"unknown operation {name!r} in loss.augment.operations{nearest(name, OPERATIONS)}; "
                    f"there are {', '.join(OPERATIONS)}"
                )
        self.operations = [change for name, change in OPERATIONS.items() if name in operations]

    def forward(self, samples: Tensor) -> Tensor:
        """Changed images, in full precision."""
        if not self.operations:
            return samples
        with torch.autocast(samples.device.type, enabled=False):
            images = samples if samples.dtype == torch.float64 else samples.float()
            for change in self.operations:
                images = change(images)
        return images


def colour(images: Tensor) -> Tensor:
    """Brightness + U(−½, ½), then saturation × U(0, 2), then contrast × U(½, 3⁄2), as in the authors' code."""
    inked = 3 if images.shape[1] >= 3 else 1
    ink, alpha = images[:, :inked], images[:, inked:]
    brightness, saturation, contrast = (
        chance.uniform(len(images), 1, 1, 1, device=images.device).to(images.dtype) for _ in range(3)
    )
    ink = ink + (brightness - 0.5)
    grey = ink.mean(1, keepdim=True)
    ink = grey + (ink - grey) * (2 * saturation)
    middle = ink.mean((1, 2, 3), keepdim=True)
    ink = middle + (ink - middle) * (contrast + 0.5)
    return torch.cat([ink, alpha], dim=1) if alpha.shape[1] else ink


def translation(images: Tensor) -> Tensor:
    """Shift by whole pixels, up to an eighth of the size."""
    count, _, height, width = images.shape
    rows, columns = _sources(count, height, images.device), _sources(count, width, images.device)
    inside = _within(rows, height)[:, None, :, None] & _within(columns, width)[:, None, None, :]
    taken = images.take_along_dim(rows.clamp(0, height - 1)[:, None, :, None], dim=2)
    taken = taken.take_along_dim(columns.clamp(0, width - 1)[:, None, None, :], dim=3)
    return taken * inside


def cutout(images: Tensor) -> Tensor:
    """A square of half of the size, around a random pixel, becomes 0."""
    count, _, height, width = images.shape
    inside = torch.ones((), dtype=torch.bool, device=images.device)
    for size, view in ((height, (count, 1, height, 1)), (width, (count, 1, 1, width))):
        length = int(size * CUTOUT + 0.5)
        start = chance.integers(0, size + (1 - length % 2), count, 1, device=images.device) - length // 2
        places = torch.arange(size, device=images.device)
        inside = inside & ((places >= start) & (places < start + length)).view(view)
    return images * ~inside


OPERATIONS = {"colour": colour, "translation": translation, "cutout": cutout}


def _sources(count: int, size: int, device: torch.device) -> Tensor:
    """For each image the row (or column) that each of its rows is taken from, which may lie outside: int64 (N, size)."""
    reach = int(size * SHIFT + 0.5)
    return torch.arange(size, device=device) + chance.integers(-reach, reach + 1, count, 1, device=device)


def _within(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)
