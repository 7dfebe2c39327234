"""Memorisation: are the fakes new, or copies of training samples?

All rests on one ratio a fake: its distance to the nearest training sample, over that sample's own distance to the
nearest other one (Alaa et al. 2022, section 4.3). A copy has a ratio near 0. Exact duplicates among the training samples
count once, or the most copied samples of all, those that occur several times, would have no ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.metrics.neighbours import check_features, nearest


@dataclass(frozen=True)
class Suspects:
    """The fakes that look most copied, most suspicious first; each field has one entry a suspect.

    fake: index of the fake. train: index of the training sample nearest to it. distance: between the two, in the
    features' units. ratio: that distance over the training sample's own to the nearest other one.
    """

    fake: Tensor
    train: Tensor
    distance: Tensor
    ratio: Tensor


@dataclass(frozen=True)
class CopyShare:
    """share: of fakes with a ratio below `threshold`, in [0, 1]. expected: that share among new samples, at most."""

    share: float
    expected: float
    threshold: float

    @property
    def copied(self) -> float:
        """An estimate of the share of copies: if it is q, then q + (1 − q)·expected of the fakes are below."""
        return max(0.0, (self.share - self.expected) / (1 - self.expected))


def authenticity(train: Tensor, fake: Tensor) -> float:
    """Share of fakes that are farther from their nearest training sample than that is from its nearest other one.

    train, fake: features (N, D) and (M, D). In [0, 1]; copies score 0, samples far from all training data 1, and new
    samples of the same distribution in between (a Gaussian's in 2 dimensions 0.4, in 300 0.9): compare it with that of a
    held-out set. Source: Alaa et al. 2022, section 4.3.
    Raises ValueError where the widths differ, fewer than two training samples differ, or a feature is not finite.
    """
    return float((_trace(train, fake).ratio > 1).double().mean())


def suspects(train: Tensor, fake: Tensor, *, count: int = 16) -> Suspects:
    """The `count` fakes with the smallest ratio (all, where there are fewer). Arguments and errors as `authenticity`."""
    found = _trace(train, fake)
    # Among exact copies the ratio is 0 for all: the order of the fakes decides, so that equal input has equal output.
    order = found.ratio.sort(stable=True).indices[:count]
    return Suspects(**{name: value[order] for name, value in vars(found).items()})


def copy_share(train: Tensor, fake: Tensor, *, expected: float = 0.01) -> CopyShare:
    """Share of fakes that are nearer to a training sample than all but `expected` of new samples would be.

    How near new samples come is asked of the training samples themselves: each in turn is held out and gets its ratio
    against the rest, as a fake would. A new sample of the same distribution is exchangeable with them, so it falls
    below the m-th smallest of their N ratios with a probability of about m / (N + 1), whatever the features and the
    distribution (the argument of conformal prediction; Vovk et al. 2005). The threshold is the ratio with
    m = ⌊expected·(N + 1)⌋. A share far above `expected` therefore means copies, or fakes so smooth that they sit closer
    to the training samples than these sit to one another: look at the `suspects`.

    train, fake: features (N, D) and (M, D). expected: in (0, 1).
    Raises ValueError as `authenticity`, and where there are too few training samples for so small a probability.
    """
    if not 0 < expected < 1:
        raise ValueError(f"expected must lie between 0 and 1, not {expected}")
    distinct, _ = _distinct(train)
    rank = int(expected * (len(distinct) + 1))
    if rank < 1 or len(distinct) < 3:
        needed = max(3, -int(-1 // expected) - 1)
        raise ValueError(
            f"an expected share of {expected} needs at least {needed} different training samples, not {len(distinct)}"
        )
    distances, neighbours = nearest(distinct, k=2)
    found, gap = neighbours[:, 0], distances[:, 0]
    # Without the one held out, a neighbour whose nearest it was is left with its second.
    held_out = torch.arange(len(distinct), device=train.device)
    second = (neighbours[found, 0] == held_out).long()
    ratios = gap / distances[found, second]
    threshold = float(ratios.sort().values[rank - 1])
    share = float((_ratios(distinct, distances[:, 0], fake)[0] < threshold).double().mean())
    return CopyShare(share, rank / (len(distinct) + 1), threshold)


def _trace(train: Tensor, fake: Tensor) -> Suspects:
    """Every fake, in order, with what it may be a copy of."""
    distinct, first = _distinct(train)
    ratio, distance, found = _ratios(distinct, nearest(distinct)[0][:, 0], fake)
    return Suspects(torch.arange(len(fake), device=fake.device), first[found], distance, ratio)


def _ratios(train: Tensor, spacing: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The ratio of each fake, its distance to the nearest of the training samples, and the index of that."""
    distance, found = (column[:, 0] for column in nearest(fake, train))
    return distance / spacing[found], distance, found


def _distinct(train: Tensor) -> tuple[Tensor, Tensor]:
    """The different ones among training samples (N, D), in order, and the index of each one's first occurrence."""
    check_features(train)
    unique, group = train.unique(dim=0, return_inverse=True)
    if len(unique) < 2:
        raise ValueError("memorisation is measured against at least two training samples that differ")
    positions = torch.arange(len(train), device=train.device)
    first = positions.new_full((len(unique),), len(train)).scatter_reduce_(0, group, positions, "amin")
    first = first.sort().values
    return train[first], first
