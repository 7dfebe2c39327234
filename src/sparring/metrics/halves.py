"""Intervals for measures of two samples, by random halves.

The ordinary bootstrap draws with replacement. Copies of a sample are neighbours at distance 0 and thin out a
covariance, so it shifts just the measures of this package. Halves drawn without replacement have no copies, and given
the whole sample their mean varies by σ²/m − σ²/n, which for m = n/2 is the sampling variance σ²/n itself: no rescaling
(the "random half-sample", McCarthy 1969; subsampling, Politis & Romano 1994). What the smaller size does to a biased
figure moves all halves alike, so the interval is laid around the figure and not around the halves' mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sparring.core.game import Batch

Resampled = Literal["both", "pairs", "fake"]
ENOUGH = 40  # halves from which the 2.5 % and 97.5 % points are taken as they are


def half_intervals(
    compute: Callable[[Batch, Batch], Mapping[str, float]],
    values: Mapping[str, float],
    real: Batch,
    fake: Batch,
    *,
    resamples: int,
    seed: int = 0,
    resampled: Resampled = "both",
) -> dict[str, tuple[float, float]]:
    """95 % intervals of `values`, which `compute(real, fake)` gave.

    resampled: halves of `both` sides, of `pairs` (both sides lose the same samples), or of the `fake` side alone, set
    against all real samples. resamples: 0 for none; below 40 the halves' standard deviation decides,
    as if they were normal. A figure that some half does not give (a class too rare) has no interval.
    """
    if not resamples or min(real.count, fake.count) < 4:
        return {}
    rng = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(resamples):
        chosen = _half(fake.count, rng)
        if resampled == "both":
            left = _take(real, _half(real.count, rng))
        else:
            left = _take(real, chosen) if resampled == "pairs" else real
        drawn.append(compute(left, _take(fake, chosen)))
    return {
        name: _around(value, np.array([each[name] for each in drawn]))
        for name, value in values.items()
        if all(name in each and np.isfinite(each[name]) for each in drawn) and np.isfinite(value)
    }


def _around(value: float, halves: np.ndarray) -> tuple[float, float]:
    if len(halves) >= ENOUGH:
        low, high = np.percentile(halves - halves.mean(), [2.5, 97.5])
    else:
        high = 1.96 * float(halves.std(ddof=1))
        low = -high
    return float(value + low), float(value + high)


def _half(count: int, rng: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=rng)[: count // 2].sort().values


def _take(side: Batch, chosen: Tensor) -> Batch:
    return Batch({key: value[chosen] for key, value in side.items()})
