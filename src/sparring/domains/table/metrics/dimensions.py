"""Choi et al.'s (2017) two measures of patients' codes: how often each is there, and how well the others foretell it.

A dimension is a column of two categories, there where it has the one that is 1 to `medgan-records`, or a column of counts,
there where it is not 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.domains.table.cells import Cell, standards
from sparring.domains.table.columns import Column

FEWEST = 5  # rows of either kind that a model needs
Matrix = NDArray[np.bool_]


def countable(column: Column) -> bool:
    """Whether a column is a dimension: of two values, or of counts that begin at 0."""
    if column.kind == "category":
        return column.size == 2
    return column.kind == "integer" and column.low == 0 and not column.missing


def one_of(column: Column) -> int:
    """Which of a column's categories is 1: the larger number, and of what is no number the rarer one."""
    levels = column.levels
    if len(levels) < 2:
        return 0
    return int(levels[1] > levels[0]) if all(isinstance(level, int | float) for level in levels) else 1


def there(rows: Tensor, cells: Sequence[Cell]) -> Matrix:
    """Rows as features (N, D) → which dimensions are there, (N, K)."""
    parts = []
    for cell in cells:
        own = rows[:, cell.place].double()
        if cell.number:
            mean, deviation = standards(cell.column)
            parts.append(own[:, 0] * deviation + mean > 0.5)
        else:
            parts.append(own[:, one_of(cell.column)] > 0)
    return torch.stack(parts, 1).cpu().numpy()


def dimension_probability(real: Matrix, fake: Matrix) -> float:
    """Root mean square over dimensions of the difference in how often they are there, 0 to 1 (their figure 2 as a number)."""
    return float(np.sqrt(np.square(real.mean(0) - fake.mean(0)).mean()))


def dimension_prediction(train: Matrix, test: Matrix, fake: Matrix, seed: int) -> tuple[float, float, float]:
    """Mean F1 over dimensions of what logistic regression foretells of rows of the data from their other dimensions.

    Returns it trained on samples, trained on data, and the mean over dimensions of how far the two are apart (figure 3).
    Dimensions that too few rows of a side have, or lack, are left out.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    scores: list[list[float]] = []
    fake = fake[: len(train)]
    for place in range(train.shape[1]):
        wanted = [side[:, place] for side in (train, test, fake)]
        if any(min(each.sum(), len(each) - each.sum()) < FEWEST for each in wanted[:2]):
            continue
        others = [np.delete(side, place, 1) for side in (train, test, fake)]
        own = []
        for side in (2, 0):
            if wanted[side].all() or not wanted[side].any():
                told = np.full(len(test), wanted[side][0])  # samples of one kind teach that one
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    told = (
                        LogisticRegression(max_iter=200, random_state=seed)
                        .fit(others[side], wanted[side])
                        .predict(others[1])
                    )
            own.append(float(f1_score(wanted[1], told, zero_division=0.0)))
        scores.append(own)
    if not scores:
        return float("nan"), float("nan"), float("nan")
    found = np.array(scores)
    return float(found[:, 0].mean()), float(found[:, 1].mean()), float(np.abs(found[:, 0] - found[:, 1]).mean())
