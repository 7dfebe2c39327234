"""Log returns of prices, their heavy tails taken off, as games learn them; and prices of what games draw.

A feature's returns r become u = W_δ((r − μ) / σ): if u is Gaussian, (r − μ) / σ = u·exp(δu²/2) is Goerg's heavy-tailed
Lambert W × Gaussian variable (2015, "The Lambert way to Gaussianize heavy-tailed data with the inverse of Tukey's h
transformation as a special case", eqs. 1.2 and 2.4; the skewed one is of 2010). μ, σ and δ are fitted to each feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import lambertw

from sparring.domains.series.sources import Array, Sequences
from sparring.errors import UserError, nearest

ROUNDS, EXACT = 100, 1e-9  # of the fit
HEAVIEST = 2.0  # δ of 2 has no mean, let alone a variance
FEWEST = 20  # returns to fit from
BEYOND = 2.0  # times the data's largest return: as far as drawn ones go
FLOOR = 1e-12  # deviations below it are none


@dataclass(frozen=True)
class Returns:
    """How a feature's prices are coded. Plain JSON values.

    feature, place: its name, and its number among the features. mean, deviation: μ and σ of the Gaussian behind its log returns. delta: δ ≥ 0, how heavy the tails are;
    moments of order below 1/δ exist. most: the largest |r − μ| / σ that is drawn, twice the data's. start: the price that drawn paths start from, the last one of the data.
    """

    feature: str
    place: int
    mean: float
    deviation: float
    delta: float
    most: float
    start: float

    def code(self, prices: Array) -> Array:
        """Prices (T,) → coded log returns (T − 1,)."""
        return gaussianise((np.diff(np.log(prices)) - self.mean) / self.deviation, self.delta)

    def returns(self, coded: NDArray[Any]) -> Array:
        """Coded values of any shape → log returns.

        What is put back on grows as exp(δu²/2), so a u a little beyond the data's is a return that nothing was learnt about.
        The paper drops paths with returns above twice the largest of the data (Wiese et al. 2020, section 6); here they end there.
        """
        return self.mean + self.deviation * heavy_tailed(np.asarray(coded, np.float64), self.delta).clip(
            -self.most, self.most
        )

    def prices(self, coded: NDArray[Any]) -> Array:
        """Coded log returns (…, T) → prices (…, T + 1), the first of them `start`."""
        grown = self.returns(coded).cumsum(axis=-1)
        return self.start * np.exp(np.concatenate([np.zeros((*grown.shape[:-1], 1)), grown], axis=-1))


def heavy_tailed(u: Array, delta: float) -> Array:
    """u·exp(δu²/2) (Goerg 2015, eq. 1.2)."""
    return u * np.exp(delta * np.square(u) / 2)


def gaussianise(z: Array, delta: float) -> Array:
    """W_δ(z) = sgn(z)·√(W(δz²)/δ) (Goerg 2015, eq. 2.4), W Lambert's function: what `heavy_tailed` makes z of."""
    if delta == 0:
        return z.copy()
    return np.sign(z) * np.sqrt(lambertw(delta * np.square(z)).real / delta)


def fit(z: Array) -> tuple[float, float, float]:
    """μ, σ and δ of heavy-tailed values (T,), such that what is behind them has the kurtosis 3 of a Gaussian.

    The iterative generalised method of moments (Goerg 2015, algorithm 3). Of values whose tails are no heavier than
    Gaussian ones δ is 0, and μ and σ are their own. Raises ValueError for fewer than 20 values, or for equal ones.
    """
    z = np.asarray(z, np.float64)
    if len(z) < FEWEST or z.std() < FLOOR:
        raise ValueError(f"{len(z)} values that vary by {z.std() if len(z) else 0:.3g} are too few, or too alike")
    mean, deviation, delta = float(np.median(z)), float(z.std()), 0.0
    for _ in range(ROUNDS):
        scaled = (z - mean) / deviation
        delta = _delta(scaled)
        behind = mean + deviation * gaussianise(scaled, delta)
        moved = abs(behind.mean() - mean) + abs(behind.std() - deviation)
        mean, deviation = float(behind.mean()), float(behind.std())
        if moved < EXACT * deviation:
            break
    return mean, deviation, delta


def code_returns(
    name: str, found: Sequences, wanted: bool | Sequence[str], *, tails: bool, known: Sequence[Returns] | None = None
) -> tuple[Sequences, list[Returns]]:
    """Sequences whose prices are coded log returns, a step shorter; other features begin with their second step.

    wanted: features that are prices; True: all. tails: whether heavy tails are taken off. known: codes to use in place of
    fitting any. Raises UserError for features that are not there, or hold what is no price.
    """
    columns = found.features if wanted is True else list(wanted or [])
    if lacking := [each for each in columns if each not in found.features]:
        raise UserError(f"data.returns: {name} has no feature {lacking[0]!r}{nearest(lacking[0], found.features)}")
    if known is None:
        codes = [_fit_feature(name, found, column, tails) for column in columns]
    else:
        codes = list(known)
    values = [each[1:].copy() for each in found.values]
    for code in codes:
        place = code.place
        if place >= len(found.features):
            raise UserError(f"{name}: has {len(found.features)} features where {code.feature!r} is number {place + 1}")
        for whole, coded in zip(found.values, values, strict=True):
            _require_prices(name, code.feature, whole[:, place])
            coded[:, place] = code.code(whole[:, place])
    return replace(found, values=values, times=[each[1:] for each in found.times]), codes


def returns_of(extra: Mapping[str, Any]) -> list[Returns]:
    """The codes that a specification's `extra` holds; none where its features are learnt as they are."""
    return [Returns(**each) for each in extra.get("returns", [])]


def plain(codes: Sequence[Returns]) -> list[dict[str, Any]]:
    """JSON-ready, for a specification's `extra`."""
    return [asdict(each) for each in codes]


def prices_of(values: Array, codes: Sequence[Returns]) -> Array:
    """Windows (N, T, F) of coded values → (N, T + 1, F): prices from their start, and other features, whose first step is
    repeated beside it.
    """
    whole = np.concatenate([values[:, :1], values], axis=1)
    for code in codes:
        whole[:, :, code.place] = code.prices(values[:, :, code.place])
    return whole


def log_returns_of(values: Array, codes: Sequence[Returns]) -> Array:
    """Windows (N, T, F) of coded values with log returns in their place."""
    told = values.copy()
    for code in codes:
        told[:, :, code.place] = code.returns(values[:, :, code.place])
    return told


def _delta(z: Array) -> float:
    """δ for which W_δ(z) has the kurtosis 3; it falls as δ grows."""

    def excess(delta: float) -> float:
        behind = gaussianise(z, delta)
        centred = behind - behind.mean()
        return float((centred**4).mean() / (centred**2).mean() ** 2 - 3)

    if excess(0.0) <= 0:
        return 0.0
    return HEAVIEST if excess(HEAVIEST) > 0 else float(brentq(excess, 0.0, HEAVIEST, xtol=1e-10))


def _fit_feature(name: str, found: Sequences, feature: str, tails: bool) -> Returns:
    place = found.features.index(feature)
    for each in found.values:
        _require_prices(name, feature, each[:, place])
    returns = np.concatenate([np.diff(np.log(each[:, place])) for each in found.values])
    returns = returns[np.isfinite(returns)]
    try:
        mean, deviation, delta = fit(returns)
    except ValueError as error:
        raise UserError(f"{name}: feature {feature!r} has no returns to learn: {error}") from error
    if not tails:
        mean, deviation, delta = float(returns.mean()), float(returns.std()), 0.0
    prices = found.values[-1][:, place]
    most = BEYOND * float(np.abs(returns - mean).max()) / deviation
    return Returns(feature, place, mean, deviation, delta, most, float(prices[np.isfinite(prices)][-1]))


def _require_prices(name: str, feature: str, prices: Array) -> None:
    if (prices <= 0).any():
        row = int(np.flatnonzero(prices <= 0)[0])
        raise UserError(
            f"{name}: feature {feature!r} is {prices[row]:g} at step {row}, which no price is: name the features that are "
            "prices, data.returns=[close]"
        )
