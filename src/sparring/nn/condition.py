"""How a class label enters a network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Condition = Literal["concat", "projection"]


def append_label(x: Tensor, label: Tensor | None, classes: int) -> Tensor:
    """Append the one-hot label to vectors (N, F), or as constant planes to maps (N, C, H, W) (Mirza & Osindero 2014).

    label: (N,) long. Returns F + classes features, or C + classes planes; `x` itself where `classes` is 0.
    """
    if not classes:
        return x
    hot = F.one_hot(required(label, classes), classes).to(x.dtype)
    planes = hot.reshape(*hot.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, planes], dim=1)


def required(label: Tensor | None, classes: int) -> Tensor:
    """The label. Raises ValueError where there is none."""
    if label is None:
        raise ValueError(f"this network was built for {classes} classes: give it a label for each sample")
    return label


class Head(nn.Module):
    """From features (N, features) to a logit (N,): w·φ + b, and with classes also v_y·φ.

    The projection discriminator (Miyato & Koyama 2018, eq. 3).
    """

    def __init__(self, features: int, classes: int = 0, *, bias: bool = True) -> None:
        super().__init__()
        self.classes = classes
        self.linear = nn.Linear(features, 1, bias=bias)
        self.embedding = nn.Embedding(classes, features) if classes else None
        if self.embedding is not None:
            # As large as the linear layer's rows; the default, N(0, 1), would drown them.
            nn.init.normal_(self.embedding.weight, std=features**-0.5)

    def forward(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        logits = self.linear(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + (self.embedding(required(label, self.classes)) * features).sum(dim=1)
