"""Mixtures of Gaussians on a line, fitted fast: the modes of a column of numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Floats = NDArray[np.float64]

POINTS = 400  # that a column is summed up in: what has more different values, by means of as many equal parts
ROUNDS, SETTLED = 200, 1e-4  # of fitting at most; and the change of weights at which it ends
CONCENTRATION = 1e-3  # of the prior: the smaller, the fewer modes (Xu et al. 2019, section 4.2, take the same)
OFTEN, FEW = (
    0.05,
    32,
)  # the share of a column from which a value is a mode of its own, and the number of values up to which all are
NEAR, ALIKE = 0.5, 1.5  # modes closer than so many deviations, whose deviations have a smaller ratio, are one
FLOOR = 1e-3  # of deviations, in the column's own


def fit_modes(values: Floats, most: int, lightest: float) -> tuple[Floats, Floats]:
    """Centres and deviations (K,) of modes; those of deviation 0 are single values, and the others at most `most`.

    Single are values that come often on their own (a 0 among sums of money), and all of a column that has few. The rest is
    a mixture of Gaussians; of its modes those lighter than the share `lightest` are left out. values: (N,), finite.
    """
    points, counts = np.unique(values, return_counts=True)
    single = counts > OFTEN * len(values) if len(points) > FEW else np.ones(len(points), bool)
    centres, deviations = points[single], np.zeros(int(single.sum()))
    rest = values if not single.any() else values[~np.isin(values, centres)]
    if len(rest):
        more = _mixture(rest, most, lightest)
        centres, deviations = np.concatenate([centres, more[0]]), np.concatenate([deviations, more[1]])
    return centres, deviations


def _mixture(values: Floats, most: int, lightest: float) -> tuple[Floats, Floats]:
    """Variational Bayes with a Dirichlet prior that empties the modes that are not needed (Bishop 2006, section 10.2).

    That is of weights alone: centres and deviations are those of the greatest likelihood.
    """
    points, counts = _summed_up(values)
    if len(points) == 1:
        return points, np.zeros(1)
    total = counts.sum()
    scale = float(np.abs(points).max())  # squares of 1e300 are infinite, and of 1e-300 nothing
    points = points / scale
    mean = float(counts @ points / total)
    spread = float(np.sqrt(counts @ np.square(points - mean) / total))
    x = (points - mean) / spread
    most = min(most, len(x))
    # Begun at quantiles of different values: where half of a column is one number, not half of the modes are.
    centres = x[np.linspace(0, len(x) - 1, most).round().astype(int)]
    variances = np.full(most, max(FLOOR**2, (np.ptp(x) / most) ** 2))
    shares = np.full(most, total / most)
    # Products with 1, x and x² say the logarithms of densities, and moments, of all modes at once. x is in deviations, so that
    # of the least variance, FLOOR², the difference of squares keeps eight digits.
    powers = np.stack([np.ones_like(x), x, np.square(x)], 1)
    for _ in range(ROUNDS):
        weights = digamma(CONCENTRATION + shares) - digamma(most * CONCENTRATION + total)
        constants = weights - 0.5 * (np.square(centres) / variances + np.log(variances))
        logs = powers @ np.stack([constants, centres / variances, -0.5 / variances])
        logs -= logs.max(1, keepdims=True)
        held = np.exp(logs, out=logs)
        held *= (counts / held.sum(1))[:, None]
        before = shares
        shares, firsts, seconds = powers.T @ held
        safe = np.maximum(shares, 1e-12)
        centres = firsts / safe
        variances = np.maximum(seconds / safe - np.square(centres), FLOOR**2)
        if np.abs(shares - before).max() < SETTLED * total:
            break
    kept = shares > lightest * total
    centres, deviations = _merged(centres[kept], np.sqrt(variances[kept]), shares[kept])
    return (centres * spread + mean) * scale, deviations * spread * scale


def _merged(centres: Floats, deviations: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """The modes in order, those that say nearly the same made one: which of them a value belongs to would be chance."""
    modes: list[tuple[float, float, float]] = []
    for number in np.argsort(centres, kind="stable"):
        centre, deviation, share = centres[number], deviations[number], shares[number]
        for place, (other, width, weight) in enumerate(modes):
            narrow, wide = sorted((deviation, width))
            if abs(centre - other) < NEAR * narrow and wide < ALIKE * narrow:
                whole = share + weight
                mean = (share * centre + weight * other) / whole
                square = (share * (deviation**2 + centre**2) + weight * (width**2 + other**2)) / whole
                modes[place] = (mean, max(square - mean**2, narrow**2) ** 0.5, whole)
                break
        else:
            modes.append((centre, deviation, share))
    return np.array([mode[0] for mode in modes]), np.array([mode[1] for mode in modes])


def _summed_up(values: Floats) -> tuple[Floats, Floats]:
    """Points in order, and how many values each stands for."""
    points, counts = np.unique(values, return_counts=True)
    if len(points) <= POINTS:
        return points, counts.astype(float)
    # A value that is a part of its own, or more, keeps a point to itself.
    often = counts > len(values) / POINTS
    rest, weight = points[~often], counts[~often].astype(float)
    parts = np.minimum((weight.cumsum() - weight) * POINTS // max(weight.sum(), 1), POINTS - 1).astype(int)
    sums = np.bincount(parts, weight, POINTS)
    there = sums > 0
    means = np.bincount(parts, weight * rest, POINTS)[there] / sums[there]
    order = np.argsort(np.concatenate([points[often], means]), kind="stable")
    return np.concatenate([points[often], means])[order], np.concatenate([counts[often], sums[there]])[order]
