"""Fully connected networks: the textbook's first GAN (Goodfellow et al. 2014)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from sparring.nn.condition import Condition, Head, append_label
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import require_dropout, require_positive
from sparring.nn.mlp import MLP, VectorNorm


class MlpGenerator(nn.Module):
    """Latent (N, latent) → image (N, *shape) in [−1, 1]; hidden widths `width`, 2·width, 4·width, …"""

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int,
        *, width: int = 256, depth: int = 3, norm: VectorNorm = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, depth=depth)
        self.shape = tuple(shape)
        self.classes = classes
        hidden = [width * 2**layer for layer in range(depth)]
        self.body = MLP(latent + classes, hidden, norm=norm)
        self.out = nn.Linear(hidden[-1], math.prod(shape))

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.body(append_label(latent, label, self.classes))
        return self.out(x).tanh().unflatten(1, self.shape)


class MlpDiscriminator(Discriminator):
    """Image (N, *shape) → logit (N,); hidden widths …, 4·width, 2·width, `width`."""

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 256, depth: int = 2, condition: Condition = "concat", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, depth=depth)
        require_dropout(dropout)
        hidden = [width * 2**layer for layer in reversed(range(depth))]
        self.body = MLP(math.prod(shape) + self.label_inputs, hidden, dropout=dropout)
        self.feature_count = hidden[-1]
        self.head = Head(self.feature_count, self.label_rows)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.body(append_label(x.flatten(1), label, self.label_inputs))
