"""From one size of an image to another: exact for every size, odd and non-square ones too."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from sparring.errors import UserError

Size = tuple[int, int]


def ladder(height: int, width: int, smallest: int = 4, rungs: int = 1) -> list[Size]:
    """The sizes (H, W) that a network passes through, small to large, each side about half of the next one's.

    A side is halved (rounded up) as long as at least `smallest` is left, so the first rung's sides lie in
    [smallest, 2·smallest). For an image too small for that many `rungs`, `smallest` gives way, down to 2.
    64×64 → 4, 8, 16, 32, 64; 28×28 → 7, 14, 28. Raises UserError below 4 pixels a side.
    """
    if min(height, width) < 4:
        raise UserError(f"images of {height}×{width} pixels are too small: a network needs at least 4 a side")
    while smallest > 2 and smallest * 2 ** (rungs - 1) > min(height, width):
        smallest -= 1
    sizes = [(height, width)]
    while max(sizes[0]) >= 2 * smallest:
        tall, wide = (-(-side // 2) if side >= 2 * smallest else side for side in sizes[0])
        sizes.insert(0, (tall, wide))
    return sizes


def rung_kernel(small: Size, large: Size) -> tuple[Size, Size, int]:
    """Kernel, stride and padding of a convolution large → small, or of a transposed one small → large.

    A side that doubles has kernel 4 and stride 2, as in DCGAN; kernel 3 reaches 2n − 1, the odd size; a side that
    stays has kernel 3 and stride 1. So no rung needs cropping.
    """
    kernel = tuple(4 if 2 * few == many else 3 for few, many in zip(small, large, strict=True))
    stride = tuple(1 if few == many else 2 for few, many in zip(small, large, strict=True))
    return (kernel[0], kernel[1]), (stride[0], stride[1]), 1


def resize(x: Tensor, size: Size) -> Tensor:
    """Maps (N, C, H, W) at another size: smaller by averaging, larger bilinearly. Differentiable twice."""
    height, width = x.shape[-2:]
    if (height, width) == tuple(size):
        return x
    if (height, width) == (2 * size[0], 2 * size[1]):
        return F.avg_pool2d(x, 2)
    if height >= size[0] and width >= size[1]:
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def enlarge(x: Tensor, size: Size) -> Tensor:
    """Maps (N, C, H, W) at a size at least as large, by repeating values. Differentiable twice."""
    return x if x.shape[-2:] == tuple(size) else F.interpolate(x, size=size, mode="nearest")


def bounded(size: Size, limit: int) -> Size:
    """`size`, each side at most `limit`."""
    return min(size[0], limit), min(size[1], limit)


def folded(size: Size, patch: int) -> Size:
    """The size of maps whose every position stands for `patch` × `patch` pixels of an image of `size`."""
    return -(-size[0] // patch), -(-size[1] // patch)


def fold(x: Tensor, patch: int) -> Tensor:
    """Patches of an image become channels: (N, C, H, W) → (N, C·patch², ⌈H/patch⌉, ⌈W/patch⌉), zeros beyond the edge."""
    if patch == 1:
        return x
    height, width = x.shape[-2:]
    return F.pixel_unshuffle(F.pad(x, (0, -width % patch, 0, -height % patch)), patch)


def unfold(x: Tensor, patch: int, size: Size) -> Tensor:
    """The inverse of `fold`: (N, C·patch², …) → (N, C, *size)."""
    return x if patch == 1 else F.pixel_shuffle(x, patch)[..., : size[0], : size[1]]
