"""How differently the groups of a protected column fare: in samples, and under a model that was trained on them.

Fair samples do not make fair models (so the workshop on synthetic data of NeurIPS 2022 found), therefore both are measured.
The figures are fairlearn's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparring.domains.table.cells import Cell
from sparring.domains.table.metrics.usefulness import foretold
from sparring.errors import missing_extra

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Fairness:
    """A model of the target on rows of the data that it has not seen.

    parity: as `parity`, of what it foretells. odds: the largest difference between groups in how often rows of one category
    are taken for another (equalised odds). accuracy: share of rows that it foretells right.
    """

    parity: float
    odds: float
    accuracy: float


def parity(favours: Codes, groups: Codes) -> float:
    """Demographic parity difference: between two groups at most, how much more often one has a category than the other, 0 to 1.

    favours, groups: categories (N,) of the target and of the protected column. Of more than two categories the one that
    groups differ in most.
    """
    metrics = _fairlearn()
    return max(
        metrics.demographic_parity_difference(favours == each, favours == each, sensitive_features=groups)
        for each in np.unique(favours)
    )


def fairness(train: Tensor, test: Tensor, cells: Sequence[Cell], target: Cell, protected: Cell, seed: int) -> Fairness:
    """Train boosted trees on one side, samples or data, and look at what they foretell of rows of data (features of both)."""
    metrics = _fairlearn()
    found = foretold(train, test, cells, target, seed).astype(np.int64)
    truth, groups = (test[:, cell.place].argmax(1).cpu().numpy() for cell in (target, protected))
    odds = [
        metrics.equalized_odds_difference(truth == each, found == each, sensitive_features=groups)
        for each in np.unique(truth)
    ]
    return Fairness(parity(found, groups), float(max(odds)), float((found == truth).mean()))


def _fairlearn() -> Any:
    try:
        import fairlearn.metrics
    except ImportError:
        raise missing_extra("fairlearn", "table", "measuring fairness") from None
    return fairlearn.metrics
