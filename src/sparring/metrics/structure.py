"""How alike two images are, by pixels and by local structure: PSNR, SSIM, MS-SSIM; and how alike samples are to each other.

The Gaussian window is a banded matrix product along rows and columns, which on a CPU is several times faster than
the convolutions of torchmetrics and gives the same figures. As there, the image is mirrored at its borders for SSIM
(Wang's own code leaves those places out), and MS-SSIM leaves the borders out of every scale but the coarsest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, DEVIATION = 11, 1.5
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # C₁ and C₂ for values in [0, 1]
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, finest first (Wang et al. 2003, sec. 3.2)
CHUNK = 1 << 21  # values of one side that are filtered at once


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio −10·log₁₀ MSE of each pair, in dB, shape (N,); infinite for equal images.

    a, b: images (N, C, H, W) in [0, 1]. Raises ValueError for other shapes or ranges.
    """
    _check(a, b)
    return -10 * (a.float() - b.float()).square().mean((1, 2, 3)).log10()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of each pair (Wang et al. 2004, eq. 13), shape (N,), at most 1, which equal images have.

    a, b: images (N, C, H, W) in [0, 1]; the mean over channels and places of what an 11×11 Gaussian window (σ = 1.5)
    sees. Under 6 pixels a side the window shrinks to 2·side − 1, the widest that one mirror fills.
    Raises ValueError for other shapes or ranges.
    """
    _check(a, b)
    return _chunked(lambda a, b: _terms(a, b)[0], a, b)


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale structural similarity of each pair (Wang et al. 2003, eq. 7), shape (N,), in [0, 1].

    a, b: images (N, C, H, W) in [0, 1]. The published five scales need 176 pixels a side. Smaller images are compared
    at those of the finest scales that leave 11 pixels (4 from 88, 3 from 44, 2 from 22, else SSIM alone: 28×28 and
    32×32 have 2), with their weights scaled to the published sum (1.0001): compare such figures only at one size.
    A scale whose mean contrast term is negative counts as 0. Raises ValueError for other shapes or ranges.
    """
    _check(a, b)
    used = WEIGHTS[: scales(a.shape[2], a.shape[3])]
    weights = [weight * sum(WEIGHTS) / sum(used) for weight in used]

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        product = a.new_ones(len(a))
        for level, weight in enumerate(weights, start=1):
            whole, contrast = _terms(a, b)
            # Luminance is compared at the coarsest scale alone.
            product = product * (whole if level == len(weights) else contrast).clamp(min=0) ** weight
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        return product

    return _chunked(similarity, a, b)


def scales(height: int, width: int) -> int:
    """At how many scales MS-SSIM compares images of this size."""
    shortest = min(height, width)
    return max(1, sum(shortest >> level >= WINDOW for level in range(len(WEIGHTS))))


def diversity(images: Tensor, *, pairs: int = 1000, seed: int = 0) -> float:
    """Mean MS-SSIM between random samples (Odena et al. 2017, sec. 4.2): the lower, the more diverse; 1: all the same.

    images: (N, C, H, W) in [0, 1], of one class or all; the figure means something beside the same one of real images.
    pairs: how many pairs of different samples are drawn, with replacement, by a generator of their own.
    Raises ValueError for fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"pairs need at least two images, not {len(images)}")
    random = torch.Generator().manual_seed(seed)
    first = torch.randint(len(images), (pairs,), generator=random)
    # A step of 1 to N − 1 around the circle never ends where it began.
    second = (first + torch.randint(1, len(images), (pairs,), generator=random)) % len(images)
    size = max(1, CHUNK // images[0].numel())
    parts = [
        ms_ssim(images[one.to(images.device)], images[other.to(images.device)]).double().sum()
        for one, other in zip(first.split(size), second.split(size), strict=True)
    ]
    return float(torch.stack(parts).sum()) / pairs


def _terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM of each pair, and its mean contrast-structure term inside the borders (Wang et al. 2004, eq. 6, 9, 10)."""
    height, width = a.shape[2:]
    window = min(WINDOW, 2 * min(height, width) - 1)
    rows, columns = (_band(size, window, a) for size in (height, width))
    mean_a, mean_b, aa, bb, ab = (rows @ image @ columns.T for image in (a, b, a * a, b * b, a * b))
    # Rounding may leave a flat place a variance below 0.
    spread = (aa - mean_a.square()).clamp(min=0) + (bb - mean_b.square()).clamp(min=0)
    contrast = (2 * (ab - mean_a * mean_b) + CONTRAST) / (spread + CONTRAST)
    luminance = (2 * mean_a * mean_b + LUMINANCE) / (mean_a.square() + mean_b.square() + LUMINANCE)
    border = window // 2
    inside = contrast[..., border : height - border, border : width - border]
    return (luminance * contrast).mean((1, 2, 3)), inside.mean((1, 2, 3))


def _band(size: int, window: int, like: Tensor) -> Tensor:
    """The matrix (size, size) that takes the Gaussian mean around every place, the line mirrored at its ends."""
    offsets = torch.arange(window) - window // 2
    gauss = (-offsets.double().square() / (2 * DEVIATION**2)).exp()
    places = (torch.arange(size)[:, None] + offsets).abs()
    mirrored = torch.where(places < size, places, 2 * (size - 1) - places)
    band = torch.zeros(size, size, dtype=torch.float64)
    band.scatter_add_(1, mirrored, (gauss / gauss.sum()).expand(size, -1))
    return band.to(like)


def _chunked(measure: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """`measure` of pairs, as many at once as leave memory alone."""
    size = max(1, CHUNK // max(1, a[0].numel()))
    pieces = zip(a.float().split(size), b.float().split(size), strict=True)
    return torch.cat([measure(one, other) for one, other in pieces])


def _check(a: Tensor, b: Tensor) -> None:
    if a.ndim != 4 or a.shape != b.shape or not a.numel():
        raise ValueError(f"pairs of images (N, C, H, W) are needed, not {tuple(a.shape)} and {tuple(b.shape)}")
    for side in (a, b):
        low, high = (float(end) for end in side.detach().aminmax())
        # Written so that NaN, which compares as false, is refused too.
        if not (low >= -1e-4 and high <= 1 + 1e-4):
            raise ValueError(f"images must be in [0, 1], not in [{low:g}, {high:g}]")
