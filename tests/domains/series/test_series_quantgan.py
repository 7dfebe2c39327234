"""QuantGAN, Sig-WGAN and their networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sparring
from sparring.core.game import Batch, DataSpec, Game, Turn
from sparring.domains import open_domain
from sparring.domains.series.data import SeriesOptions, open_series
from sparring.domains.series.networks.paths import path_network
from sparring.domains.series.networks.tcn import TemporalConvolution, receptive_field
from sparring.errors import UserError
from sparring.recipe import load_recipe

torch.set_num_threads(1)

TINY = {
    "quantgan": ["model.width=4", "model.levels=2", "data.window=8"],
    "sigwgan": ["model.width=4", "model.levels=2", "data.window=8", "loss.depth=3"],
}


def tiny(name: str, spec: DataSpec) -> Game:
    torch.manual_seed(0)
    return open_domain("series").build_game(load_recipe(name).override(TINY[name]), spec)


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    close = 100 * np.exp(np.cumsum(0.01 * np.random.default_rng(0).standard_t(5, size=120)))
    path = tmp_path / "prices.csv"
    path.write_text("close\n" + "".join(f"{price:.10g}\n" for price in close))
    return path


def test_a_step_sees_as_many_steps_as_the_levels_say_and_none_after_it() -> None:
    torch.manual_seed(0)
    network = TemporalConvolution(2, 1, 6, 3).double()
    assert (receptive_field(3), receptive_field(6)) == (15, 127)
    x = torch.randn(1, 20, 2, dtype=torch.float64, requires_grad=True)
    made = network(x)
    assert made.shape == (1, 6, 1)
    (seen,) = torch.autograd.grad(made[0, 2, 0], x)
    assert seen[0].abs().sum(1).nonzero().flatten().tolist() == [*range(2, 17)]


def test_one_step_alone_is_the_same_as_among_others() -> None:
    torch.manual_seed(0)
    network = TemporalConvolution(2, 3, 6, 4)
    x = torch.randn(5, 33, 2)
    torch.testing.assert_close(network(x)[:, 1:2], network(x[:, 1:32]), atol=1e-6, rtol=1e-5)


def test_a_volatility_knows_the_past_alone_and_an_innovation_its_step_alone() -> None:
    torch.manual_seed(0)
    network = path_network("volatility", 3, 1, 6, 2).double().eval()
    noise = torch.randn(400, network.before + 1, 3, dtype=torch.float64)
    other = noise.clone()
    other[:, -1] = torch.randn(400, 3, dtype=torch.float64)
    spread, mean = network.moments(noise[:, :-1])
    made, moved = network(noise), network(other)
    # What differs is σ times how the innovations differ: the past is one and the same.
    innovations = network.innovation(noise[:, -1:]) - network.innovation(other[:, -1:])
    torch.testing.assert_close(made - moved, spread * innovations)
    torch.testing.assert_close(made - spread * network.innovation(noise[:, -1:]), mean)


@pytest.mark.parametrize("name", [*TINY])
def test_paths_of_any_length_go_on_as_the_shorter_ones_do(name: str) -> None:
    game = tiny(name, DataSpec((8, 2), (), 10, {})).eval()
    code = torch.randn(3, game.generator.noise_of(30))
    whole = game.render(Batch(code=code))["data"]
    start = game.render(Batch(code=code[:, : game.generator.noise_of(8)]))["data"]
    assert whole.shape == (3, 30, 2)
    torch.testing.assert_close(whole[:, :8], start, atol=1e-5, rtol=1e-5)
    game.stretch(30)
    assert game.generate(2)["data"].shape == (2, 30, 2)


@pytest.mark.parametrize("name", [*TINY])
def test_the_networks_learn_where_features_lie_before_they_play(name: str, prices: Path) -> None:
    data = open_series(SeriesOptions(source=str(prices), window=8, returns=True))
    game = tiny(name, data.spec)
    game.prepare(data)
    values = data.batch(torch.arange(len(data)))["data"]
    assert float(game.generator.centre) == pytest.approx(float(values.mean()), abs=1e-6)
    assert float(game.generator.spread) == pytest.approx(float(values.std()), rel=1e-3)


def test_the_data_s_own_signature_is_at_no_distance_and_another_scale_is_at_one(prices: Path) -> None:
    data = open_series(SeriesOptions(source=str(prices), window=8, returns=True))
    game = tiny("sigwgan", data.spec)
    game.prepare(data)
    values = data.batch(torch.arange(len(data)))["data"]
    assert float((game.signatures(values).mean(0) - game.expected).norm()) < 1e-5
    game.generator.forward = lambda noise, label=None: values  # type: ignore[method-assign]
    assert float(game.loss(Turn("generator"), Batch(data=values), 0).total) < 1e-5
    game.generator.forward = lambda noise, label=None: 2 * values - game.generator.centre  # type: ignore[method-assign]
    assert float(game.loss(Turn("generator"), Batch(data=values), 0).total) > 0.5


def test_a_window_shorter_than_what_is_seen_is_refused_with_the_levels_that_fit() -> None:
    with pytest.raises(UserError, match=r"24 steps is shorter than the 127 .*: set model.levels=3"):
        open_domain("series").build_game(load_recipe("quantgan"), DataSpec((24, 1), (), 10, {}))


@pytest.mark.parametrize("name", [*TINY])
def test_a_resumed_run_equals_an_uninterrupted_one_and_draws_longer_prices(
    name: str, prices: Path, tmp_path: Path
) -> None:
    # The rate is not to depend on how long the run is planned.
    even = ["train.schedule.start=1", "train.schedule.final=1", "train.schedule.warmup=0"]
    common = [*TINY[name], *even, "train.batch_size=8", "evaluate.metric=null", "train.checkpoint_every=3"]
    for folder, steps in (("whole", 5), ("cut", 3)):
        sparring.train(
            name, data=str(prices), out=tmp_path / folder, steps=steps, device="cpu", quiet=True, set=common
        )  # fmt: skip
    sparring.resume(tmp_path / "cut", steps=5, device="cpu", quiet=True)
    drawn = []
    for folder in ("whole", "cut"):
        (file,) = sparring.generate(
            tmp_path / folder, count=4, out=tmp_path / f"{folder}.npy", format="npy", checkpoint="last", length=30
        )
        drawn.append(np.load(file, allow_pickle=False))
    last = float(prices.read_text().split()[-1])
    assert drawn[0].shape == (4, 31, 1) and np.array_equal(*drawn)
    assert drawn[0][:, 0, 0] == pytest.approx(last) and (drawn[0] > 0).all()
    with pytest.raises(UserError, match="have a length already"):
        sparring.generate(tmp_path / "whole", codes=tmp_path / "none.npz", length=30)


def test_a_run_on_prices_is_measured_by_its_returns_and_shown(prices: Path, tmp_path: Path) -> None:
    common = [*TINY["quantgan"], "train.batch_size=8", "evaluate.metric=null"]
    sparring.train("quantgan", data=str(prices), out=tmp_path / "run", steps=2, device="cpu", quiet=True, set=common)
    found = sparring.evaluate(tmp_path / "run", metrics="tails,leverage,signature", checkpoint="last")
    assert found.figures["kurtosis_error"].facts["of_real"] > 0 and "tail_quantiles" in found.figures
    names = ["cloud.png", "autocorrelation.png", "fan.png", "memory.png", "quantiles.png"]
    assert [Path(file).name for file in found.files] == names


def test_games_of_one_length_say_so() -> None:
    recipe = load_recipe("rcgan").override(["model.width=4"])
    game = open_domain("series").build_game(recipe, DataSpec((8, 1), (), 10, {}))
    with pytest.raises(UserError, match="RCGAN draws samples as long as those it was trained on"):
        game.stretch(20)
