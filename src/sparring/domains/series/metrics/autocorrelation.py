"""How samples depend on their own past and features on each other, set against the data (as in Wiese et al. 2020; Ni et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor


def acf(x: Tensor, lags: int) -> Tensor:
    """Autocorrelation (lags, F) of windows (N, T, F) at lags 1, …, `lags`, pooled over windows.

    Mean and variance of a feature are those of all windows and steps together; a constant feature has 0 everywhere.
    """
    x = x.double()
    centred = x - x.mean(dim=(0, 1))
    variance = centred.square().mean(dim=(0, 1))
    found = [(centred[:, lag:] * centred[:, :-lag]).mean(dim=(0, 1)) for lag in range(1, lags + 1)]
    return torch.stack(found) / torch.where(variance > 0, variance, torch.inf)


def acf_distance(real: Tensor, fake: Tensor, *, lags: int = 12, what: str = "values") -> float:
    """Root of the summed squared differences of autocorrelations over lags, its mean over features.

    what: `values`, `absolute` values or `squares` of what is left when the mean is taken away: where these remember more
    than values do, large changes come together. At most T − 1 lags.
    """
    lags = min(lags, real.shape[1] - 1)
    left, right = (acf(_of(x.double(), what), lags) for x in (real, fake))
    return float((left - right).square().sum(0).sqrt().mean())


def cross_correlation_error(real: Tensor, fake: Tensor) -> float:
    """Mean absolute difference of the correlations between features at the same step; 0 for a single feature."""
    count = real.shape[2]
    if count == 1:
        return 0.0
    above = torch.triu_indices(count, count, 1)
    left, right = (correlations(x)[above[0], above[1]] for x in (real, fake))
    return float((left - right).abs().mean())


def correlations(x: Tensor) -> Tensor:
    """Correlations (F, F) between the features of windows (N, T, F); 0 for a constant one."""
    flat = x.double().flatten(0, 1)
    centred = flat - flat.mean(0)
    deviation = centred.square().mean(0).sqrt()
    scaled = centred / torch.where(deviation > 0, deviation, torch.inf)
    return scaled.T @ scaled / len(flat)


def _of(x: Tensor, what: str) -> Tensor:
    if what == "values":
        return x
    centred = x - x.mean(dim=(0, 1))
    return centred.abs() if what == "absolute" else centred.square()
