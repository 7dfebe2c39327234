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
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import f1_score, r2_score

    fake = fake[: len(train)]
    inputs = [narrowed(side, cells, target) for side in (train, test, fake)]
    if target.number:
        wanted = [side[:, target.start].double().cpu().numpy() for side in (train, test, fake)]
    else:
        wanted = [side[:, target.place].argmax(1).cpu().numpy() for side in (train, test, fake)]
    scores: list[float] = []
    for number in (2, 0):
        x, y = inputs[number], wanted[number]
        if not target.number and len(np.unique(y)) < 2:
            foretold = np.full(len(inputs[1]), y[0])  # samples of one category teach that one
        else:
            kind = HistGradientBoostingRegressor if target.number else HistGradientBoostingClassifier
            foretold = kind(max_iter=TREES, random_state=seed, early_stopping=False).fit(x, y).predict(inputs[1])
        score = r2_score(wanted[1], foretold) if target.number else f1_score(wanted[1], foretold, average="macro")
        scores.append(float(score))
    return Trained(scores[0], scores[1], "R²" if target.number else "F1")


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
