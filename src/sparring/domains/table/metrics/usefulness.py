"""What samples are good for: training a model in the data's place, and passing for data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.domains.table.cells import Cell

FOLDS = 3
TREES = 100


@dataclass(frozen=True)
class Trained:
    """Scores on rows of the data that no model saw: of one trained on samples, and of one trained on other data.

    measure: F1 (macro) for categories, R² for numbers.
    """

    on_samples: float
    on_data: float
    measure: str


def train_on_samples(
    train: Tensor, test: Tensor, fake: Tensor, cells: Sequence[Cell], target: Cell, seed: int
) -> Trained:
    """Gradient-boosted trees that foretell `target` of the data's rows `test` from the other columns: train on samples or data.

    As many samples are trained on as there are rows in `train`, at most. Source: TSTR, Esteban et al. 2017.
    """
    from sklearn.metrics import f1_score, r2_score

    fake = fake[: len(train)]
    wanted = labels(test, target)
    scores: list[float] = []
    for side in (fake, train):
        found = foretold(side, test, cells, target, seed)
        score = r2_score(wanted, found) if target.number else f1_score(wanted, found, average="macro")
        scores.append(float(score))
    return Trained(scores[0], scores[1], "R²" if target.number else "F1")


def foretold(train: Tensor, test: Tensor, cells: Sequence[Cell], target: Cell, seed: int) -> NDArray[np.float64]:
    """What gradient-boosted trees, trained on one side, say of `target` on the other: categories' numbers or values (N,)."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    y = labels(train, target)
    if not target.number and len(np.unique(y)) < 2:
        return np.full(len(test), y[0])  # rows of one category teach that one
    kind = HistGradientBoostingRegressor if target.number else HistGradientBoostingClassifier
    model = kind(max_iter=TREES, random_state=seed, early_stopping=False)
    return model.fit(narrowed(train, cells, target), y).predict(narrowed(test, cells, target))


def labels(rows: Tensor, target: Cell) -> NDArray[np.float64]:
    """The column itself, (N,)."""
    own = rows[:, target.place]
    return (own[:, 0].double() if target.number else own.argmax(1)).cpu().numpy()


def narrowed(rows: Tensor, cells: Sequence[Cell], without: Cell | None = None) -> NDArray[np.float64]:
    """A number a column (N, K): trees cut categories as well as numbers. without: a column that is left out."""
    parts = []
    for cell in cells:
        if cell is without:
            continue
        own = rows[:, cell.place].double()
        value = own[:, 0] if cell.number else own.argmax(1).double()
        if cell.number and cell.size > 1:
            value = torch.where(own[:, 1] > 0, torch.nan, value)
        parts.append(value)
    return torch.stack(parts, 1).cpu().numpy()


def detection(real: Tensor, fake: Tensor, cells: Sequence[Cell], seed: int) -> float:
    """How well gradient-boosted trees tell samples from data they have not seen: area under the ROC curve, ½ if not at all."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    count = min(len(real), len(fake))
    x = np.concatenate([narrowed(side[:count], cells) for side in (real, fake)])
    y = np.repeat([0, 1], count)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    model = HistGradientBoostingClassifier(max_iter=TREES, random_state=seed, early_stopping=False)
    return float(cross_val_score(model, x, y, cv=folds, scoring="roc_auc").mean())
