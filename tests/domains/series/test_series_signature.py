"""The signature of a path, against what is known of it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from sparring.domains.series.signature import (
    augment,
    join,
    lead_lag,
    signature,
    signature_levels,
    size,
    with_basepoint,
    with_time,
)

torch.set_num_threads(1)


@pytest.fixture
def path() -> Tensor:
    return torch.randn(3, 11, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def number(path: Tensor, word: tuple[int, ...]) -> Tensor:
    """The iterated integral of a word, (N,)."""
    if not word:
        return torch.ones(len(path), dtype=path.dtype)
    place = 0
    for letter in word:
        place = place * path.shape[2] + letter
    return signature_levels(path, len(word))[-1][:, place]


def test_of_a_straight_line_level_k_is_the_increment_s_power_over_k_factorial() -> None:
    line = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]]).double()
    for level, found in enumerate(signature_levels(line, 5), start=1):
        powers = [math.prod((2.0, -3.0)[letter] for letter in word) for word in itertools.product((0, 1), repeat=level)]
        assert found[0].tolist() == pytest.approx([power / math.factorial(level) for power in powers])


def test_of_two_sides_of_a_square_the_area_is_between_them() -> None:
    corner = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [2.0, 3.0]]]).double()
    first, second = signature_levels(corner, 2)
    assert first[0].tolist() == [2, 3]
    # ∫x dy is the rectangle; ∫y dx is nothing, for y moves after x has.
    assert second[0].tolist() == [2, 6, 0, 4.5]


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_the_signature_of_two_paths_joined_is_the_product_of_theirs(path: Tensor, cut: int) -> None:
    parts = join(signature_levels(path[:, : cut + 1], 5), signature_levels(path[:, cut:], 5))
    torch.testing.assert_close(torch.cat(parts, 1), signature(path, 5), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("left", "right"), [((0,), (1,)), ((0, 1), (1,)), ((1, 0), (0, 1)), ((0,), (1, 1, 0))])
def test_the_product_of_two_numbers_is_the_sum_over_all_shuffles(
    path: Tensor, left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    total = torch.zeros(3, dtype=torch.float64)
    for places in itertools.combinations(range(len(left) + len(right)), len(left)):
        one, other = iter(left), iter(right)
        total += number(path, tuple(next(one if at in places else other) for at in range(len(left) + len(right))))
    torch.testing.assert_close(number(path, left) * number(path, right), total, atol=1e-9, rtol=1e-9)


def test_a_path_walked_at_another_pace_has_the_same_signature_and_one_walked_back_undoes_it(path: Tensor) -> None:
    # A point in the middle of each third step, and a rest at every point.
    slower = torch.cat([path[:, :4], (path[:, 3:4] + path[:, 4:5]) / 2, path[:, 4:]], 1).repeat_interleave(2, dim=1)
    torch.testing.assert_close(signature(slower, 4), signature(path, 4), atol=1e-10, rtol=1e-10)
    there_and_back = torch.cat([path, path.flip(1)], 1)
    torch.testing.assert_close(signature(there_and_back, 4), torch.zeros(3, size(2, 4)).double(), atol=1e-9, rtol=0)


def test_only_with_time_and_a_basepoint_it_sees_when_and_where(path: Tensor) -> None:
    rested = path.repeat_interleave(2, dim=1)
    assert not torch.allclose(signature(with_time(rested), 3), signature(with_time(path), 3))
    torch.testing.assert_close(signature(path + 1, 3), signature(path, 3), atol=1e-10, rtol=1e-10)
    assert not torch.allclose(signature(with_basepoint(path + 1), 3), signature(with_basepoint(path), 3))


def test_the_area_between_lead_and_lag_is_half_the_quadratic_variation(path: Tensor) -> None:
    _, second = signature_levels(lead_lag(path[:, :, :1]), 2)
    torch.testing.assert_close((second[:, 1] - second[:, 2]).abs(), path[:, :, 0].diff(dim=1).square().sum(1))


def test_augmentations_come_in_the_order_of_their_names(path: Tensor) -> None:
    assert torch.equal(augment(path, ["sum", "time"]), with_time(path.cumsum(1)))
    assert augment(path, ["basepoint", "lead_lag", "time"]).shape == (3, 23, 5)
    assert size(5, 4) == 5 + 25 + 125 + 625


def test_its_gradient_is_autograd_s_of_the_formula(path: Tensor) -> None:
    moved = path[:1, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: signature(x, 3), moved)


def test_a_point_is_no_path() -> None:
    with pytest.raises(ValueError, match="a path of 1 points"):
        signature(torch.zeros(2, 1, 3), 2)
