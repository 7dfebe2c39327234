"""Pre-activation residual blocks that change the size of maps: the pair from which SN-GAN, SAGAN and BigGAN are built.

One shape for all of them: activation, convolution, activation, convolution …, and a shortcut past them. `bottleneck`
makes the blocks of BigGAN-deep: 1×1, 3×3, 3×3, 1×1 with fewer channels inside, and a shortcut that keeps its channels as
they are. 1×1 convolutions and averaging or repeating change places freely, so shortcuts convolve at the smaller size.
A 3×3 convolution beside them melts with them into one of stride 2, which halves its time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.resample import Size, enlarge, resize


class UpBlock(nn.Module):
    """Maps (N, before, h, w) → (N, after, *size), at least as large; norms see the condition.

    norm: channels → a module (maps, condition) → maps.
    bottleneck: how many times fewer channels the 3×3 convolutions have than `before`; 0: none fewer, two convolutions.
    The shortcut of a bottleneck leaves the last channels out (BigGAN-deep, Brock et al. 2019, fig. 16).
    """

    def __init__(
        self, before: int, after: int, size: Size, norm: Callable[[int], nn.Module], *, bottleneck: int = 0
    ) -> None:
        super().__init__()
        inside = before // bottleneck if bottleneck else after
        widths, kernels = _layers(before, inside, after, bottleneck)
        self.size, self.after = size, after
        self.norms = nn.ModuleList(map(norm, widths[:-1]))
        self.convolutions = nn.ModuleList(map(convolution, widths, widths[1:], kernels))
        self.enlarged = kernels.index(3)  # the first convolution that works at the new size
        self.shortcut = nn.Identity() if bottleneck else convolution(before, after, 1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        y = x
        for index, (norm, convolve) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            y = F.relu(norm(y, condition))
            y = of_enlarged(convolve, y, self.size) if index == self.enlarged else convolve(y)
        return y + enlarge(self.shortcut(x)[:, : self.after], self.size)


class DownBlock(nn.Module):
    """Maps (N, before, h, w) → (N, after, *size), at most as large.

    shrinks: the size is another one than before; a block that keeps both size and channels has a plain shortcut.
    first: the block sees an image, which is not to be rectified (Miyato et al. 2018, fig. 9 of the appendix).
    wide: the channels between the two convolutions are `after` (SAGAN, BigGAN) or `before` (SN-GAN).
    bottleneck: how many times fewer channels the 3×3 convolutions have than `after`; 0: none fewer, two convolutions.
    The shortcut of a bottleneck adds the channels that are missing (BigGAN-deep, Brock et al. 2019, fig. 16).
    """

    def __init__(
        self, before: int, after: int, size: Size,
        *, shrinks: bool = True, first: bool = False, wide: bool = True, bottleneck: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        inside = after // bottleneck if bottleneck else after if wide or first else before
        widths, kernels = _layers(before, inside, after, bottleneck)
        self.size, self.first, self.bottleneck = size, first, bottleneck
        self.convolutions = nn.ModuleList(map(convolution, widths, widths[1:], kernels))
        self.more = convolution(before, after - before, 1) if bottleneck and after > before else None
        plain = bottleneck or (before == after and not shrinks)
        self.shortcut = nn.Identity() if plain else convolution(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.first else F.relu(x)
        *inner, last = self.convolutions
        for convolve in inner:
            y = F.relu(convolve(y))
        y = last(resize(y, self.size)) if self.bottleneck else shrunk(last, y, self.size)
        x = self.shortcut(resize(x, self.size))
        if self.more is not None:
            x = torch.cat([x, self.more(x)], dim=1)
        return y + x


def convolution(before: int, after: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(before, after, kernel, padding=kernel // 2)


def of_enlarged(convolve: nn.Module, x: Tensor, size: Size) -> Tensor:
    """A 3×3 convolution of enlarged maps, `convolve(enlarge(x, size))`; where they double, as one transposed convolution."""
    assert isinstance(convolve, nn.Conv2d)
    if size != (2 * x.shape[2], 2 * x.shape[3]):
        return convolve(enlarge(x, size))
    weight = _spread(convolve.weight).flip(2, 3).transpose(0, 1)
    return F.conv_transpose2d(x, weight, convolve.bias, stride=2, padding=1)


def shrunk(convolve: nn.Module, x: Tensor, size: Size) -> Tensor:
    """A 3×3 convolution whose result is shrunk, `resize(convolve(x), size)`; where it halves, as one of stride 2."""
    assert isinstance(convolve, nn.Conv2d)
    if (x.shape[2], x.shape[3]) != (2 * size[0], 2 * size[1]):
        return resize(convolve(x), size)
    return F.conv2d(x, _spread(convolve.weight) / 4, convolve.bias, stride=2, padding=1)


def _spread(weight: Tensor) -> Tensor:
    """Kernels (…, 3, 3) → (…, 4, 4): the sum of the four that lie in 4×4, which is what 2×2 equal values make of them.

    16 products for four values, where convolving at the larger size takes 36 (Karras et al. 2018, in their code).
    """
    return torch.stack([F.pad(weight, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]).sum(0)


def _layers(before: int, inside: int, after: int, bottleneck: int) -> tuple[list[int], list[int]]:
    """Channels before, between and after the convolutions of a block, and their kernels."""
    if bottleneck:
        return [before, inside, inside, inside, after], [1, 3, 3, 1]
    return [before, inside, after], [3, 3]


def down_blocks(channels: int, widths: Sequence[int], sizes: Sequence[Size], *, wide: bool = True) -> nn.ModuleList:
    """A block for each of `widths`, from an image (N, channels, *sizes[0]) to maps of the last of `sizes`."""
    return nn.ModuleList(
        DownBlock(before, after, small, first=index == 0, shrinks=large != small, wide=wide)
        for index, (before, after, (large, small)) in enumerate(
            zip([channels, *widths], widths, pairwise(sizes), strict=False)
        )
    )


class Base(nn.Linear):
    """A vector (N, inputs) → the first maps (N, channels, *size), by one linear layer."""

    def __init__(self, inputs: int, channels: int, size: Size) -> None:
        super().__init__(inputs, channels * size[0] * size[1])
        self.maps = (channels, *size)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).unflatten(1, self.maps)
