"""Ways to play R1 and R2, for the benchmarks of their speed and of what they bring: recipes' overrides, and a step's cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from sparring.api import resolve
from sparring.core import second_order
from sparring.core.adversarial import AdversarialGame
from sparring.domains import open_domain
from sparring.recipe import Recipe
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

CYCLE = 16  # steps: the longest interval, so that a block of so many is each variant's mean


@dataclass(frozen=True)
class Variant:
    """kind: "" for gradients, "_finite_difference", or None for no penalty at all. joint: one pass for both penalties.
    own: second derivatives by `core.second_order`, or PyTorch's.
    """

    kind: str | None = ""
    every: int = 1
    share: float = 1.0
    joint: bool = True
    own: bool = True

    def assignments(self, weight: float) -> list[str]:
        """Overrides of a recipe that has `r1` and `r2`."""
        keys = []
        for name in ("r1", "r2"):
            keys.append(f"loss.penalties.{name}.weight={weight if self.kind == '' else 0}")
            if self.kind is not None:
                penalty = f"loss.penalties.{name}{self.kind}"
                keys += [f"{penalty}.weight={weight}", f"{penalty}.every={self.every}", f"{penalty}.share={self.share}"]
        return keys

    def derivatives(self) -> AbstractContextManager[object]:
        """Second derivatives as this variant has them."""
        return nullcontext() if self.own else plain_derivatives()


VARIANTS = {
    "none": Variant(None),
    "exact": Variant(),
    "exact, apart": Variant(joint=False),
    "exact, apart, PyTorch's": Variant(joint=False, own=False),
    "every 4": Variant(every=4),
    "every 8": Variant(every=8),
    "every 16": Variant(every=16),
    "share 1/4": Variant(share=0.25),
    "every 4, share 1/2": Variant(every=4, share=0.5),
    "finite difference": Variant("_finite_difference"),
}
# These differ in speed alone.
SAME_GAME = ("exact, apart", "exact, apart, PyTorch's")


@contextmanager
def plain_derivatives() -> Iterator[None]:
    """Inside, nothing is put in the place of PyTorch's operations."""
    tables = (second_order.CONVOLUTIONS, second_order.BENT)
    kept = [dict(table) for table in tables]
    for table in tables:
        table.clear()
    try:
        yield
    finally:
        for table, entries in zip(tables, kept, strict=True):
            table.update(entries)


def build(recipe: Recipe, variant: Variant) -> Trainer:
    """A trainer that keeps nothing, with the settings that the recipe pins."""
    recipe = resolve(recipe)
    domain = open_domain(recipe.domain)
    data = domain.open_data(recipe.data)
    seed_everything(recipe.train.seed)
    game = domain.build_game(recipe, data.spec)
    assert isinstance(game, AdversarialGame)
    game.joint = game.joint and variant.joint
    trainer = Trainer(game, data, recipe, Engine(device="cpu", machine=recipe.machine), None)
    trainer.game.train()
    return trainer


def step_costs(recipe: Recipe, weight: float, names: Sequence[str], *, rounds: int) -> dict[str, float]:
    """Seconds of processor time that a step takes, the median of blocks played in turn, all in this process.

    The processor's time and not the clock's: other work on the machine stretches the latter.
    """
    trainers = {name: build(recipe.override(VARIANTS[name].assignments(weight)), VARIANTS[name]) for name in names}
    times: Mapping[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name, trainer in trainers.items():
            with trainer.ready_to_play(), VARIANTS[name].derivatives():
                seconds = timed(partial(steps, trainer, CYCLE)) / CYCLE
            if number:  # the first block warms up
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def steps(trainer: Trainer, count: int) -> None:
    """So many steps."""
    for _ in range(count):
        trainer.play_step()


def timed(play: Callable[[], None]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    play()
    return time.process_time() - start
