"""How a label enters a network. Every network reads labels through this file.

A label is one of two things:

- the number of a class, int64 (N,)
- a vector, float (N, K): soft labels (shares of K classes that sum to 1), attributes (K answers, 0 to 1) or values
  (K standardised numbers)

A class is the vector that is 1 at its number and 0 elsewhere, so each way of conditioning is the same for all of them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.equalised import EqualisedLinear

Condition = Literal["concat", "projection"]


def append_label(x: Tensor, label: Tensor | None, classes: int) -> Tensor:
    """Append the label's vector to vectors (N, F), or as constant planes to maps (N, C, H, W) (Mirza & Osindero 2014).

    label: (N,) long or (N, classes) float. Returns F + classes features, or C + classes planes; `x` itself where
    `classes` is 0. Raises ValueError where the label is missing or of another size.
    """
    if not classes:
        return x
    hot = as_vector(required(label, classes), classes).to(x.dtype)
    planes = hot.reshape(*hot.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, planes], dim=1)


def embed(embedding: nn.Embedding, label: Tensor | None) -> Tensor:
    """A row of the embedding (K, F) for class numbers (N,); for vectors (N, K) the sum of its rows with these weights.

    Returns (N, F). Raises ValueError where the label is missing or of another size.
    """
    label = required(label, embedding.num_embeddings)
    return label.to(embedding.weight.dtype) @ embedding.weight if label.is_floating_point() else embedding(label)


def as_vector(label: Tensor, classes: int) -> Tensor:
    """Class numbers (N,) as one-hot vectors (N, classes), float32; vectors as they are."""
    return label if label.is_floating_point() else F.one_hot(label, classes).float()


def required(label: Tensor | None, classes: int) -> Tensor:
    """The label. Raises ValueError where there is none, or it is a vector of another size."""
    if label is None:
        raise ValueError(f"this network was built for {classes} classes: give it a label for each sample")
    if label.is_floating_point() and label.shape[1:] != (classes,):
        raise ValueError(f"this network was built for {classes} classes, not for labels {tuple(label.shape)}")
    return label


class Head(nn.Module):
    """From features (N, features) to a logit (N,): w·φ + b, and with classes also yᵀVφ.

    The projection discriminator (Miyato & Koyama 2018, eq. 3); y is the label's vector.
    equalised: the linear layer has an equalised learning rate.
    """

    def __init__(self, features: int, classes: int = 0, *, bias: bool = True, equalised: bool = False) -> None:
        super().__init__()
        self.linear = (EqualisedLinear if equalised else nn.Linear)(features, 1, bias=bias)
        self.embedding = nn.Embedding(classes, features) if classes else None
        if self.embedding is not None:
            # As large as the linear layer's rows; the default, N(0, 1), would drown them.
            nn.init.normal_(self.embedding.weight, std=features**-0.5)

    def forward(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        logits = self.linear(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + (embed(self.embedding, label) * features).sum(dim=1)
