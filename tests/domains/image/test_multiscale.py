"""MSG-GAN and LAPGAN: all sizes of a sample at once, packed into one row, with the losses and penalties of single images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core import chance
from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.image.networks.lapgan import LapganDiscriminator, LapganGenerator
from sparring.domains.image.networks.msg import MsgDiscriminator, MsgGenerator
from sparring.errors import UserError
from sparring.nn.pyramid import Packing, pyramid
from sparring.recipe import Recipe, load_recipe
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

torch.set_num_threads(1)

SHAPE = (3, 20, 28)
CLASSES = ("ant", "bee", "cat")
D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)


class Noise:
    """Random images with labels."""

    def __init__(self, shape: tuple[int, int, int] = SHAPE) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(24, *shape, generator=generator) * 2 - 1
        self.labels = torch.arange(24) % 3
        self.spec = DataSpec(shape, CLASSES, 24, {"label_counts": [8, 8, 8]})
        self.fingerprint, self.broken = "noise", []

    def __len__(self) -> int:
        return 24

    def to(self, device: torch.device) -> Self:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(data=self.images[indices], label=self.labels[indices])


def tiny(name: str, *keys: str) -> Recipe:
    sizes = ["model.generator.width=4", "model.discriminator.width=4", "train.batch_size=4", "train.steps=4"]
    hidden = ["model.generator.hidden=8", "model.discriminator.hidden=8"] if name == "lapgan" else []
    return load_recipe(name).override([*sizes, *hidden, "model.latent=8", *keys])


def make_game(name: str, *keys: str, shape: tuple[int, int, int] = SHAPE) -> Any:
    seed_everything(0)
    return open_domain("image").build_game(tiny(name, *keys), Noise(shape).spec).train()


def make_batch(count: int = 4) -> Batch:
    return Noise().batch(torch.arange(count))


# Pyramids


def test_packing_is_undone_by_unpacking() -> None:
    packing = Packing(3, [(5, 7), (10, 14), (20, 28)])
    levels = pyramid(torch.randn(4, *SHAPE), packing.sizes)
    row = packing.pack(levels)
    assert row.shape == (4, sum(packing.lengths))
    assert all(torch.equal(one, other) for one, other in zip(packing.unpack(row), levels, strict=True))


def test_a_pyramid_is_made_of_averages() -> None:
    images = torch.randn(2, *SHAPE)
    coarse, half, whole = Packing(3, [(5, 7), (10, 14), (20, 28)]).read(images)
    assert torch.equal(whole, images)
    torch.testing.assert_close(half, F.avg_pool2d(images, 2))
    torch.testing.assert_close(coarse, F.avg_pool2d(images, 4))


# MSG-GAN


def test_the_generator_shows_every_size_and_the_largest_is_its_sample() -> None:
    network, latent = MsgGenerator(SHAPE, 8, 0, width=4), torch.randn(2, 8)
    shown = network.packing.unpack(network(latent, pyramid=True))
    assert [tuple(image.shape[1:]) for image in shown] == [(3, 5, 7), (3, 10, 14), (3, 20, 28)]
    assert torch.equal(shown[-1], network(latent))


@pytest.mark.parametrize("combine", ["simple", "lin_cat", "cat_lin"])
def test_the_discriminator_sees_every_size(combine: Any) -> None:
    """However an image joins: the logit moves with each of them."""
    torch.manual_seed(0)
    network = MsgDiscriminator(SHAPE, 3, width=4, combine=combine)
    row = network.packing.of(torch.randn(4, *SHAPE)).requires_grad_()
    network(row, torch.tensor([0, 1, 2, 0])).sum().backward()
    assert row.grad is not None
    assert all(part.abs().max() > 0 for part in row.grad.split(network.packing.lengths, dim=1))
    assert network(torch.randn(4, *SHAPE), torch.tensor([0, 1, 2, 0])).shape == (4,)


def test_each_of_the_generators_images_hears_the_discriminator() -> None:
    """The point of it all: the coarse images' layers have gradients of their own (their figure 1)."""
    game = make_game("msg-gan")
    game.loss(G, make_batch(), 0).total.backward()
    assert all(layer.weight.grad.abs().max() > 0 for layer in game.generator.to_image)


def test_the_gradient_penalty_is_the_mean_over_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their sec. 3: the average of (‖∇D‖ − 1)² by each input, at pyramids of which all images are mixed alike."""
    game = make_game("msg-gan", "loss.penalties.wgan_gp.weight=1")
    batch = make_batch()
    real, fake = game.packing.of(batch["data"]), game.packing.of(torch.rand(4, *SHAPE))
    shares = torch.tensor([0.1, 0.4, 0.7, 1.0])[:, None]
    monkeypatch.setattr(game, "draw", lambda batch: fake)
    monkeypatch.setattr(chance, "uniform", lambda *args, **options: shares)
    part = game.loss(D, batch, 0)["wgan_gp"]

    inputs = [each.requires_grad_() for each in game.packing.unpack(torch.lerp(fake, real, shares))]
    logits = game.discriminator(game.packing.pack(inputs), batch["label"])
    gradients = torch.autograd.grad(logits.sum(), inputs)
    by_hand = [(each.flatten(1).norm(dim=1) - 1).square().mean() for each in gradients]
    torch.testing.assert_close(part, torch.stack(by_hand).mean())


# LAPGAN


def test_samples_rise_from_coarse_to_fine() -> None:
    """Each image is the one before, enlarged, plus detail that is made of it and of noise (eq. 4)."""
    torch.manual_seed(0)
    network = LapganGenerator((3, 28, 28), 8, 0, width=4, hidden=8)
    assert network.packing.sizes == [(7, 7), (14, 14), (28, 28)]
    assert network.latent_size == 8 + 14 * 14 + 28 * 28
    latent = torch.randn(2, network.latent_size)
    image = network.coarsest(latent[:, :8])
    for detail, plane in zip(network.details, (latent[:, 8:204], latent[:, 204:]), strict=True):
        large = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
        image = large + detail.body(torch.cat([large, plane.reshape(2, 1, *large.shape[2:])], dim=1))
    torch.testing.assert_close(network(latent), image)


def test_in_training_detail_is_added_to_real_images() -> None:
    torch.manual_seed(0)
    network = LapganGenerator((3, 28, 28), 8, 0, width=4, hidden=8)
    real = torch.randn(2, 3, 28, 28)
    for layer in network.details:
        torch.nn.init.zeros_(layer.body[-1].weight)
        torch.nn.init.zeros_(layer.body[-1].bias)
    _, middle, large = network.packing.unpack(
        network(torch.randn(2, network.latent_size), real=network.packing.of(real))
    )
    for image, of, factor in ((middle, F.avg_pool2d(real, 4), 2), (large, F.avg_pool2d(real, 2), 2)):
        torch.testing.assert_close(
            image, F.interpolate(of, scale_factor=factor, mode="bilinear", align_corners=False), rtol=1e-5, atol=1e-5
        )


def test_every_pair_plays_its_own_game() -> None:
    """The logit of a size depends on no other size's image, and its gradient moves no other size's networks."""
    game = make_game("lapgan", "model.discriminator.dropout=0")
    batch = make_batch()
    row = game.packing.of(batch["data"]).requires_grad_()
    logits = game.discriminator(row, batch["label"])
    assert logits.shape == (4, 3)
    for index in range(3):
        (gradient,) = torch.autograd.grad(logits[:, index].sum(), row, retain_graph=True)
        moved = [bool(part.abs().max() > 0) for part in gradient.split(game.packing.lengths, dim=1)]
        assert moved == [other == index for other in range(3)]
    fakes = game.packing.unpack(game.draw(Batch(batch, data=row.detach())))
    fakes[1].sum().backward()
    moved = {name for name, each in game.generator.named_parameters() if each.grad is not None and each.grad.any()}
    assert moved == {name for name, _ in game.generator.named_parameters() if name.startswith("details.0.")}


def test_the_loss_is_the_mean_of_the_pairs_losses() -> None:
    game = make_game("lapgan", "model.discriminator.dropout=0", "loss.share_fakes=true")
    batch = make_batch()
    seed_everything(1)
    loss = game.loss(D, batch, 0)
    fake = batch.memo["fake"].detach()
    real_logits = game.discriminator(game.packing.of(batch["data"]), batch["label"])
    fake_logits = game.discriminator(fake, batch["label"])
    pairs = [F.softplus(-real_logits[:, index]).mean() + F.softplus(fake_logits[:, index]).mean() for index in range(3)]
    torch.testing.assert_close(loss["adversarial"], torch.stack(pairs).mean())
    assert {"accuracy_10x7", "accuracy_10x14", "accuracy_20x28"} <= set(loss.watch)


# Both


@pytest.mark.parametrize("name", ["msg-gan", "lapgan"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 33, 17), (4, 11, 30)], ids=str)
def test_every_shape_is_played_with_gradient_penalties(name: str, shape: tuple[int, int, int]) -> None:
    keys = ("loss.name=relativistic_pairing", "loss.penalties={r1: {weight: 1}, wgan_gp: {weight: 1}}")
    game, data = make_game(name, *keys, shape=shape), Noise(shape)
    batch = data.batch(torch.arange(4))
    for turn in (D, G):
        game.loss(turn, batch, 0).total.backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in game.parameters())
    assert game.eval().generate(2)["data"].shape == (2, *shape)


@pytest.mark.parametrize(("name", "network"), [("msg-gan", "msg"), ("lapgan", "lapgan")])
def test_the_penalty_of_a_packed_pyramid_differentiates_twice(name: str, network: str) -> None:
    torch.manual_seed(0)
    shape = (1, 8, 8)
    judge: Any = MsgDiscriminator(shape, 0, width=2, max_width=2) if network == "msg" else LapganDiscriminator(
        shape, 0, width=2, hidden=3, dropout=0.0
    )  # fmt: skip
    judge = judge.double()
    row = judge.packing.of(torch.randn(4, *shape, dtype=torch.float64))
    key = "from_image.0.weight" if network == "msg" else "judges.0.0.weight"

    def penalty(weight: Tensor) -> Tensor:
        x = row.clone().requires_grad_()
        logits = torch.func.functional_call(judge, {key: weight}, (x,))
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(penalty, (judge.get_parameter(key).detach().clone().requires_grad_(),))


@pytest.mark.parametrize("name", ["msg-gan", "lapgan"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    keys = ("train.checkpoint_every=2", "train.ema.half_life=20")

    def trainer(folder: str) -> Trainer:
        run = Run(tmp_path / folder)
        return Trainer(
            make_game(name, *keys), Noise(), tiny(name, *keys), Engine(device="cpu"), run, say=lambda t: None
        )

    whole, resumed = trainer("whole"), trainer("resumed")
    whole.train()
    (checkpoint,) = [each for each in list_checkpoints(tmp_path / "whole" / "checkpoints") if each.step == 2]
    resumed.load(checkpoint)
    resumed.train()
    for one, other in ((whole.game.state_dict(), resumed.game.state_dict()),
                       (whole.average.tensors(), resumed.average.tensors())):  # fmt: skip
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ["msg-gan", "lapgan"])
def test_what_is_exported_draws_what_the_game_draws(name: str) -> None:
    game = make_game(name).eval()
    function = game.exportable()
    codes = game.draw_codes(3, rng=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = game.generate(3, rng=torch.Generator().manual_seed(0))["data"]
        assert torch.equal(function(codes["code"], codes["label"]), drawn)
    assert function.draw(2, seed=0)["latent"].shape == (2, game.latent)


@pytest.mark.parametrize("name", ["msg-gan", "lapgan"])
def test_what_cannot_be_played_on_pyramids_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match=r"it needs model.generator.name="):
        make_game(name, "model.discriminator={name: dcgan}")
    with pytest.raises(UserError, match="changes images of one size"):
        make_game(name, "loss.augment={name: diffaugment}")
    with pytest.raises(UserError, match="give an augmentation"):
        make_game(name, "loss.penalties.consistency.weight=1").loss(D, make_batch(), 0)


def test_both_sides_of_a_pyramid_have_the_same_sizes() -> None:
    with pytest.raises(UserError, match=r"smallest and model.discriminator.smallest must agree"):
        make_game("lapgan", "model.generator.smallest=4")
