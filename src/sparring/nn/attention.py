"""Multi-head attention that can be differentiated twice, and where a token is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.resample import Size


class MultiHeadAttention(nn.Module):
    """Tokens (N, T, channels) read from context tokens (N, S, context) (Vaswani et al. 2017, sec. 3.2).

    Softmax and products are written out: torch's fused attention has no second derivative, and gradient penalties
    need one. Memory grows with heads · T · S, so bound T and S.
    """

    def __init__(self, channels: int, context: int, *, heads: int = 4) -> None:
        super().__init__()
        self.heads = math.gcd(heads, channels)
        # A bias of the keys would move all scores of a query alike, which softmax does not see.
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(context, channels, bias=False)
        self.value = nn.Linear(context, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (N, heads, tokens, channels / heads)
            for part in (self.query(x), self.key(context), self.value(context))
        )
        weights = (query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


def tokens(x: Tensor) -> Tensor:
    """Maps (N, C, H, W) → tokens (N, H·W, C)."""
    return x.flatten(2).transpose(1, 2)


def maps(x: Tensor, size: Size) -> Tensor:
    """Tokens (N, H·W, C) → maps (N, C, H, W)."""
    return x.transpose(1, 2).unflatten(2, size)


def position_code(size: Size, channels: int) -> Tensor:
    """Where each token of an H×W map is, (H·W, channels): sines and cosines of its row and its column.

    As in Vaswani et al. 2017, sec. 3.5, but of the position relative to the image, half a period to 8 periods an
    image, so that tokens of different scales agree on where they are.
    """
    frequencies = math.pi * torch.logspace(0, 1, max(1, channels // 4), base=16.0)
    rows, columns = ((torch.arange(side) + 0.5) / side for side in size)
    row, column = rows[:, None] * frequencies, columns[:, None] * frequencies
    row, column = torch.cat([row.sin(), row.cos()], 1), torch.cat([column.sin(), column.cos()], 1)
    grid = torch.cat([row[:, None].expand(-1, size[1], -1), column[None].expand(size[0], -1, -1)], dim=2).flatten(0, 1)
    return F.pad(grid, (0, max(0, channels - grid.shape[1])))[:, :channels]
