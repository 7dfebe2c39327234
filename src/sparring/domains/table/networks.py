"""The networks that make and judge encoded rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.nn.layers import require_dropout, require_positive
from sparring.nn.mlp import MLP


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
        x = latent if condition is None else torch.cat([latent, condition.to(latent.dtype)], 1)
        first, *others = self.layers
        x = first(x)
        for layer in others:
            x = x + layer(x)
        return self.out(x)


class Layer(nn.Module):
    """Linear, batch norm, ReLU, (N, inputs) → (N, width): one product where the norm's statistics stand still."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, width), nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        linear, norm = self.linear, self.norm
        mean, variance = norm.running_mean, norm.running_var
        if norm.training or torch.is_grad_enabled() or mean is None or variance is None:
            return norm(linear(x)).relu()
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return nn.functional.linear(x, linear.weight * scale[:, None], (linear.bias - mean) * scale + norm.bias).relu_()


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
