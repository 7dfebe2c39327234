"""Augmentation: off by default, repeatable, within the range, differentiable where it must be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparring.data.augment import Augment, build, light
from sparring.errors import UserError

EVERYTHING: dict[str, Any] = {
    "flip_horizontal": True,
    "flip_vertical": 0.3,
    "crop": 0.2,
    "rotate": 15,
    "scale": 0.2,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.1,
    "cutout": 0.3,
}


@pytest.fixture
def images() -> torch.Tensor:
    """Colour images (N, C, H, W), not square."""
    return torch.rand(8, 3, 12, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_nothing_is_done_by_default() -> None:
    assert build(Augment(), (3, 12, 16)) is None


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_option_changes_images_within_their_range(name: str, images: torch.Tensor) -> None:
    augment = build(Augment(**{name: EVERYTHING[name]}), (3, 12, 16))
    assert augment is not None
    torch.manual_seed(0)
    changed = augment(images)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert changed.abs().max() <= 1
    assert not torch.equal(changed, images)


@pytest.mark.parametrize("name", [*EVERYTHING, "all"])
def test_the_state_of_torchs_generator_decides_everything(name: str, images: torch.Tensor) -> None:
    augment = build(Augment(**(EVERYTHING if name == "all" else {name: EVERYTHING[name]})), (3, 12, 16))
    assert augment is not None
    torch.manual_seed(5)
    augment(images)
    state = torch.get_rng_state()
    first = [augment(images), augment(images)]
    torch.set_rng_state(state)
    again = [augment(images), augment(images)]
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])


def test_true_flips_half_of_the_images() -> None:
    augment = build(Augment.model_validate({"flip_horizontal": True}), (1, 1, 2))
    assert augment is not None
    pairs = torch.tensor([-1.0, 1.0]).expand(4000, 1, 1, 2)
    torch.manual_seed(0)
    flipped = (augment(pairs)[:, 0, 0, 0] == 1).float().mean()
    assert 0.45 < flipped < 0.55


def test_cutout_blanks_a_square_and_no_more() -> None:
    augment = build(Augment(cutout=0.5), (1, 8, 8))
    assert augment is not None
    blank = (augment(torch.ones(500, 1, 8, 8)) == 0).sum(dim=(1, 2, 3))
    assert blank.max() == 16
    assert blank.min() >= 4


def test_light_only_moves_whole_pixels(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    assert set(light(images).flatten().tolist()) <= set(images.flatten().tolist())


def test_light_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 1, 4, 8, dtype=torch.float64, requires_grad=True)

    def moved(values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return light(values).square()

    assert torch.autograd.gradgradcheck(moved, images)


@pytest.mark.parametrize(("option", "channels"), [("hue", 1), ("saturation", 4), ("contrast", 2)])
def test_colour_options_that_the_channels_do_not_allow_are_refused(option: str, channels: int) -> None:
    with pytest.raises(UserError, match="channels"):
        build(Augment(**{option: 0.1}), (channels, 8, 8))
