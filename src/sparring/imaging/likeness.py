"""How alike two images are, as a distance that can be descended, and images read to be set against a generator's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.game import Batch
from sparring.data import decode
from sparring.data.source import BrokenSample
from sparring.errors import UserError
from sparring.imaging.show import to_uint8
from sparring.metrics.perceptual import Lpips, open_lpips
from sparring.metrics.structure import WINDOW, psnr, ssim
from sparring.metrics.weights import Unavailable

STRUCTURE = 0.84  # of the structural term; the rest is |a − b| (Zhao et al. 2017, sec. 5)


class ImageLikeness:
    """The distance of two images: LPIPS with the network given, otherwise structure and values.

    Without a network: 0.84 · (1 − SSIM, averaged over an image's halvings) + 0.16 · mean |a − b|, after the loss of
    Zhao et al. 2017; there the scales are multiplied, whose roots have no gradient where two images disagree.
    """

    def __init__(self, network: Lpips | None) -> None:
        self.network = network
        self.name = network.name if network else "0.84 (1 - SSIM over scales) + 0.16 L1"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] → (N,)."""
        left, right = ((side + 1) / 2 for side in (a, b))
        if self.network is not None:
            return self.network.to(a.device)(*(_rgb(side) for side in (left, right)))
        values = (left - right).abs().mean((1, 2, 3))
        return STRUCTURE * (1 - _ssim_over_scales(left.clamp(0, 1), right.clamp(0, 1))) + (1 - STRUCTURE) * values

    @torch.no_grad()
    def figures(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """`ssim`, `psnr` in dB, and `lpips` where its weights are at hand, of images (N, C, H, W) in [-1, 1]."""
        left, right = (to_uint8(side).float() / 255 for side in (a, b))
        found = {"ssim": ssim(left, right), "psnr": psnr(left, right)}
        if self.network is not None:
            found["lpips"] = self.network.to(left.device)(*(_rgb(side) for side in (left, right)))
        return found


@cache
def open_likeness() -> ImageLikeness:
    """With LPIPS on VGG16, as path lengths are, or on AlexNet, where the weights of one are at hand."""
    towers: tuple[Literal["vgg", "alex"], ...] = ("vgg", "alex")
    for tower in towers:
        try:
            return ImageLikeness(open_lpips(tower).requires_grad_(False))
        except Unavailable:
            continue
    return ImageLikeness(None)


def read_images(files: Sequence[Path], shape: tuple[int, int, int], *, fit: decode.Fit) -> tuple[Batch, list[str]]:
    """Image files as `data` (N, *shape) in [-1, 1], and what was done to make them fit, a line each.

    Raises UserError for a file that is missing or no image.
    """
    count, height, width = shape
    images, notes = [], []
    for file in files:
        try:
            image = decode.decode(file.read_bytes(), file.name)
        except FileNotFoundError:
            raise UserError(f"{file}: no such file; is the path right?") from None
        except BrokenSample as error:
            raise UserError(f"{file}: {error}") from error
        if image.shape != (height, width, count):
            was = f"{image.shape[0]}×{image.shape[1]} pixels of {image.shape[2]} channels"
            notes.append(f"{file}: {was}, made {height}×{width} of {count} as the training data was (fit: {fit})")
        fitted = decode.fit(decode.channels(image, count), (height, width), fit)
        images.append(torch.from_numpy(fitted.copy()).permute(2, 0, 1))
    return Batch(data=torch.stack(images).float() / 127.5 - 1), notes


def _ssim_over_scales(a: Tensor, b: Tensor) -> Tensor:
    """Mean SSIM (N,) of the images and of their halvings that leave a whole window."""
    found = [ssim(a, b)]
    while min(a.shape[2:]) // 2 >= WINDOW:
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        found.append(ssim(a, b))
    return torch.stack(found).mean(0)


def _rgb(images: Tensor) -> Tensor:
    """Without alpha, which LPIPS does not know, and at least as large as its towers need."""
    colour = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    factor = -(-32 // min(colour.shape[2:]))
    return colour.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
