"""FastGAN: networks for every size with the published shape of 256 pixels, and a discriminator that draws what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.image.networks.fastgan import (
    FastganDiscriminator,
    FastganGenerator,
    SkipExcitation,
    TwiceUp,
    quarter,
)
from sparring.errors import UserError
from sparring.metrics import perceptual
from sparring.metrics.perceptual import open_lpips
from sparring.recipe import load_recipe

torch.set_num_threads(1)

SHAPES = [(1, 8, 8), (3, 5, 7), (1, 28, 28), (2, 33, 20), (4, 64, 32), (1, 4, 40)]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def play(*keys: str, shape: tuple[int, int, int] = (1, 16, 12)) -> tuple[Any, Batch]:
    torch.manual_seed(0)
    small = ["model.generator.width=2", "model.discriminator.width=2", "model.discriminator.decoder_width=2"]
    game = open_domain("image").build_game(load_recipe("fastgan").override([*small, *keys]), DataSpec(shape))
    return game.train(), Batch(data=torch.rand(5, *shape) * 2 - 1)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_networks_fit_images_of_every_shape(shape: tuple[int, int, int], classes: int) -> None:
    torch.manual_seed(0)
    generator = FastganGenerator(shape, 6, classes, width=2)
    judge = FastganDiscriminator(shape, classes, width=2, decoder_width=2)
    label = torch.arange(3) if classes else None
    images = generator(torch.randn(3, 6), label)
    assert images.shape == (3, *shape) and images.abs().max() <= 1
    features = judge.features(images, label)
    assert features.shape == (3, judge.feature_count)
    whole, part = judge.reconstruct(features, torch.tensor([[True, False], [False, True], [True, True]]))
    assert whole.shape == (3, *shape) and part.shape == (3, shape[0], shape[1] // 2, shape[2] // 2)


def test_channels_at_256_pixels_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        generator, judge = FastganGenerator((3, 256, 256), 256, 0), FastganDiscriminator((3, 256, 256), 0)
    # 4, 8, 16, … pixels, as multiples of 64: 16, 8, 4, 2, 2, 1, ½.
    assert generator.first[0].out_channels == 2 * 1024
    lasts = [stage.convolutions[-1] if isinstance(stage, TwiceUp) else stage.body[0] for stage in generator.stages]
    assert [layer.out_channels // 2 for layer in lasts] == [512, 256, 128, 128, 64, 32]
    assert [isinstance(stage, TwiceUp) for stage in generator.stages] == [True, False, True, False, True, False]
    # 64 ← 4, 128 ← 8, 256 ← 16 pixels.
    weighed = [(each.weigh[1].in_channels, each.weigh[1].out_channels) for each in generator.excitations]
    assert weighed == [(1024, 128), (512, 64), (256, 32)]
    assert [judge.enter[0].out_channels, *(each.convolve[0].out_channels for each in judge.stages)] == [
        16, 32, 64, 128, 256, 512,
    ]  # fmt: skip
    assert (count(generator), count(judge)) == (29_127_654, 9_981_616)


def test_images_above_256_pixels_enter_by_strided_convolutions() -> None:
    with torch.device("meta"):
        judge = FastganDiscriminator((3, 1024, 1024), 0)
    assert [layer.stride for layer in judge.enter if isinstance(layer, nn.Conv2d)] == [(2, 2), (2, 2)]
    assert judge.last == (512, 8, 8) and judge.middle == (256, 16, 16)


def test_skip_layer_excitation_weighs_channels_between_nothing_and_all() -> None:
    few, many = torch.randn(2, 3, 5, 4), torch.rand(2, 7, 9, 11) + 0.1
    layer = SkipExcitation(3, 7)
    weights = layer(few, many) / many
    assert ((weights > 0) & (weights < 1)).all()
    torch.testing.assert_close(weights, weights[:, :, :1, :1].expand_as(weights))
    assert not torch.allclose(weights[0], weights[1])


def test_samples_of_one_latent_are_one_image_in_eval_mode_only() -> None:
    torch.manual_seed(0)
    generator = FastganGenerator((1, 16, 16), 6, 0, width=2)
    for module in generator.modules():
        if type(module).__name__ == "NoiseInput":
            nn.init.constant_(module.strength, 1.0)
    latent = torch.randn(4, 6)
    assert not torch.equal(generator(latent), generator(latent))
    generator.eval()
    torch.testing.assert_close(generator(latent)[:2], generator(latent[:2]))


def test_a_quarter_is_the_corner_that_was_asked_for() -> None:
    images = torch.arange(2 * 5 * 6.0).reshape(2, 1, 5, 6)
    cut = quarter(images, torch.tensor([[True, False], [False, True]]))
    assert torch.equal(cut[0], images[0, :, 3:, :3])
    assert torch.equal(cut[1], images[1, :, :2, 3:])


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_discriminator_minimises_the_errors_of_its_drawings_of_real_images(weight: float) -> None:
    game, batch = play(
        f"model.reconstruction_weight={weight}",
        "loss.augment.name=none",
        "loss.options.noise=0",
        "model.spectral_norm=[]",
    )
    torch.manual_seed(1)
    losses = game.loss(Turn("discriminator"), batch, 0)
    shown = batch["data"]
    features = game.discriminator.features(shown)
    errors = []
    for corner in ((False, False), (False, True), (True, False), (True, True)):
        whole, part = game.discriminator.reconstruct(features, torch.tensor([corner] * 5))
        rows, columns = (slice(8, 16) if corner[0] else slice(0, 8)), (slice(6, 12) if corner[1] else slice(0, 6))
        errors.append((whole - shown).abs().mean() + (part - shown[..., rows, columns]).abs().mean())
    values = sorted(float(error.detach()) * weight for error in errors)
    assert values[0] * 0.98 <= float(losses["reconstruction_l1"].detach()) <= values[-1] * 1.02
    losses["reconstruction_l1"].backward()
    for decoder in (game.discriminator.draw_whole, game.discriminator.draw_part):
        assert decoder.to_image.weight.grad.abs().sum() > 0
    assert game.discriminator.enter[0].weight.grad.abs().sum() > 0


def test_decoders_see_the_augmented_image_and_no_fake() -> None:
    game, batch = play("loss.augment.name=none")
    seen: list[Tensor] = []
    game.difference = lambda drawn, target, perceptual: (seen.append(target), F.l1_loss(drawn, target))[1]
    game.disturb = lambda samples, step: -samples
    game.loss(Turn("discriminator"), batch, 0)
    torch.testing.assert_close(seen[0], -batch["data"])
    assert len(seen) == 2


def test_gradient_penalties_differentiate_the_discriminator_twice() -> None:
    torch.manual_seed(0)
    judge = FastganDiscriminator((1, 8, 8), 0, width=2, decoder_width=2).double().eval()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)

    def slope(x: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(judge(x).sum(), x, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(slope, (images,))


@pytest.fixture
def towers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights that holds nothing yet."""
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_drawings_are_compared_by_lpips_where_its_weights_are_at_hand(towers: Path) -> None:
    game, batch = play("model.reconstruction=auto", "loss.augment.name=none", shape=(1, 32, 32))
    game.prepare(None)
    assert "reconstruction_l1" in game.loss(Turn("discriminator"), batch, 0)
    with pytest.raises(UserError, match="LPIPS"):
        play("model.reconstruction=lpips", shape=(1, 32, 32))[0].prepare(None)

    features, _ = perceptual.convolutions(perceptual.TOWERS["vgg"])
    tensors = {f"features.{name}": value for name, value in features.state_dict().items()}
    torch.save(tensors, towers / perceptual.TOWERS["vgg"].files[0])
    for asked in ("auto", "lpips"):
        game, batch = play(f"model.reconstruction={asked}", "loss.augment.name=none", shape=(1, 32, 32))
        saved = set(game.state_dict())
        game.prepare(None)
        assert set(game.state_dict()) == saved  # VGG is no part of a checkpoint
        distance = open_lpips("vgg")
        drawn, target = torch.rand(2, 1, 32, 32) * 2 - 1, torch.rand(2, 1, 32, 32) * 2 - 1
        expected = distance((drawn + 1) / 2, (target + 1) / 2).mean()
        torch.testing.assert_close(game.difference(drawn, target, True), expected)
        losses = game.loss(Turn("discriminator"), batch, 0)
        losses["reconstruction_lpips"].backward()
        assert game.discriminator.draw_part.to_image.parametrizations.weight.original.grad.abs().sum() > 0
    other, _ = play("model.reconstruction=auto", shape=(1, 32, 32))
    other.load_state_dict(game.state_dict())
    assert other.perceptual  # decided once for the whole training


def test_what_cannot_be_played_is_explained() -> None:
    with pytest.raises(UserError, match="needs a discriminator that draws"):
        play("model.discriminator={name: dcgan, width: 4}")
    with pytest.raises(UserError, match="compares grey and RGB"):
        play("model.reconstruction=lpips", shape=(4, 32, 32))
    with pytest.raises(UserError, match="at least 32 pixels"):
        play("model.reconstruction=lpips", shape=(1, 31, 32))
