from __future__ import annotations

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from sparring.metrics import sliced_wasserstein as module
from sparring.metrics.sliced_wasserstein import sliced_wasserstein

torch.set_num_threads(1)


@pytest.fixture
def points() -> Tensor:
    return torch.randn(300, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_equal_sets_in_any_order_are_at_zero(points: Tensor) -> None:
    assert sliced_wasserstein(points, points.flip(0)) == 0


def test_repeated_points_are_the_same_distribution(points: Tensor) -> None:
    assert sliced_wasserstein(points, points.repeat(3, 1)) == pytest.approx(0, abs=1e-12)


def test_shifted_cloud_is_at_its_shift_over_the_root_of_the_dimension(points: Tensor) -> None:
    shift = torch.tensor([3.0, 0, -4.0, 0, 0], dtype=torch.float64)
    assert sliced_wasserstein(points, points + shift, projections=20000) == pytest.approx(5 / 5**0.5, rel=0.02)


def test_one_dimension_is_the_plain_distance_of_sorted_values() -> None:
    a, b = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[4.0], [1.0], [1.0]])
    assert sliced_wasserstein(a, b, projections=3) == pytest.approx((5 / 3) ** 0.5)


def test_unequal_counts_are_transported_exactly() -> None:
    # Half of the mass at 0 stays, half goes to 1, and a third of it at a time: W₂² = ∫(F⁻¹ − G⁻¹)².
    a, b = torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [1.0], [3.0]])
    assert sliced_wasserstein(a, b) == pytest.approx(((1**2 + 2**2) / 6) ** 0.5)


@pytest.mark.parametrize("counts", [(7, 7), (5, 8), (6, 4), (1, 9)])
def test_coupling_moves_as_much_as_scipys_optimal_transport(counts: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(1)
    a, b = (torch.randn(count, generator=rng, dtype=torch.float64).sort().values for count in counts)
    i, j, mass = module._coupling(*counts, torch.device("cpu"))
    assert float(mass.sum()) == pytest.approx(1)
    assert float((mass * (a[i] - b[j]).abs()).sum()) == pytest.approx(wasserstein_distance(a.numpy(), b.numpy()))


def test_directions_depend_on_the_seed_alone(points: Tensor) -> None:
    other = points.exp()
    before = torch.get_rng_state()
    first = sliced_wasserstein(points, other, projections=16, seed=1)
    torch.rand(1)
    assert sliced_wasserstein(points, other, projections=16, seed=1) == first
    assert sliced_wasserstein(points, other, projections=16, seed=2) != first
    torch.set_rng_state(before)


def test_global_random_state_is_untouched(points: Tensor) -> None:
    before = torch.get_rng_state()
    sliced_wasserstein(points, points + 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_chunks_change_nothing(points: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sliced_wasserstein(points, points[:200].exp(), projections=50)
    monkeypatch.setattr(module, "CHUNK", 3500)
    assert sliced_wasserstein(points, points[:200].exp(), projections=50) == pytest.approx(whole, rel=1e-12)


def test_features_that_do_not_fit_are_an_error(points: Tensor) -> None:
    for other in (points[:, :2], points[:0], points[0]):
        with pytest.raises(ValueError, match="features must be"):
            sliced_wasserstein(points, other)
