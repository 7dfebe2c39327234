"""Equivariance: images that follow score high, those that do not score low; what moves the reference is right."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sparring.metrics.equivariance import (
    decibels,
    resampled,
    rotation_errors,
    translated,
    translation_errors,
)

torch.set_num_threads(1)

WAVES = 12


def scene(
    height: int, width: int, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), top: float = 0.2
) -> Tensor:
    """A sum of waves of up to `top` cycles a pixel, turned and then moved by (down, right), (2, 1, H, W)."""
    random = torch.Generator().manual_seed(0)
    down, right = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) - (height - 1) / 2 - shift[0],
        torch.arange(width, dtype=torch.float64) - (width - 1) / 2 - shift[1],
        indexing="ij",
    )
    x = math.cos(angle) * right + math.sin(angle) * down
    y = math.cos(angle) * down - math.sin(angle) * right
    images = []
    for _ in range(2):
        radius = top * torch.rand(WAVES, generator=random).sqrt()
        direction, phase = 2 * math.pi * torch.rand(2, WAVES, generator=random)
        waves = 2 * math.pi * (radius * direction.cos())[:, None, None] * x
        waves = waves + 2 * math.pi * (radius * direction.sin())[:, None, None] * y + phase[:, None, None]
        images.append(waves.sin().sum(0) / WAVES)
    return torch.stack(images)[:, None].float()


def test_the_ratio_is_that_of_the_range_to_the_error() -> None:
    errors = torch.tensor([[0.02, 1.0], [0.06, 3.0]])
    # A mean square of 0.02 against a range of 2.
    assert decibels(errors) == pytest.approx(10 * math.log10(4 / 0.02))
    assert decibels(torch.tensor([[0.0, 5.0]])) == math.inf


def test_a_whole_translation_copies_pixels_and_leaves_out_what_came_from_outside() -> None:
    images = torch.rand(2, 3, 6, 8)
    moved, mask = translated(images, (2, -3))
    torch.testing.assert_close(moved[..., 2:, :-3], images[..., :-2, 3:])
    assert mask[2:, :-3].all() and not mask[:2].any() and not mask[:, -3:].any()
    wrong = moved.clone()
    wrong[..., :2, :] = 7  # outside: nobody looks there
    assert decibels(translation_errors(images, wrong, (2, -3))) == math.inf


@pytest.mark.parametrize("shift", [(0.5, 0.25), (-1.3, 2.7)])
def test_a_scene_that_moves_between_the_pixels_scores_high_and_one_that_stays_low(shift: tuple[float, float]) -> None:
    plain = scene(24, 30)
    assert decibels(translation_errors(plain, scene(24, 30, shift=shift), shift)) > 40
    assert decibels(translation_errors(plain, plain, shift)) < 30
    assert decibels(translation_errors(plain, scene(24, 30, shift=(-shift[0], -shift[1])), shift)) < 25


@pytest.mark.parametrize("angle", [0.3, 1.1, -2.0, math.pi / 2, 3.0])
def test_a_scene_that_turns_scores_high_and_one_that_stays_or_turns_the_other_way_low(angle: float) -> None:
    plain = scene(40, 44)
    assert decibels(rotation_errors(plain, scene(40, 44, angle=angle), angle)) > 45
    assert decibels(rotation_errors(plain, plain, angle)) < 25
    assert decibels(rotation_errors(plain, scene(40, 44, angle=-angle), angle)) < 25


def test_both_sides_keep_the_same_frequencies() -> None:
    # Beyond half a cycle a pixel along the diagonal: in the square, and after an eighth of a turn outside of it.
    corner = torch.cos(2 * math.pi * 0.45 * (torch.arange(40)[:, None] + torch.arange(40)[None, :])).expand(
        1, 1, 40, 40
    )
    for turn in (True, False):
        limited, mask = resampled(corner, math.pi / 4, turn=turn)
        assert limited[0, 0][mask].abs().max() < 0.1
        kept, mask = resampled(corner, 0.0, turn=turn)
        assert kept[0, 0][mask].square().mean() > 0.2


def test_small_images_have_a_small_kernel_and_tiny_ones_no_place_to_compare() -> None:
    assert rotation_errors(scene(16, 16), scene(16, 16, angle=0.5), 0.5)[0, 1] > 0
    assert rotation_errors(scene(5, 5), scene(5, 5, angle=0.5), 0.5)[0, 1] == 0
