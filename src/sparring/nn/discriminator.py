"""What every discriminator shares: where the label enters, and the way from features to a logit."""

from __future__ import annotations

from torch import Tensor, nn

from sparring.nn.condition import Condition, Head


class Discriminator(nn.Module):
    """A discriminator in two halves, so that a game may look at the features.

    A subclass sets `feature_count` and `head`, and defines `features`.

    label_inputs: one-hot inputs that join the data: the number of classes under `concat`, else 0.
    label_rows: rows of the head's class embedding: the number of classes under `projection`, else 0.
    """

    feature_count: int
    head: Head

    def __init__(self, classes: int, condition: Condition = "concat") -> None:
        super().__init__()
        self.label_inputs = classes if condition == "concat" else 0
        self.label_rows = classes if condition == "projection" else 0

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Samples (N, …) and labels (N,) → features (N, feature_count)."""
        raise NotImplementedError

    def score(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Features (N, feature_count) → logits (N,)."""
        return self.head(features, label)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Samples (N, …) and labels (N,) → logits (N,)."""
        return self.score(self.features(x, label), label)
