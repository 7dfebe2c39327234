"""A trained generator, ready to draw from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from sparring.core.game import Batch, DataSpec, Game
from sparring.domains import Domain, open_domain
from sparring.errors import UserError, nearest
from sparring.recipe import Recipe
from sparring.run import Run
from sparring.training.checkpoint import Checkpoint, list_checkpoints, readable
from sparring.training.engine import choose_device


@dataclass
class Trained:
    """A trained generator, ready to draw from."""

    game: Game
    domain: Domain
    recipe: Recipe
    spec: DataSpec
    step: int
    """Of the checkpoint that the weights are from."""

    def generate(
        self, count: int, *, seed: int = 0, label: str | int | None = None, batch_size: int = 256
    ) -> Iterator[Batch]:
        """Draw `count` samples in batches; the same seed draws the same samples, whatever the batch size of the run.

        label: a class name or number for all of them. Raises UserError for an unknown one, or for a game without.
        """
        condition = self.label(label)
        rng = torch.Generator(self.game.device).manual_seed(seed)
        for start in range(0, count, batch_size):
            size = min(batch_size, count - start)
            labels = None if condition is None else torch.full((size,), condition, dtype=torch.long)
            with torch.no_grad():
                yield self.game.generate(size, condition=labels, rng=rng)

    def label(self, label: str | int | None) -> int | None:
        """A class's number from its name or number."""
        if label is None:
            return None
        names = self.game.conditions
        if not names:
            raise UserError(
                f"recipe {self.recipe.name!r} draws samples without labels, so --label means nothing here; train `cgan`, say"
            )
        if str(label) in names:
            return list(names).index(str(label))
        raise UserError(f"unknown label {label!r}{nearest(str(label), names)}; there are {', '.join(names)}")


def load(run: str | Path, *, checkpoint: str | int = "best", device: str = "auto", trust: bool = False) -> Trained:
    """The trained generator of a run.

    checkpoint: `best` (the last where none was measured), `last`, or a step.
    trust: allow the recipe to import code outside the package (`module:Class`). Raises UserError.
    """
    opened = Run.open(run)
    recipe = trusted(opened.read_recipe(), trust)
    spec, _ = opened.read_spec()
    domain = open_domain(recipe.domain)
    game = domain.build_game(recipe, spec)
    game.to(torch.device(choose_device(device)))
    chosen = find_checkpoint(opened, checkpoint)
    with readable():
        weights = chosen.tensors("weights")
    for name, module in game.averaged().items():
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if {key: value.shape for key, value in own.items()} != {
            key: value.shape for key, value in module.state_dict().items()
        }:
            raise UserError(
                f"{run}: the weights do not fit the {name} that its recipe.yaml describes: has the file been changed?"
            )
        module.load_state_dict(own)
    return Trained(game.eval(), domain, recipe, spec, chosen.step)


def find_checkpoint(run: Run, which: str | int) -> Checkpoint:
    """A run's checkpoint: `best`, `last`, or a step. Raises UserError."""
    there = list_checkpoints(run.checkpoints)
    if not there:
        raise UserError(f"{run.folder}: has no checkpoint yet")
    if which == "last":
        return there[-1]
    if which == "best":
        with readable():
            best = there[-1].state()["state"]["best"].get("step", there[-1].step)
        return next((each for each in there if each.step == best), there[-1])
    found = [each for each in there if str(each.step) == str(which)]
    if not found:
        raise UserError(
            f"{run.folder}: has no checkpoint {which!r}; there are best, last, {', '.join(str(each.step) for each in there)}"
        )
    return found[0]


def trusted(recipe: Recipe, trust: bool) -> Recipe:
    """Refuse to run code that the user has not named on purpose: a run folder may come from a stranger."""
    if recipe.needs_foreign_code and not trust:
        raise UserError(
            f"this run uses code from outside the package ({', '.join(recipe.needs_foreign_code)}): pass --trust if it is yours"
        )
    return recipe
