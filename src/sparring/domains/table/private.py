"""Descriptions of columns for private training: how often the data have what, with noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from sparring.domains.table.columns import NUMBERS, Column, Floats


def with_noise(columns: Sequence[Column], noise: float, draw: Callable[[int], Tensor]) -> list[Column]:
    """The columns with noise on all counts: of categories, missing values, and the bins of numbers.

    A row is counted once in each column of categories and twice in each of numbers, in a bin and in a mode. So of K counts
    together it changes all by √K, and noise has `noise` times that deviation (the Gaussian mechanism). Categories stand in the
    order of what came of it, unless they have an order of their own, and those that came out below 0 are not there.
    """
    counted = sum(1 + (column.kind in NUMBERS) for column in columns if column.kind in (*NUMBERS, "category"))
    deviation = noise * np.sqrt(counted)

    def noisy(counts: Sequence[float]) -> Floats:
        found = np.asarray(counts, float) + deviation * draw(len(counts)).double().numpy()
        found = found.clip(0).round()
        return found if found.any() else np.ones(len(found))

    made = []
    for column in columns:
        if column.kind == "category":
            made.append(_category(column, noisy))
        elif column.kind in NUMBERS:
            *shares, missing = noisy(
                [*(share * (column.rows - column.missing) for share in column.shares), column.missing]
            )
            # A column has a place for missing values or not: that is known of it, and how many there are is not.
            missing = max(1, int(missing)) if column.missing else 0
            modes = noisy(column.counts[: len(column.centres)]).astype(int).tolist() + [missing] * (missing > 0)
            shares = (np.array(shares) / max(1.0, sum(shares))).tolist()
            made.append(replace(column, shares=shares, missing=missing, counts=modes))
        else:
            made.append(column)
    return made


def _category(column: Column, noisy: Callable[[Sequence[float]], Floats]) -> Column:
    kept = len(column.levels) - bool(column.rare)
    counts = noisy([*column.counts[:kept], *column.rare_counts])
    rare_counts = [int(count) for count in counts[kept:]]
    order = list(range(kept))
    if not column.ordered:
        order.sort(key=lambda place: (-counts[place], str(column.levels[place])))
    levels, found = [column.levels[place] for place in order], [int(counts[place]) for place in order]
    if column.rare:
        levels.append(column.levels[-1])
        found.append(sum(rare_counts))
        rare_counts = rare_counts if any(rare_counts) else [1] * len(rare_counts)
    missing = max(1, found[levels.index(None)]) if None in levels else 0
    return replace(column, levels=levels, counts=found, rare_counts=rare_counts, missing=missing)
