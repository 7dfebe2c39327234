"""The levels of a column of categories: which there are, how often, and in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparring.data.frames import pandas
from sparring.errors import UserError

if TYPE_CHECKING:
    from pandas import Series

TRUTHS = {
    "true": True, "false": False, "yes": True, "no": False, "1": True, "0": False, "y": True, "n": False, "t": True, "f": False,
    "1.0": True, "0.0": False,
}  # fmt: skip
"""Answers as users write them, in small letters."""

Ints = NDArray[np.int64]
Levels = tuple[list[Any], list[int], list[Any], list[int]]


def level_numbers(values: Series) -> tuple[Ints, list[Any]]:
    """Of each value the number of its level, and the levels as plain values, in the order in which they come; None: missing."""
    places, there = pandas().factorize(values, use_na_sentinel=True)
    levels = [each.item() if isinstance(each, np.generic) else each for each in there]
    if (places < 0).any():
        places = np.where(places < 0, len(levels), places)
        levels.append(None)
    return places, levels


def fit_levels(values: Series, most: int, *, ordered: bool = False, order: Sequence[Any] | None = None) -> Levels:
    """The levels with their counts, and those that are too rare for one of their own, which share the last, with theirs.

    The most frequent come first; `ordered` ones in the order given, in that of pandas' categories, or else as numbers and
    text are sorted, numbers within text by their size. most: levels at most. Raises UserError where a level has no place in
    the order, and where an order has more than `most`.
    """
    places, there = level_numbers(values)
    counts = dict(zip(there, np.bincount(places, minlength=len(there)).tolist(), strict=True))
    if ordered:
        chosen = _in_order(values, [level for level in there if level is not None], order)
        chosen += [None] * (None in counts)
        if len(chosen) > most:
            raise UserError(
                f"column {values.name!r} has {len(chosen)} ordered categories, of which rare ones cannot share one: set "
                f"data.max_levels to {len(chosen)}, or say that it is a category"
            )
        return chosen, [counts[level] for level in chosen], [], []
    chosen = sorted(counts, key=lambda level: (-counts[level], str(level)))
    kept, rare = (chosen, []) if len(chosen) <= most else (chosen[: most - 1], chosen[most - 1 :])
    levels, numbers = list(kept), [counts[level] for level in kept]
    rare_counts = [counts[level] for level in rare]
    if rare:
        levels.append("(rare)")
        numbers.append(sum(rare_counts))
    return levels, numbers, rare, rare_counts


def _in_order(values: Series, there: list[Any], order: Sequence[Any] | None) -> list[Any]:
    if order is None and isinstance(values.dtype, pandas().CategoricalDtype) and values.cat.ordered:
        order = values.cat.categories.tolist()
    if order is None:
        return sorted(there, key=natural)
    # As text: in a recipe, 1 may stand for "1".
    rank = {str(level): number for number, level in enumerate(order)}
    if strange := [level for level in there if str(level) not in rank]:
        raise UserError(
            f"column {values.name!r} has {strange[0]!r}, which its order lacks: {', '.join(map(str, order))}"
        )
    return sorted(there, key=lambda level: rank[str(level)])


def natural(level: Any) -> tuple[Any, ...]:
    """A key that sorts numbers by size, before text; and text with the numbers within it by size: 9th before 10th."""
    if isinstance(level, int | float):
        return (0, level)
    parts = re.split(r"(\d+)", str(level))
    return (1, *((int(part), part) if number % 2 else (-1, part) for number, part in enumerate(parts)))
