"""A trained generator, ready to draw from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparring.core.game import Batch, DataSpec, Game
from sparring.domains import Domain, open_domain
from sparring.errors import UserError, nearest
from sparring.recipe import Recipe
from sparring.run import Run
from sparring.training.checkpoint import Checkpoint, list_checkpoints, readable
from sparring.training.engine import choose_device
from sparring.training.settings import HALVES

DRAWN = 256
"""Samples whose latents are drawn at a time, whatever the size of a forward pass: so a seed means the same samples."""
CPU_BATCH = 64  # of a forward pass on a CPU: activations of more leave its caches (1.1 to 1.9 times the time)


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
        self,
        count: int,
        *,
        seed: int = 0,
        label: str | int | None = None,
        batch_size: int = DRAWN,
        precision: str = "32",
    ) -> Iterator[Batch]:
        """Draw `count` samples in batches; the same seed draws the same samples, whatever the batch size.

        label: a class name or number for all of them. batch_size: samples of a batch and, at most, of a forward pass; from
        1 to 256, and batches do not run across multiples of 256. precision: of forward passes, 32, bf16 or 16.
        Raises UserError for an unknown label, for one where the game has none, or for a batch size or precision that
        cannot be.
        """
        if not 1 <= batch_size <= DRAWN:
            raise UserError(
                f"a batch size of {batch_size} cannot be: samples are drawn by {DRAWN}, so say 1 to {DRAWN}"
            )
        if precision != "32" and precision not in HALVES:
            raise UserError(f"unknown precision {precision!r} of drawing; there are 32, {', '.join(HALVES)}")
        passed = min(batch_size, CPU_BATCH) if self.game.device.type == "cpu" else batch_size
        return self._draw(count, seed, self.label(label), batch_size, passed, HALVES.get(precision))

    def _draw(
        self, count: int, seed: int, condition: int | None, batch_size: int, passed: int, half: torch.dtype | None
    ) -> Iterator[Batch]:
        device = self.game.device
        rng = torch.Generator(device).manual_seed(seed)
        for start in range(0, count, DRAWN):
            drawn = min(DRAWN, count - start)
            labels = None if condition is None else torch.full((drawn,), condition, dtype=torch.long)
            with (
                torch.no_grad(),
                nullcontext() if half is None else torch.autocast(device.type, half),
                passing(self.game.averaged().values(), drawn, passed),
            ):
                batch = self.game.generate(drawn, condition=labels, rng=rng)
            for first in range(0, drawn, batch_size):
                yield Batch({name: value[first : first + batch_size] for name, value in batch.items()})

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


@contextmanager
def passing(modules: Iterable[nn.Module], count: int, size: int) -> Iterator[None]:
    """Inside, modules that are given `count` samples look at `size` of them at a time, and join what they make of them.

    Only where all tensors that they are given, and what they return, have `count` samples.
    """
    with ExitStack() as after:
        for module in modules if size < count else ():
            _pass_parts(module, count, size)
            after.callback(delattr, module, "forward")
        yield


def _pass_parts(module: nn.Module, count: int, size: int) -> None:
    whole = module.forward

    def forward(*args: Any, **options: Any) -> Any:
        given = [value for value in (*args, *options.values()) if isinstance(value, Tensor)]
        if not given or not all(value.ndim and len(value) == count for value in given):
            return whole(*args, **options)

        def part(value: Any, start: int) -> Any:
            return value[start : start + size] if isinstance(value, Tensor) else value

        parts: list[Tensor] = []
        for start in range(0, count, size):
            made = whole(
                *(part(each, start) for each in args), **{name: part(each, start) for name, each in options.items()}
            )
            if not isinstance(made, Tensor) or made.shape[:1] != (min(size, count - start),):
                return whole(*args, **options)
            parts.append(made)
        return torch.cat(parts)

    module.forward = forward


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
