"""A model that learns on rows of the data to foretell one column from the others, and says of samples how well theirs fits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from sparring.core import processes
from sparring.domains.table.cells import standards
from sparring.domains.table.columns import WIDTH
from sparring.domains.table.rows import Span
from sparring.nn.mlp import MLP


class Foreteller(nn.Module):
    """`depth` layers of `width` with leaky ReLU and dropout (Zhao et al. 2021, section 3.2), on encoded rows (N, size).

    Of categories the loss is the cross entropy; of numbers a smooth L1 distance, in deviations of the column.
    """

    centres: Tensor

    def __init__(self, size: int, target: Span, *, width: int = 256, depth: int = 4, dropout: float = 0.5) -> None:
        super().__init__()
        self.number = bool(target.column.places)
        self.start, self.hot = target.start, target.hot
        self.body = MLP(size - (target.hot.stop - target.start), [width] * depth, dropout=dropout)
        self.out = nn.Linear(width, 1 if self.number else target.column.size)
        if self.number:
            # The place's scale and the centre of each mode; what is missing counts as the mean. The data's own, so not kept.
            middle, deviation = standards_of(target)
            centres = [(centre - middle) / deviation for centre in target.column.centres]
            spreads = [WIDTH * spread / deviation for spread in target.column.deviations]
            padded = [0.0] * (target.column.size - len(centres))
            self.register_buffer("centres", torch.tensor([centres + padded, spreads + padded]), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """What is foretold (N, categories), as logits, or (N, 1)."""
        others = torch.cat([rows[:, : self.start], rows[:, self.hot.stop :]], 1)
        return self.out(self.body(others))

    def wanted(self, rows: Tensor) -> Tensor:
        """What is there: shares of categories (N, categories), or numbers (N, 1). Differentiable by the rows."""
        hot = rows[:, self.hot]
        if not self.number:
            return hot
        centre, spread = hot @ self.centres[0], hot @ self.centres[1]
        return (centre + rows[:, self.start] * spread)[:, None]

    def loss(self, rows: Tensor) -> Tensor:
        """How far what is there is from what is foretold, a scalar."""
        told, wanted = self(rows), self.wanted(rows)
        if self.number:
            return smooth_l1_loss(told, wanted)
        return -(wanted * told.log_softmax(1)).sum(1).mean()

    @torch.no_grad()
    def accuracy(self, rows: Tensor) -> Tensor:
        """Of categories the share that is foretold right; of numbers the mean distance in deviations."""
        told, wanted = self(rows), self.wanted(rows)
        found = (told - wanted).abs().mean() if self.number else (told.argmax(1) == wanted.argmax(1)).float().mean()
        return processes.mean(found)


def standards_of(span: Span) -> tuple[float, float]:
    """Mean and deviation of a column of numbers, as its modes are: of its logarithm where these are."""
    if not span.column.log:
        return standards(span.column)
    shares = torch.tensor(span.column.counts[: len(span.column.centres)], dtype=torch.float64)
    centres, deviations = (torch.tensor(each).double() for each in (span.column.centres, span.column.deviations))
    shares = shares / shares.sum()
    middle = (shares * centres).sum()
    return float(middle), float((shares * (deviations.square() + (centres - middle).square())).sum().sqrt()) or 1.0
