"""ε is opacus's."""

from __future__ import annotations

import sys

import pytest

from sparring.core import accounting
from sparring.core.accounting import epsilon, find_noise, most_times
from sparring.errors import UserError

opacus = pytest.importorskip("opacus.accountants", reason="opacus is not installed")

ACCOUNT = [(20.0, 1.0, 1), (0.9, 0.01, 400)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_epsilon_is_that_of_opacus_s_accountant_told_the_same(accountant: str) -> None:
    theirs = opacus.create_accountant(accountant)
    for noise, rate, times in ACCOUNT:
        for _ in range(times):
            theirs.step(noise_multiplier=noise, sample_rate=rate)
    assert epsilon(ACCOUNT, 1e-5, accountant) == pytest.approx(theirs.get_epsilon(1e-5), rel=1e-9)


def test_nothing_spent_is_nothing() -> None:
    assert epsilon([(1.0, 0.1, 0)], 1e-5) == 0


def test_the_noise_that_is_found_is_enough_and_hardly_more() -> None:
    before = ACCOUNT[:1]
    noise = find_noise(2.0, 1e-5, 0.01, 500, before=before)
    assert epsilon([*before, (noise, 0.01, 500)], 1e-5) <= 2.0
    assert epsilon([*before, (0.99 * noise, 0.01, 500)], 1e-5) > 2.0


def test_a_budget_lasts_for_as_many_times_as_it_says_and_no_more() -> None:
    times = most_times(2.0, 1e-5, 0.9, 0.01, before=ACCOUNT[:1])
    assert times > 10
    assert epsilon([*ACCOUNT[:1], (0.9, 0.01, times)], 1e-5) <= 2.0
    assert epsilon([*ACCOUNT[:1], (0.9, 0.01, times + 1)], 1e-5) > 2.0
    assert most_times(0.2, 1e-5, 0.3, 0.5) == 0


def test_a_budget_that_is_spent_before_is_refused() -> None:
    with pytest.raises(UserError, match="spends that alone"):
        find_noise(0.5, 1e-5, 0.01, 100, before=[(1.0, 1.0, 1)])


def test_without_opacus_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus", None)
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    accounting._epsilon.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'sparring\[private\]'"):
        epsilon([(1.234, 0.1, 3)], 1e-5)
