"""From photographs to the small, worse ones that super-resolution starts from. Nothing here is differentiated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core import chance

Degradation = Literal["bicubic", "realistic"]
LEVELS = 127.5  # bytes a unit of [-1, 1]


def shrink(images: Tensor, scale: int) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] at 1/`scale` of their size, sides multiples of it, as a file of bytes would hold them.

    Bicubic with the kernel of Keys 1981, a = −½, widened by `scale` against aliasing, and renormalised at the borders: what
    Pillow's BICUBIC does (which rounds to bytes after each of its two passes; this does once). MATLAB's imresize has the same
    kernel and mirrors at the borders.
    """
    return as_bytes(_resized(images, scale, "bicubic"))


def cut_to_multiple(images: Tensor, scale: int) -> Tensor:
    """Images (N, C, H, W) without the last rows and columns that are no whole pixel at 1/`scale` of the size."""
    height, width = images.shape[2:]
    return images[..., : height - height % scale, : width - width % scale]


def as_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] rounded to the 256 values of a file."""
    return ((images + 1) * LEVELS).round_().clamp_(0, 2 * LEVELS).div_(LEVELS).sub_(1)


def degrade_realistically(images: Tensor, scale: int, rng: torch.Generator | None = None) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] at 1/`scale` of their size as a camera and a web site leave them.

    A blur, the loss of size, noise and JPEG's compression, in an order drawn for each image (BSRGAN, Zhang et al. 2021,
    sec. 3.4), with the strengths of the first order of Real-ESRGAN (Wang et al. 2021, sec. 3.1 and appendix A):
    anisotropic Gaussian blurs of σ ∈ [0.2, 3] pixels of the large image; shrinking by area, bilinearly or
    bicubically; Gaussian noise of 1 to 30 or Poisson noise of 0.05 to 3, grey in 2 of 5; JPEG of quality 30 to 95. Strengths
    that are pixels of the large image are scaled where a blur follows the shrinking.
    """
    count, device = len(images), images.device
    draws = chance.uniform(count, 12, device=device, rng=rng)
    noise = chance.normal(count, *images.shape[1:], device=device, rng=rng)
    orders = draws[:, :4].argsort(dim=1)
    small = images.new_empty(count, images.shape[1], images.shape[2] // scale, images.shape[3] // scale)
    for order in orders.unique(dim=0):
        rows = (orders == order).all(dim=1)
        small[rows] = _in_order(images[rows], order.tolist(), scale, draws[rows, 4:], noise[rows])
    return as_bytes(small)


def _in_order(images: Tensor, order: Sequence[int], scale: int, draws: Tensor, noise: Tensor) -> Tensor:
    """The four changes of images that have their order in common."""
    kernels, shrunk = draws[:, :3], False

    def shrinking(x: Tensor) -> Tensor:
        nonlocal shrunk
        shrunk = True
        kinds = [_resized(x, scale, how) for how in ("area", "bilinear", "bicubic")]
        return torch.stack(kinds)[(draws[:, 3] * 3).long().clamp(max=2), torch.arange(len(x), device=x.device)]

    changes: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: _blurred(x, kernels, scale if shrunk else 1),
        shrinking,
        lambda x: _noisy(x, draws[:, 4:7], noise[..., : x.shape[2], : x.shape[3]]),
        lambda x: compress(x, 30 + 65 * draws[:, 7]),
    )
    for number in order:
        images = changes[number](images)
    return images


def _resized(images: Tensor, scale: int, how: str) -> Tensor:
    if how == "area":
        return F.avg_pool2d(images, scale)
    size = (images.shape[2] // scale, images.shape[3] // scale)
    return F.interpolate(images.float(), size, mode=how, align_corners=False, antialias=True)


def _blurred(images: Tensor, draws: Tensor, shrunk: int) -> Tensor:
    """A Gaussian of its own for each image: two deviations and an angle."""
    first, second = (0.2 + 2.8 * draws[:, :2]).div(shrunk).unbind(1)
    angle = math.pi * draws[:, 2]
    reach = min(math.ceil(9 / shrunk), *(side - 1 for side in images.shape[2:]))
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = cosine * x + sine * y, cosine * y - sine * x
    kernels = torch.exp(-0.5 * ((along / first[:, None, None]) ** 2 + (across / second[:, None, None]) ** 2))
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    padded = F.pad(images.float(), (reach,) * 4, mode="reflect").transpose(0, 1)
    return F.conv2d(padded, kernels[:, None], groups=len(images)).transpose(0, 1)


def _noisy(images: Tensor, draws: Tensor, noise: Tensor) -> Tensor:
    """Gaussian noise, or noise that grows with the root of the light as Poisson's does; the same in all channels for some."""
    noise = torch.where((draws[:, 0] < 0.4)[:, None, None, None], noise[:, :1], noise)
    gaussian = (1 + 29 * draws[:, 1]) / LEVELS
    # Poisson's of 255 quanta a unit of light, scaled by s, has the deviation s √(light / 255), and is as good as normal.
    light = ((images + 1) / 2).clamp(0, 1)
    poisson = 2 * (0.05 + 2.95 * draws[:, 1])[:, None, None, None] * (light / 255).sqrt()
    deviation = torch.where((draws[:, 2] < 0.5)[:, None, None, None], gaussian[:, None, None, None], poisson)
    return images + deviation * noise


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] as JPEG leaves them (ITU T.81, annexes A and K), colour at half the size.

    quality: (N,), 1 to 100, as libjpeg counts. Three channels become YCbCr; others are compressed one by one.
    """
    height, width = images.shape[2:]
    values = (images.float().clamp(-1, 1) + 1) * LEVELS - 128
    padded = F.pad(values, (0, -width % 16, 0, -height % 16), mode="replicate")
    if images.shape[1] == 3:
        planes = torch.einsum("kc,nchw->nkhw", _TO_YCC.to(images.device), padded + 128)
        light = _quantised(planes[:, :1] - 128, _LIGHT.to(images.device), quality)
        colour = F.interpolate(
            _quantised(F.avg_pool2d(planes[:, 1:], 2), _COLOUR.to(images.device), quality),
            scale_factor=2,
            mode="bilinear",
        )
        padded = (
            torch.einsum("ck,nkhw->nchw", _FROM_YCC.to(images.device), torch.cat([light + 128, colour], dim=1)) - 128
        )
    else:
        padded = _quantised(padded, _LIGHT.to(images.device), quality)
    return as_bytes((padded[..., :height, :width] + 128) / LEVELS - 1)


def _quantised(planes: Tensor, table: Tensor, quality: Tensor) -> Tensor:
    """Planes (N, K, H, W) through the cosine transform of 8×8 blocks, rounded to multiples of the table's steps."""
    count, kinds, height, width = planes.shape
    cosines = _COSINES.to(planes.device)
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None]
    steps = ((table * factor + 50) / 100).floor().clamp(1, 255)[:, None, None, None]
    blocks = planes.view(count, kinds, height // 8, 8, width // 8, 8).transpose(3, 4)
    spectrum = cosines @ blocks @ cosines.T
    blocks = cosines.T @ ((spectrum / steps).round() * steps) @ cosines
    return blocks.transpose(3, 4).reshape(count, kinds, height, width)


_TO_YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)  # the coloured planes lie around 0
_FROM_YCC = torch.tensor([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]])
_COSINES = torch.tensor(
    [[math.sqrt((1 if row == 0 else 2) / 8) * math.cos((2 * place + 1) * row * math.pi / 16) for place in range(8)] for row in range(8)]
)  # fmt: skip
_LIGHT = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
], dtype=torch.float32)  # fmt: skip
_COLOUR = torch.full((8, 8), 99.0)
_COLOUR[:4, :4] = torch.tensor([[17.0, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]])  # annex K.1
