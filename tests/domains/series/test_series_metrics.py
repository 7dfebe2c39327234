"""Measures of series on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sparring.domains.series.metrics.autocorrelation import acf, acf_distance, correlations, cross_correlation_error
from sparring.domains.series.metrics.post_hoc import discriminative_score, predictive_score

torch.set_num_threads(1)


def autoregressive(coefficient: float, count: int = 4000, steps: int = 16, seed: int = 0) -> Tensor:
    """Stationary AR(1) paths (count, steps, 1) of variance 1, whose autocorrelation at lag k is coefficientᵏ."""
    rng = np.random.default_rng(seed)
    values = [rng.normal(size=count)]
    for _ in range(steps - 1):
        values.append(coefficient * values[-1] + (1 - coefficient**2) ** 0.5 * rng.normal(size=count))
    return torch.from_numpy(np.stack(values, axis=1)[:, :, None])


@pytest.mark.parametrize("coefficient", [0.9, 0.0, -0.5])
def test_the_autocorrelation_of_an_autoregression_is_the_coefficient_s_power(coefficient: float) -> None:
    found = acf(autoregressive(coefficient), 4)[:, 0]
    torch.testing.assert_close(
        found, torch.tensor([coefficient**lag for lag in (1, 2, 3, 4)]).double(), atol=0.03, rtol=0
    )


def test_acf_distance_is_that_of_the_curves() -> None:
    expected = sum((0.8**lag - 0.2**lag) ** 2 for lag in range(1, 6)) ** 0.5
    assert acf_distance(autoregressive(0.8), autoregressive(0.2), lags=5) == pytest.approx(expected, abs=0.04)
    assert acf_distance(autoregressive(0.8), autoregressive(0.8, seed=1), lags=5) < 0.06
    assert acf_distance(autoregressive(0.8), autoregressive(0.8), lags=99) == 0


def test_only_absolute_values_and_squares_see_that_large_changes_come_together() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4000, 12, 1))
    calm, stormy = noise, noise * rng.choice([0.2, 1.4], size=(4000, 1, 1))
    real, fake = torch.from_numpy(calm), torch.from_numpy(stormy)
    assert acf_distance(real, fake, what="values") < 0.06
    assert acf_distance(real, fake, what="absolute") > 0.5 and acf_distance(real, fake, what="squares") > 0.5


def test_cross_correlations_are_those_of_the_features() -> None:
    x = autoregressive(0.5)
    same, turned = torch.cat([x, x], dim=2), torch.cat([x, -x], dim=2)
    torch.testing.assert_close(correlations(turned), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double())
    assert cross_correlation_error(same, turned) == pytest.approx(2)
    assert cross_correlation_error(same, same) == 0 and cross_correlation_error(x, x) == 0


def test_what_is_alike_is_not_told_apart_and_what_differs_is() -> None:
    rng = torch.Generator().manual_seed(0)
    real, alike = torch.rand(400, 4, 8, generator=rng), torch.rand(400, 4, 8, generator=rng)
    (same,) = discriminative_score(real, alike, iterations=60)
    (other,) = discriminative_score(real, alike + 1, iterations=500)
    assert same < 0.15 and other > 0.4


def test_predictions_learnt_from_fakes_like_the_data_are_the_better_ones() -> None:
    start = torch.rand(300, 1, 1, generator=torch.Generator().manual_seed(0))
    ramps = (start + 0.04 * torch.arange(10)[:, None]).clamp(max=1)
    (good,) = predictive_score(ramps, ramps.flip(0), iterations=600)
    (bad,) = predictive_score(ramps, 0 * ramps, iterations=600)
    following = ramps[:, 1:]
    same_for_all = float((following - following.median()).abs().mean())
    assert good < 0.8 * same_for_all and bad > 1.5 * same_for_all


def test_a_repeat_s_score_does_not_depend_on_the_others() -> None:
    """Told apart to different degrees, as seeds differ; were the repeats tied, the first would change with their number."""
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.rand(60, 4, 4, generator=rng), torch.rand(60, 4, 4, generator=rng) + 0.3
    for score in (discriminative_score, predictive_score):
        three = score(real, fake, iterations=80, repeats=3, seed=5)
        alone = [score(real, fake, iterations=80, seed=5 + number)[0] for number in range(3)]
        assert three == pytest.approx(alone, abs=1e-4) and len(set(three)) > 1


def test_scores_leave_no_trace_repeat_and_say_so_where_there_is_too_little() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    x = torch.rand(40, 4, 1, generator=torch.Generator().manual_seed(0))
    scores = discriminative_score(x, x, iterations=3, repeats=2)
    assert scores == discriminative_score(x, x, iterations=3, repeats=2) and len(scores) == 2
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="9 samples of a side are too few"):
        discriminative_score(x[:9], x)
