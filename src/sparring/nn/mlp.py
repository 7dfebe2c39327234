"""Fully connected networks, and a discriminator of plain vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from sparring.nn.condition import Head, append_label
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import Dropout, require_dropout, require_positive

VectorNorm = Literal["batch", "layer", "none"]


class MLP(nn.Sequential):
    """(N, inputs) → (N, hidden[-1]): for each hidden width a linear layer, norm, leaky ReLU 0.2 and dropout.

    The first layer has no norm: normalising it would take the scale of the data, or of the latent, away.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], *, norm: VectorNorm = "none", dropout: float = 0.0) -> None:
        layers: list[nn.Module] = []
        for index, width in enumerate(hidden):
            normed = norm != "none" and index > 0
            layers.append(nn.Linear(inputs, width, bias=not normed))
            if normed:
                layers.append(nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width))
            layers.append(nn.LeakyReLU(0.2))
            if dropout:
                layers.append(Dropout(dropout))
            inputs = width
        super().__init__(*layers)


class VectorDiscriminator(Discriminator):
    """A discriminator of vectors (N, size), e.g. of an adversarial autoencoder's codes (Makhzani et al. 2015)."""

    def __init__(self, size: int, classes: int, *, width: int = 256, depth: int = 2, dropout: float = 0.0) -> None:
        super().__init__(classes)
        require_positive(width=width, depth=depth)
        require_dropout(dropout)
        self.body = MLP(size + self.label_inputs, [width] * depth, dropout=dropout)
        self.feature_count = width
        self.head = Head(width)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.body(append_label(x, label, self.label_inputs))
