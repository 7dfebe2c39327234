"""A pretrained network as a feature space: bytes to RGB, in batches, in full precision, without a trace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.game import Batch
from sparring.imaging.show import to_uint8

RGB = 1
"""Raise it when `as_rgb` would give other pixels: it is part of every network's digest."""


class NetworkFeatures:
    """A space spanned by what a network says of an image (the protocol `sparring.metrics.figure.Features`).

    network: in eval mode. embed: float32 RGB images (N, 3, H, W) in [0, 1], any size, on the network's device, to
    `features` (N, D) and, of a classifier, `logits` (N, K). batch: how many images go through at once.
    """

    def __init__(
        self,
        network: nn.Module,
        embed: Callable[[Tensor], dict[str, Tensor]],
        *,
        name: str,
        digest: str,
        resizer: str,
        batch: int = 32,
        device: torch.device | str | None = None,
    ) -> None:
        self.name, self.digest, self.resizer = name, f"{digest}-{RGB}", resizer
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._network, self._embed, self._batch = network.to(self._device), embed, batch

    def __call__(self, samples: Batch) -> Batch:
        """`features` float32 (N, D), and `logits` (N, K) of a classifier, of `data` in [-1, 1]; on the data's device.

        Raises UserError where the images hold NaN.
        """
        data = samples["data"]
        with torch.no_grad(), full_precision(self._device):
            pieces = [self._embed(as_rgb(chunk).to(self._device)) for chunk in data.split(self._batch)]
        return Batch({name: torch.cat([piece[name].float() for piece in pieces]).to(data.device) for name in pieces[0]})


def as_rgb(images: Tensor) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] as float32 RGB (N, 3, H, W) in [0, 1], rounded to bytes as a file would hold them.

    C is 1 (grey: repeated), 2 (grey, alpha), 3 (RGB) or 4 (RGBA); alpha is laid over white. Rounding makes samples
    measured from memory and from PNG files the same samples, and the data never has an edge over them
    (Parmar et al. 2022, sec. 3.2). Raises UserError for NaN.
    """
    values = to_uint8(images).float() / 255
    if images.shape[1] in (2, 4):
        alpha = values[:, -1:]
        values = values[:, :-1] * alpha + (1 - alpha)
    return values.expand(-1, 3, -1, -1)


def normalise(images: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """(images − mean) / deviation, channel by channel."""
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(deviation).view(shape)


def resize_bicubic(images: Tensor, size: int) -> Tensor:
    """Images in [0, 1] as squares of `size`, bicubic and antialiased, in [0, 1]; left alone where they have it."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast and no TensorFloat-32: a figure must not depend on how fast the machine was asked to train."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.autocast(device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
