"""What noise costs in privacy: ε of δ, counted by opacus's accountants.

An account is a list of what was spent: (noise, rate, times), for so many draws of a Gaussian mechanism whose noise has
`noise` times the deviation of what one sample changes, each on samples chosen with probability `rate`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sparring.errors import UserError, missing_extra

Spent = tuple[float, float, int]
MOST = 1 << 24  # times that are looked for
CLOSE = 1e-3  # relative error of a noise that is looked for


def epsilon(account: Sequence[Spent], delta: float, accountant: str = "rdp") -> float:
    """The smallest ε that is known for δ: by Rényi's divergence (`rdp`, Mironov 2017), or the distribution of losses (`prv`, Gopi et al. 2021).

    Neighbours differ by one sample, which is in one and not in the other. 0 of an empty account.
    Raises UserError where opacus is not installed.
    """
    return _epsilon(tuple(each for each in account if each[2]), delta, accountant)


def find_noise(
    budget: float, delta: float, rate: float, times: int, *, before: Sequence[Spent] = (), accountant: str = "rdp"
) -> float:
    """The least noise, to a thousandth, with which `times` draws spend no more than ε = `budget`. Raises UserError."""
    return _find_noise(budget, delta, rate, times, tuple(before), accountant)


def most_times(
    budget: float, delta: float, noise: float, rate: float, *, before: Sequence[Spent] = (), accountant: str = "rdp"
) -> int:
    """How many draws spend no more than ε = `budget`."""

    def fits(times: int) -> bool:
        return epsilon([*before, (noise, rate, times)], delta, accountant) <= budget

    most = 1
    while most < MOST and fits(most):
        most *= 2
    low, high = most // 2, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low if most < MOST else MOST


@lru_cache(maxsize=256)
def _find_noise(
    budget: float, delta: float, rate: float, times: int, before: tuple[Spent, ...], accountant: str
) -> float:
    def fits(noise: float) -> bool:
        return epsilon([*before, (noise, rate, times)], delta, accountant) <= budget

    if epsilon(before, delta, accountant) >= budget:
        raise UserError(
            f"private.epsilon={budget:g}: what describes the data spends that alone: allow more, or set private.counts higher"
        )
    low, high = 0.25, 0.5
    while not fits(high):
        low, high = high, 2 * high
        if high > 1e5:
            raise UserError(f"private.epsilon={budget:g}: no noise is enough for so little: allow more")
    while high > (1 + CLOSE) * low:
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


@lru_cache(maxsize=1024)
def _epsilon(account: tuple[Spent, ...], delta: float, accountant: str) -> float:
    if not account:
        return 0.0
    accountants = _opacus()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that another order might tell a smaller ε: what is told holds all the same
        if accountant == "prv":
            counting = accountants.PRVAccountant()
            counting.history = list(account)
            return float(counting.get_epsilon(delta))
        orders = accountants.RDPAccountant.DEFAULT_ALPHAS
        divergence = sum(_divergence(noise, rate) * times for noise, rate, times in account)
        found, _ = accountants.analysis.rdp.get_privacy_spent(orders=orders, rdp=divergence, delta=delta)
    return max(0.0, float(found))


@lru_cache(maxsize=1024)
def _divergence(noise: float, rate: float) -> Any:
    """Of one draw, at each order: as `RDPAccountant` adds them up, which takes a tenth of a second."""
    accountants = _opacus()
    orders = accountants.RDPAccountant.DEFAULT_ALPHAS
    return accountants.analysis.rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=orders)


def _opacus() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import opacus.accountants
            import opacus.accountants.analysis.rdp
    except ImportError:
        raise missing_extra("opacus", "private", "private training") from None
    return opacus.accountants
