"""The U-Net of pix2pix (Isola et al. 2017, sec. 6.1.1): an encoder whose maps the decoder sees again."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparring.core import chance
from sparring.nn.layers import Norm, doubling, norm_layer, require_dropout, require_positive

LEAK = 0.2


class UNetGenerator(nn.Module):
    """Inputs (N, S, H, W) → images (N, C, H, W) in [-1, 1]; H and W are multiples of `stride`.

    width: channels of the first level, doubled from level to level up to 8 times. depth: levels; None: as many as leave
    one pixel of the shorter side, at most 8 (the paper's, for 256 pixels). dropout: of the first three levels of the decoder that have 8·width
    channels, in training and afterwards, where it is the generator's only noise (sec. 3.2); `noise` false leaves it to training.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 64, depth: int | None = None, norm: Norm = "batch", dropout: float = 0.5, noise: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, depth=depth)
        require_dropout(dropout)
        depth = depth or max(2, min(8, int(math.log2(min(shape[1:])))))
        self.stride = 2**depth
        widths = doubling(width, depth)
        # A bias before a norm that takes the mean away would be idle; the innermost maps, of one pixel, have no norm.
        bare = norm in ("none", "layer", "group")
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level, (before, after) in enumerate(zip([source, *widths], widths, strict=False)):
            outer, inner = level == 0, level == depth - 1
            self.down.append(
                nn.Sequential(
                    *([] if outer else [nn.LeakyReLU(LEAK)]),
                    nn.Conv2d(before, after, 4, 2, 1, bias=bare or outer or inner),
                    *([] if outer or inner else [norm_layer(norm, after)]),
                )
            )
            seen = after if inner else 2 * after
            drops = dropout if 0 < depth - 1 - level <= 3 and level > 0 and before == widths[-1] else 0.0
            self.up.append(
                nn.Sequential(
                    nn.ReLU(),
                    nn.ConvTranspose2d(seen, shape[0] if outer else before, 4, 2, 1, bias=bare or outer),
                    nn.Tanh() if outer else norm_layer(norm, before),
                    *([Noise(drops, noise)] if drops else []),
                )
            )

    def forward(self, source: Tensor) -> Tensor:
        maps = [source]
        for down in self.down:
            maps.append(down(maps[-1]))
        x = self.up[-1](maps.pop())
        for up in [*self.up][-2::-1]:
            x = up(torch.cat([x, maps.pop()], dim=1))
        return x


class Noise(nn.Module):
    """Dropout that goes on after the training, where `always` says so."""

    def __init__(self, probability: float, always: bool) -> None:
        super().__init__()
        self.probability, self.always = probability, always

    def forward(self, x: Tensor) -> Tensor:
        return chance.dropout(x, self.probability) if self.training or self.always else x
