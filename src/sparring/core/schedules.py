"""What changes over a run: learning rates, the players' turns, annealed options.

All are pure functions of the step (counted from 0), so that a resumed run needs no state to go on with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sparring.errors import UserError
from sparring.options import choose, resolve

if TYPE_CHECKING:
    from sparring.recipe import Turns


def learning_rate(spec: Mapping[str, Any], step: int, steps: int | None) -> float:
    """The factor on the learning rate at `step`, as the recipe's `train.schedule` says, e.g. `{"name": "linear"}`.

    steps: the length of the run; None where a clock ends it. `spec["steps"]` goes before it.
    Raises UserError for an unknown schedule or option, and where a schedule needs a length that nobody gave.
    """
    where = "train.schedule"
    options = {key: value for key, value in spec.items() if key not in {"name", "steps"}}
    name = spec.get("name", "constant")
    schedule = choose(SCHEDULES, name, what="schedule")
    own = resolve(_length, {key: value for key, value in spec.items() if key == "steps"}, where=where)["steps"]
    if own is not None and own < 1:
        raise UserError(f"{where}.steps: a length is at least 1 step, not {own!r}")
    return schedule(step, own or steps, **resolve(schedule, options, where=where))


def constant(step: int, steps: int | None, *, warmup: int = 0) -> float:
    """1, after a linear rise over `warmup` steps, the first of which has 1/warmup."""
    return _warm(step, warmup)


def linear(step: int, steps: int | None, *, start: float = 0.0, final: float = 0.0, warmup: int = 0) -> float:
    """1 for the share `start` of the steps, then in a straight line to `final` at the end.

    start=0.5 is the schedule of pix2pix and CycleGAN. warmup: as in `constant`.
    """
    return anneal(1.0, final, _progress("linear", step, steps, start), 1) * _warm(step, warmup)


def cosine(step: int, steps: int | None, *, start: float = 0.0, final: float = 0.0, warmup: int = 0) -> float:
    """1 for the share `start` of the steps, then along half a cosine to `final` (Loshchilov & Hutter 2017, eq. 5)."""
    progress = _progress("cosine", step, steps, start)
    return (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))) * _warm(step, warmup)


def stepwise(step: int, steps: int | None, *, every: int, factor: float = 0.5, warmup: int = 0) -> float:
    """1, times `factor` after each `every` steps. warmup: as in `constant`."""
    if every < 1:
        raise UserError(f"train.schedule.every: an interval is at least 1 step, not {every!r}")
    return factor ** (step // every) * _warm(step, warmup)


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "step": stepwise,
}


def anneal(start: float, end: float, step: float, steps: float) -> float:
    """From `start` at step 0 in a straight line to `end` at `steps` and after; e.g. the strength of instance noise."""
    share = min(max(step / steps, 0.0), 1.0) if steps > 0 else 1.0
    return start + (end - start) * share


def anneal_cosine(start: float, end: float, step: float, steps: float) -> float:
    """From `start` at step 0 along half a cosine to `end` at `steps` and after (R3GAN, Huang et al. 2024, appendix)."""
    share = 0.5 - 0.5 * math.cos(math.pi * anneal(0.0, 1.0, step, steps))
    return start + (end - start) * share


def length(over: int, steps: int | None, *, where: str) -> int:
    """Over how many steps an option moves to its final value: `over`, or the whole run where it is 0.

    where: the option's section, for messages. Raises UserError where neither is known, or `over` is negative.
    """
    if over < 0:
        raise UserError(f"{where}.over: a length is at least 1 step, or 0 for the whole run, not {over!r}")
    if not (over or steps):
        raise UserError(f"{where} changes over the run, whose length is not known: give {where}.over")
    return over or steps or 0


def turn_counts(turns: Turns, step: int, steps: int | None) -> tuple[int, int]:
    """How many turns (discriminator, generator) take at `step`.

    The first counts move in a straight line, rounded, to the final ones, which hold from step `turns.over` on (0: from
    the end of the run).
    Raises UserError where the counts change and nobody said over how many steps.
    """
    first = (turns.discriminator, turns.generator)
    final = (turns.final_discriminator or first[0], turns.final_generator or first[1])
    if first == final:
        return first
    over = turns.over or steps
    if not over:
        raise UserError("train.turns change over the run, whose length is not known: give train.turns.over")
    discriminator, generator = (
        math.floor(anneal(begin, end, step, over) + 0.5) for begin, end in zip(first, final, strict=True)
    )
    return discriminator, generator


def balanced_counts(accuracy: float) -> tuple[int, int]:
    """Turns (discriminator, generator) that favour the player who is losing, for `train.turns.balance`.

    accuracy: the share of logits on the right side of 0 (real above, fake below), averaged over the last steps.
    Above 0.9 the discriminator is too far ahead to teach anything and the generator plays twice; below 0.6 it hardly
    beats a coin, its gradient says little, and it plays twice; in between both play once.
    """
    if accuracy > 0.9:
        return 1, 2
    if accuracy < 0.6:
        return 2, 1
    return 1, 1


def _length(*, steps: int | None = None) -> None:
    """The option that all schedules share."""


def _warm(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0


def _progress(name: str, step: int, steps: int | None, start: float) -> float:
    """How far `step` is from the share `start` of the steps to their end, in [0, 1]."""
    if steps is None:
        raise UserError(
            f"train.schedule {name!r} needs the length of the run: give train.steps or train.schedule.steps"
        )
    if not 0 <= start <= 1:
        raise UserError(f"train.schedule.start: a share of the steps lies between 0 and 1, not {start!r}")
    return anneal(0.0, 1.0, step - start * steps, (1 - start) * steps) if step > start * steps else 0.0
