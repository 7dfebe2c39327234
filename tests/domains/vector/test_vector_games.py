"""The game on vectors: it plays in standardised units, and nobody outside needs to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.vector.data import VectorData
from sparring.domains.vector.games import VectorGame
from sparring.domains.vector.networks import (
    Maxout,
    MlpDiscriminator,
    MlpGenerator,
    PacganDiscriminator,
    PacganGenerator,
)
from sparring.errors import UserError
from sparring.recipe import Recipe, load_recipe
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

torch.set_num_threads(1)

RECIPES = ("vector-default", "vector-gan")
D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)


def points(count: int = 400, *, labelled: bool = False) -> VectorData:
    """Columns of very different units; the third never varies."""
    values = np.random.default_rng(0).normal(size=(count, 3)) * [0.01, 500, 0] + [3, -2000, 8]
    labels = ["low" if value < 3 else "up" for value in values[:, 0]] if labelled else []
    return VectorData("points", values, labels, [])


class Mean(torch.nn.Module):
    """A discriminator of slope 2 by a row's projection on the direction in which all columns grow alike."""

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return 2 * x.sum(1) * x.shape[1] ** -0.5


def tiny(name: str = "vector-default", *keys: str) -> Recipe:
    sizes = ["model.generator.width=16", "model.discriminator.width=16", "train.batch_size=24", "train.steps=4"]
    return load_recipe(name).override([*sizes, *keys])


def built(recipe: Recipe, spec: DataSpec) -> Any:
    seed_everything(0)
    return open_domain("vector").build_game(recipe, spec)


@pytest.mark.parametrize("name", RECIPES)
def test_both_players_of_every_recipe_move(name: str) -> None:
    data = points()
    game = built(tiny(name), data.spec)
    before = {key: value.clone() for key, value in game.named_parameters()}
    trainer = Trainer(game, data, tiny(name), Engine(device="cpu"), None)
    trainer.game.train()
    trainer.play_step()
    trainer.play_step()
    still = [key for key, value in game.named_parameters() if torch.equal(before[key], value)]
    # R1 and R2 leave the last bias without a gradient where the loss looks at differences only.
    assert [key for key in still if not key.endswith("head.linear.bias")] == []


def test_rows_have_a_mean_square_of_one_and_columns_equal_parts_of_it() -> None:
    data = points()
    game = built(tiny(), data.spec)
    seen: list[Tensor] = []
    game.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    game.loss(D, data.batch(torch.arange(400)), 0)
    deviation, real = 3**-0.5, seen[0][:400]  # the fakes follow
    torch.testing.assert_close(real.mean(0), torch.zeros(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(real.std(0, correction=0), torch.tensor([deviation, deviation, 0]), atol=2e-3, rtol=0)


def test_the_layers_see_and_make_columns_of_variance_one_however_many_there_are() -> None:
    for size in (2, 50):
        generator, discriminator = MlpGenerator(size, size, 0), MlpDiscriminator(size, 0)
        seen: list[Tensor] = []
        discriminator.body.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        rows = torch.randn(2000, size, generator=torch.Generator().manual_seed(0)) * size**-0.5
        discriminator(rows)
        assert seen[0].std().item() == pytest.approx(1, abs=0.03)
        latent = torch.randn(9, size)
        torch.testing.assert_close(
            generator(latent) * size**0.5, generator.out(generator.body(generator.sharpness * latent))
        )


def test_a_penalty_means_the_same_for_any_number_of_columns() -> None:
    """Columns that say the same thing again change neither R1 nor R2 of a discriminator that averages them."""
    values = np.random.default_rng(0).normal(size=(64, 1))
    parts = []
    for copies in (1, 9):
        data = VectorData("points", np.repeat(values, copies, axis=1), [], [])
        game = built(tiny(), data.spec)
        game.discriminator = Mean()
        parts.append(game.loss(D, data.batch(torch.arange(64)), 0)["r1"].item())
    assert parts[1] == pytest.approx(parts[0], rel=1e-5)
    assert parts[0] == pytest.approx(0.005 * 0.5 * 4)


def test_units_are_no_matter_to_the_game() -> None:
    """The same points in other units give the same losses, penalties and all, and the same samples in those units."""
    plain = np.random.default_rng(1).normal(size=(64, 2))
    games, losses = [], []
    for values in (plain, plain * [1000, 0.001] + [50, -0.02]):
        data = VectorData("points", values, [], [])
        game = built(tiny(), data.spec)
        seed_everything(3)
        losses.append({key: value.item() for key, value in game.loss(D, data.batch(torch.arange(64)), 0).items()})
        games.append(game.eval().generate(50, rng=torch.Generator().manual_seed(0))["data"])
    assert losses[0].keys() == {"adversarial", "r1", "r2"}
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    expected = games[0] * torch.tensor([1000, 0.001]) + torch.tensor([50, -0.02])
    torch.testing.assert_close(games[1], expected, rtol=1e-4, atol=1e-5)


def test_fakes_that_one_turn_leaves_are_those_that_the_next_plays_on() -> None:
    data = points()
    game = built(tiny(), data.spec)
    batch = data.batch(torch.arange(24))
    game.loss(D, batch, 0)
    kept = batch.memo["fake"]
    seen: list[Tensor] = []
    game.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    game.loss(G, batch, 0)
    assert torch.equal(seen[0], kept) and "fake" not in batch.memo


def test_samples_are_in_the_datas_units_and_constant_columns_are_constant() -> None:
    data = points()
    samples = built(tiny(), data.spec).eval().generate(200)["data"]
    assert (samples[:, 2] == 8).all()
    assert abs(samples[:, 1].mean() + 2000) < 2000 and samples[:, 1].std() > 5
    assert abs(samples[:, 0].mean() - 3) < 0.04


def test_samples_bring_rows_of_the_data_along_to_be_shown_beside() -> None:
    data = points()
    batch = built(tiny(), data.spec).eval().generate(30, rng=torch.Generator().manual_seed(0))
    rows = {tuple(row) for row in data.batch(torch.arange(400))["data"].tolist()}
    assert batch["real"].shape == (30, 3)
    assert all(tuple(row) in rows for row in batch["real"].tolist())


def test_there_is_a_latent_for_each_column_unless_the_recipe_says_otherwise() -> None:
    spec = DataSpec((5,))
    assert built(tiny(), spec).latent == 5
    assert built(tiny(), DataSpec((300,))).latent == 64
    assert built(tiny("vector-default", "model.latent=9"), spec).latent == 9


def test_labelled_data_gives_a_conditional_game_under_the_default_recipe() -> None:
    data = points(labelled=True)
    game = built(tiny(), data.spec)
    assert game.conditions == ("low", "up")
    batch = game.eval().generate(6, condition=torch.tensor([0, 1, 0, 1, 1, 0]))
    assert batch["label"].tolist() == [0, 1, 0, 1, 1, 0]
    assert not built(tiny("vector-gan"), data.spec).conditional
    with pytest.raises(UserError, match=r"the data has none: name their column with data\.label"):
        built(tiny("vector-default", "model.conditional=true"), points().spec)


def test_sharpness_is_what_latents_are_multiplied_by() -> None:
    plain, sharp = (MlpGenerator(2, 3, 0, width=8, sharpness=factor) for factor in (1, 5))
    sharp.load_state_dict(plain.state_dict())
    latent = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sharp(latent), plain(5 * latent))
    assert [MlpGenerator(2, latent, 0).sharpness for latent in (2, 6, 64)] == [24, 8, 1]
    with pytest.raises(UserError, match="sharpness must be above 0"):
        MlpGenerator(2, 3, 0, sharpness=0)


def test_pacgans_networks_are_as_published() -> None:
    """Parameters by hand: 4 × 400 units with batch norm and no bias; 3 maxout layers of 200 units of 5 pieces."""
    generator, discriminator = PacganGenerator(2, 2, 0), PacganDiscriminator(2, 0)
    linear, norms, out = 2 * 400 + 3 * 400 * 400, 4 * 2 * 400, 400 * 2 + 2
    assert sum(value.numel() for value in generator.parameters()) == linear + norms + out
    maxout = (2 * 1000 + 1000) + 2 * (200 * 1000 + 1000)
    assert sum(value.numel() for value in discriminator.parameters()) == maxout + 200 + 1


def test_a_maxout_unit_is_the_largest_of_its_own_linear_functions() -> None:
    layer = Maxout(3, 2, 4)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    weight, bias = layer.linear.weight, layer.linear.bias
    expected = [
        [max((weight[u * 4 + k] @ row + bias[u * 4 + k]).item() for k in range(4)) for u in (0, 1)] for row in x
    ]
    torch.testing.assert_close(layer(x), torch.tensor(expected))


def test_a_packed_discriminator_judges_so_many_samples_at_once() -> None:
    discriminator = PacganDiscriminator(2, 0, width=8, depth=1, pack=3)
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    logits = discriminator(x)
    assert logits.shape == (2,)
    moved = x.clone()
    moved[5] += 10
    assert discriminator(moved)[0] == logits[0] and discriminator(moved)[1] != logits[1]
    with pytest.raises(UserError, match=r"7 samples cannot be judged 3 at a time: choose a train\.batch_size"):
        discriminator(torch.zeros(7, 2))


def test_a_game_is_one_of_the_domains_by_name(tmp_path: Path) -> None:
    assert type(built(tiny(), points().spec)) is VectorGame
    with pytest.raises(UserError, match=r"unknown generator 'mpl' \(did you mean 'mlp'\?\)"):
        built(tiny("vector-gan", "model.generator.name=mpl"), points().spec)


def test_the_default_recipe_is_the_default_of_images_but_for_its_networks_and_what_vectors_need() -> None:
    images, vectors = load_recipe("default").plain(), load_recipe("vector-default").plain()
    assert vectors["loss"]["name"] == images["loss"]["name"]
    assert vectors["loss"]["penalties"].keys() == images["loss"]["penalties"].keys()
    assert vectors["train"]["optimizer"]["name"] == images["train"]["optimizer"]["name"]
    assert vectors["train"]["schedule"]["name"] == images["train"]["schedule"]["name"]
    assert vectors["train"]["turns"] == images["train"]["turns"]


def test_data_without_standards_is_taken_to_have_variance_one() -> None:
    game = built(tiny(), DataSpec((2,)))
    torch.testing.assert_close(game.standardise(torch.ones(3, 2)), torch.full((3, 2), 2**-0.5))
    assert "real" not in game.eval().generate(3)
    assert isinstance(game.generate(3), Batch)
