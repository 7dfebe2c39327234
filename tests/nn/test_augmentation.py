"""Augmentation of both sides: nothing at p = 0, each operation as its paper says, any channels and size, twice differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from sparring.core.both_sides import BothSides
from sparring.core.processes import Group
from sparring.errors import UserError
from sparring.nn import diffaugment
from sparring.nn.ada import GROUPS, OPERATIONS, AdaptiveAugmentation, filter_rows, octaves, recolour
from sparring.nn.augmentation import AUGMENTATIONS, build_augmentation, resolve_augmentation
from sparring.nn.diffaugment import DiffAugment
from sparring.nn.warp import scale_matrix, shift_matrix, turn_matrix, warp

torch.set_num_threads(1)
EACH_SHAPE = pytest.mark.parametrize(
    "shape", [(1, 8, 8), (2, 9, 5), (3, 6, 11), (4, 5, 5)], ids=lambda shape: "x".join(map(str, shape))
)


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1


def always(*operations: str) -> AdaptiveAugmentation:
    return AdaptiveAugmentation(operations=operations, p=1.0, target=None)


def seeded(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def same(values: Tensor) -> Tensor:
        torch.manual_seed(5)
        return change(values)

    return same


# The warp


def test_a_warp_is_bilinear_sampling_with_mirrored_edges() -> None:
    batch = images(6, 3, 7, 10, dtype=torch.float64)
    torch.manual_seed(1)
    matrix = torch.eye(2, 3, dtype=torch.float64) + 0.3 * torch.randn(6, 2, 3, dtype=torch.float64)
    matrix[:, :, 2] *= 5
    # torch's sampler counts positions from −1 to 1, pixel centres of the corners.
    half = torch.tensor([(10 - 1) / 2, (7 - 1) / 2], dtype=torch.float64)
    theta = torch.cat([matrix[:, :, :2] * half / half[:, None], matrix[:, :, 2:] / half[:, None]], dim=2)
    grid = F.affine_grid(theta, [6, 3, 7, 10], align_corners=True)
    expected = F.grid_sample(batch, grid, padding_mode="reflection", align_corners=True)
    torch.testing.assert_close(warp(batch, matrix), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 8), (8, 8)])
def test_the_identity_changes_no_bit(size: tuple[int, int]) -> None:
    batch = images(3, 2, *size)
    assert torch.equal(warp(batch, torch.eye(2, 3).expand(3, 2, 3)), batch)


def test_whole_pixels_flips_and_quarter_turns_are_those_of_torch() -> None:
    batch = images(1, 2, 6, 6)
    ones = torch.ones(1)
    torch.testing.assert_close(warp(batch, shift_matrix(2 * ones, -ones)[:, :2])[..., 1:, :4], batch[..., :-1, 2:])
    assert torch.equal(warp(batch, scale_matrix(-ones, ones)[:, :2]), batch.flip(3))
    turned = warp(batch, turn_matrix(ones * math.pi / 2)[:, :2])
    torch.testing.assert_close(turned, batch.rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_a_warp_has_first_and_second_derivatives() -> None:
    batch = images(2, 2, 3, 4, dtype=torch.float64).requires_grad_()
    matrix = turn_matrix(torch.tensor([0.4, -2.0], dtype=torch.float64))[:, :2]
    assert gradcheck(lambda x: warp(x, matrix).sin(), batch)
    assert gradgradcheck(lambda x: warp(x, matrix).sin(), batch)


# ADA


@EACH_SHAPE
def test_at_p_0_nothing_changes(shape: tuple[int, int, int]) -> None:
    batch = images(4, *shape)
    assert torch.equal(AdaptiveAugmentation(operations=["blit", "geometry", "noise", "cutout"])(batch), batch)
    everything = AdaptiveAugmentation(operations=[*GROUPS])
    torch.testing.assert_close(everything(batch), batch, atol=1e-5, rtol=0)


@EACH_SHAPE
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_works_on_every_shape(operation: str, shape: tuple[int, int, int]) -> None:
    batch = images(32, *shape)
    torch.manual_seed(0)
    changed = always(operation)(batch)
    assert changed.shape == batch.shape and changed.dtype == torch.float32 and changed.isfinite().all()
    moved = (changed - batch).flatten(1).abs().amax(1) > 1e-4
    if operation in ("hue", "saturation") and shape[0] < 3:
        assert not moved.any()  # grey has neither
    else:
        assert moved.float().mean() > 0.25
    if operation in GROUPS["colour"] and shape[0] in (2, 4):
        torch.testing.assert_close(changed[:, -1], batch[:, -1])  # alpha


@pytest.mark.parametrize("operation", ["stretch", "contrast", "filter", "noise", "cutout"])
def test_an_operation_is_played_with_probability_p(operation: str) -> None:
    batch = images(3000, 1, 4, 4)
    torch.manual_seed(0)
    changed = AdaptiveAugmentation(operations=[operation], p=0.3, target=None)(batch)
    played = ((changed - batch).flatten(1).abs().amax(1) > 1e-6).float().mean().item()
    # Of four bands each is amplified with p.
    expected = 1 - 0.7**4 if operation == "filter" else 0.3
    assert played == pytest.approx(expected, abs=0.03)


def test_some_turn_is_played_with_probability_p() -> None:
    batch = images(3000, 1, 5, 5)
    torch.manual_seed(0)
    changed = AdaptiveAugmentation(operations=["rotate"], p=0.3, target=None)(batch)
    assert ((changed - batch).flatten(1).abs().amax(1) > 1e-6).float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_flips_and_quarter_turns_have_each_outcome_equally_often() -> None:
    batch = images(1, 1, 4, 4).expand(4000, -1, -1, -1)
    torch.manual_seed(0)
    changed = always("flip", "quarter_turn")(batch)
    seen = []
    for mirrored in (batch[0], batch[0].flip(2)):
        for turns in range(4):
            match = (changed - mirrored.rot90(turns, (1, 2))).flatten(1).abs().amax(1) < 1e-4
            seen.append(match.float().mean().item())
    assert sum(seen) == pytest.approx(1)
    assert all(share == pytest.approx(1 / 8, abs=0.02) for share in seen)


def test_colours_keep_what_they_must() -> None:
    batch = images(64, 3, 4, 4)
    grey = batch.mean(1)
    for operation in ("hue", "saturation"):
        torch.manual_seed(0)
        torch.testing.assert_close(always(operation)(batch).mean(1), grey, atol=1e-5, rtol=0)
    torch.manual_seed(0)
    lengths = (always("hue")(batch) - grey[:, None]).norm(dim=1)
    torch.testing.assert_close(lengths, (batch - grey[:, None]).norm(dim=1), atol=1e-5, rtol=1e-4)
    torch.manual_seed(0)
    inverted = always("invert")(batch)
    flipped = (inverted.mean(1) + grey).flatten(1).abs().amax(1) < 1e-5
    assert 0.3 < flipped.float().mean() < 0.7
    torch.testing.assert_close(inverted - inverted.mean(1, keepdim=True), batch - grey[:, None], atol=1e-5, rtol=1e-4)


def test_grey_is_the_colour_of_three_equal_parts() -> None:
    colour = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0))
    grey = images(5, 1, 3, 3)
    torch.testing.assert_close(
        recolour(grey, colour), recolour(grey.expand(-1, 3, -1, -1), colour).mean(1, keepdim=True)
    )


def test_the_octaves_add_up_to_the_identity_and_each_passes_its_own_band() -> None:
    bands = octaves()
    identity = torch.zeros(bands.shape[1], dtype=torch.float64)
    identity[len(identity) // 2] = 1
    torch.testing.assert_close(bands.sum(0), identity)
    torch.testing.assert_close(bands, bands.flip(1))
    places = torch.arange(bands.shape[1], dtype=torch.float64) - bands.shape[1] // 2
    middles = torch.tensor([1 / 32, 3 / 16, 3 / 8, 3 / 4], dtype=torch.float64) * math.pi
    response = torch.stack([(bands * torch.cos(places * each)).sum(1) for each in middles], dim=1)
    assert torch.equal(response.argmax(0), torch.arange(4))
    assert (response.diagonal() > 0.7).all()


def test_rows_are_filtered_with_mirrored_edges() -> None:
    batch, kernels = images(2, 3, 4, 6), torch.tensor([[0.25, 0.5, 0.25], [0.0, 1.0, 0.0]])
    padded = F.pad(batch, (1, 1, 0, 0), mode="reflect")
    first = 0.25 * padded[0, ..., :-2] + 0.5 * batch[0] + 0.25 * padded[0, ..., 2:]
    torch.testing.assert_close(filter_rows(batch, kernels), torch.stack([first, batch[1]]))


def test_cutout_takes_at_most_a_quarter() -> None:
    torch.manual_seed(0)
    blank = (always("cutout")(torch.ones(500, 1, 8, 8)) == 0).float().mean(dim=(1, 2, 3))
    assert 0.2 < blank.max() <= 0.25
    assert blank.min() < 0.12


@pytest.mark.parametrize("shape", [(1, 4, 3), (3, 3, 3)], ids=["grey", "RGB"])
@pytest.mark.parametrize("change", [always(*GROUPS), DiffAugment()], ids=["ada", "diffaugment"])
def test_every_change_survives_a_gradient_penalty(
    change: Callable[[Tensor], Tensor], shape: tuple[int, int, int]
) -> None:
    batch = images(1, *shape, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x: seeded(change)(x).sin(), batch)
    assert gradgradcheck(lambda x: seeded(change)(x).sin(), batch)


# DiffAugment


def test_diffaugment_shifts_by_up_to_an_eighth_with_zeros_beyond() -> None:
    batch = images(400, 2, 16, 8).abs() + 0.1
    torch.manual_seed(0)
    changed = diffaugment.translation(batch)
    rows, columns = ((changed[:, 0] != 0).any(axis) for axis in (2, 1))
    assert set(rows.sum(1).tolist()) == {14, 15, 16} and set(columns.sum(1).tolist()) == {7, 8}
    shifted = next(index for index in range(400) if not rows[index, 0] and rows[index, 1] and columns[index].all())
    torch.testing.assert_close(changed[shifted, :, 1:], batch[shifted, :, :-1])


def test_diffaugments_cutout_is_a_square_of_half_the_size() -> None:
    torch.manual_seed(0)
    blank = (diffaugment.cutout(torch.ones(500, 1, 8, 8)) == 0).sum(dim=(1, 2, 3))
    assert blank.max() == 16
    assert blank.min() >= 4


def test_diffaugments_colours_are_within_their_ranges() -> None:
    torch.manual_seed(0)
    batch = images(1, 3, 4, 4).expand(2000, -1, -1, -1)
    changed = diffaugment.colour(batch)
    moved = changed.mean((1, 2, 3)) - batch.mean((1, 2, 3))
    assert -0.5 <= moved.min() < -0.45 and 0.45 < moved.max() <= 0.5
    spread = changed.mean(1).std((1, 2)) / batch.mean(1).std((1, 2))
    assert 0.5 <= spread.min() < 0.55 and 1.45 < spread.max() <= 1.5
    alpha = images(3, 4, 5, 5)
    torch.testing.assert_close(diffaugment.colour(alpha)[:, 3], alpha[:, 3])


# By name


def test_a_small_data_set_gets_ada_and_a_large_one_nothing() -> None:
    small = build_augmentation({"name": "auto", "below": 500, "p": 0.1}, 499)
    assert isinstance(small, AdaptiveAugmentation)
    assert small.probability.item() == pytest.approx(0.1)
    assert type(build_augmentation({"name": "auto", "below": 500}, 500)) is BothSides


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_defaults_are_filled_in_and_build(name: str) -> None:
    resolved = resolve_augmentation({"name": name})
    assert resolve_augmentation(resolved) == resolved
    build_augmentation(resolved, 100)


@pytest.mark.parametrize("name", ["ada", "diffaugment"])
def test_an_unknown_operation_is_an_error_that_names_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match="cutout"):
        build_augmentation({"name": name, "operations": ["cutuot"]}, 100)


def test_an_unknown_augmentation_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UserError, match="diffaugment"):
        resolve_augmentation({"name": "difaugment"})


@pytest.mark.parametrize("change", [always(*GROUPS), DiffAugment()], ids=["ada", "diffaugment"])
def test_several_processes_change_their_shares_as_one_changes_the_whole(change: Callable[[Tensor], Tensor]) -> None:
    batch = images(6, 3, 8, 8)
    torch.manual_seed(4)
    whole = change(batch)
    parts = []
    for rank in range(2):
        group = Group(rank, 2, torch.device("cpu"), seed=4)
        group.at_hand = 3
        with group.playing():
            parts.append(change(batch[3 * rank :][:3]))
    torch.testing.assert_close(torch.cat(parts), whole)


def test_half_precision_comes_out_whole() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        changed = always("colour", "geometry")(images(2, 3, 4, 4).bfloat16())
    assert changed.dtype == torch.float32
