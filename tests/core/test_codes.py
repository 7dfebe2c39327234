"""Truncation: draws stay draws of the distribution that is claimed, and the same draw stays the same sample."""

from __future__ import annotations

import math

import pytest
import torch

from sparring.core.codes import pull_to_mean, threshold, truncate_latents
from sparring.errors import UserError

torch.set_num_threads(1)
DRAWS = torch.randn(200_000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("truncation", [0.05, 0.3, 0.7, 0.95])
def test_truncated_latents_are_draws_of_the_normal_cut_where_that_deviation_is_left(truncation: float) -> None:
    found = truncate_latents(DRAWS, truncation, "normal")
    edge = threshold(truncation)
    assert found.abs().max() <= edge * (1 + 1e-5)
    assert found.std().item() == pytest.approx(truncation, rel=0.01)
    # The distribution function at a quarter, half and three quarters of the edge: Φ restricted to [−t, t].
    for share in (0.25, 0.5, 0.75):
        wanted = 0.5 + 0.5 * math.erf(share * edge / math.sqrt(2)) / math.erf(edge / math.sqrt(2))
        assert (found <= share * edge).double().mean().item() == pytest.approx(wanted, abs=0.005)


@pytest.mark.parametrize(("truncation", "edge"), [(0.8796, 2.0), (0.5396, 1.0), (0.28387, 0.5)])
def test_thresholds_are_those_of_the_truncated_normals_known_deviation(truncation: float, edge: float) -> None:
    assert threshold(truncation) == pytest.approx(edge, rel=1e-3)


def test_truncation_keeps_the_order_of_draws_and_their_signs_and_1_changes_nothing() -> None:
    some = DRAWS[:1000].sort().values
    found = truncate_latents(some, 0.4, "normal")
    assert bool((found.diff() >= 0).all()) and torch.equal(found.sign(), some.sign())
    assert truncate_latents(some, 1.0, "normal") is some
    assert not truncate_latents(some, 0.0, "normal").any()


def test_uniform_latents_are_uniform_on_less() -> None:
    draws = torch.rand(1000) * 2 - 1
    assert torch.equal(truncate_latents(draws, 0.25, "uniform"), draws * 0.25)


@pytest.mark.parametrize("truncation", [-0.1, 1.5, math.nan])
def test_latents_cannot_be_truncated_to_more_than_they_are(truncation: float) -> None:
    with pytest.raises(UserError, match=r"truncation of .* cannot be: from 0 .* to 1"):
        truncate_latents(DRAWS[:3], truncation, "normal")


def test_codes_are_pulled_to_the_mean_in_the_first_layers_alone() -> None:
    codes, mean = torch.randn(3, 5, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    whole = pull_to_mean(codes, mean, 0.7)
    torch.testing.assert_close(whole, mean + 0.7 * (codes - mean))
    part = pull_to_mean(codes, mean, 0.7, layers=2)
    assert torch.equal(part[:, :2], whole[:, :2]) and torch.equal(part[:, 2:], codes[:, 2:])
    means = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(pull_to_mean(codes, means, 0.0)[1, 3], means[1])
    with pytest.raises(UserError, match="truncation in 6 layers cannot be: this generator has 5"):
        pull_to_mean(codes, mean, 0.7, layers=6)
