"""Pixels as features: honest for small images, and for watching one training against itself."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sparring.core.game import Batch
from sparring.imaging.show import to_uint8


class Pixels:
    """The pixels in [0, 1], flattened, as a PNG would hold them: all channels, alpha included.

    size: (height, width) to bring images to first, for sides of different sizes; None takes them as they are.
    """

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        self._size = size
        self.name = "pixels" if size is None else f"pixels ({size[0]}×{size[1]})"
        self.resizer = "none" if size is None else f"bilinear, antialiased, to {size[0]}×{size[1]}"
        self.digest = f"pixels-1-{size}"

    def __call__(self, samples: Batch) -> Batch:
        """`features` float32 (N, C·H·W), on the data's device. Raises UserError for NaN."""
        data = samples["data"]
        pixels = to_uint8(data).float() / 255
        if self._size is not None and tuple(pixels.shape[2:]) != self._size:
            pixels = F.interpolate(pixels, self._size, mode="bilinear", align_corners=False, antialias=True)
        return Batch(features=pixels.flatten(1).to(device=data.device, dtype=torch.float32))
