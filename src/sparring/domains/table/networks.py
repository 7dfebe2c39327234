"""The networks that make and judge encoded rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.domains.table.rows import asked_cells
from sparring.nn.layers import require_dropout, require_positive
from sparring.nn.mlp import MLP

LANES = 16  # numbers that a CPU's widest products make at once


class RowGenerator(nn.Module):
    """Latents (N, latent) and what is asked for (N, K) → logits and places of encoded rows (N, size).

    `depth` layers of `width`, each linear, batch norm and ReLU, and each after the first added to what it was given. CTGAN
    (Xu et al. 2019, section 4.4) sets them side by side instead, and with them the latents: twice the products.
    """

    def __init__(self, size: int, latent: int, conditions: int, *, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        require_positive(width=width, depth=depth)
        sizes = [latent + conditions, *[width] * (depth - 1)]
        self.layers = nn.ModuleList(Layer(size, width) for size in sizes)
        self.out = nn.Linear(width, size)

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        first, *others = self.layers
        x = first(latent, condition)
        if torch.is_grad_enabled():
            for layer in others:
                x = x + layer(x)
            return self.out(x)
        for layer in others:
            x += layer(x)
        return _padded(x, self.out.weight, self.out.bias)


class Layer(nn.Module):
    """Linear, batch norm, ReLU, (N, inputs) → (N, width): one product where the norm's statistics stand still.

    asked: the last of the inputs (N, K), each 0 or 1 and nearly all 0.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, width), nn.BatchNorm1d(width)

    def forward(self, x: Tensor, asked: Tensor | None = None) -> Tensor:
        linear, norm = self.linear, self.norm
        mean, variance = norm.running_mean, norm.running_var
        if norm.training or torch.is_grad_enabled() or mean is None or variance is None:
            return norm(linear(x if asked is None else torch.cat([x, asked.to(x.dtype)], 1))).relu()
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        weight, bias = linear.weight * scale[:, None], (linear.bias - mean) * scale + norm.bias
        if asked is None:
            return nn.functional.linear(x, weight, bias).relu_()
        made = nn.functional.linear(x, weight[:, : x.shape[1]], bias)
        return made.add_(_sums(asked, weight[:, x.shape[1] :].T)).relu_()


def _sums(asked: Tensor, vectors: Tensor) -> Tensor:
    """Of vectors (K, width) the sum of those that each row asks for, `asked` (N, K) of 0 and 1: (N, width)."""
    if asked.device.type != "cpu":
        return asked.to(vectors.dtype) @ vectors
    # Of a hundred numbers one is not 0: a product takes ten times as long as adding up what it is not 0 for.
    rows, which = asked_cells(asked)
    starts = torch.searchsorted(rows, torch.arange(len(asked)))
    return nn.functional.embedding_bag(which, vectors.contiguous(), starts, mode="sum")


def _padded(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """X weightᵀ + bias (N, outputs), by a product whose outputs are a multiple of `LANES`: by others a CPU is slower."""
    size = len(weight)
    more = -size % LANES
    return nn.functional.linear(
        x, nn.functional.pad(weight, (0, 0, 0, more)), nn.functional.pad(bias, (0, more))
    )[:, :size]  # fmt: skip


class RowDiscriminator(nn.Module):
    """`pack` encoded rows at once (N, pack·size), and what was asked for (N, pack·K) → one logit (N,) (Lin et al. 2018).

    asked_of: of each of the K categories, the number of its column (K,). It is told the columns that were asked for alone: what
    was asked for in them, the rows have.
    """

    asked_of: Tensor

    def __init__(
        self, size: int, asked_of: Tensor, pack: int, *, width: int = 256, depth: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        require_positive(width=width, depth=depth, pack=pack)
        require_dropout(dropout)
        self.register_buffer("asked_of", asked_of, persistent=False)
        self.pack, self.columns = pack, int(asked_of[-1]) + 1 if len(asked_of) else 0
        self.body = MLP(pack * (size + self.columns), [width] * depth, dropout=dropout)
        self.out = nn.Linear(width, 1)

    def forward(self, rows: Tensor, condition: Tensor | None = None) -> Tensor:
        x = rows if condition is None else torch.cat([rows, self.told(condition).to(rows.dtype)], 1)
        return self.out(self.body(x)).squeeze(1)

    def told(self, condition: Tensor) -> Tensor:
        """Which columns were asked for, (N, pack·K) → (N, pack·columns)."""
        asked = condition.unflatten(1, (self.pack, -1))
        return asked.new_zeros(*asked.shape[:2], self.columns).index_add(2, self.asked_of, asked).flatten(1)
