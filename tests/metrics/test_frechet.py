from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from sparring.metrics import frechet as module
from sparring.metrics.frechet import frechet_distance, frechet_from_moments, frechet_infinity, moments

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Pixels (1797, 64) in [0, 1], and labels."""
    pixels, labels = load_digits(return_X_y=True)
    return torch.as_tensor(pixels) / 16, torch.as_tensor(labels)


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
        assert 0 <= frechet_from_moments(mu, s, mu, s) < 1e-12


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


def by_qr(real: Tensor, fake: Tensor) -> float:
    """The distance by QR of the features themselves: no product of features is formed, and no digit is lost."""
    real, fake = real.double(), fake.double()
    gap = (real.mean(0) - fake.mean(0)).square().sum()
    a, b = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (real, fake))
    r, s = (torch.linalg.qr(x, mode="r").R for x in (a, b))
    return float(gap + a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(r @ s.T).sum())


def test_distance_agrees_with_torchmetrics() -> None:
    rng = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 24), nn.ReLU()).double()
    network.num_features = 24  # type: ignore[assignment]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) / 14)
    real, fake = (
        torch.rand(300, 3, 8, 8, generator=rng).double(),
        torch.rand(200, 3, 8, 8, generator=rng).double() ** 1.5,
    )
    theirs = FrechetInceptionDistance(feature=network, normalize=True).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert frechet_distance(network(real), network(fake)) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_distance_agrees_with_scipy_on_more_features_than_one_block_holds() -> None:
    rng = torch.Generator().manual_seed(7)
    mix = torch.randn(150, 150, generator=rng, dtype=torch.float64) / 150**0.5
    real, fake = (torch.randn(400, 150, generator=rng, dtype=torch.float64) @ mix for _ in range(2))
    (mu1, s1), (mu2, s2) = moments(real), moments(fake.exp())
    expected = float((mu1 - mu2).square().sum()) + np.trace((s1 + s2).numpy() - 2 * sqrtm((s1 @ s2).numpy()).real)
    assert frechet_distance(real, fake.exp()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("smallest", [1e-2, 1e-5, 1e-8])
def test_features_of_steeply_falling_variance_lose_no_digits(smallest: float) -> None:
    rng = torch.Generator().manual_seed(8)
    scales = torch.logspace(0, float(np.log10(smallest)), 60, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(60, 60, generator=rng, dtype=torch.float64)).Q
    real, fake = (torch.randn(500, 60, generator=rng, dtype=torch.float64) * scales @ turn for _ in range(2))
    assert frechet_distance(real, fake) == pytest.approx(by_qr(real, fake), rel=1e-9)


def test_pixels_that_never_change_lose_no_digits(digits: tuple[Tensor, Tensor]) -> None:
    pixels, _ = digits
    assert int((pixels.std(0) == 0).sum()) > 0
    assert frechet_distance(pixels[:900], pixels[900:]) == pytest.approx(by_qr(pixels[:900], pixels[900:]), rel=1e-9)


def test_a_tiny_difference_of_large_variances_is_still_seen(digits: tuple[Tensor, Tensor]) -> None:
    pixels, _ = digits
    noise = 1e-6 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert frechet_distance(pixels, pixels + noise) == pytest.approx(by_qr(pixels, pixels + noise), rel=1e-2)


@pytest.mark.parametrize("counts", [(20, 30), (20, 100), (100, 20)])
def test_fewer_samples_than_features_give_the_distance_of_their_moments(counts: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(10)
    real, fake = (torch.randn(count, 50, generator=rng, dtype=torch.float64) for count in counts)
    from_moments = frechet_from_moments(*moments(real), *moments(fake))
    assert frechet_distance(real, fake) == pytest.approx(from_moments, rel=1e-9)
    assert from_moments == pytest.approx(by_qr(real, fake), rel=1e-9)


def test_blocks_of_the_covariance_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(50, 17, generator=torch.Generator().manual_seed(11))
    whole = moments(x)
    monkeypatch.setattr(module, "ROWS", 7)
    monkeypatch.setattr(module, "COLUMNS", 5)
    for a, b in zip(moments(x), whole, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


def grows(values: list[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def test_distance_grows_with_noise(digits: tuple[Tensor, Tensor]) -> None:
    pixels, _ = digits
    noise = torch.randn(pixels[900:].shape, generator=torch.Generator().manual_seed(12))
    levels = (0, 0.05, 0.1, 0.2, 0.4)
    assert grows([frechet_distance(pixels[:900], pixels[900:] + level * noise) for level in levels])


def test_distance_grows_with_blur(digits: tuple[Tensor, Tensor]) -> None:
    pixels, _ = digits
    images, values = pixels.unflatten(1, (1, 8, 8)), []
    for _ in range(5):
        values.append(frechet_distance(pixels[:900], images[900:].flatten(1)))
        images = nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
    assert grows(values)


def test_distance_grows_as_modes_are_dropped(digits: tuple[Tensor, Tensor]) -> None:
    pixels, labels = digits
    fake, kinds = pixels[900:], labels[900:]
    assert grows([frechet_distance(pixels[:900], fake[kinds < kept]) for kept in (10, 8, 6, 4, 2, 1)])


@pytest.mark.parametrize(("count", "decay"), [(160, 0.0), (320, 0.0), (160, 1.0)])
def test_distance_of_endless_samples_has_a_tenth_of_the_bias(count: int, decay: float) -> None:
    rng = torch.Generator().manual_seed(13)
    spectrum = torch.arange(1, 33, dtype=torch.float64) ** (-decay / 2)
    true = float((0.2 * spectrum).square().sum() + 32 * 0.1**2)
    plain, endless = [], []
    for seed in range(40):
        real = torch.randn(count, 32, generator=rng, dtype=torch.float64) * spectrum
        fake = torch.randn(count, 32, generator=rng, dtype=torch.float64) * spectrum * 1.2 + 0.1
        plain.append(frechet_distance(real, fake) - true)
        endless.append(frechet_infinity(real, fake, seed=seed) - true)
    assert abs(np.mean(endless)) < 0.1 * np.mean(plain)
    # Being nearer the truth is worth something only if it is so for one measurement as well.
    assert np.std(endless) < 1.5 * np.std(plain)


def test_distance_of_endless_samples_of_unequal_counts_is_unbiased() -> None:
    rng = torch.Generator().manual_seed(14)
    values = []
    for seed in range(40):
        real, fake = (torch.randn(count, 16, generator=rng) for count in (300, 100))
        values.append(frechet_infinity(real, fake, seed=seed))
    # The same distribution: the truth is 0, and the plain distance of such samples about 2.
    assert abs(np.mean(values)) < 0.1


def test_distance_of_endless_samples_depends_on_the_seed_alone() -> None:
    real, fake = torch.randn(2, 60, 4, generator=torch.Generator().manual_seed(15))
    before = torch.get_rng_state()
    first = frechet_infinity(real, fake, seed=1)
    assert frechet_infinity(real, fake, seed=1) == first
    assert frechet_infinity(real, fake, seed=2) != first
    assert torch.equal(torch.get_rng_state(), before)


def test_parts_that_cannot_be_cut_are_an_error() -> None:
    real, fake = torch.randn(2, 10, 3, generator=torch.Generator().manual_seed(16))
    for parts in ((2,), (1, 6), (0, 1), ()):
        with pytest.raises(ValueError, match="numbers of parts"):
            frechet_infinity(real, fake, parts=parts)
