from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparring.metrics import neighbours as module
from sparring.metrics.neighbours import count_inside, nearest, neighbour_radii

torch.set_num_threads(1)


def cloud(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def pairwise(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")


def far_and_tight() -> tuple[Tensor, Tensor]:
    """Knots of near-duplicates in float64, far from the origin and from each other: float32 products see only noise."""
    knots = 1000 + 50 * cloud(20, 100, seed=0).double()
    rng = torch.Generator().manual_seed(1)
    a, b = (knots.repeat(15, 1) + 1e-5 * torch.randn(300, 100, generator=rng, dtype=torch.float64) for _ in range(2))
    return a, b


@pytest.mark.parametrize("width", [2, 100, 700])
def test_distances_and_indices_are_those_of_the_whole_float64_matrix(width: int) -> None:
    a, b = cloud(400, width, seed=0), cloud(900, width, seed=1) + 3
    expected, order = pairwise(a, b).topk(7, largest=False)
    distances, indices = nearest(a, b, k=7)
    assert torch.equal(indices, order)
    torch.testing.assert_close(distances, expected, rtol=1e-12, atol=0)


def test_a_point_is_no_neighbour_of_itself_and_its_duplicate_is() -> None:
    points = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    distances, indices = nearest(points)
    assert distances[:, 0].tolist() == [0, 1, 0, 1]
    assert indices[:, 0].tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("width", [3, 90, 600])
def test_radius_reaches_to_the_kth_other_point(width: int) -> None:
    points = cloud(300, width, seed=2)
    expected = pairwise(points, points).sort(dim=1).values[:, 4]
    torch.testing.assert_close(neighbour_radii(points, k=4), expected, rtol=1e-12, atol=0)


def test_cancellation_far_from_the_origin_does_not_reach_the_result() -> None:
    a, b = far_and_tight()
    exact = pairwise(a, b)
    naive = (a.float().square().sum(1)[:, None] + b.float().square().sum(1) - 2 * a.float() @ b.float().T).clamp(min=0)
    assert not torch.equal(naive.argmin(1), exact.argmin(1)), "the toy is too easy"
    distances, indices = nearest(a, b, k=3)
    expected, order = exact.topk(3, largest=False)
    assert torch.equal(indices, order)
    torch.testing.assert_close(distances, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "make", [far_and_tight, lambda: (cloud(500, 200, seed=3), 0.9 * cloud(700, 200, seed=4) + 0.1)]
)
def test_counts_are_those_of_the_whole_float64_matrix(make: object) -> None:
    a, b = make()  # type: ignore[operator]
    a_radii, b_radii = neighbour_radii(a, k=5), neighbour_radii(b, k=3)
    distances = pairwise(a, b)
    inside = count_inside(a, b, a_radii, b_radii)
    in_a, in_b = distances < a_radii[:, None], distances < b_radii
    assert torch.equal(inside.a_balls_of_b, in_a.sum(0))
    assert torch.equal(inside.b_in_a_ball, in_a.sum(1))
    assert torch.equal(inside.b_balls_of_a, in_b.sum(1))
    assert in_a.sum() > 100


@pytest.mark.parametrize("width", [40, 400])
def test_points_on_a_sphere_are_outside_whatever_the_rounding(width: int) -> None:
    """A copied set: each ball holds its own centre and k − 1 neighbours, and its k-th neighbour lies on the sphere."""
    points = cloud(300, width, seed=5) + 7
    radii = neighbour_radii(points, k=5)
    inside = count_inside(points, points.clone(), radii, radii)
    assert inside.b_in_a_ball.unique().tolist() == [5]


def test_integer_features_full_of_ties_are_counted_exactly() -> None:
    a, b = (torch.randint(0, 3, (200, 80), generator=torch.Generator().manual_seed(seed)).float() for seed in (0, 1))
    a_radii, b_radii = neighbour_radii(a, k=5), neighbour_radii(b, k=5)
    squares = pairwise(a, b).square().round()
    inside = count_inside(a, b, a_radii, b_radii)
    ties = (squares == a_radii.square().round()[:, None]).sum()
    assert ties > 50, "the toy has no ties"
    assert torch.equal(inside.b_in_a_ball, (squares < a_radii.square().round()[:, None]).sum(1))
    assert torch.equal(inside.b_balls_of_a, (squares < b_radii.square().round()).sum(1))


def test_one_exploded_sample_spoils_no_other() -> None:
    a, b = cloud(200, 100, seed=6), cloud(200, 100, seed=7)
    radii = neighbour_radii(a, k=3)
    clean = count_inside(a, b, radii, neighbour_radii(b, k=3))
    wild = torch.cat([b, torch.full((1, 100), 1e7)])
    inside = count_inside(a, wild, radii, neighbour_radii(wild, k=3))
    assert torch.equal(inside.b_in_a_ball, clean.b_in_a_ball)
    assert torch.equal(inside.a_balls_of_b[:-1], clean.a_balls_of_b)
    assert torch.equal(nearest(a, wild)[0], nearest(a, b)[0])


def test_no_more_is_held_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = cloud(300, 100, seed=8), cloud(500, 100, seed=9)
    whole = (
        nearest(a, b, k=5),
        neighbour_radii(a, k=5),
        count_inside(a, b, torch.full((300,), 13.0), torch.full((500,), 13.0)),
    )
    monkeypatch.setattr(module, "BLOCK", 7 * 500)
    heights = [len(block) for _, block in module._Frame.of(b, torch.float32).lower_bounds(a, torch.arange(300))]
    assert max(heights) == 7 and sum(heights) == 300
    (distances, indices), radii = nearest(a, b, k=5), neighbour_radii(a, k=5)
    inside = count_inside(a, b, torch.full((300,), 13.0), torch.full((500,), 13.0))
    assert torch.equal(distances, whole[0][0]) and torch.equal(indices, whole[0][1])
    assert torch.equal(radii, whole[1])
    assert all(
        torch.equal(one, other) for one, other in zip(vars(inside).values(), vars(whole[2]).values(), strict=True)
    )


@pytest.mark.parametrize("block", [20 * 500, 100 * 500, 1 << 22])
def test_neighbours_inside_a_wide_set_are_those_of_both_ends_of_each_pair(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = cloud(500, 600, seed=11) * torch.linspace(0.1, 2, 500)[:, None]
    expected, order = pairwise(points, points).fill_diagonal_(torch.inf).topk(6, largest=False)
    monkeypatch.setattr(module, "BLOCK", block)
    distances, indices = nearest(points, k=6)
    assert torch.equal(indices, order)
    torch.testing.assert_close(distances, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("width", [5, 16, 17, 100, 1003])
def test_smallest_of_rows_equal_topk(width: int) -> None:
    rows = cloud(20, width, seed=10)
    values, columns = module._smallest(rows, 3)
    assert torch.equal(values, rows.topk(3, largest=False).values)
    assert torch.equal(rows.gather(1, columns), values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_features_of_any_dtype_are_compared_as_the_numbers_they_are(dtype: torch.dtype) -> None:
    a, b = ((50 + 9 * cloud(60, 100, seed=seed)).to(dtype) for seed in (12, 13))
    torch.testing.assert_close(nearest(a, b)[0][:, 0], pairwise(a, b).amin(1), rtol=1e-12, atol=0)


def test_features_of_a_network_that_still_trains_are_taken_as_they_are() -> None:
    points = cloud(30, 100, seed=14).requires_grad_()
    radii = neighbour_radii(points, k=2)
    assert not radii.requires_grad
    assert not count_inside(points, points, radii, radii).b_in_a_ball.requires_grad


def test_features_that_cannot_be_compared_are_an_error() -> None:
    points = torch.zeros(4, 3)
    with pytest.raises(ValueError, match="3 to choose from"):
        nearest(points, k=4)
    with pytest.raises(ValueError, match="features must be"):
        nearest(points, torch.zeros(4, 2))
    with pytest.raises(ValueError, match="NaN"):
        nearest(points, torch.full((2, 3), torch.nan))
