"""Restoration: small images and missing colours are made as the papers make them, and filled as they fill them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import sparring
from restored import Photographs, build, tiny
from sparring.core.game import Batch, DataSpec, Game, Turn
from sparring.domains import open_domain
from sparring.domains.translation.colour import grey_of, lab_of, rgb_of
from sparring.domains.translation.games.superresolution import interpolated
from sparring.domains.translation.networks.enlarging import RRDBNet, SRResNet, bicubic
from sparring.domains.translation.networks.vgg import VggDiscriminator
from sparring.domains.translation.shrinking import compress, cut_to_multiple, degrade_realistically, shrink
from sparring.errors import UserError
from sparring.recipe import load_recipe
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

CPU = torch.device("cpu")
RECIPES = ("srresnet", "srgan", "esrgan", "inpaint", "colorize")
PRESETS = ("srgan-96", "esrgan-128", "inpaint-256", "colorize-256")


@pytest.fixture
def photographs() -> Batch:
    return Photographs().batch(torch.arange(4))


def shown(images: Tensor) -> list[Image.Image]:
    pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(each) for each in pixels]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shrinking_is_that_of_pillow(scale: int) -> None:
    images = (torch.rand(2, 3, 48, 36, generator=torch.Generator().manual_seed(1)) * 255).round() / 127.5 - 1
    ours = np.stack([np.asarray(each) for each in shown(shrink(images, scale))])
    theirs = np.stack([
        np.asarray(each.resize((36 // scale, 48 // scale), Image.Resampling.BICUBIC)) for each in shown(images)
    ])  # fmt: skip
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 1  # Pillow rounds between its two passes
    assert (difference == 0).mean() > 0.8


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarging_is_that_of_pillow(scale: int) -> None:
    # Pillow clips between its two passes: no value here overshoots.
    images = (torch.rand(1, 3, 12, 9, generator=torch.Generator().manual_seed(1)) * 100 + 80).round() / 127.5 - 1
    theirs = np.asarray(shown(images)[0].resize((9 * scale, 12 * scale), Image.Resampling.BICUBIC)).astype(int)
    ours = np.asarray(shown(bicubic(images, scale).clamp(-1, 1))[0]).astype(int)
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("quality", [20, 50, 90])
def test_compression_loses_as_much_as_a_jpeg_file(quality: int) -> None:
    rng = torch.Generator().manual_seed(0)
    image = F.interpolate(torch.rand(1, 3, 12, 12, generator=rng) * 2 - 1, (48, 48), mode="bicubic").clamp(-1, 1)
    file = io.BytesIO()
    shown(image)[0].save(file, "JPEG", quality=quality, subsampling=2)
    reread = torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    ours = compress(image, torch.tensor([float(quality)]))
    loss, between = (reread - image).square().mean(), (ours - reread).square().mean()
    assert (ours - image).square().mean() == pytest.approx(float(loss), rel=0.35)
    assert between < 0.6 * loss  # it loses the same things, up to how the colours are enlarged again


def test_realistic_inputs_are_worse_differ_from_sample_to_sample_and_follow_the_generator_of_numbers() -> None:
    images = Photographs(size=(64, 64)).images[:8]
    seeds = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    first, again, other = (degrade_realistically(images, 4, rng) for rng in seeds)
    assert first.shape == (8, 3, 16, 16) and torch.equal(first, again) and not torch.equal(first, other)
    assert first.abs().max() <= 1
    errors = (first - shrink(images, 4)).square().mean((1, 2, 3))
    assert errors.min() > 1e-5 and errors.max() > 3 * errors.min()
    one = degrade_realistically(images[:1].expand(8, -1, -1, -1), 4, seeds[0])
    assert len({each.sum().item() for each in one}) == 8


def parameters(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


def test_the_published_sizes_of_the_generators() -> None:
    with torch.device("meta"):
        assert parameters(SRResNet(3, (3, 96, 96), 4)) == 1_547_350  # 1.5 M in the paper's comparison
        assert parameters(RRDBNet(3, (3, 128, 128), 4)) == 16_697_987


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("network", [SRResNet, RRDBNet])
def test_an_enlarging_network_with_a_bicubic_base_starts_there(network: type[nn.Module], scale: int) -> None:
    made = network(3, (3, 24, 24), scale, width=4, blocks=1, base="bicubic")
    source = torch.rand(1, 3, 5, 7)
    assert torch.equal(made(source), bicubic(source, scale)) and made(source).shape == (1, 3, 5 * scale, 7 * scale)
    bare = network(3, (3, 24, 24), scale, width=4, blocks=1)
    assert bare(source).shape == (1, 3, 5 * scale, 7 * scale)


def test_the_direct_way_up_has_the_same_size() -> None:
    assert SRResNet(1, (1, 24, 24), 3, width=4, blocks=1, direct=True)(torch.rand(2, 1, 4, 5)).shape == (2, 1, 12, 15)


@pytest.mark.parametrize("size", [(16, 16), (30, 45)])
@pytest.mark.parametrize("kernel", [3, 4])
def test_the_discriminator_of_a_size_judges_that_size(size: tuple[int, int], kernel: int) -> None:
    network = VggDiscriminator(3, (3, *size), width=4, levels=3, kernel=kernel, hidden=8)
    logits, [maps] = network.look(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    assert logits.shape == (2, 1) and len(maps) == 6


@pytest.mark.parametrize("name", RECIPES)
def test_every_turn_of_every_recipe_moves_its_player_and_no_other(name: str, photographs: Batch) -> None:
    keys = ("loss.pretrain_steps=0",) if "gan" in name else ()
    game = build(name, *keys).train()
    for turn in game.turns(0):
        game.zero_grad()
        losses = game.loss(turn, photographs, 0)
        assert all(each.isfinite() for each in losses.values())
        own = game.players()[turn.player]
        losses.total.backward(inputs=[each for each in own.parameters() if each.requires_grad])
        assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in own.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_the_published_settings_build(name: str) -> None:
    recipe = load_recipe(name)
    size = recipe.data["size"]
    spec = DataSpec((3, size, size), (), 100, {"paired": False, "input": None})
    domain = open_domain("translation")
    resolved = recipe.override([], **domain.games[recipe.game].resolve(recipe))
    with torch.device("meta"):
        game: Game = domain.games[recipe.game].from_recipe(resolved, spec)
    assert parameters(game.players()["generator"]) > 1_000_000


@pytest.mark.parametrize("name", RECIPES)
def test_inputs_are_made_once_a_batch_and_those_that_are_given_are_taken(name: str, photographs: Batch) -> None:
    game = build(name)
    made = game.source_of(photographs)
    assert game.source_of(photographs) is made and made.shape[1] == game.input_channels and not made.requires_grad
    given = torch.zeros(1, *made.shape[1:])
    assert game.source_of(Batch(source=given)) is given


@pytest.mark.parametrize("name", RECIPES)
def test_any_size_is_restored_from_data_or_from_inputs_alone(name: str) -> None:
    game = build(name).eval()
    images = Photographs(size=(37, 43)).images[:2]
    with torch.no_grad():
        made = game.translate(Batch(data=images), rng=torch.Generator().manual_seed(0))
        again = game.translate(Batch(source=made["source"]))
    assert made["data"].shape == made["real"].shape and made["input"].dtype == torch.uint8
    assert made["data"].abs().max() <= 1 and torch.equal(made["data"], again["data"]) and "real" not in again
    assert torch.equal(made["real"], cut_to_multiple(images, game.scale))


@pytest.mark.parametrize("name", RECIPES)
def test_data_that_has_inputs_is_refused(name: str) -> None:
    data = Photographs()
    data.spec.extra["input"] = {"kind": "image", "channels": 3}
    with pytest.raises(UserError, match=r"data\.layout=single"):
        build(name, data=data)


def test_a_size_that_is_no_multiple_of_the_scale_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.scale=4"):
        build("srresnet", data=Photographs(size=(32, 34)))


def test_a_generator_that_does_not_enlarge_is_refused() -> None:
    with pytest.raises(UserError, match="does not enlarge"):
        build("srresnet", "model.generator={name: unet}")


def test_pretraining_minimises_the_one_difference_that_it_names(photographs: Batch) -> None:
    game = build("srgan", "loss.pretrain_with=l2", "loss.pretrain_steps=5").train()
    [turn] = game.turns(4)
    losses = game.loss(turn, photographs, 4)
    enlarged = bicubic(shrink(photographs["data"], 4), 4)
    assert losses.keys() == {"l2"}
    assert losses["l2"].item() == pytest.approx(F.mse_loss(enlarged, photographs["data"]).item(), rel=1e-5)
    assert [turn.player for turn in game.turns(5)] == ["discriminator", "generator"]
    assert {"adversarial", "l1"} <= game.loss(game.turns(5)[1], photographs, 5).keys()


def test_outputs_go_from_the_pretrained_weights_to_the_final_ones(photographs: Batch) -> None:
    game = build("esrgan", "loss.pretrain_steps=1").eval()
    source = game.source_of(photographs)
    with torch.no_grad():
        for value in game.generator.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))
        first = game.make(source)
        game.after_turn(Turn("generator"), 0)
        for value in game.generator.parameters():
            value.mul_(1.2)
        last = game.make(source)
        game.interpolation = 0.0
        assert torch.allclose(game.make(source), first, atol=1e-6) and not torch.allclose(first, last)
        game.interpolation = 0.25
        first_weights = game.pretrained.weights()
        between = interpolated(first_weights, game.generator, 0.25)
        assert torch.allclose(
            between["head.weight"], 0.75 * first_weights["head.weight"] + 0.25 * game.generator.head.weight
        )
        assert not torch.allclose(game.make(source), first)


def test_lab_is_that_of_kornia_and_back_again() -> None:
    kornia = pytest.importorskip("kornia")
    rgb = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    rgb[0, :, 0] = 0.02  # the straight part of both curves
    ours = lab_of(rgb * 2 - 1)
    assert torch.allclose(ours, kornia.color.rgb_to_lab(rgb), atol=0.02)
    assert torch.allclose((rgb_of(ours) + 1) / 2, rgb, atol=1e-4)
    white, black = (lab_of(torch.full((1, 3, 1, 1), value)).flatten() for value in (1.0, -1.0))
    assert torch.allclose(white, torch.tensor([100.0, 0, 0]), atol=0.02) and torch.allclose(
        black, torch.zeros(3), atol=0.02
    )


def test_lab_can_be_differentiated_everywhere() -> None:
    values = torch.tensor([-1.2, -1.0, -0.999, -0.9, 0.0, 1.0, 1.2])
    rgb = torch.stack(torch.meshgrid(values, values, values, indexing="ij")).view(1, 3, 1, -1).requires_grad_()
    rgb_of(lab_of(rgb) + 1).sum().backward()
    assert rgb.grad is not None and rgb.grad.isfinite().all() and rgb.grad.abs().max() < 1e3


def test_a_grey_image_has_the_lightness_of_the_coloured_one() -> None:
    rgb = Photographs().images
    grey = grey_of(rgb)
    assert torch.allclose(lab_of(grey.expand(-1, 3, -1, -1))[:, 0], lab_of(rgb)[:, 0], atol=0.02)


def test_colours_keep_the_lightness_within_the_gamut() -> None:
    game = build("colorize").eval()
    batch = Photographs().batch(torch.arange(4))
    with torch.no_grad():
        made = game.translate(batch)
        raw = game.draw(batch)
    inside = (raw.abs() <= 1).all(dim=1)
    assert inside.float().mean() > 0.2 and made["source"].shape[1] == 1
    difference = (lab_of(made["data"])[:, 0] - lab_of(batch["data"])[:, 0]).abs()
    assert difference[inside].max() < 0.05


def test_the_loss_of_colours_by_its_formula(photographs: Batch) -> None:
    game = build("colorize", "loss.chroma=3", "loss.adversarial=0").train()
    made = game.generator(game.source_of(photographs))
    losses = game.loss(Turn("generator"), photographs, 0)
    expected = 3 * (made - lab_of(photographs["data"])[:, 1:] / 110).abs().mean()
    assert losses["chroma"].item() == pytest.approx(expected.item(), rel=0.2)  # batch norm has seen the batch once more
    assert losses["chroma"].grad_fn is not None


def test_grey_data_teaches_no_colour() -> None:
    with pytest.raises(UserError, match=r"data\.channels=3"):
        build("colorize", data=Photographs(channels=1))


@pytest.mark.parametrize("name", ["esrgan", "inpaint"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    keys = ("train.steps=4", "train.checkpoint_every=2", "train.keep=9", "loss.pretrain_steps=2", "data.size=32")
    recipe = tiny(name, *keys)

    def trainer(folder: str) -> Trainer:
        seed_everything(0)
        data = Photographs()
        game = open_domain("translation").build_game(recipe, data.spec)
        run = Run.create(tmp_path / folder, recipe, data.spec, "photographs")
        return Trainer(game, data, recipe, Engine(device="cpu"), run, say=lambda text: None)

    whole = trainer("whole")
    whole.train()
    resumed = trainer("resumed")
    resumed.load(next(each for each in list_checkpoints(whole.run.checkpoints) if each.step == 2))
    resumed.train()
    for key, value in whole.game.state_dict().items():
        assert torch.equal(value, resumed.game.state_dict()[key]), key


def test_a_loaded_run_has_the_weights_of_both_phases(tmp_path: Path, photographs: Batch) -> None:
    recipe = tiny("esrgan", "train.steps=3", "loss.pretrain_steps=2", "train.ema.half_life=8")
    seed_everything(0)
    data = Photographs()
    game = open_domain("translation").build_game(recipe, data.spec)
    run = Run.create(tmp_path / "run", recipe, data.spec, "photographs")
    Trainer(game, data, recipe, Engine(device="cpu"), run, say=lambda text: None).train()
    loaded: Any = sparring.load(run.folder).game
    assert game.pretrained.taken and loaded.pretrained.taken
    for name, value in game.pretrained.weights().items():
        assert torch.equal(value, loaded.pretrained.weights()[name]), name
    source = game.source_of(photographs)
    with torch.no_grad():
        made = [loaded.translate(Batch(source=source))["data"]]
        loaded.interpolation = 0.0
        made.append(loaded.translate(Batch(source=source))["data"])
    assert not torch.equal(*made)
