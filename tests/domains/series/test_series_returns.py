"""Prices as coded log returns, and the measures of returns, on data whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparring.domains import open_domain
from sparring.domains.series.data import SeriesOptions, open_series
from sparring.domains.series.metrics import MEASURES
from sparring.domains.series.metrics.risk import (
    block_interval,
    expected_shortfall,
    losses,
    memory_band,
    value_at_risk,
)
from sparring.domains.series.metrics.tails import kurtosis, leverage, quantile_distance, tail_index
from sparring.domains.series.returns import fit, gaussianise, heavy_tailed, returns_of
from sparring.errors import UserError
from sparring.recipe import load_recipe

torch.set_num_threads(1)


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(0.01 * heavy_tailed(rng.normal(size=400), 0.2)))
    path = tmp_path / "prices.csv"
    path.write_text("close,rate\n" + "".join(f"{price:.10g},{-number}\n" for number, price in enumerate(close)))
    return path


def opened(path: Path, **options: Any) -> Any:
    return open_series(SeriesOptions(source=str(path), window=20, **options))


@pytest.mark.parametrize("delta", [0.0, 0.05, 0.3])
def test_a_lambert_variable_s_parameters_are_found_and_it_is_undone(delta: float) -> None:
    u = np.random.default_rng(1).normal(size=100_000)
    z = 0.3 + 2 * heavy_tailed(u, delta)
    mean, deviation, found = fit(z)
    assert (mean, deviation, found) == pytest.approx((0.3, 2, delta), abs=0.02)
    assert gaussianise(heavy_tailed(u, delta), delta) == pytest.approx(u, abs=1e-12)


def test_tails_lighter_than_gaussian_ones_are_left_and_what_never_varies_is_refused() -> None:
    u = np.random.default_rng(0).uniform(-1, 1, 5000)
    assert fit(u) == (pytest.approx(u.mean()), pytest.approx(u.std()), 0.0)
    with pytest.raises(ValueError, match="too few, or too alike"):
        fit(np.ones(100))


def test_prices_become_gaussian_returns_and_windows_prices_again(prices: Path) -> None:
    data = opened(prices, returns=["close"])
    assert data.spec.shape == (20, 2) and len(data) == 380  # 399 returns
    (code,) = data.spec.extra["returns"]
    assert code["feature"] == "close" and 0.1 < code["delta"] < 0.3
    domain = open_domain("series").knowing(data.spec)
    windows = data.batch(torch.arange(len(data)))["data"]
    told = domain.log_returns(windows).numpy()
    table = np.genfromtxt(prices, delimiter=",", skip_header=1)
    assert told[7, :, 0] == pytest.approx(np.diff(np.log(table[7:28, 0])), abs=1e-6)
    assert told[7, :, 1] == pytest.approx(table[8:28, 1], abs=1e-3)
    back = domain.in_units(windows)
    assert back.shape == (380, 21, 2) and back[:, 0, 0] == pytest.approx(table[-1, 0])
    assert back[7, :, 0] / back[7, 0, 0] == pytest.approx(table[7:28, 0] / table[7, 0], rel=1e-5)


def test_no_return_is_drawn_beyond_twice_the_data_s_largest(prices: Path) -> None:
    code = returns_of(opened(prices, returns=["close"]).spec.extra)[0]
    returns = np.diff(np.log(np.genfromtxt(prices, delimiter=",", skip_header=1)[:, 0]))
    largest = np.abs(returns - code.mean).max()
    assert code.returns(np.array([-9.0, 9.0])) == pytest.approx([code.mean - 2 * largest, code.mean + 2 * largest])
    assert code.returns(code.code(np.exp(returns.cumsum()))) == pytest.approx(returns[1:])


def test_tails_may_stay_on(prices: Path) -> None:
    (code,) = opened(prices, returns=["close"], tails=False).spec.extra["returns"]
    returns = np.diff(np.log(np.genfromtxt(prices, delimiter=",", skip_header=1)[:, 0]))
    assert (code["delta"], code["mean"], code["deviation"]) == pytest.approx((0, returns.mean(), returns.std()))


def test_what_is_no_price_or_no_feature_is_named(prices: Path) -> None:
    with pytest.raises(UserError, match=r"'rate' is 0 at step 0, which no price is: .*data.returns=\[close\]"):
        opened(prices, returns=True)
    with pytest.raises(UserError, match=r"has no feature 'clse' \(did you mean 'close'\?\)"):
        opened(prices, returns=["clse"])


def test_written_samples_are_read_as_they_were_drawn(prices: Path, tmp_path: Path) -> None:
    data = opened(prices, returns=["close"])
    domain = open_domain("series").knowing(data.spec)
    batch = data.batch(torch.arange(0, 40, 7))
    (file,) = domain.save([batch], (), tmp_path / "new.csv", "csv")
    samples, _ = domain.open_samples(str(file), str(prices), window=20, returns=["close"])
    read = samples.batch(torch.arange(len(samples)))["data"]
    assert read.shape == batch["data"].shape
    torch.testing.assert_close(read[:, :, 0], batch["data"][:, :, 0], atol=1e-4, rtol=0)


def student(freedom: float, count: int = 400_000) -> torch.Tensor:
    values = np.random.default_rng(0).standard_t(freedom, size=count)
    return torch.from_numpy(values).reshape(-1, 100, 1)


def test_kurtosis_and_tail_index_of_student_s_t_are_the_known_ones() -> None:
    assert float(kurtosis(student(10))) == pytest.approx(1.0, abs=0.15)  # 6/(ν − 4)
    assert float(tail_index(student(3), share=0.005)) == pytest.approx(3, abs=0.25)
    # Exactly a power law: Hill's estimate is the best there is.
    pareto = torch.from_numpy(np.random.default_rng(0).pareto(2.5, (1000, 100, 1)))
    shifted = torch.cat([pareto + 1, torch.zeros(1010, 100, 1)])  # the median is 0
    assert float(tail_index(shifted, share=0.02, side="gains")) == pytest.approx(2.5, abs=0.15)


def test_losses_and_gains_have_tails_of_their_own() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(200_000) < 0.5, -1 - rng.pareto(2, 200_000), 1 + rng.pareto(6, 200_000))
    values = np.append(values, np.zeros(200_000))  # the median is 0
    x = torch.from_numpy(values).reshape(-1, 100, 1)
    assert float(tail_index(x, share=0.01, side="losses")) < 2.6 < 4 < float(tail_index(x, share=0.01, side="gains"))


def test_quantiles_are_as_far_apart_as_the_scales_are() -> None:
    x = student(5)
    assert quantile_distance(x, x) == 0
    assert quantile_distance(x, x + x.std()) == pytest.approx(1, abs=0.01)


def test_falls_before_storms_are_a_negative_leverage_at_their_lag_alone() -> None:
    e = np.random.default_rng(0).normal(size=(3000, 42))
    r = e[:, 2:] * np.exp(-0.3 * e[:, :-2])  # two steps after a fall all is larger
    found = leverage(torch.from_numpy(r)[:, :, None], 4)[:, 0]
    assert float(found[1]) < -0.15 and all(abs(float(found[lag])) < 0.02 for lag in (0, 2, 3))


def test_the_band_of_an_autoregression_holds_its_autocorrelation_and_none_is_torn_at_blocks() -> None:
    rng = np.random.default_rng(3)
    x = [0.0]
    for e in rng.normal(size=6000):
        x.append(0.9 * x[-1] + e)
    curve, low, high = memory_band(np.array(x), 20, block=100, resamples=300)
    known = 0.9 ** np.arange(1, 21)
    assert curve == pytest.approx(known, abs=0.12)
    assert ((low < known) & (known < high)).mean() > 0.9
    assert (high - low).max() < 0.35 and (high > low).all()
    # Joined blocks of 25 would lose four fifths of the autocorrelation at lag 20.
    _, low, high = memory_band(np.array(x), 20, block=25, resamples=300)
    assert (low + high)[19] / 2 == pytest.approx(curve[19], abs=0.03)


def test_value_at_risk_and_shortfall_of_a_normal_are_the_known_ones_and_longer_losses_are_compounded() -> None:
    lost = np.random.default_rng(0).normal(size=1_000_000)
    assert value_at_risk(lost, 0.99) == pytest.approx(2.326, abs=0.02)
    assert expected_shortfall(lost, 0.99) == pytest.approx(2.665, abs=0.02)
    returns = np.log([[1.1, 0.5, 0.9]])
    assert losses(returns)[0] == pytest.approx([-0.1, 0.5, 0.1])
    assert losses(returns, 2)[0] == pytest.approx([1 - 0.55, 1 - 0.45])


def test_the_interval_of_a_mean_is_the_central_limit_s() -> None:
    x = np.random.default_rng(0).normal(size=2000)
    low, high = block_interval(x, lambda each: float(each.mean()), block=10)
    assert (high - low) == pytest.approx(2 * 1.96 / 2000**0.5, rel=0.2) and low < x.mean() < high
    with pytest.raises(ValueError, match="blocks of 1500 steps"):
        block_interval(x, np.mean, block=1500)


def test_measures_see_returns_where_games_see_them_gaussianised(prices: Path) -> None:
    data = opened(prices, returns=["close"])
    domain = open_domain("series").knowing(data.spec)
    half = data.batch(torch.arange(0, 380, 2)), data.batch(torch.arange(1, 380, 2))
    found = domain.measures["tails"].compute(*half, 0)
    returns = domain.log_returns(half[0]["data"])
    assert found["kurtosis_error"].facts["of_real"] == pytest.approx(float(kurtosis(returns).mean()))
    assert found["kurtosis_error"].facts["of_real"] > 2 + MEASURES["tails"].compute(*half, 0)["kurtosis_error"].facts["of_real"]  # fmt: skip
    assert domain.measures["tails"].usual and not MEASURES["tails"].usual


def test_the_signature_tells_a_trend_from_noise() -> None:
    noise = np.random.default_rng(0).normal(size=(3, 500, 17, 1))
    real, again = (torch.from_numpy(each[:, 1:] + each[:, :-1]) for each in noise[:2])
    other = torch.from_numpy(2**0.5 * noise[2][:, 1:])
    far = MEASURES["signature"].compute({"data": real}, {"data": other}, 0)["signature"]
    near = MEASURES["signature"].compute({"data": real}, {"data": again}, 0)["signature"]
    assert far.number > 2 * near.number and far.number > 2 * far.facts["of_real"]


@pytest.mark.parametrize("beside", [{"shortest": 5}, {"missing": "learn"}, {"gaps": True}, {"calendar": ["hour"]}])
def test_prices_are_refused_beside_what_their_paths_cannot_have(prices: Path, beside: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"data.{next(iter(beside))}: paths of prices are of one length"):
        opened(prices, returns=["close"], **beside)


def test_a_forecast_of_prices_as_returns_is_refused(prices: Path) -> None:
    with pytest.raises(UserError, match=r"data\.returns: forecasts go on from values as they are"):
        open_domain("series").build_game(load_recipe("forecast"), opened(prices, returns=["close"]).spec)
