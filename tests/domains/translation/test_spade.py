"""SPADE: the published counts, its normalisation by hand, styles that are learnt, drawn and lent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.translation.games.spade import SpadeGame
from sparring.domains.translation.networks.spade import SpadeGenerator
from sparring.errors import UserError
from sparring.nn.spatial_norm import SpatiallyAdaptiveNorm
from sparring.recipe import load_recipe
from sparring.training.engine import seed_everything

D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)
CLASSES = 4
SMALL = (
    "model.generator.width=4", "model.generator.hidden=4", "model.discriminator.width=4", "model.discriminator.field=16",
    "loss.perceptual=0",
)  # fmt: skip


def make_game(*keys: str, size: tuple[int, int] = (16, 16)) -> SpadeGame:
    seed_everything(0)
    facts = {"kind": "labels", "channels": CLASSES, "values": list(range(CLASSES)), "classes": list("abcd"), "void": None,
             "palette": [[60 * each] * 3 for each in range(CLASSES)], "edges": False}  # fmt: skip
    spec = DataSpec((3, *size), (), 8, {"paired": True, "input": facts})
    game: Any = open_domain("translation").build_game(load_recipe("spade").override([*SMALL, *keys]), spec)
    return game.train()


def make_batch(size: tuple[int, int] = (16, 16), count: int = 3) -> Batch:
    rng = torch.Generator().manual_seed(1)
    maps = torch.randint(CLASSES, (count, *size), generator=rng)
    return Batch(
        data=torch.rand(count, 3, *size, generator=rng) * 2 - 1,
        source=F.one_hot(maps, CLASSES).permute(0, 3, 1, 2).float(),
    )


@pytest.mark.parametrize(("channels", "published"), [(184, 97.5), (151, 96.5), (36, 93.0)])
def test_generators_have_the_published_parameters(channels: int, published: float) -> None:
    # COCO-Stuff: 182 classes, one more for what is none, and edges; ADE20K: 150 and one; Cityscapes: 35 and edges.
    with torch.device("meta"):
        network = SpadeGenerator(channels, (3, 256, 256), doublings=5)
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(published, abs=0.05)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_norm_is_eq_1(norm: Any) -> None:
    layer = SpatiallyAdaptiveNorm(5, CLASSES, hidden=6, norm=norm)
    x, labels = torch.randn(3, 5, 4, 6), make_batch((8, 12))["source"]
    over = (0, 2, 3) if norm == "batch" else (2, 3)
    mean, variance = x.mean(over, keepdim=True), x.var(over, keepdim=True, correction=0)
    seen = layer.shared(labels[..., ::2, ::2])  # the nearest place of half the size
    expected = (x - mean) / (variance + 1e-5).sqrt() * (1 + layer.gain(seen)) + layer.bias(seen)
    torch.testing.assert_close(layer(x, labels), expected)


def test_a_uniform_map_keeps_its_label() -> None:
    """What SPADE is for: an instance norm alone makes the same zeros of every map of one label."""
    layer = SpatiallyAdaptiveNorm(2, CLASSES, hidden=4, norm="instance")
    flat = torch.ones(1, 2, 8, 8)
    labels = torch.zeros(2, CLASSES, 8, 8)
    labels[0, 0], labels[1, 1] = 1, 1
    one, other = (layer(flat, labels[number : number + 1]) for number in range(2))
    assert layer.norm(flat).abs().max() < 1e-6
    assert not torch.allclose(one, other)


def test_spectral_norm_is_for_the_way_of_the_maps() -> None:
    game = make_game()
    layers = {name: layer for name, layer in game.generator.named_modules() if isinstance(layer, nn.Conv2d)}
    free = {name for name, layer in layers.items() if not is_parametrized(layer)}
    assert free and all(".shared." in name or name.endswith((".gain", ".bias")) for name in free)
    assert all(is_parametrized(layer) for layer in game.discriminator.modules() if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize("code", [0, 6])
@pytest.mark.parametrize("size", [(16, 16), (9, 30), (40, 24)], ids=str)
def test_images_of_any_size_keep_it(code: int, size: tuple[int, int]) -> None:
    game = make_game(f"model.generator.code={code}").eval()
    made = game.translate(make_batch(size))
    assert made["data"].shape == (3, 3, *size) and made["data"].abs().max() <= 1


def test_every_weight_learns_from_hinge_matching_and_the_divergence_of_styles() -> None:
    game, batch = make_game("model.generator.code=6"), make_batch()
    game.loss(D, batch, 0)
    fake = batch.memo["fake"]
    losses = game.loss(G, batch, 0)
    assert set(losses) == {"adversarial", "matching", "kl"}
    torch.testing.assert_close(
        losses["adversarial"], -game.discriminator(fake, batch["source"]).mean(), atol=1e-4, rtol=1e-4
    )
    mean, log_variance = batch.memo["style"]
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
    torch.testing.assert_close(losses["kl"], 0.05 * divergence)
    losses.total.backward()
    silent = [name for name, weight in game.generator.named_parameters() if weight.grad is None]
    assert not silent


def test_a_style_is_the_targets_in_training_and_drawn_or_lent_afterwards() -> None:
    game, batch = make_game("model.generator.code=6", "model.initialize={name: xavier}").eval(), make_batch()
    given = Batch(source=batch["source"])
    one, other, again = (game.translate(given, rng=torch.Generator().manual_seed(seed))["data"] for seed in (0, 1, 0))
    assert torch.equal(one, again) and not torch.allclose(one, other, atol=1e-5)
    lent = game.translate(Batch(given, style=batch["data"]))["data"]
    code, _ = game.generator.encode(batch["data"])
    assert torch.equal(lent, game.translate(Batch(given, code=code))["data"])


def test_what_is_exported_takes_a_code_where_there_are_styles() -> None:
    for length, names in ((0, ["source"]), (6, ["source", "code"])):
        game = make_game(f"model.generator.code={length}").eval()
        function = game.exportable()
        assert function is not None and [each.name for each in function.inputs] == names
        drawn = function.draw(2, seed=0)
        assert drawn["source"].shape == (2, CLASSES, 16, 16)
        assert torch.equal(function(**drawn), game.translate(Batch(drawn))["data"])


def test_without_a_code_there_is_one_output_and_no_encoder() -> None:
    game, batch = make_game().eval(), make_batch()
    assert game.generator.encoder is None
    assert torch.equal(game.translate(batch)["data"], game.translate(batch)["data"])


def test_another_generator_is_refused() -> None:
    with pytest.raises(UserError, match="spade"):
        recipe = load_recipe("spade").override(["model={generator: {name: unet}}"])
        open_domain("translation").build_game(
            recipe, DataSpec((3, 16, 16), (), 8, {"paired": True, "input": {"kind": "image", "channels": 3}})
        )
