"""The games on series, as the trainer plays them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sparring
from sparring.core.game import Turn
from sparring.domains import open_domain
from sparring.domains.series.data import SeriesData, SeriesOptions, open_series
from sparring.domains.series.games.steady import Steady
from sparring.domains.series.games.timegan import TimeGAN, moment_distance
from sparring.recipe import Recipe, load_recipe
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

torch.set_num_threads(1)

TINY = {
    "timegan": ["model.width=6", "model.depth=2", "model.embedding=2", "model.supervising=2", "loss.enough=0.15"],
    "rcgan": ["model.width=6", "model.latent=2"],
    "steady": ["model.width=6", "model.latent=2", "model.lasting=3", "model.channels=4"],
    "c-rnn-gan": ["model.width=6", "model.latent=2", "model.depth=1"],
}


@pytest.fixture
def data() -> SeriesData:
    return open_series(SeriesOptions(source="sines", window=8, count=64, features=2))


def tiny(name: str) -> Recipe:
    return load_recipe(name).override([*TINY[name], "train.batch_size=8", "train.steps=6", "data.window=8"])


def trainer_of(name: str, data: SeriesData) -> Trainer:
    recipe = tiny(name)
    seed_everything(0)
    return Trainer(open_domain("series").build_game(recipe, data.spec), data, recipe, Engine(device="cpu"), None)


def weights(game: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in game.named_parameters()}


def moved(before: dict[str, torch.Tensor], game: torch.nn.Module) -> set[str]:
    return {name.split(".")[0] for name, value in game.named_parameters() if not torch.equal(before[name], value)}


def test_timegan_s_phases_move_only_their_players(data: SeriesData) -> None:
    trainer = trainer_of("timegan", data)
    seen = []
    for _ in range(5):
        before = weights(trainer.game)
        trainer.play_step()
        seen.append(moved(before, trainer.game))
    assert seen == [{"autoencoder"}] * 2 + [{"generator"}] * 2 + [{"autoencoder", "generator", "discriminator"}]


def test_the_generator_plays_twice_and_the_discriminator_rests_where_it_sees_enough(data: SeriesData) -> None:
    game = open_domain("series").build_game(tiny("timegan"), data.spec)
    assert isinstance(game, TimeGAN)
    assert [turn.name for turn in game.turns(0)] == ["embed"] and [turn.name for turn in game.turns(3)] == ["supervise"]
    pair = ["generator", "autoencoder"]
    game.pairs = 2
    assert [turn.name for turn in game.turns(4)] == ["discriminator", *pair, *pair]
    game.loss(Turn("discriminator"), data.batch(torch.arange(8)), 4)
    assert 1 < float(game.discriminator_loss) < 3  # 2 ln 2 of a judge that knows nothing
    game.discriminator_loss.fill_(0.149)
    assert [turn.name for turn in game.turns(4)] == [*pair, *pair]


def test_the_discriminator_s_loss_is_looked_at_while_it_rests_and_is_its_own_otherwise(data: SeriesData) -> None:
    game = open_domain("series").build_game(tiny("timegan"), data.spec)
    assert isinstance(game, TimeGAN)
    batch = data.batch(torch.arange(8))
    before = float(game.discriminator_loss)
    game.loss(Turn("autoencoder"), batch, 4)
    assert float(game.discriminator_loss) == before
    played = game.loss(Turn("discriminator"), batch, 4)
    assert float(game.discriminator_loss) == pytest.approx(float(played["adversarial"]))


def test_timegan_s_penalty_is_the_discriminator_s_steepness(data: SeriesData) -> None:
    game = TimeGAN(data.spec, width=6, depth=1, penalty=2.0, gamma=0.0)
    head = game.discriminator.head
    turn, batch = Turn("discriminator"), data.batch(torch.arange(8))
    assert float(game.loss(turn, batch, 0)["r1"]) > 0
    with torch.no_grad():
        head.weight.zero_()
    assert float(game.loss(turn, batch, 0)["r1"]) == 0


@pytest.mark.parametrize("name", ["timegan", "steady"])
def test_noise_that_lasts_is_heard_at_every_step_and_only_as_the_first_has_it(name: str, data: SeriesData) -> None:
    recipe = tiny(name).override(["model.lasting=3"])
    game = open_domain("series").build_game(recipe, data.spec).eval()
    assert isinstance(game, TimeGAN | Steady)
    noise = game.noise(4)
    later, first = noise.clone(), noise.clone()
    later[:, 1:, -3:] += 1
    first[:, 0, -3:] += 1
    with torch.no_grad():
        drawn = game.decode(noise)
        assert torch.equal(game.decode(later), drawn) and not torch.equal(game.decode(first)[:, -1], drawn[:, -1])


def test_equal_batches_have_equal_moments_and_a_shift_is_a_distance() -> None:
    x = torch.rand(50, 4, 3, generator=torch.Generator().manual_seed(0))
    assert float(moment_distance(x, x)) == 0
    assert float(moment_distance(x + 0.25, x)) == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("name", [*TINY])
def test_samples_are_windows_between_0_and_1_and_a_seed_means_the_same_ones(name: str, data: SeriesData) -> None:
    game = open_domain("series").build_game(tiny(name), data.spec).eval()
    first, again = (game.generate(5, rng=torch.Generator().manual_seed(1)) for _ in range(2))
    assert first["data"].shape == (5, 8, 2) and torch.equal(first["data"], again["data"])
    assert float(first["data"].min()) >= 0 and float(first["data"].max()) <= 1
    assert first["real"].shape == (5, 8, 2)
    typical = game.render(game.draw_codes(5, truncation=0.0))["data"]
    assert torch.equal(typical[0], typical[4])


@pytest.mark.parametrize("name", [*TINY])
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    # A schedule over all steps would be another in a run of fewer.
    common = [
        *TINY[name],
        "train.schedule={name: constant}",
        "train.batch_size=8",
        "data.window=6",
        "data.count=40",
        "evaluate.metric=null",
    ]
    for folder, steps in (("whole", 7), ("cut", 5)):
        sparring.train(
            load_recipe(name), out=tmp_path / folder, steps=steps, device="cpu", quiet=True,
            set=[*common, "train.checkpoint_every=5"],
        )  # fmt: skip
    sparring.resume(tmp_path / "cut", steps=7, device="cpu", quiet=True)
    drawn = []
    for folder in ("whole", "cut"):
        (file,) = sparring.generate(
            tmp_path / folder, count=9, out=tmp_path / f"{folder}.npy", format="npy", checkpoint="last"
        )
        drawn.append(np.load(file, allow_pickle=False))
    assert drawn[0].shape == (9, 6, 5) and np.array_equal(*drawn)


def test_a_run_on_a_table_draws_in_its_units_is_measured_and_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = "".join(f"2024-01-{t % 28 + 1:02},{500 + t % 9},{rng.normal():.4f}\n" for t in range(90))
    table = tmp_path / "prices.csv"
    table.write_text("day,price,change\n" + rows)
    sparring.train(
        load_recipe("rcgan"), data=str(table), out=tmp_path / "run", steps=3, device="cpu", quiet=True,
        set=[*TINY["rcgan"], "train.batch_size=8", "data.window=6", "evaluate.count=40", "evaluate.every=3"],
    )  # fmt: skip
    (file,) = sparring.generate(tmp_path / "run", count=4, out=tmp_path / "new.csv", checkpoint="last")
    lines = Path(file).read_text().splitlines()
    assert lines[0] == "sequence,step,price,change" and len(lines) == 1 + 4 * 6
    assert all(500 <= float(line.split(",")[2]) <= 508 for line in lines[1:])
    assert (tmp_path / "run" / "samples" / "step-00000003.png").exists()
    found = sparring.evaluate(tmp_path / "run", metrics="acf,cross_correlation", checkpoint="last")
    assert all(0 < found.figures[name].value < 5 for name in ("acf", "acf_squares", "cross_correlation"))
    assert [Path(file).name for file in found.files] == ["cloud.png", "autocorrelation.png"]
    assert all(Path(file).stat().st_size > 5000 for file in found.files)
