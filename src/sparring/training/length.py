"""How long a training is planned to be."""

from __future__ import annotations

import math

from sparring.core.game import Game
from sparring.recipe import Train


def planned_steps(options: Train, game: Game, count: int) -> int | None:
    """The step that a training on `count` samples ends with; None where only a clock ends it."""
    ends = [] if options.steps is None else [options.steps]
    if options.epochs is not None:
        # The first turn of a step draws its batch, whatever it says.
        fresh = sum(turn.fresh or not index for index, turn in enumerate(game.turns(0)))
        ends.append(math.ceil(options.epochs * count / (max(1, fresh) * options.batch_size)))
    return min(ends, default=None)
