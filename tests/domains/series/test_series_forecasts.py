"""Forecasts: paths that go on from a past, measured against what came, written for files, exported."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sparring
from sparring import api
from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.series.data import SeriesData, SeriesOptions, open_series
from sparring.domains.series.games.forecast import PATHS, Forecast, energy_score
from sparring.domains.series.metrics import MEASURES
from sparring.domains.series.metrics.forecasts import bootstrap, crps, inside, pinball
from sparring.domains.series.metrics.labels import transfer
from sparring.errors import UserError
from sparring.exporting.function import describe, generator_function
from sparring.exporting.weights import load_generator, to_safetensors
from sparring.recipe import load_recipe
from sparring.trained import Trained
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

torch.set_num_threads(1)

TINY = ["model.width=8", "model.horizon=3", "model.latent=2", "train.batch_size=16", "data.window=8"]


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """A random walk of two features."""
    rng = np.random.default_rng(0)
    path = tmp_path / "walk.csv"
    steps = rng.normal(size=(160, 2)).cumsum(0)
    path.write_text("x,y\n" + "".join(f"{x:.4f},{y:.4f}\n" for x, y in steps))
    return path


@pytest.fixture
def data(walk: Path) -> SeriesData:
    return open_series(SeriesOptions(source=str(walk), window=8, held_out=0.25))


def game_of(data: SeriesData, *set: str) -> Forecast:
    torch.manual_seed(0)
    game = open_domain("series").build_game(load_recipe("forecast").override([*TINY, *set]), data.spec)
    assert isinstance(game, Forecast)
    return game


# The game


def test_changes_are_seen_in_their_usual_size(data: SeriesData) -> None:
    game = game_of(data)
    game.prepare(data)
    windows = data.batch(torch.arange(len(data)))["data"]
    changes = game.generator.changes(windows)[:, 1:, 2:]  # type: ignore[operator,index]
    assert changes.square().mean((0, 1)).tolist() == pytest.approx([1, 1], rel=1e-4)
    assert torch.equal(game.generator.changes.scale, game.discriminator.changes.scale)  # type: ignore[union-attr]


@torch.no_grad()
def test_a_forecast_hangs_on_its_past_and_on_nothing_after_it(data: SeriesData) -> None:
    game = game_of(data).eval()
    batch = data.batch(torch.arange(5))
    one, again = (game.translate(batch, rng=torch.Generator().manual_seed(3)) for _ in range(2))
    assert one["paths"].shape == (5, PATHS, 3, 2) and one["data"].shape == (5, 8, 2)
    assert torch.equal(one["paths"], again["paths"]) and torch.equal(one["data"][:, :5], batch["data"][:, :5])
    assert torch.equal(one["data"][:, 5:], one["paths"][:, 0]) and torch.equal(one["real"], batch["data"])
    later = batch["data"].clone()
    later[:, 5:] += 1
    assert torch.equal(game.translate(Batch(data=later), rng=torch.Generator().manual_seed(3))["paths"], one["paths"])
    earlier = batch["data"].clone()
    earlier[:, :4] += 0.3
    changed = game.translate(Batch(data=earlier), rng=torch.Generator().manual_seed(3))["paths"]
    assert not torch.allclose(changed, one["paths"], atol=1e-6)
    assert float(one["paths"].std(1).min()) > 0


def test_the_discriminator_plays_as_often_as_the_recipe_says(data: SeriesData) -> None:
    assert [turn.player for turn in game_of(data).turns(0)] == ["discriminator", "generator"]
    twice = game_of(data, "train.turns.discriminator=2")
    assert [turn.player for turn in twice.turns(0)] == ["discriminator", "discriminator", "generator"]


def test_without_the_energy_score_only_the_game_is_played(data: SeriesData) -> None:
    batch = data.batch(torch.arange(8))
    assert [*game_of(data).loss(Turn("generator"), batch, 0)] == ["adversarial", "energy"]
    assert [*game_of(data, "loss.energy=0").loss(Turn("generator"), batch, 0)] == ["adversarial"]


def test_windows_without_room_for_a_future_are_refused(data: SeriesData) -> None:
    with pytest.raises(UserError, match=r"model\.horizon=7: a window of 8 steps has room for 1 to 6"):
        game_of(data, "model.horizon=7")
    with pytest.raises(UserError, match=r"loss\.draws=1"):
        game_of(data, "loss.draws=1")


def test_the_energy_score_is_least_for_paths_as_the_future_is() -> None:
    torch.manual_seed(0)
    came = torch.randn(4000, 3, 1)
    scores = {
        name: float(energy_score(paths, came).mean())
        for name, paths in (
            ("right", torch.randn(4000, 4, 3, 1)),
            ("narrow", 0.5 * torch.randn(4000, 4, 3, 1)),
            ("wide", 1.7 * torch.randn(4000, 4, 3, 1)),
            ("aside", 0.5 + torch.randn(4000, 4, 3, 1)),
        )
    }
    assert min(scores, key=lambda name: scores[name]) == "right"
    certain = came[:, None].expand(-1, 4, -1, -1)
    assert float(energy_score(certain, came).mean()) == pytest.approx(0, abs=2e-3)


def test_a_training_brings_paths_nearer_to_what_comes(data: SeriesData) -> None:
    own = load_recipe("forecast").override([*TINY, "train.optimizer.lr=0.01", "train.batch_size=32"])
    seed_everything(0)
    game = game_of(data)
    game.prepare(data)
    trainer = Trainer(game, data, own, Engine(device="cpu"), None)
    windows = data.batch(torch.arange(len(data)))
    found = []
    for steps in (0, 60):
        for _ in range(steps):
            trainer.play_step()
        with torch.no_grad():
            made = game.eval().translate(windows, rng=torch.Generator().manual_seed(0))
        found.append(crps(made["paths"], windows["data"][:, 5:]))
        game.train()
    assert found[1] < 0.9 * found[0]


# The measures


def test_crps_of_a_normal_is_the_known_one() -> None:
    rng = torch.Generator().manual_seed(0)
    paths, came = torch.randn(400, 200, 2, 1, generator=rng), torch.full((400, 2, 1), 0.7)
    density = np.exp(-(0.7**2) / 2) / np.sqrt(2 * np.pi)
    below = 0.5 * (1 + torch.erf(torch.tensor(0.7 / 2**0.5)).item())
    expected = 0.7 * (2 * below - 1) + 2 * density - 1 / np.sqrt(np.pi)  # Gneiting & Raftery 2007, after eq. 21
    assert crps(paths, came) == pytest.approx(expected, abs=3e-3)


def test_crps_is_without_bias_by_the_number_of_paths() -> None:
    rng = torch.Generator().manual_seed(0)
    came = torch.randn(6000, 1, 1, generator=rng)
    few, many = (crps(torch.randn(6000, count, 1, 1, generator=rng), came) for count in (2, 50))
    assert few == pytest.approx(many, abs=0.03) and many == pytest.approx(1 / np.sqrt(np.pi), abs=0.02)


def test_pinball_and_intervals_of_known_quantiles() -> None:
    paths = torch.arange(101.0)[None, :, None, None]
    assert pinball(paths, torch.tensor([[[60.0]]]), (0.25,)) == pytest.approx(0.25 * 35)
    assert pinball(paths, torch.tensor([[[5.0]]]), (0.25,)) == pytest.approx(0.75 * 20)
    came = torch.tensor([0.0, 10.0, 30.0, 70.0, 90.0, 99.0])[:, None, None]
    wide = paths.expand(6, -1, -1, -1)
    assert inside(wide, came, 0.5) == pytest.approx(2 / 6) and inside(wide, came, 0.9) == pytest.approx(4 / 6)


def test_the_bootstrap_goes_on_by_the_past_s_own_changes() -> None:
    past = torch.tensor([[0.0, 1.0, 3.0], [5.0, 5.0, 5.0]])[:, :, None]
    paths = bootstrap(past, 4, 50)
    steps = torch.cat([past[:, None, -1:].expand(-1, 50, -1, -1), paths], 2).diff(dim=2)
    assert set(steps[0].unique().tolist()) == {1.0, 2.0} and (steps[1] == 0).all()


def test_forecasts_are_measured_beside_the_bootstrap() -> None:
    rng = torch.Generator().manual_seed(0)
    walks = torch.randn(300, 40, 1, generator=rng).cumsum(1)
    exact = walks[:, None, 29:30] + torch.randn(300, 100, 10, 1, generator=rng).cumsum(2)
    found = MEASURES["forecasts"].compute(Batch(data=walks), Batch(data=walks, paths=exact), 0)
    assert found["crps"].number < found["crps"].facts["of_bootstrap"]  # type: ignore[union-attr]
    assert found["interval_error"].number < 0.05  # type: ignore[union-attr]
    assert found["interval_error"].facts["inside_90"] == pytest.approx(0.9, abs=0.05)  # type: ignore[union-attr]


def test_labels_that_samples_do_not_follow_cannot_be_learnt_from_them() -> None:
    rng = torch.Generator().manual_seed(0)
    label = torch.randint(2, (120,), generator=rng)
    x = 0.2 * torch.rand(120, 5, 1, generator=rng) + 0.6 * label[:, None, None]
    mask = (torch.arange(5) < torch.randint(2, 6, (120, 1), generator=rng)).float()
    right = (x * mask[:, :, None], mask, label)
    wrong = (right[0], mask, torch.randint(2, (120,), generator=rng))
    before = torch.get_rng_state()
    assert transfer(right, right, 2, 0) > 0.95 and transfer(wrong, right, 2, 0) < 0.8
    assert torch.equal(torch.get_rng_state(), before)


# Files


def test_a_run_goes_on_from_files_and_is_measured_on_what_was_held_out(walk: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    sparring.train(
        load_recipe("forecast"), data=str(walk), out=run, steps=2, device="cpu", quiet=True,
        set=[*TINY, "data.held_out=0.25", "evaluate.every=2", "evaluate.count=20"],
    )  # fmt: skip
    two = tmp_path / "two.csv"
    rows = [f"{name},{t},{2 * t}\n" for name in "ab" for t in range(9)] + ["c,1,2\n"]
    two.write_text("sequence,x,y\n" + "".join(rows))
    done = sparring.translate(run, [two], out=tmp_path / "out", count=120, device="cpu", checkpoint="last")
    assert done.facts == {"past": 5, "horizon": 3, "paths": 120}
    assert done.broken == [(f"{two}[2]", "has 1 steps, and a forecast wants 5")]
    with (tmp_path / "out" / "two.csv").open() as stream:
        made = list(csv.DictReader(stream))
    assert [*made[0]] == ["sequence", "path", "step", "x", "y"] and len(made) == 2 * 120 * 3
    assert len({row["x"] for row in made if row["sequence"] == "0" and row["step"] == "1"}) == 120
    assert (tmp_path / "out" / "two.png").stat().st_size > 5000
    found = sparring.evaluate(run, metrics="crps,interval_error", checkpoint="last", device="cpu")
    assert found.figures["crps"].real == 33 and "of_bootstrap" in found.figures["crps"].facts
    assert "fans.png" in [Path(file).name for file in found.files]
    with pytest.raises(UserError, match="direction"):
        sparring.translate(run, [two], out=tmp_path / "no", direction="b2a", device="cpu")


# Exports


def exported(name: str, spec: DataSpec, *set: str) -> Trained:
    torch.manual_seed(0)
    own = api.resolve(load_recipe(name).override(list(set)))
    domain = open_domain("series").knowing(spec)
    return Trained(domain.build_game(own, spec).eval(), domain, own, spec, 20)


ATTRIBUTES: list[dict[str, Any]] = [
    {"name": "kind", "kind": "category", "levels": ["a", "b"], "counts": [3, 1]},
    {"name": "age", "kind": "number", "mean": 40.0, "deviation": 10.0, "low": 20.0, "high": 60.0},
]


@pytest.mark.parametrize("name", ["rcgan", "timegan", "steady", "c-rnn-gan", "forecast"])
def test_series_export_the_windows_that_their_games_draw_and_weights_give_them_back(name: str, tmp_path: Path) -> None:
    extra = {"attributes": ATTRIBUTES, "label": "kind"} if name in ("rcgan", "c-rnn-gan") else {}
    spec = DataSpec((8, 2), ("a", "b") if extra else (), 60, extra)
    subject = exported(name, spec, "model.width=8", *(["model.horizon=3"] if name == "forecast" else []))
    function = generator_function(subject)
    inputs = function.draw(5, seed=1)
    with torch.no_grad():
        expected = function(**inputs)
    assert expected.shape == (5, 8, 2) and float(expected.std(0).max()) > 0
    content, facts = to_safetensors(function, describe(subject, function, "0123abcd"))
    assert facts["difference"] == 0
    (tmp_path / "g.safetensors").write_bytes(content)
    with torch.no_grad():
        assert torch.equal(load_generator(tmp_path / "g.safetensors")(**inputs), expected)
    assert not any("discriminator" in key for key in function.state_dict())
    if extra:
        other = {**inputs, "label": inputs["label"].flip(1)}
        assert not torch.equal(function(**other), expected)


def test_what_goes_with_windows_of_the_data_stays_at_home(data: SeriesData) -> None:
    shared = Forecast.spec_to_share(data.spec).extra
    assert "shown" in data.spec.extra and not {"shown", "shown_lengths", "frames"} & set(shared)


def test_a_forecast_goes_through_onnx(tmp_path: Path) -> None:
    onnx_model = pytest.importorskip("sparring.exporting.onnx_model")
    spec = DataSpec((6, 1), (), 60, {})
    subject = exported("forecast", spec, "model.width=4", "model.horizon=2", "model.latent=2")
    function = generator_function(subject)
    content, facts = onnx_model.to_onnx(function, describe(subject, function, "0"), "none", subject.domain, spec)
    assert facts["difference"] < 1e-5
    inputs = function.draw(3, seed=5)
    with torch.no_grad():
        torch.testing.assert_close(onnx_model.in_onnxruntime(content)(inputs), function(**inputs), atol=1e-5, rtol=0)
