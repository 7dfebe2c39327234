from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparring.metrics.prdc import PRDC, membership, prdc

torch.set_num_threads(1)


def cloud(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def by_definition(real: Tensor, fake: Tensor, k: int) -> PRDC:
    """The papers' formulas on whole float64 matrices."""
    distances = torch.cdist(real.double(), fake.double(), compute_mode="donot_use_mm_for_euclid_dist")
    real_radii, fake_radii = (
        torch.cdist(s.double(), s.double(), compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1).values[:, k]
        for s in (real, fake)
    )
    in_real, in_fake = distances < real_radii[:, None], distances < fake_radii[None, :]
    return PRDC(
        precision=float(in_real.any(0).double().mean()),
        recall=float(in_fake.any(1).double().mean()),
        density=float(in_real.double().sum(0).mean() / k),
        coverage=float(in_real.any(1).double().mean()),
    )


def approximately(value: PRDC) -> PRDC:
    return PRDC(**{name: pytest.approx(number, abs=1e-12) for name, number in vars(value).items()})


@pytest.mark.parametrize(("real", "fake", "width", "k"), [(300, 500, 20, 5), (400, 350, 150, 3), (200, 200, 1000, 10)])
def test_figures_equal_the_definition_on_the_whole_matrix(real: int, fake: int, width: int, k: int) -> None:
    a, b = cloud(real, width, seed=0), 0.9 * cloud(fake, width, seed=1) + 0.05
    assert prdc(a, b, k=k) == approximately(by_definition(a, b, k))


def test_tight_fakes_inside_wide_reals_have_high_precision_and_low_recall() -> None:
    figures = prdc(cloud(500, 4, seed=2), 0.2 * cloud(500, 4, seed=3))
    assert figures.precision > 0.99 and figures.recall < 0.15
    assert figures.density > 1.2 and figures.coverage < 0.3


def test_wide_fakes_round_tight_reals_have_low_precision_and_high_recall() -> None:
    figures = prdc(0.2 * cloud(500, 4, seed=2), cloud(500, 4, seed=3))
    assert figures.precision < 0.15 and figures.recall > 0.99


def test_a_dropped_mode_costs_recall_and_coverage_and_leaves_precision() -> None:
    modes = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0], [20.0, 20.0]])
    real = modes.repeat(150, 1) + cloud(600, 2, seed=4)
    previous = prdc(real, modes.repeat(150, 1) + cloud(600, 2, seed=5))
    assert previous.recall > 0.9 and previous.coverage > 0.9
    for kept in (3, 2, 1):
        fake = modes[:kept].repeat(600 // kept, 1) + cloud(600, 2, seed=6)
        now = prdc(real, fake)
        assert now.recall < previous.recall - 0.2 and now.coverage < previous.coverage - 0.2
        assert now.precision > 0.9
        previous = now


def test_growing_noise_lowers_precision_density_and_coverage() -> None:
    real, fake, noise = (cloud(600, 6, seed=seed) for seed in (7, 8, 9))
    figures = [prdc(real, fake + scale * noise) for scale in (0, 0.7, 1.5, 3)]
    for name in ("precision", "density", "coverage"):
        values = [getattr(figure, name) for figure in figures]
        assert values == sorted(values, reverse=True) and values[0] > values[-1] + 0.3, name


@pytest.mark.parametrize("width", [8, 300])
def test_copies_of_the_reals_have_all_figures_at_one(width: int) -> None:
    real = cloud(300, width, seed=10)
    assert prdc(real, real.clone()) == PRDC(precision=1.0, recall=1.0, density=1.0, coverage=1.0)


def test_sets_far_apart_have_all_figures_at_zero() -> None:
    assert prdc(cloud(200, 5, seed=11), cloud(200, 5, seed=12) + 100) == PRDC(0.0, 0.0, 0.0, 0.0)


def test_each_sample_contributes_its_term() -> None:
    real, fake = cloud(150, 5, seed=13), cloud(120, 5, seed=14)
    members, figures = membership(real, fake), prdc(real, fake)
    assert members.precision.shape == members.density.shape == (120,)
    assert members.recall.shape == members.coverage.shape == (150,)
    assert float(members.density.mean()) == figures.density


def test_too_few_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="more than 5 samples"):
        prdc(torch.zeros(5, 2), torch.zeros(50, 2))


@pytest.mark.slow
def test_wide_gaussians_reproduce_the_reference_implementations_readme() -> None:
    """N(0, I) against N(0, I), D = 1000, N = 10,000, k = 5: .4772 .4705 1.0555 .9735, each of one draw."""
    rng = torch.Generator().manual_seed(0)
    figures = prdc(*(torch.randn(10_000, 1000, generator=rng) for _ in range(2)))
    assert figures.precision == pytest.approx(0.4772, abs=0.03)
    assert figures.recall == pytest.approx(0.4705, abs=0.03)
    assert figures.density == pytest.approx(1.0555, abs=0.08)
    assert figures.coverage == pytest.approx(0.9735, abs=0.006)
