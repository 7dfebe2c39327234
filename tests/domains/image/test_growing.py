"""Progressive growing: the published networks, sizes that fade in as the paper says, and runs that go on in the middle of a fade."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.image.games.growing import GrowthOptions, Plan, growth_plan
from sparring.domains.image.networks.progan import ProganDiscriminator, ProganGenerator
from sparring.errors import UserError
from sparring.nn.progressive import Growth
from sparring.recipe import Recipe, load_recipe
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

torch.set_num_threads(1)

SHAPE = (3, 20, 28)  # sizes 5×7, 10×14, 20×28
CLASSES = ("ant", "bee", "cat")


class Noise:
    """Random images with labels."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(24, *SHAPE, generator=generator) * 2 - 1
        self.labels = torch.arange(24) % 3
        self.spec = DataSpec(SHAPE, CLASSES, 24, {"label_counts": [8, 8, 8]})
        self.fingerprint, self.broken = "noise", []

    def __len__(self) -> int:
        return 24

    def to(self, device: torch.device) -> Self:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(data=self.images[indices], label=self.labels[indices])


def tiny(*keys: str) -> Recipe:
    sizes = ["model.generator.width=4", "model.discriminator.width=4", "train.batch_size=4", "model.latent=8"]
    return load_recipe("progan").override([*sizes, "train.steps=10", "train.checkpoint_every=4", *keys])


def make_game(*keys: str) -> Any:
    seed_everything(0)
    return open_domain("image").build_game(tiny(*keys), Noise().spec)


def make_trainer(run: Run | None = None, *keys: str) -> Trainer:
    recipe = tiny(*keys)
    return Trainer(make_game(*keys), Noise(), recipe, Engine(device="cpu"), run, say=lambda text: None)


# The networks


def test_at_1024_pixels_the_networks_are_the_published_ones() -> None:
    """23.1 M parameters each (Karras et al. 2018, table 2)."""
    options = load_recipe("progan-1024").model
    own = {role: {**options[role], "name": None} for role in ("generator", "discriminator")}
    for each in own.values():
        del each["name"]
    with torch.device("meta"):
        G = ProganGenerator((3, 1024, 1024), options["latent"], 0, **own["generator"])
        D = ProganDiscriminator((3, 1024, 1024), 0, **own["discriminator"])
    assert sum(each.numel() for each in G.parameters()) == 23_079_115
    assert sum(each.numel() for each in D.parameters()) == 23_087_249


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0, 1.5, 2.0])
def test_a_network_of_any_age_draws_the_full_size_and_plays_at_its_own(progress: float) -> None:
    G, D = ProganGenerator(SHAPE, 8, 0, width=4), ProganDiscriminator(SHAPE, 0, width=4)
    for network in (G, D):
        network.growth.move_to(progress)
    size = G.sizes[G.growth.level]
    latent = torch.randn(4, 8)
    small, full = G(latent, grown=False), G(latent)
    assert small.shape == (4, 3, *size)
    assert full.shape == (4, *SHAPE)
    assert torch.equal(full, F.interpolate(small, size=SHAPE[1:]))
    assert D(small).shape == (4,)


def test_a_size_that_fades_in_is_mixed_with_the_one_before() -> None:
    """Image = (1 − α)·enlarged(toRGB of the size before) + α·toRGB of the new one, of one pass (figure 2b)."""
    G = ProganGenerator(SHAPE, 8, 0, width=4)
    latent = torch.randn(4, 8)
    G.growth.move_to(0.25)
    maps = G.synthesis(latent, None, 2)
    coarse, fine = (to_image(x) for to_image, x in zip(G.to_image, maps, strict=False))
    torch.testing.assert_close(G(latent, grown=False), 0.75 * F.interpolate(coarse, size=(10, 14)) + 0.25 * fine)


def test_as_a_fade_begins_the_discriminator_judges_what_it_judged_before() -> None:
    D, images = ProganDiscriminator(SHAPE, 0, width=4), torch.randn(4, *SHAPE)
    D.growth.move_to(1)
    before = D(images)
    D.growth.move_to(1 + 1e-6)
    torch.testing.assert_close(D(images), before, rtol=1e-4, atol=1e-4)
    D.growth.move_to(2)
    assert not torch.allclose(D(images), before, rtol=1e-2)


def test_real_images_show_as_much_detail_as_the_fading_size_has_weight() -> None:
    growth, images = Growth([(5, 7), (10, 14), (20, 28)]), torch.randn(2, *SHAPE)
    half = F.avg_pool2d(images, 2)
    assert torch.equal(growth.shown(images), images)
    growth.move_to(1)
    assert torch.equal(growth.shown(images), half)
    growth.move_to(1.25)
    torch.testing.assert_close(growth.shown(images), 0.75 * F.interpolate(half, size=(20, 28)) + 0.25 * images)


def test_weights_tell_a_new_network_how_far_they_had_grown() -> None:
    G, other = ProganGenerator(SHAPE, 8, 0, width=4), ProganGenerator(SHAPE, 8, 0, width=4)
    G.growth.move_to(0.4)
    other.load_state_dict(G.state_dict())
    assert (other.growth.level, other.growth.fading) == (1, True)
    latent = torch.randn(2, 8)
    assert torch.equal(other(latent), G(latent))


def test_the_gradient_penalty_of_a_fading_network_differentiates_twice() -> None:
    D = ProganDiscriminator((1, 8, 8), 0, width=2, max_width=2).double()
    D.growth.move_to(0.5)
    torch.manual_seed(0)
    weight = D.falls[0].body[0][0].weight
    images = torch.randn(4, 1, 8, 8, dtype=torch.float64)

    def penalty(own: Tensor) -> Tensor:
        x = images.clone().requires_grad_()
        logits = torch.func.functional_call(D, {"falls.0.body.0.0.weight": own}, (x,))
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(penalty, (weight.detach().clone().requires_grad_(),))


# The plan


def test_sizes_stand_and_fade_in_as_the_paper_says() -> None:
    """The first stands for S, then each fades in over F and stands for S; 0.5 of the time each."""
    plan = Plan(rises=2, steps=8, fade=0.5)
    assert [plan.progress(step) for step in range(4)] == [0] * 4
    assert [plan.progress(step) for step in range(4, 8)] == [0.25, 0.5, 0.75, 1]
    assert [plan.progress(step) for step in range(8, 12)] == [1] * 4
    assert [plan.progress(step) for step in range(12, 16)] == [1.25, 1.5, 1.75, 2]
    assert [plan.progress(step) for step in (16, 17, 10**6)] == [2] * 3
    assert {Plan(2, 8, 0.0).progress(step) for step in range(40)} == {0, 1, 2}


@pytest.mark.parametrize(("rises", "steps", "fade"), [(1, 3.3, 0.5), (4, 7.7, 0.9), (3, 0.4, 0.5), (8, 100, 1.0)])
def test_progress_never_falls_and_ends_full_grown(rises: int, steps: float, fade: float) -> None:
    plan = Plan(rises, steps, fade)
    path = [plan.progress(step) for step in range(int(rises * steps) + 3)]
    assert path == sorted(path)
    assert path[-1] == rises
    assert all(0 <= progress <= rises for progress in path)


def test_the_plan_follows_from_the_run_or_from_images() -> None:
    assert growth_plan(2, GrowthOptions(until=0.5), tiny()) == Plan(2, 2.5, 0.5)
    assert growth_plan(2, GrowthOptions(images=400), tiny()) == Plan(2, 100.0, 0.5)
    assert growth_plan(2, GrowthOptions(until=0), tiny()).progress(0) == 2
    endless = tiny("train.steps=null", "train.minutes=1")
    assert growth_plan(2, GrowthOptions(until=0), endless).progress(0) == 2
    with pytest.raises(UserError, match=r"give train.steps, or model.growth.images"):
        growth_plan(2, GrowthOptions(), endless)


# The game


def test_what_has_not_come_in_yet_rests_and_joins_the_optimiser_when_it_does() -> None:
    trainer = make_trainer(None, "model.growth={images: 12, fade: 1}")  # 3 steps a size
    trainer.game.train()
    generator: nn.Module = trainer.game.generator
    late = generator.synthesis[2].body[0][0].weight
    before = late.detach().clone()
    for _ in range(3):
        trainer.play_step()
    assert torch.equal(late, before)
    assert late not in trainer.players["generator"].optimizer.state
    trainer.play_step()
    assert not torch.equal(late, before)
    assert trainer.players["generator"].optimizer.state[late]["step"] == 1
    assert trainer.read_losses()["watch/generator/growth"] == pytest.approx(4 / 3)


@pytest.mark.parametrize("stop", [4, 8], ids=["in the first fade", "in the last fade"])
def test_a_run_resumed_in_the_middle_of_a_fade_equals_an_uninterrupted_one_bit_for_bit(
    stop: int, tmp_path: Path
) -> None:
    keys = ("model.growth={until: 1, fade: 0.8}", "train.ema.half_life=20")
    whole = make_trainer(Run(tmp_path / "whole"), *keys)
    whole.train()
    resumed = make_trainer(Run(tmp_path / "resumed"), *keys)
    (checkpoint,) = [each for each in list_checkpoints(tmp_path / "whole" / "checkpoints") if each.step == stop]
    resumed.load(checkpoint)
    assert resumed.game.generator.growth.fading
    with resumed.sampling() as game:
        assert game.generator.growth.fading
        assert game.generate(2, rng=torch.Generator().manual_seed(0))["data"].shape == (2, *SHAPE)
    resumed.train()
    for one, other in ((whole.game.state_dict(), resumed.game.state_dict()),
                       (whole.average.tensors(), resumed.average.tensors())):  # fmt: skip
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_fakes_and_reals_meet_at_the_size_in_play() -> None:
    game = make_game("model.growth={images: 12, fade: 1}").train()
    seen: list[torch.Size] = []
    game.discriminator.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    batch = Noise().batch(torch.arange(4))
    game.loss(Turn("discriminator"), batch, 1)
    assert {shape[1:] for shape in seen} == {(3, 10, 14)}
    game.loss(Turn("generator", fresh=False), batch, 4)
    assert seen[-1] == (4, *SHAPE)


def test_growing_needs_networks_that_grow() -> None:
    with pytest.raises(UserError, match=r"the game 'growing' needs networks that grow: model.generator.name=progan"):
        make_game("model.generator.name=dcgan")


def test_growing_refuses_an_optimiser_that_counts_one_step_for_all_weights() -> None:
    with pytest.raises(UserError, match=r"train.shard_optimizer counts the steps of all weights together"):
        make_game("train.shard_optimizer=true")
    make_game("train.shard_optimizer=true", "model.growth.until=0")
