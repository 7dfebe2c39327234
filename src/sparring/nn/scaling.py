"""Pre-activation residual blocks that change the size of maps: the pair from which SN-GAN, SAGAN and BigGAN are built.

One shape for all of them: activation, convolution, activation, convolution …, and a shortcut past them. `bottleneck`
makes the blocks of BigGAN-deep: 1×1, 3×3, 3×3, 1×1 with fewer channels inside, and a shortcut that keeps its channels as
they are. 1×1 convolutions and averaging or repeating change places freely, so shortcuts convolve at the smaller size.
"""

from __future__ import annotations

from collections.abc import Callable

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
            y = convolve(enlarge(y, self.size) if index == self.enlarged else y)
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
        self.size, self.first = size, first
        self.convolutions = nn.ModuleList(map(convolution, widths, widths[1:], kernels))
        # What follows the last 3×3 convolution works at the new size.
        self.shrunk = len(kernels) - kernels[::-1].index(3)
        self.more = convolution(before, after - before, 1) if bottleneck and after > before else None
        plain = bottleneck or (before == after and not shrinks)
        self.shortcut = nn.Identity() if plain else convolution(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for index, convolve in enumerate(self.convolutions):
            y = y if self.first and index == 0 else F.relu(y)
            y = convolve(resize(y, self.size) if index == self.shrunk else y)
        x = self.shortcut(resize(x, self.size))
        if self.more is not None:
            x = torch.cat([x, self.more(x)], dim=1)
        return resize(y, self.size) + x


def convolution(before: int, after: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(before, after, kernel, padding=kernel // 2)


def _layers(before: int, inside: int, after: int, bottleneck: int) -> tuple[list[int], list[int]]:
    """Channels before, between and after the convolutions of a block, and their kernels."""
    if bottleneck:
        return [before, inside, inside, inside, after], [1, 3, 3, 1]
    return [before, inside, after], [3, 3]
