"""Rows as squares: the layout, and the convolutional networks that make and judge them (Park et al. 2018, section 4.2)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sparring.nn.condition import Head
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import Norm, doubling, norm_layer, require_positive
from sparring.nn.resample import ladder, rung_kernel
from sparring.nn.strided import StridedConv2d, StridedConvTranspose2d

EVEN = 4  # sides are multiples of it, so that they can be halved twice


def side_of(size: int) -> int:
    """The side of the smallest square of such sides that has room for `size` numbers."""
    return EVEN * math.ceil(math.ceil(math.sqrt(size)) / EVEN)


def to_square(rows: Tensor) -> Tensor:
    """Rows (N, D) as maps (N, 1, side, side), line by line, zeros after the last number."""
    side = side_of(rows.shape[1])
    return pad(rows, (0, side**2 - rows.shape[1])).unflatten(1, (1, side, side))


def to_rows(squares: Tensor, size: int) -> Tensor:
    """The inverse of `to_square`: the first `size` numbers of each map."""
    return squares.flatten(1)[:, :size]


class SquareGenerator(nn.Module):
    """Latents (N, latent) and what is asked for (N, K) → rows (N, size), by DCGAN's transposed convolutions (Radford et al. 2016).

    width: channels of the last hidden stage; each stage before has twice as many. norm: after each stage but the last.
    """

    def __init__(self, size: int, latent: int, conditions: int, *, width: int = 32, norm: Norm = "batch") -> None:
        super().__init__()
        require_positive(width=width)
        self.size = size
        side = side_of(size)
        sizes = ladder(side, side, rungs=2)
        widths = doubling(width, len(sizes) - 1)[::-1]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent + conditions, widths[0], sizes[0])]
        for (before, after), (small, large) in zip(pairwise([*widths, 1]), pairwise(sizes), strict=True):
            layers += [norm_layer(norm, before), nn.ReLU()]
            layers.append(StridedConvTranspose2d(before, after, *rung_kernel(small, large)))
        self.body = nn.Sequential(*layers)

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        x = latent if condition is None else torch.cat([latent, condition.to(latent.dtype)], 1)
        return to_rows(self.body(x[:, :, None, None]), self.size)


class SquareDiscriminator(Discriminator):
    """`pack` rows (N, pack·size) and what was asked for (N, pack·K), in one square → logits (N,); no activation is after the last sum.

    asked_of: of each of the K categories, or modes, that are asked for the number of its column (K,); None where none is. width: channels of the first stage; each after has twice as many. norm: after each stage but the first; all but `batch`
    judge rows one by one.
    """

    def __init__(self, size: int, asked_of: Tensor | None, pack: int, *, width: int = 32, norm: Norm = "layer") -> None:
        super().__init__(0)
        require_positive(width=width, pack=pack)
        side = side_of(pack * (size + (0 if asked_of is None else len(asked_of))))
        sizes = ladder(side, side, rungs=2)[::-1]
        widths = doubling(width, len(sizes) - 1)
        layers: list[nn.Module] = []
        for (before, after), (large, small) in zip(pairwise([1, *widths]), pairwise(sizes), strict=True):
            layers.append(StridedConv2d(before, after, *rung_kernel(small, large)))
            layers += [norm_layer(norm, after)] if len(layers) > 1 else []
            layers.append(nn.LeakyReLU(0.2))
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.feature_count = widths[-1] * sizes[-1][0] * sizes[-1][1]
        self.head = Head(self.feature_count)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """The last stage's maps, flat (N, feature_count)."""
        return self.body(to_square(x if label is None else torch.cat([x, label.to(x.dtype)], 1)))
