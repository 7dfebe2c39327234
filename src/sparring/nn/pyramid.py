"""Images at several sizes: pyramids, and a pyramid as one row of numbers.

Losses, penalties and instance noise know samples (N, …) and no lists of them. Packed into one row, the images of all
sizes are such a sample, and everything that is played on samples is played on pyramids.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparring.nn.resample import Size, resize


def pyramid(x: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """Maps (N, C, H, W) at each of these sizes, in their order (Denton et al. 2015, sec. 2.2)."""
    return [resize(x, size) for size in sizes]


class Packing:
    """How images of `channels` at `sizes` lie in one row, in the order of the sizes.

    lengths: how many numbers each size takes, as `torch.split` takes them.
    """

    def __init__(self, channels: int, sizes: Sequence[Size]) -> None:
        self.channels, self.sizes = channels, list(sizes)
        self.lengths = [channels * height * width for height, width in sizes]

    def pack(self, images: Sequence[Tensor]) -> Tensor:
        """Images, one (N, C, *size) a size → (N, numbers)."""
        return torch.cat([image.flatten(1) for image in images], dim=1)

    def unpack(self, row: Tensor) -> list[Tensor]:
        """(N, numbers) → images, one (N, C, *size) a size."""
        parts = row.split(self.lengths, dim=1)
        return [part.unflatten(1, (self.channels, *size)) for part, size in zip(parts, self.sizes, strict=True)]

    def of(self, images: Tensor) -> Tensor:
        """The packed pyramid of images (N, C, H, W)."""
        return self.pack(pyramid(images, self.sizes))

    def read(self, samples: Tensor) -> list[Tensor]:
        """A packed pyramid, or images (N, C, H, W), as images of each size."""
        return self.unpack(samples) if samples.ndim == 2 else pyramid(samples, self.sizes)
