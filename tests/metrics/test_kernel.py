from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from sparring.errors import UserError
from sparring.metrics import kernel as module
from sparring.metrics.kernel import kernel_distance, median_distance, mmd

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Pixels (1797, 64) in [0, 1], and labels, in a random order: the file is sorted by writer."""
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.as_tensor(pixels)[order] / 16, torch.as_tensor(labels)[order]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(120, 9, generator=rng).double(), torch.randn(90, 9, generator=rng).double().exp()


def by_hand(xx: Tensor, yy: Tensor, xy: Tensor) -> float:
    """Gretton et al. 2012, eq. 3, of kernel matrices."""
    n, m = len(xx), len(yy)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return float(within - 2 * xy.sum() / (n * m))


def kid(real: Tensor, fake: Tensor) -> float:
    return kernel_distance(real, fake, subsets=10, subset_size=400)[0]


def test_kid_of_whole_sets_is_the_formula(pair: tuple[Tensor, Tensor]) -> None:
    x, y = pair[0][:90], pair[1]
    expected = by_hand(*((a @ b.T / 9 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))))
    assert kernel_distance(x, y, subsets=2, subset_size=90) == pytest.approx((expected, 0), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("subset_size", [200, 50])
def test_kid_and_its_deviation_agree_with_torchmetrics(subset_size: int) -> None:
    rng = torch.Generator().manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 24), nn.ReLU())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) / 14)
        network.double()
        real, fake = torch.rand(2, 200, 3, 8, 8, generator=rng).double()
        fake = fake**1.5
        theirs = KernelInceptionDistance(feature=network, subsets=8, subset_size=subset_size, normalize=True)
        theirs.update(real, real=True)
        theirs.update(fake, real=False)
        with torch.random.fork_rng():
            torch.manual_seed(5)  # it draws by the global state
            expected = tuple(float(value) for value in theirs.compute())
        ours = kernel_distance(network(real), network(fake), subsets=8, subset_size=subset_size, seed=5)
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("subsets", "singly"), [(3, True), (60, False)])
def test_mean_and_deviation_are_those_of_the_subsets_singly_or_all_at_once(
    pair: tuple[Tensor, Tensor], subsets: int, singly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = pair
    of_x, of_y = module._draw(len(x), len(y), subsets, 30, seed=4)
    values = []
    for i, j in zip(of_x, of_y, strict=True):
        a, b = x[i], y[j]
        values.append(by_hand(*((s @ t.T / 9 + 1) ** 3 for s, t in ((a, a), (b, b), (a, b)))))
    calls: list[int] = []
    whole = module._of_all
    monkeypatch.setattr(module, "_of_all", lambda *given: calls.append(1) or whole(*given))
    expected = (np.mean(values), np.std(values))
    assert kernel_distance(x, y, subsets=subsets, subset_size=30, seed=4) == pytest.approx(expected, rel=1e-9)
    assert len(calls) == (subsets if singly else 0)


@pytest.mark.parametrize("options", [{"degree": 2}, {"gamma": 0.3}, {"coef": 0.5}])
def test_kernel_has_the_degree_scale_and_constant_asked_for(
    pair: tuple[Tensor, Tensor], options: dict[str, float]
) -> None:
    x, y = pair[0][:90], pair[1]
    degree, gamma, coef = ({"degree": 3, "gamma": 1 / 9, "coef": 1.0} | options).values()
    expected = by_hand(*((gamma * a @ b.T + coef) ** degree for a, b in ((x, x), (y, y), (x, y))))
    ours = kernel_distance(x, y, subsets=1, subset_size=90, **options)  # type: ignore[arg-type]
    assert ours[0] == pytest.approx(expected, rel=1e-10)


def test_no_sample_is_drawn_twice_into_a_subset() -> None:
    for drawn, count in zip(module._draw(10, 8, 50, 7, seed=0), (10, 8), strict=True):
        assert drawn.shape == (50, 7)
        assert drawn.min() >= 0 and drawn.max() == count - 1
        assert all(len(row.unique()) == 7 for row in drawn)


def test_mmd_of_gaussians_is_closed_form() -> None:
    rng = torch.Generator().manual_seed(2)
    width, wide, shift = 6, 1.5, 0.4
    estimates, truths = [], []
    for _ in range(20):
        real = torch.randn(250, width, generator=rng, dtype=torch.float64)
        fake = torch.randn(300, width, generator=rng, dtype=torch.float64) * wide + shift
        truth = 0.0
        for bandwidth in (0.5, 1.0):
            square = (bandwidth * median_distance(real, fake)) ** 2

            # E k of x − y ~ N(gap, v I): the Gaussian integral of the kernel.
            def expected(v: float, gap: float, square: float = square) -> float:
                return (square / (square + v)) ** (width / 2) * np.exp(-width * gap**2 / (2 * (square + v)))

            truth += expected(2, 0) + expected(2 * wide**2, 0) - 2 * expected(1 + wide**2, shift)
        truths.append(truth)
        estimates.append(mmd(real, fake, bandwidths=(0.5, 1.0)))
    gap = np.array(estimates) - np.array(truths)
    assert abs(gap.mean()) < 3 * gap.std() / 20**0.5
    assert gap.std() < 0.2 * np.mean(truths)


def test_mmd_is_the_formula_with_the_bandwidths_summed(pair: tuple[Tensor, Tensor]) -> None:
    x, y = pair
    median = median_distance(x, y)
    expected = sum(
        by_hand(*((-(torch.cdist(s, t) ** 2) / (2 * (b * median) ** 2)).exp() for s, t in ((x, x), (y, y), (x, y))))
        for b in (0.5, 3.0)
    )
    assert mmd(x, y, bandwidths=(0.5, 3.0)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("distance", [lambda x, y: kernel_distance(x, y, subsets=1, subset_size=60)[0], mmd])
def test_equal_distributions_are_at_zero_on_average(distance) -> None:  # type: ignore[no-untyped-def]
    rng = torch.Generator().manual_seed(3)
    values = [distance(*torch.randn(2, 60, 5, generator=rng)) for _ in range(100)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 100**0.5
    assert min(values) < 0 < max(values)


@pytest.mark.parametrize("distance", [kid, mmd])
def test_distance_grows_with_noise(digits: tuple[Tensor, Tensor], distance) -> None:  # type: ignore[no-untyped-def]
    pixels, _ = digits
    noise = torch.randn(pixels[500:1000].shape, generator=torch.Generator().manual_seed(4))
    values = [distance(pixels[:500], pixels[500:1000] + level * noise) for level in (0, 0.3, 0.5, 0.7, 0.9)]
    assert values == sorted(values) and len(set(values)) == 5


@pytest.mark.parametrize("distance", [kid, mmd])
def test_distance_grows_with_blur(digits: tuple[Tensor, Tensor], distance) -> None:  # type: ignore[no-untyped-def]
    pixels, _ = digits
    images, values = pixels.unflatten(1, (1, 8, 8)), []
    for _ in range(4):
        values.append(distance(pixels[:500], images[500:1000].flatten(1)))
        images = nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
    assert values == sorted(values) and len(set(values)) == 4


@pytest.mark.parametrize("distance", [kid, mmd])
def test_distance_grows_as_modes_are_dropped(digits: tuple[Tensor, Tensor], distance) -> None:  # type: ignore[no-untyped-def]
    pixels, labels = digits
    fake, kinds = pixels[500:1000], labels[500:1000]
    values = []
    for kept in (10, 8, 5, 2):
        left = fake[kinds < kept]
        values.append(distance(pixels[:500], left.repeat(-(-500 // len(left)), 1)[:500]))
    assert values == sorted(values) and len(set(values)) == 4


@pytest.mark.parametrize(("chunk", "height"), [(1, 256), (2500, 256), (1 << 23, 7), (1 << 23, 10**6)])
def test_blocks_change_nothing(
    pair: tuple[Tensor, Tensor], chunk: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mmd(*pair), kernel_distance(*pair, subsets=2, subset_size=50)
    monkeypatch.setattr(module, "CHUNK", chunk)
    monkeypatch.setattr(module, "HEIGHT", height)
    assert mmd(*pair) == pytest.approx(whole[0], rel=1e-10)
    assert kernel_distance(*pair, subsets=2, subset_size=50) == pytest.approx(whole[1], rel=1e-10)


def test_mmd_is_blind_to_a_common_shift_and_scale(pair: tuple[Tensor, Tensor]) -> None:
    assert mmd(*(1e-3 * side + 50 for side in pair)) == pytest.approx(mmd(*pair), rel=1e-6)


def test_median_is_of_all_pairs_and_of_those_apart_where_most_are_equal() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]])
    assert median_distance(x, y) == 2
    assert median_distance(torch.zeros(9, 1), torch.ones(1, 1)) == 1
    assert mmd(torch.zeros(9, 2), torch.zeros(5, 2)) == 0


def test_median_of_a_subsample_is_near_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(2, 300, 5, generator=torch.Generator().manual_seed(6))
    whole = median_distance(x, y)
    monkeypatch.setattr(module, "MEDIAN_SAMPLES", 200)
    assert median_distance(x, y) == pytest.approx(whole, rel=0.05)
    assert median_distance(x, y) != whole


def test_draws_depend_on_the_seed_alone(pair: tuple[Tensor, Tensor]) -> None:
    before = torch.get_rng_state()
    first = kernel_distance(*pair, subsets=5, subset_size=20, seed=1)
    assert kernel_distance(*pair, subsets=5, subset_size=20, seed=1) == first
    assert kernel_distance(*pair, subsets=5, subset_size=20, seed=2) != first
    assert torch.equal(torch.get_rng_state(), before)


def test_subsets_larger_than_a_side_are_the_users_to_mend(pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(UserError, match=r"120 real and 90 fake.*smaller subset_size"):
        kernel_distance(*pair)


def test_features_that_do_not_fit_are_an_error(pair: tuple[Tensor, Tensor]) -> None:
    for other in (pair[1][:, :2], pair[1][:1], pair[1][0]):
        for distance in (kernel_distance, mmd):
            with pytest.raises(ValueError, match="features must be"):
                distance(pair[0], other)
    with pytest.raises(ValueError, match="bandwidths"):
        mmd(*pair, bandwidths=(1.0, 0.0))
    with pytest.raises(ValueError, match="subset"):
        kernel_distance(*pair, subsets=0)
