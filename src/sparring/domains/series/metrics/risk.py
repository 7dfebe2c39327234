"""Risk of returns, and how far a statistic of one long series can be trusted: value at risk, shortfall, block bootstrap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def losses(returns: Array, days: int = 1) -> Array:
    """Losses (…, T − days + 1) over so many steps of log returns (…, T), overlapping, as shares of what there was: positive
    is bad.
    """
    grown = np.concatenate([np.zeros((*returns.shape[:-1], 1)), returns.cumsum(axis=-1)], axis=-1)
    return -np.expm1(grown[..., days:] - grown[..., :-days])


def value_at_risk(lost: Array, level: float) -> float:
    """The loss that is exceeded with the probability 1 − level: the quantile at `level`, in (0, 1), of all losses."""
    return float(np.quantile(lost, level))


def expected_shortfall(lost: Array, level: float) -> float:
    """The mean of the losses that are at or above the value at risk (Acerbi & Tasche 2002)."""
    flat = lost.ravel()
    return float(flat[flat >= value_at_risk(flat, level)].mean())


def block_interval(
    returns: Array,
    statistic: Callable[[Array], float],
    *,
    block: int,
    resamples: int = 500,
    share: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval that holds `share` of a statistic of series made of random blocks of this one (T,) (Künsch 1989).

    block: steps that stay together, many more than the statistic looks across. Raises ValueError for one longer than half
    of the series.
    """
    rows = _blocks(len(returns), block, resamples, seed)
    found = [statistic(returns[row]) for row in rows]
    return _middle(np.array(found), share)


def memory_band(
    x: Array, lags: int, *, block: int, resamples: int = 1000, share: float = 0.95, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Autocorrelation (lags,) of a series (T,), and the ends of the interval that holds `share` of its block bootstrap.

    What is resampled are blocks of vectors (x_t, …, x_{t + lags}), as Künsch (1989, section 2.3) has it: pairs of values
    are not torn where blocks meet, which would pull every lag towards 0. Raises ValueError as `block_interval`.
    """
    count = len(x) - lags
    centred = x - x.mean()
    products = np.stack([centred[:count] * centred[lag : lag + count] for lag in range(lags + 1)], axis=1)
    terms = np.concatenate(
        [products, centred[:count, None], np.stack([centred[lag : lag + count] for lag in range(lags + 1)], 1)], 1
    )
    # A block's sum is a difference of running sums, so a resample is a mean of a few rows.
    running = np.concatenate([np.zeros((1, terms.shape[1])), terms.cumsum(axis=0)])
    starts = _starts(count, block, resamples, seed)
    sums = running[starts + block] - running[starts]
    means = sums.mean(axis=1) / block
    moments, first, later = means[:, : lags + 1], means[:, lags + 1, None], means[:, lags + 2 :]
    resampled = moments - first * later
    curves = resampled[:, 1:] / resampled[:, :1]
    whole = np.array([(centred[lag:] * centred[: len(x) - lag]).sum() for lag in range(lags + 1)])
    low, high = np.quantile(curves, [(1 - share) / 2, (1 + share) / 2], axis=0)
    return whole[1:] / whole[0], low, high


def _starts(count: int, block: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Where the blocks of each resample begin: (resamples, as many as fill the series)."""
    if not 1 <= block <= count // 2:
        raise ValueError(f"blocks of {block} steps cannot be drawn from {count}")
    return np.random.default_rng(seed).integers(0, count - block + 1, (resamples, -(-count // block)))


def _blocks(count: int, block: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Rows (resamples, count) of series made of blocks."""
    starts = _starts(count, block, resamples, seed)
    return (starts[:, :, None] + np.arange(block)).reshape(resamples, -1)[:, :count]


def _middle(found: Array, share: float) -> tuple[float, float]:
    low, high = np.quantile(found, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
