from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from sparring.metrics.frechet import frechet_distance, frechet_from_moments, moments

torch.set_num_threads(1)


def covariance(seed: int, width: int = 6, rank: int | None = None) -> Tensor:
    factor = torch.randn(width, rank or width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factor @ factor.T


def test_distance_of_gaussians_equals_the_formula_with_scipys_matrix_root() -> None:
    mu1, mu2 = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s1, s2 = covariance(1), covariance(2)
    expected = float((mu1 - mu2).square().sum()) + np.trace((s1 + s2).numpy() - 2 * sqrtm((s1 @ s2).numpy()).real)
    assert frechet_from_moments(mu1, s1, mu2, s2) == pytest.approx(expected, rel=1e-9)


def test_distance_of_diagonal_gaussians_is_closed_form() -> None:
    mu1, mu2 = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0])
    s1, s2 = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 1.0, 9.0])
    expected = float((mu1 - mu2).square().sum() + (s1.sqrt() - s2.sqrt()).square().sum())
    assert frechet_from_moments(mu1, s1.diag(), mu2, s2.diag()) == pytest.approx(expected, rel=1e-12)


def test_equal_moments_are_at_zero_even_where_the_covariance_is_singular() -> None:
    mu = torch.zeros(6, dtype=torch.float64)
    for rank in (6, 2):
        s = covariance(3, rank=rank)
        assert 0 <= frechet_from_moments(mu, s, mu, s) < 1e-5


def test_singular_covariances_keep_the_closed_form() -> None:
    mu = torch.zeros(4)
    s1, s2 = torch.diag(torch.tensor([4.0, 0, 0, 0])), torch.diag(torch.tensor([0, 9.0, 0, 0]))
    assert frechet_from_moments(mu, s1, mu, s2) == pytest.approx(13, rel=1e-9)


def test_distance_is_symmetric() -> None:
    a, b = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(4))
    assert frechet_distance(a, b.exp()) == pytest.approx(frechet_distance(b.exp(), a), rel=1e-9)


def test_moments_are_numpys() -> None:
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(5))
    mean, cov = moments(x)
    assert mean.dtype == cov.dtype == torch.float64
    np.testing.assert_allclose(mean, x.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10)


def test_features_at_a_distance_give_its_square() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    assert frechet_distance(x, x + torch.tensor([3.0, 4.0, 0.0])) == pytest.approx(25, rel=1e-8)


def test_too_few_samples_or_different_widths_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))
    with pytest.raises(ValueError, match="one width"):
        frechet_distance(torch.zeros(5, 3), torch.zeros(5, 4))
