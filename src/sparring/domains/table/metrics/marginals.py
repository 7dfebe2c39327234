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
    count = rows.shape[1]
    matrix = np.eye(count)
    for one in range(count):
        for other in range(one):
            matrix[one, other] = matrix[other, one] = _cramer(rows[:, one], rows[:, other])
    return matrix


def _cramer(left: Codes, right: Codes) -> float:
    total = len(left)
    table = np.zeros((int(left.max()) + 1, int(right.max()) + 1))
    np.add.at(table, (left, right), 1)
    table = table[table.any(1)][:, table.any(0)]
    expected = np.outer(table.sum(1), table.sum(0)) / total
    square = float((np.square(table - expected) / expected).sum()) / total
    (rows, columns) = table.shape
    square = max(0.0, square - (rows - 1) * (columns - 1) / max(1, total - 1))
    rows_left, columns_left = (each - (each - 1) ** 2 / max(1, total - 1) for each in (rows, columns))
    least = min(rows_left, columns_left) - 1
    return float(np.sqrt(square / least).clip(0, 1)) if least > 0 else 0.0
