"""Intervals from random halves: they are as wide as repeating the whole measurement would show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparring.core.game import Batch
from sparring.metrics.halves import half_intervals

torch.set_num_threads(1)


def means(real: Batch, fake: Batch) -> dict[str, float]:
    return {"gap": float(fake["x"].mean() - real["x"].mean())}


def side(count: int, seed: int) -> Batch:
    return Batch(x=torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@pytest.mark.parametrize("resamples", [10, 40, 200])
def test_the_interval_is_as_wide_as_the_theory_of_a_mean_says(resamples: int) -> None:
    widths = []
    for seed in range(20):
        real, fake = side(200, seed), side(400, 1000 + seed)
        low, high = half_intervals(means, means(real, fake), real, fake, resamples=resamples, seed=seed)["gap"]
        widths.append(high - low)
    expected = 2 * 1.96 * (1 / 200 + 1 / 400) ** 0.5
    # The 2.5 % points of a few draws lie inside those of many.
    assert 0.85 * expected < np.mean(widths) < 1.1 * expected


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    held = 0
    for seed in range(200):
        real, fake = side(60, seed), side(60, 1000 + seed)
        low, high = half_intervals(means, means(real, fake), real, fake, resamples=40, seed=seed)["gap"]
        held += low <= 0 <= high
    assert 0.88 < held / 200 < 0.99


def test_paired_sides_lose_the_same_samples() -> None:
    real = side(50, 0)
    fake = Batch(x=real["x"] + 1)
    assert half_intervals(means, means(real, fake), real, fake, resamples=40, resampled="pairs")[
        "gap"
    ] == pytest.approx((1, 1))
    low, high = half_intervals(means, means(real, fake), real, fake, resamples=40)["gap"]
    assert high - low > 0.3


def test_halves_of_one_side_hold_that_sides_chance_alone() -> None:
    real, fake = side(20, 0), side(2000, 1)
    whole = means(real, fake)
    widths = {
        resampled: float(np.ptp(half_intervals(means, whole, real, fake, resamples=200, resampled=resampled)["gap"]))
        for resampled in ("both", "fake")
    }
    assert widths["fake"] == pytest.approx(2 * 1.96 / 2000**0.5, rel=0.2)
    assert widths["both"] > 5 * widths["fake"]


def test_there_is_no_interval_without_halves_or_for_what_some_half_does_not_give() -> None:
    real, fake = side(50, 0), side(50, 1)
    assert half_intervals(means, {"gap": 0.0}, real, fake, resamples=0) == {}

    def sometimes(left: Batch, right: Batch) -> dict[str, float]:
        return {"gap": 1.0, **({"rare": 1.0} if 0 in left["n"] else {})}

    numbered = Batch(n=torch.arange(50))
    found = half_intervals(sometimes, {"gap": 1.0, "rare": 1.0}, numbered, numbered, resamples=20)
    assert set(found) == {"gap"}


def test_the_same_seed_gives_the_same_interval() -> None:
    real, fake = side(50, 0), side(50, 1)
    one, two, other = (
        half_intervals(means, {"gap": 0.0}, real, fake, resamples=40, seed=seed)["gap"] for seed in (0, 0, 1)
    )
    assert one == two != other
