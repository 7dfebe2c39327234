"""Generators of super-resolution: SRResNet (Ledig et al. 2017) and RRDBNet (Wang et al. 2018). Both compute at the size of the input."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.errors import UserError
from sparring.nn.layers import Norm, norm_layer, require_positive
from sparring.nn.residual import LEAK

Base = Literal["none", "bicubic"]
SCALES = (1, 2, 3, 4, 8)


class SRResNet(nn.Module):
    """Inputs (N, S, H, W) → images (N, C, scale·H, scale·W) around [-1, 1] (Ledig et al. 2017, sec. 2.1.1 and fig. 4).

    width, blocks: of the residual trunk, 64 and 16 in the paper. edge: kernel of the first and the last convolution. norm:
    `none` leaves the trunk as EDSR has it (Lim et al. 2017, sec. 3.1). final_width: channels after the enlargement. direct: one
    convolution at the input's size makes the pixels of the output, and nothing follows it (ESPCN, Shi et al. 2016, sec. 3.2).
    base: `bicubic` adds the input's bicubic enlargement, so that the network, whose last layer starts at zero, learns what is
    missing from that (after VDSR, Kim et al. 2016); it needs as many channels of the input as of the output.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int], scale: int = 1,
        *, width: int = 64, blocks: int = 16, edge: int = 9, norm: Norm = "batch", final_width: int | None = None,
        direct: bool = False, base: Base = "none",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, blocks=blocks, edge=edge, final_width=final_width)
        require_base(base, source, shape[0])
        self.scale, self.base = scale, base
        final = final_width or width
        self.head = nn.Sequential(nn.Conv2d(source, width, edge, padding=edge // 2), nn.PReLU())
        self.trunk = nn.Sequential(
            *(PlainBlock(width, norm) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1, bias=norm == "none"),
            norm_layer(norm, width),
        )
        factors = factors_of(scale)
        widths = [width, *([final] * len(factors))]
        stages: list[nn.Module] = []
        for factor, (before, after) in zip(factors, pairwise(widths), strict=True):
            stages += [nn.Conv2d(before, after * factor**2, 3, padding=1), nn.PixelShuffle(factor), nn.PReLU()]
        last = nn.Conv2d(widths[-1], shape[0], edge, padding=edge // 2)
        if direct:
            stages, last = [], nn.Conv2d(width, shape[0] * scale**2, edge, padding=edge // 2)
        self.enlarge = nn.Sequential(*stages)
        self.last = Silent(last) if base != "none" else last
        self.shuffle = nn.PixelShuffle(scale if direct else 1)

    def forward(self, source: Tensor) -> Tensor:
        x = self.head(source)
        x = self.shuffle(self.last(self.enlarge(x + self.trunk(x))))
        return x if self.base == "none" else x + bicubic(source, self.scale)


class PlainBlock(nn.Module):
    """x + conv, norm, PReLU, conv, norm (Ledig et al. 2017, fig. 4, after Gross & Wilber)."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=bias), norm_layer(norm, channels), nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=bias), norm_layer(norm, channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class RRDBNet(nn.Module):
    """Inputs (N, S, H, W) → images (N, C, scale·H, scale·W) around [-1, 1] (Wang et al. 2018, ESRGAN, sec. 3.1 and figs. 3, 4).

    width, blocks, growth: of the residual-in-residual dense blocks, 64, 23 and 32 in the paper. residual: the factor on what
    each block adds. final_width: channels after the enlargement, which repeats values and convolves. base: as for `SRResNet`.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int], scale: int = 1,
        *, width: int = 64, blocks: int = 23, growth: int = 32, residual: float = 0.2, final_width: int | None = None,
        base: Base = "none",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, blocks=blocks, growth=growth, final_width=final_width)
        require_base(base, source, shape[0])
        self.scale, self.base = scale, base
        final = final_width or width
        self.head = nn.Conv2d(source, width, 3, padding=1)
        self.trunk = nn.Sequential(
            *(nn.Sequential(*(DenseBlock(width, growth, residual) for _ in range(3))) for _ in range(blocks))
        )
        self.residual = residual
        self.after = nn.Conv2d(width, width, 3, padding=1)
        self.factors = factors_of(scale)
        widths = [width, *([final] * len(self.factors))]
        self.enlarge = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        self.fine = nn.Conv2d(widths[-1], final, 3, padding=1)
        last = nn.Conv2d(final, shape[0], 3, padding=1)
        self.last = Silent(last) if base != "none" else last

    def forward(self, source: Tensor) -> Tensor:
        x = y = self.head(source)
        for block in self.trunk:
            y = y + self.residual * block(y)
        x = x + self.after(y)
        for factor, convolution in zip(self.factors, self.enlarge, strict=True):
            x = F.leaky_relu(convolution(F.interpolate(x, scale_factor=factor, mode="nearest")), LEAK)
        x = self.last(F.leaky_relu(self.fine(x), LEAK))
        return x if self.base == "none" else x + bicubic(source, self.scale)


class DenseBlock(nn.Module):
    """x + residual · five 3×3 convolutions, each of which sees all before it, leaky ReLUs between them (ESRGAN, fig. 4)."""

    def __init__(self, channels: int, growth: int, residual: float) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + number * growth, growth if number < 4 else channels, 3, padding=1)
            for number in range(5)
        )
        self.initialize_own()

    def initialize_own(self) -> None:
        """He et al. 2015, times 0.1: smaller weights train better without norms (ESRGAN, sec. 3.1)."""
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            with torch.no_grad():
                layer.weight.mul_(0.1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.layers[:-1]:
            maps.append(F.leaky_relu(layer(torch.cat(maps, dim=1)), LEAK))
        return x + self.residual * self.layers[-1](torch.cat(maps, dim=1))


class Silent(nn.Module):
    """A layer whose weights start at zero, whatever the recipe's initialiser is."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        self.initialize_own()

    def initialize_own(self) -> None:
        """Zeros."""
        nn.init.zeros_(self.layer.weight)
        if self.layer.bias is not None:
            nn.init.zeros_(self.layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def factors_of(scale: int) -> list[int]:
    """The steps in which maps grow by `scale`: 4 → 2, 2; 3 → 3. Raises UserError for a scale that cannot be."""
    if scale not in SCALES:
        raise UserError(f"model.scale: {scale} cannot be; there are {', '.join(map(str, SCALES))}")
    return [3] if scale == 3 else [2] * int(math.log2(scale))


def bicubic(images: Tensor, scale: int) -> Tensor:
    """Images (N, C, H, W), `scale` times as large, with the kernel a = −½ of PIL and MATLAB (Keys 1981)."""
    height, width = images.shape[2:]
    # Enlarging, the antialiasing changes nothing but `a`, which is −¾ without it.
    return F.interpolate(
        images.float(), (height * scale, width * scale), mode="bicubic", align_corners=False, antialias=True
    )


def require_base(base: Base, source: int, channels: int) -> None:
    """Raise UserError for a base that has not the channels of the output."""
    if base != "none" and source != channels:
        raise UserError(
            f"model.generator.base={base} needs inputs of as many channels as the outputs, not {source} and {channels}"
        )
