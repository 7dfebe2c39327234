"""How heavy the tails of returns are, and what a fall does to what follows: pure functions of windows (N, T, F) of returns."""

from __future__ import annotations

import torch
from torch import Tensor

TAIL = 0.05  # share of values that are a tail
QUANTILES = (0.001, 0.005, 0.01, 0.05, 0.95, 0.99, 0.995, 0.999)


def kurtosis(x: Tensor) -> Tensor:
    """Excess kurtosis of each feature (F,): 0 of a Gaussian, 6/(ν − 4) of Student's t; 0 for what never varies."""
    flat = x.double().flatten(0, 1)
    centred = flat - flat.mean(0)
    variance = centred.square().mean(0)
    return torch.where(variance > 0, (centred**4).mean(0) / torch.where(variance > 0, variance, 1).square() - 3, 0)


def tail_index(x: Tensor, *, share: float = TAIL, side: str = "both") -> Tensor:
    """Hill's estimate (1975) of α in P(X > x) ~ x^−α, of each feature (F,), from the largest `share` of its values.

    side: `losses`, `gains` or `both`, distances from the median. Student's t with ν degrees of freedom has α = ν; the
    smaller, the heavier. Raises ValueError where a tail holds fewer than two values.
    """
    flat = x.double().flatten(0, 1)
    moved = flat - flat.median(dim=0).values
    moved = {"losses": -moved, "gains": moved, "both": moved.abs()}[side]
    count = int(share * len(moved))
    if count < 2:
        raise ValueError(f"a tail of {share:g} of {len(moved)} values has fewer than two")
    largest = moved.topk(count + 1, dim=0).values
    return 1 / (largest[:-1].log() - largest[-1].log()).mean(0)


def quantile_distance(real: Tensor, fake: Tensor) -> float:
    """Mean over features and the quantiles 0.1, 0.5, 1, 5 % of both ends of |difference|, in deviations of the real values."""
    left, right = (x.double().flatten(0, 1) for x in (real, fake))
    # `torch.quantile` takes no more than 16 million values.
    ends = [torch.stack([_quantile(side, level) for level in QUANTILES]) for side in (left, right)]
    deviation = left.std(0, correction=0)
    return float(((ends[0] - ends[1]).abs() / torch.where(deviation > 0, deviation, torch.inf)).mean())


def leverage(x: Tensor, lags: int) -> Tensor:
    """Correlation (lags, F) of a return with the square of that `lag` steps later, lags 1, …, `lags`, pooled over windows.

    Below 0 where falls make what follows more volatile, which is called the leverage effect (Bouchaud et al. 2001; Wiese
    et al. 2020, section 6.2). 0 for what never varies.
    """
    flat = x.double()
    first, squares = flat - flat.mean((0, 1)), flat.square() - flat.square().mean((0, 1))
    scale = (first.square().mean((0, 1)) * squares.square().mean((0, 1))).sqrt()
    found = [(first[:, :-lag] * squares[:, lag:]).mean((0, 1)) for lag in range(1, lags + 1)]
    return torch.stack(found) / torch.where(scale > 0, scale, torch.inf)


def _quantile(values: Tensor, level: float) -> Tensor:
    """Of each column, the nearest order statistic."""
    place = round(level * (len(values) - 1))
    return values.kthvalue(place + 1, dim=0).values
