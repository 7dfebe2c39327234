"""Projection: a generator's own samples are found again, the same way each time, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sparring.errors import UserError
from sparring.exploring.projection import project
from sparring.imaging.likeness import ImageLikeness, read_images
from sparring.trained import Trained

torch.set_num_threads(1)
LIKENESS = ImageLikeness(None)


@pytest.fixture(params=["plain", "styled", "classes"])
def trained(request: pytest.FixtureRequest) -> Trained:
    return request.getfixturevalue(request.param)


def own_samples(trained: Trained, count: int) -> Tensor:
    return trained.render(trained.codes(count, seed=77))["data"]


def test_own_samples_are_found_again_much_nearer_than_by_drawing(trained: Trained) -> None:
    target = own_samples(trained, 2)
    found = project(trained, target, LIKENESS, steps=100, restarts=2)
    assert bool((found.after < 0.5 * found.before).all())
    again = trained.render(found.codes)["data"]
    torch.testing.assert_close(again, found.samples["data"])
    torch.testing.assert_close(LIKENESS(again, target), found.after)


def test_the_same_seed_finds_the_same_and_weights_stay_as_they_were(trained: Trained) -> None:
    target = own_samples(trained, 1)
    before = {name: value.clone() for name, value in trained.game.state_dict().items()}
    one, other = (project(trained, target, LIKENESS, steps=5, restarts=2, seed=3) for _ in range(2))
    assert torch.equal(one.codes["code"], other.codes["code"])
    assert all(torch.equal(value, before[name]) for name, value in trained.game.state_dict().items())
    assert all(each.requires_grad and each.grad is None for each in trained.game.generator.parameters())  # type: ignore[union-attr]
    moved = project(trained, target, LIKENESS, steps=5, restarts=2, seed=4)
    assert not torch.equal(one.codes["code"], moved.codes["code"])


def test_latents_keep_the_length_of_draws(plain: Trained) -> None:
    """Of a picture that the generator cannot make, which would otherwise pull them ever further out."""
    target = torch.ones(1, 1, 12, 8)
    found = project(plain, target, LIKENESS, steps=150, restarts=2)
    assert found.codes["code"].square().mean().item() == pytest.approx(1, abs=0.5)


def test_each_layer_finds_a_code_of_its_own_in_the_second_half(styled: Trained) -> None:
    target = own_samples(styled, 1)
    codes = project(styled, target, LIKENESS, steps=40, restarts=1).codes["code"]
    assert not torch.allclose(codes[:, 0], codes[:, 1])
    short = project(styled, target, LIKENESS, steps=1, restarts=1).codes["code"]
    assert torch.equal(short[:, 0], short[:, 1])


def test_the_class_is_the_one_asked_for(classes: Trained) -> None:
    target = own_samples(classes, 2)
    assert project(classes, target, LIKENESS, steps=1, restarts=2, label="emu").codes["label"].tolist() == [2, 2]


def test_what_cannot_be_projected_is_the_users_error(plain: Trained) -> None:
    with pytest.raises(UserError, match=r"a target of shape \(1, 8, 8\) for a generator of \(1, 12, 8\)"):
        project(plain, torch.zeros(1, 1, 8, 8), LIKENESS)
    with pytest.raises(UserError, match="0 steps"):
        project(plain, torch.zeros(1, 1, 12, 8), LIKENESS, steps=0)


def test_the_likeness_is_0_for_equal_images_and_its_slope_is_finite_everywhere() -> None:
    image = torch.rand(3, 1, 28, 28) * 2 - 1
    assert LIKENESS(image, image).abs().max() < 1e-5
    # Opposite pictures: where scales are multiplied, their roots have no slope here.
    moving = (-image).clone().requires_grad_()
    distance = LIKENESS(moving, image)
    (slope,) = torch.autograd.grad(distance.sum(), moving)
    assert slope.isfinite().all() and slope.abs().sum() > 0
    nearer = LIKENESS(image + 0.1 * torch.randn_like(image), image)
    assert bool((nearer < distance.detach()).all())


def test_photos_are_fitted_as_the_data_was_and_that_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (16, 12), (255, 0, 0)).save(tmp_path / "red.png")
    Image.fromarray(np.arange(96, dtype=np.uint8).reshape(12, 8)).save(tmp_path / "grey.png")
    files = [tmp_path / "red.png", tmp_path / "grey.png"]
    batch, notes = read_images(files, (1, 12, 8), fit="crop")
    assert batch["data"].shape == (2, 1, 12, 8)
    assert ((batch["data"][1] + 1) * 127.5).round().flatten().tolist() == list(range(96))
    assert len(batch["data"][0].unique()) == 1  # cropped: padded, it would have black beside the red
    assert len(notes) == 1 and "12×16 pixels of 3 channels, made 12×8 of 1" in notes[0]
    (tmp_path / "no.png").write_text("no image")
    for name, message in (("no.png", "not an image"), ("none.png", "no such file")):
        with pytest.raises(UserError, match=message):
            read_images([tmp_path / name], (1, 12, 8), fit="crop")
