from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sparring.metrics.vendi import vendi

torch.set_num_threads(1)

ORDERS = (0.0, 0.5, 1.0, 2.0, math.inf)


def cloud(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("kernel", "scale"), [("cosine", 1.0), ("rbf", 1e3)])
def test_orthogonal_samples_count_each_and_equal_ones_count_once(order: float, kernel: str, scale: float) -> None:
    bandwidth = None if kernel == "cosine" else 1.0
    assert vendi(scale * torch.eye(12), order=order, kernel=kernel, bandwidth=bandwidth) == pytest.approx(12)
    same = cloud(1, 7, seed=0).expand(30, -1)
    assert vendi(same, order=order, kernel=kernel, bandwidth=bandwidth) == pytest.approx(1)


@pytest.mark.parametrize("count", [5, 60])
@pytest.mark.parametrize("order", ORDERS)
def test_score_is_the_entropy_of_the_whole_kernel_matrix(count: int, order: float) -> None:
    """Whether there are more samples than dimensions or fewer."""
    x = cloud(count, 20, seed=1) + 0.5
    kernel = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2)
    values = torch.linalg.eigvalsh(kernel / count)
    values = values[values > 1e-12]
    if order == 1:
        expected = math.exp(-float((values * values.log()).sum()))
    elif order == math.inf:
        expected = 1 / float(values.max())
    else:
        expected = float((values**order).sum()) ** (1 / (1 - order))
    assert vendi(x, order=order) == pytest.approx(expected, rel=1e-9)


def test_unequal_kinds_count_by_their_entropy() -> None:
    kinds = torch.eye(3).repeat_interleave(torch.tensor([6, 3, 1]), dim=0)
    shares = (0.6, 0.3, 0.1)
    assert vendi(kinds) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    assert vendi(kinds, order=0) == pytest.approx(3)
    assert vendi(kinds, order=math.inf) == pytest.approx(1 / 0.6)


def test_rbf_of_two_points_is_closed_form() -> None:
    # K/2 has the eigenvalues (1 ± k)/2 with k = exp(−d²/(2·bandwidth²)).
    k = math.exp(-(3.0**2) / (2 * 2.0**2))
    p, q = (1 + k) / 2, (1 - k) / 2
    points = torch.tensor([[0.0, 1.0], [3.0, 1.0]])
    expected = math.exp(-p * math.log(p) - q * math.log(q))
    assert vendi(points, kernel="rbf", bandwidth=2.0) == pytest.approx(expected)
    assert vendi(7 * points, kernel="rbf") == pytest.approx(vendi(points, kernel="rbf")), "the median scales along"


@pytest.mark.parametrize("kernel", ["cosine", "rbf"])
def test_dropped_modes_lower_it_and_noise_raises_it(kernel: str) -> None:
    modes, noise = 3 * torch.eye(10).double(), cloud(400, 10, seed=2)
    bandwidth = None if kernel == "cosine" else 2.0
    kept = [modes[: 10 - drop].repeat(400, 1)[:400] + 0.1 * noise for drop in (0, 3, 6, 9)]
    scores = [vendi(x, kernel=kernel, bandwidth=bandwidth) for x in kept]
    assert all(more > fewer + 1 for more, fewer in pairwise(scores))
    noisy = [vendi(modes[:2].repeat(200, 1) + s * noise, kernel=kernel, bandwidth=bandwidth) for s in (0, 0.3, 1, 3)]
    assert all(less < more - 0.3 for less, more in pairwise(noisy))


def test_samples_of_zeros_are_a_kind_of_their_own() -> None:
    x = torch.cat([torch.eye(3), torch.zeros(1, 3)])
    assert vendi(x) == pytest.approx(4)
    assert vendi(torch.zeros(5, 3)) == pytest.approx(1)


def test_cosine_does_not_see_the_scale_however_small_or_large() -> None:
    x = cloud(30, 5, seed=3)
    for scale in (1e-200, 1e200):
        assert vendi(scale * x) == pytest.approx(vendi(x))


def test_options_out_of_range_are_an_error() -> None:
    with pytest.raises(ValueError, match="order"):
        vendi(torch.eye(3), order=-1)
    with pytest.raises(ValueError, match="belongs to the rbf kernel"):
        vendi(torch.eye(3), bandwidth=1.0)
    with pytest.raises(ValueError, match="set a bandwidth"):
        vendi(torch.ones(3, 2), kernel="rbf")
    with pytest.raises(ValueError, match="take fewer samples"):
        vendi(torch.ones(1, 2).expand(10_001, -1), kernel="rbf")
