"""The U-Net of pix2pix (Isola et al. 2017, sec. 6.1.1): an encoder whose maps the decoder sees again."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sparring.core import chance
from sparring.errors import UserError
from sparring.nn.layers import Norm, doubling, norm_layer, require_dropout, require_positive

LEAK = 0.2


class UNetGenerator(nn.Module):
    """Inputs (N, S, H, W) → images (N, C, H, W) in [-1, 1]; H and W are multiples of `stride`.

    width: channels of the first level, doubled from level to level up to 8 times. depth: levels; None: as many as leave
    one pixel of the shorter side, at most 8 (the paper's, for 256 pixels). dropout: of the first three levels of the decoder that have 8·width
    channels, in training and afterwards, where it is the generator's only noise (sec. 3.2); `noise` false leaves it to training.
    code: numbers of a code that the output depends on besides, (N, code), drawn from N(0, I) where none is given; 0: there is
    none. inject: the code is repeated at every place and set beside the input of `all` levels of the encoder, or of the first
    alone (`input`) (Zhu et al. 2017b, sec. 4 and fig. 3).
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 64, depth: int | None = None, norm: Norm = "batch", dropout: float = 0.5, noise: bool = True,
        code: int = 0, inject: Literal["all", "input"] = "all",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, depth=depth)
        require_dropout(dropout)
        depth = depth or max(2, min(8, int(math.log2(min(shape[1:])))))
        if code < 0:
            raise UserError(f"model.generator.code: a code has 1 number or more (0: there is none), not {code}")
        self.stride, self.code, self.inject = 2**depth, code, inject
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
                    nn.Conv2d(before + code * self.takes_code(level), after, 4, 2, 1, bias=bare or outer or inner),
                    *([] if outer or inner else [norm_layer(norm, after)]),
                )
            )
            seen = after if inner else 2 * after
            drops = dropout if level > max(0, depth - 4) and before == widths[-1] else 0.0
            self.up.append(
                nn.Sequential(
                    nn.ReLU(),
                    nn.ConvTranspose2d(seen, shape[0] if outer else before, 4, 2, 1, bias=bare or outer),
                    nn.Tanh() if outer else norm_layer(norm, before),
                    *([Noise(drops, noise)] if drops else []),
                )
            )

    def takes_code(self, level: int) -> bool:
        """Whether a level of the encoder sees the code."""
        return self.code > 0 and (level == 0 or self.inject == "all")

    def forward(self, source: Tensor, code: Tensor | None = None) -> Tensor:
        if self.code and code is None:
            code = chance.normal(len(source), self.code, device=source.device)
        maps = [source]
        for level, down in enumerate(self.down):
            maps.append(down(maps[-1] if code is None or not self.takes_code(level) else beside(maps[-1], code)))
        x = self.up[-1](maps.pop())
        for up in [*self.up][-2::-1]:
            x = up(torch.cat([x, maps.pop()], dim=1))
        return x


def beside(maps: Tensor, code: Tensor) -> Tensor:
    """Maps (N, C, H, W), and a code (N, L) at each of their places: (N, C + L, H, W)."""
    return torch.cat([maps, code[:, :, None, None].expand(-1, -1, *maps.shape[2:]).to(maps.dtype)], dim=1)


class Noise(nn.Module):
    """Dropout that goes on after the training, where `always` says so."""

    def __init__(self, probability: float, always: bool) -> None:
        super().__init__()
        self.probability, self.always = probability, always

    def forward(self, x: Tensor) -> Tensor:
        return chance.dropout(x, self.probability) if self.training or self.always else x
