"""How far columns are from the data's, one by one and in pairs.

Rows are features as `cells.Cells` has them. Of a column: for categories the total variation, half the sum of differences
of their shares; for numbers the largest difference of the two cumulative shares (Kolmogorov & Smirnov), missing ones being
below all. Both lie between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.domains.table.cells import Cell

PAIRS = 20_000  # of columns, of which each takes a tenth of a millisecond and more
CELLS = 2**24  # of the tables of a column with all others that are counted in memory
BINS = 10  # of numbers, each with as many rows of the data
Matrix = NDArray[np.float64]
Codes = NDArray[np.int64]


def column_distances(real: Tensor, fake: Tensor, cells: Sequence[Cell]) -> list[float]:
    """The distance of each column."""
    found = []
    for cell in cells:
        left, right = real[:, cell.place].double(), fake[:, cell.place].double()
        if not cell.number:
            shares = [(side > 0).double().mean(0) for side in (left, right)]
            found.append(float((shares[0] - shares[1]).abs().sum() / 2))
            continue
        sides = [_ordered(side) for side in (left, right)]
        points = torch.cat(sides).unique()
        below = [torch.searchsorted(side, points, right=True) / len(side) for side in sides]
        found.append(float((below[0] - below[1]).abs().max()))
    return found


def _ordered(side: Tensor) -> Tensor:
    values = side[:, 0].clone()
    if side.shape[1] > 1:
        values[side[:, 1] > 0] = -torch.inf
    return values.sort().values


def coded(real: Tensor, fake: Tensor, cells: Sequence[Cell]) -> tuple[Codes, Codes]:
    """Both sides (N, K) as whole numbers: categories, and numbers in bins between the data's deciles, missing ones the last."""
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for cell in cells:
        edges = None
        if cell.number:
            quantiles = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)[1:-1]
            there = real[:, cell.start].double()
            if cell.size > 1:
                there = there[real[:, cell.start + 1] == 0]
            edges = torch.quantile(_sampled(there), quantiles).unique() if len(there) else there
        for side, found in zip((real, fake), sides, strict=True):
            own = side[:, cell.place]
            if edges is None:
                found.append(own.argmax(1))
                continue
            values = own[:, 0].double().contiguous()
            # What equals an edge is a bin of its own: where most of a column is 0, the rest is not to fall together with it.
            number = torch.searchsorted(edges, values) + torch.searchsorted(edges, values, right=True)
            found.append(torch.where(own[:, 1] > 0, 2 * len(edges) + 1, number) if cell.size > 1 else number)
    left, right = (torch.stack(side, 1).cpu().numpy() for side in sides)
    return left, right


def _sampled(values: Tensor) -> Tensor:
    return values[:: max(1, len(values) // 100_000)]  # torch.quantile takes no more than 16 million


def pair_distance(real: Codes, fake: Codes) -> float:
    """Mean over pairs of columns, coded (N, K), of the total variation of how often two values meet.

    Of more than `PAIRS` pairs, over so many of them, always the same.
    """
    found = []
    for one, other in _pairs(real.shape[1]):
        width = 1 + max(int(real[:, other].max()), int(fake[:, other].max()))
        pairs = [side[:, one] * width + side[:, other] for side in (real, fake)]
        size = 1 + max(int(each.max()) for each in pairs)
        shares = [np.bincount(each, minlength=size) / len(each) for each in pairs]
        found.append(float(np.abs(shares[0] - shares[1]).sum() / 2))
    return float(np.mean(found)) if found else 0.0


def _pairs(count: int) -> list[tuple[int, int]]:
    """Pairs of different columns: all, or of many columns as many as `PAIRS`."""
    if count * (count - 1) // 2 <= PAIRS:
        return [(one, other) for one in range(count) for other in range(one)]
    drawn = np.random.default_rng(0).integers(0, count, (2 * PAIRS, 2))
    return [(max(pair), min(pair)) for pair in drawn[drawn[:, 0] != drawn[:, 1]][:PAIRS].tolist()]


def associations(rows: Codes) -> Matrix:
    """Cramér's V of each pair of coded columns (N, K) → (K, K), without its bias (Bergsma 2013)."""
    total, count = rows.shape
    numbers = [np.unique(rows[:, column], return_inverse=True)[1] for column in range(count)]
    sizes = np.array([int(each.max()) + 1 for each in numbers])
    firsts = sizes.cumsum() - sizes
    # In a row of these, where the codes of all columns lie one after the other, are the numbers that it has.
    at = np.stack(numbers, 1) + firsts
    counts = np.bincount(at.ravel(), minlength=int(sizes.sum()))
    matrix = np.eye(count)
    for one in range(count - 1):
        own, size, start = numbers[one], int(sizes[one]), int(firsts[one + 1])
        width = len(counts) - start
        keys = own[:, None] * width + (at[:, one + 1 :] - start)
        if size * width <= CELLS:
            met = np.bincount(keys.ravel(), minlength=size * width)
            cells = met.nonzero()[0]
            met = met[cells]
        else:
            cells, met = np.unique(keys, return_counts=True)
        rows_of, others = cells // width, cells % width
        # Of the mean square contingency, Σ p² / (p p) - 1, cells that nothing falls into have no part.
        parts = np.square(met) / (counts[firsts[one] + rows_of] * counts[start + others].astype(float))
        by_number = np.bincount(others, parts, width)
        squares = np.add.reduceat(by_number, firsts[one + 1 :] - start) - 1
        matrix[one, one + 1 :] = matrix[one + 1 :, one] = _cramer(squares, size, sizes[one + 1 :], total)
    return matrix


def _cramer(squares: Matrix, left: int, right: Codes, total: int) -> Matrix:
    """V of mean square contingencies (K,) of tables of `left` times `right` (K,) cells, which `total` rows fill."""
    spare = max(1, total - 1)
    squares = (squares - (left - 1) * (right - 1) / spare).clip(0)
    least = np.minimum(left - (left - 1) ** 2 / spare, right - (right - 1) ** 2 / spare) - 1
    return np.where(least > 0, np.sqrt(squares / np.where(least > 0, least, 1)), 0).clip(0, 1)
