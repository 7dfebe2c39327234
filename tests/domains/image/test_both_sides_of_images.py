"""Augmentation in whole trainings of images: resumed bit for bit, with every loss, under gradient penalties, small and large data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sparring
from sparring.core.both_sides import BothSides
from sparring.core.game import Batch, DataSpec
from sparring.core.losses import LOSSES
from sparring.domains import open_domain
from sparring.errors import UserError
from sparring.nn.ada import AdaptiveAugmentation
from sparring.recipe import load_recipe
from sparring.run import Run
from sparring.training.checkpoint import newest_good

torch.set_num_threads(1)
SMALL = ["model.generator.width=4", "model.discriminator.width=4", "model.discriminator.norm=none"]
QUIET: dict[str, Any] = {"device": "cpu", "quiet": True}


def make_game(*keys: str, count: int = 100) -> Any:
    torch.manual_seed(0)
    spec = DataSpec((3, 8, 8), ("a", "b"), count, {"label_counts": [1, 1]})
    return open_domain("image").build_game(load_recipe("dcgan").override([*SMALL, *keys]), spec)


@pytest.mark.parametrize("name", ["ada", "apa"])
def test_a_resumed_run_goes_on_with_p_and_r_t_and_equals_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    keys = [
        *SMALL, "train.batch_size=8", f"loss.augment.name={name}", "loss.augment.p=0.3", "loss.augment.speed=200",
        "loss.penalties.lecam.weight=0.1", "machine.precision=32", "machine.compile=false",
    ]  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    sparring.train("dcgan", data="digits", steps=6, out=whole, set=keys, **QUIET)
    sparring.train("dcgan", data="digits", steps=3, out=parts, set=keys, **QUIET)
    sparring.resume(parts, steps=6, **QUIET)
    ends = []
    for run in (whole, parts):
        checkpoint = newest_good(Run(run).checkpoints, lambda text: None)
        assert checkpoint is not None and checkpoint.step == 6
        ends.append(checkpoint.tensors("game"))
    assert {"both_sides.probability", "overfitting.signal", "overfitting.levels"} <= ends[0].keys()
    assert ends[0]["both_sides.probability"] != 0.3
    for key, value in ends[0].items():
        assert torch.equal(value, ends[1][key]), key


@pytest.mark.parametrize("name", ["ada", "diffaugment", "apa"])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_augmentation_goes_with_every_loss_and_with_gradient_penalties(loss: str, name: str) -> None:
    penalties = ["loss.penalties.r1.weight=1", "loss.penalties.r2.weight=1", "loss.penalties.lecam.weight=1"]
    game = make_game(f"loss.name={loss}", f"loss.augment.name={name}", *penalties)
    if name != "diffaugment":
        game.both_sides.probability.fill_(0.8)
    batch = Batch(data=torch.rand(6, 3, 8, 8) * 2 - 1)
    for turn in game.turns(0):
        losses = game.loss(turn, batch, 0)
        parameters = list(game.players()[turn.player].parameters())
        losses.total.backward(inputs=parameters)
        moved = torch.cat([each.grad.flatten() for each in parameters if each.grad is not None])
        assert moved.isfinite().all() and moved.abs().max() > 0


def test_the_generator_learns_through_the_change() -> None:
    """The gradient of its turn is that of D ∘ T ∘ G, for the T that was drawn."""
    game = make_game("loss.augment.name=ada", "loss.augment.p=1.0", "loss.share_fakes=false").double()
    batch = Batch(data=torch.rand(4, 3, 8, 8, dtype=torch.float64))
    game.noise = lambda count, rng=None: torch.ones(count, 100, dtype=torch.float64)
    turn = game.turns(0)[-1]
    weight = next(game.generator.parameters())
    still, probe = weight.detach().clone(), torch.zeros_like(weight)
    probe.view(-1)[7] = 1e-6

    def value(offset: float) -> torch.Tensor:
        weight.data = still + offset * probe
        torch.manual_seed(2)
        return game.loss(turn, batch, 0)["adversarial"]

    game.generator.eval()
    slope = (value(1) - value(-1)).item() / 2e-6
    value(0).backward()
    assert weight.grad is not None
    assert weight.grad.view(-1)[7].item() == pytest.approx(slope, rel=1e-4)


def test_auto_looks_at_the_number_of_images() -> None:
    keys = ("loss.augment.name=auto", "loss.augment.below=1000")
    assert isinstance(make_game(*keys, count=999).both_sides, AdaptiveAugmentation)
    assert type(make_game(*keys, count=1000).both_sides) is BothSides


def test_an_option_of_another_augmentation_is_an_error() -> None:
    with pytest.raises(UserError, match=r"loss\.augment\.target"):
        make_game("loss.augment.name=diffaugment", "loss.augment.target=0.5")
