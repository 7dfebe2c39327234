"""A GAN of one's own takes a file of one's own, and no change to any file of the package."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
import yaml

import sparring
import toygan
from shell import Ended
from shell import sparring as shell
from sparring.domains import domain
from sparring.recipe import Recipe, load_recipe, named_recipes
from sparring.training.checkpoint import Checkpoint, list_checkpoints

CPU = ("--device", "cpu")

TOY = """
summary: a GAN of a user's own
game: toygan:ToyGame
data: {source: digits, limit: 60}
model: {latent: 4, hidden: 8}
loss: {sharpness: 2.0}
train: {steps: 6, batch_size: 8, checkpoint_every: 3, sample_count: 4, ema: {half_life: 50}}
"""

PARTS = '''
"""A network, a loss, a penalty and an optimiser that no package knows."""

import torch
from torch import nn
from torch.nn.functional import one_hot

from sparring.core.losses import AdversarialLoss


class Painter(nn.Module):
    def __init__(self, shape, latent, classes, *, hidden: int = 8):
        super().__init__()
        self.shape, self.classes = shape, classes
        self.layers = nn.Sequential(nn.Linear(latent + classes, hidden), nn.SiLU(), nn.Linear(hidden, torch.Size(shape).numel()))

    def forward(self, latent, label):
        return self.layers(torch.cat([latent, one_hot(label, self.classes).float()], 1)).tanh().unflatten(1, self.shape)


class Critic(nn.Module):
    def __init__(self, shape, classes, *, hidden: int = 8):
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(nn.Linear(torch.Size(shape).numel() + classes, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, images, label):
        return self.layers(torch.cat([images.flatten(1), one_hot(label, self.classes).float()], 1))


def quartic_discriminator(real, fake, *, power: int = 4):
    return (real - 1).abs().pow(power).mean() + (fake + 1).abs().pow(power).mean()


def quartic_generator(real, fake):
    return (fake - 1).pow(2).mean()


QUARTIC = AdversarialLoss(quartic_discriminator, quartic_generator)


def smallness(played, *, margin: float = 0.0):
    return (played.discriminate(played.real).abs() - margin).relu().mean()


def sign_descent(parameters, *, lr: float):
    class SignDescent(torch.optim.Optimizer):
        def __init__(self):
            super().__init__(parameters, {"lr": lr})

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for parameter in group["params"]:
                    state = self.state[parameter]
                    state["pace"] = 0.9 * state.get("pace", torch.zeros_like(parameter)) + parameter.grad
                    parameter.sub_(state["pace"].sign(), alpha=group["lr"])

    return SignDescent()
'''

MIXED = """
game: adversarial
data: {source: digits, limit: 60}
model:
  latent: 4
  conditional: true
  generator: {name: "mygan:Painter", hidden: 6}
  discriminator: {name: "mygan:Critic"}
loss:
  name: mygan:QUARTIC
  options: {power: 3}
  penalties:
    "mygan:smallness": {weight: 0.5, every: 2, margin: 0.1}
train:
  steps: 6
  batch_size: 8
  checkpoint_every: 3
  sample_count: 10
  log_every: 1
  optimizer: {name: "mygan:sign_descent", lr: 1.0e-3}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two recipes and a module of one's own."""
    (tmp_path / "toy.yaml").write_text(TOY)
    (tmp_path / "mixed.yaml").write_text(MIXED)
    (tmp_path / "mygan.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mygan", raising=False)
    return tmp_path


def last(run: str) -> Checkpoint:
    return list_checkpoints(Path(run, "checkpoints"))[-1]


def play(*words: object) -> Ended:
    ended = shell(*words, *CPU)
    assert ended.code == 0, ended.err
    return ended


@pytest.mark.parametrize("recipe", ["toy", "mixed"])
def test_an_own_gan_trains_samples_and_resumes_with_the_same_bits(here: Path, recipe: str) -> None:
    play("train", f"{recipe}.yaml", "--out", "whole")
    play("train", f"{recipe}.yaml", "--out", "cut", "--steps", 4)
    play("resume", "cut", "--steps", 6, "--trust")
    for name in ("weights", "game", "average", "optimizers", "random-0000"):
        left, right = last("whole").tensors(name), last("cut").tensors(name)
        assert left.keys() == right.keys()
        assert all(torch.equal(value, right[key]) or value.isnan().all() for key, value in left.items()), name
    files = play("generate", "whole", "--count", 3, "--out", "drawn", "--trust", "--json").json["files"]
    assert len(files) == 3 and all(Path(file).is_file() for file in files)


@pytest.mark.parametrize("words", ["resume run --steps 9", "generate run", "finetune run --data digits"])
def test_going_on_with_an_own_gan_asks_for_trust(here: Path, words: str) -> None:
    play("train", "toy.yaml", "--out", "run", "--steps", 0)
    assert "(toygan:ToyGame): pass --trust if it is yours" in shell(*words.split(), *CPU).error


def test_an_own_game_gets_its_options_from_the_recipe_and_its_typos_are_errors(here: Path) -> None:
    game = domain_of("toy.yaml").build_game(load_recipe("toy.yaml"), toy_spec())
    assert isinstance(game, toygan.ToyGame)
    assert (game.latent, game.sharpness, game.generator.layers[0].out_features) == (4, 2.0, 8)
    error = shell("train", "toy.yaml", "--set", "model.hiden=3", "--dry-run", *CPU).error
    assert "hiden' (did you mean 'hidden'?)" in error


def test_an_own_loss_penalty_and_optimiser_are_those_that_play(here: Path) -> None:
    result = play("train", "mixed.yaml", "--out", "run", "--json").json
    # The last step is number 5 (counted from 0); the penalty was played at 4 and stands in the record.
    assert set(result["losses"]) >= {"loss/discriminator/adversarial", "loss/discriminator/mygan:smallness"}
    steps = {line["step"]: line for line in sparring.api.Run(Path("run")).read_metrics()}
    assert "loss/discriminator/mygan:smallness" in steps[1]
    moves = last("run").tensors("optimizers")
    assert {name.rsplit("/", 1)[1] for name in moves} == {"pace"}
    # Six steps of ±1e-3: no weight is further from its start than 6e-3, and each is a whole number of them away.
    begun, ended = list_checkpoints(Path("run/checkpoints"))[0].tensors("game"), last("run").tensors("game")
    moved = (ended["generator.layers.0.weight"] - begun["generator.layers.0.weight"]) / 1e-3
    assert moved.abs().max() <= 6.01
    torch.testing.assert_close(moved, moved.round(), atol=1e-2, rtol=0)


def test_what_cannot_be_imported_is_the_users_error(here: Path) -> None:
    for name, message in (("nowhere:Game", "No module named 'nowhere'"), ("mygan:Nothing", "no attribute 'Nothing'")):
        assert message in shell("train", "toy.yaml", "--set", f"game={name}", *CPU).error
    assert "must be an AdversarialLoss" in shell("train", "mixed.yaml", "--set", "loss.name=mygan:Critic", *CPU).error


def test_another_package_can_register_recipes_and_games(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "zoo" / "recipes").mkdir(parents=True)
    (here / "zoo" / "__init__.py").write_text("raise AssertionError('looking for recipes runs no code')\n")
    (here / "zoo" / "recipes" / "okapi.yaml").write_text(TOY.replace("toygan:ToyGame", "okapi"))
    registered = {
        "sparring.recipes": [EntryPoint("zoo", "zoo.recipes", "sparring.recipes")],
        "sparring.games": [EntryPoint("okapi", "toygan:ToyGame", "sparring.games")],
    }
    monkeypatch.setattr("sparring.recipe.entry_points", lambda group: registered[group])
    monkeypatch.setattr(domain, "entry_points", lambda group: registered[group])
    assert named_recipes()["okapi"] == here / "zoo" / "recipes" / "okapi.yaml"
    assert play("train", "okapi", "--out", "run", "--steps", 1, "--json").json["recipe"] == "okapi"
    play("generate", "run", "--count", 2)  # installed on purpose: no --trust


def test_the_recipe_in_the_run_folder_still_names_the_own_code(here: Path) -> None:
    play("train", "mixed.yaml", "--out", "run", "--steps", 0)
    recipe = Recipe.parse(yaml.safe_load(Path("run/recipe.yaml").read_text()))
    assert recipe.needs_foreign_code == [
        "mygan:Critic", "mygan:Painter", "mygan:QUARTIC", "mygan:sign_descent", "mygan:smallness",
    ]  # fmt: skip


def domain_of(recipe: str) -> domain.Domain:
    return sparring.api.open_domain(load_recipe(recipe).domain)


def toy_spec() -> sparring.core.game.DataSpec:
    return sparring.core.game.DataSpec((1, 8, 8), (), 60)
