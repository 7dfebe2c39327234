"""Agreement of class maps, on cases that can be counted by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.metrics.segmentation import agreement, confusion


def test_a_case_that_can_be_counted_by_hand() -> None:
    true = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 2]])
    found = torch.tensor([[0, 0, 1, 1], [1, 0, 2, 2]])
    matrix = confusion(true, found, 3)
    assert matrix.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 2]]
    figures = agreement(matrix)
    assert figures.pixel_accuracy == pytest.approx(6 / 8)
    assert figures.iou == pytest.approx([2 / 4, 2 / 4, 1.0])
    assert figures.mean_iou == pytest.approx(2 / 3)
    assert figures.class_accuracy == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert figures.frequency_iou == pytest.approx(3 / 8 * 0.5 + 3 / 8 * 0.5 + 2 / 8)


def test_void_is_left_out_whatever_was_found_there() -> None:
    true, found = torch.tensor([0, 255, 1, -1]), torch.tensor([0, 1, 1, 77])
    assert confusion(true, found, 2).tolist() == [[1, 0], [0, 1]]


def test_a_class_that_is_nowhere_has_no_part_in_the_means() -> None:
    figures = agreement(confusion(torch.tensor([0, 1]), torch.tensor([0, 1]), 5))
    assert figures.mean_iou == figures.class_accuracy == figures.frequency_iou == 1
    assert [math.isnan(each) for each in figures.iou] == [False, False, True, True, True]


def test_a_class_that_was_only_imagined_counts_against_the_mean() -> None:
    figures = agreement(confusion(torch.tensor([0, 0]), torch.tensor([0, 1]), 3))
    assert figures.mean_iou == pytest.approx((0.5 + 0) / 2) and figures.class_accuracy == pytest.approx(0.5)


def test_a_set_of_void_alone_has_no_figures() -> None:
    figures = agreement(confusion(torch.full((2, 2), 255), torch.zeros(2, 2, dtype=torch.int64), 3))
    assert math.isnan(figures.pixel_accuracy) and math.isnan(figures.mean_iou)


@given(st.integers(0, 2**31), st.integers(1, 5))
def test_matrices_of_parts_add_up_and_what_is_the_same_agrees_wholly(seed: int, classes: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    true, found = (torch.randint(classes, (4, 5, 5), generator=rng) for _ in range(2))
    parts = sum(confusion(one, other, classes) for one, other in zip(true, found, strict=True))
    assert torch.equal(parts, confusion(true, found, classes))
    assert agreement(confusion(true, true, classes)).mean_iou == 1


@pytest.mark.parametrize(
    ("true", "found", "message"),
    [
        (torch.zeros(2), torch.zeros(3), "maps of one size"),
        (torch.zeros(1), torch.tensor([4]), "must be classes 0 to 1, not 4 to 4"),
    ],
)
def test_what_cannot_be_compared_is_refused(true: torch.Tensor, found: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion(true, found, 2)
