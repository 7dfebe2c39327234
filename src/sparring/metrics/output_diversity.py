"""How much the outputs for one input differ, for games that draw one of many (Zhu et al. 2017b, sec. 5.2)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.metrics.figure import Features

Distance = Callable[[Tensor, Tensor], Tensor]
"""Samples (N, …) and as many others → their distances (N,)."""


def output_diversity(outputs: Tensor, distance: Distance) -> float:
    """Mean distance of two outputs of one input, over all pairs of them, then over inputs.

    outputs: (K, N, …), K of each of N inputs. 0: the input decides the output. Raises ValueError for K < 2.
    """
    if len(outputs) < 2:
        raise ValueError(f"outputs of one input are compared with each other: {len(outputs)} is too few")
    return float(torch.stack([distance(one, other).mean() for one, other in combinations(outputs, 2)]).mean())


def sample_diversity(samples: Tensor, distance: Distance, *, pairs: int = 1000, seed: int = 0) -> float:
    """Mean distance of two random ones of `samples` (N, …): of real ones, it is what `output_diversity` is set against.

    pairs: how many are drawn, by a generator of their own. Raises ValueError for fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError(f"pairs need at least two samples, not {len(samples)}")
    random = torch.Generator().manual_seed(seed)
    first = torch.randint(len(samples), (pairs,), generator=random)
    # A step of 1 to N − 1 around the circle never ends where it began.
    second = (first + torch.randint(1, len(samples), (pairs,), generator=random)) % len(samples)
    return float(distance(samples[first], samples[second]).mean())


def feature_distance(features: Features) -> Distance:
    """The Euclidean distance of two samples in a feature space."""

    def distance(one: Tensor, other: Tensor) -> Tensor:
        a, b = (features(Batch(data=each))["features"].double() for each in (one, other))
        return (a - b).norm(dim=1)

    return distance
