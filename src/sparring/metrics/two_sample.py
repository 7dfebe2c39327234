"""Classifier two-sample test: can a classifier tell fakes from reals it has not seen (Lopez-Paz & Oquab 2017)?

The nearest-neighbour classifier, left one out, and its accuracy on each side are those of Xu et al. 2018, section 2.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sparring.metrics.neighbours import check_features, nearest


@dataclass(frozen=True)
class TwoSample:
    """accuracy: held-out, in [0, 1]; 0.5 where the two sides cannot be told apart. p_value: how often chance alone
    would be as far off, if they were equal. real_accuracy, fake_accuracy: the share of each side that is recognised as
    what it is. count: samples of each side that were compared.
    """

    accuracy: float
    p_value: float
    real_accuracy: float
    fake_accuracy: float
    count: int


def two_sample(
    real: Tensor,
    fake: Tensor,
    *,
    classifier: Literal["logistic", "nearest"] = "logistic",
    folds: int = 5,
    count: int = 5000,
    seed: int = 0,
) -> TwoSample:
    """Held-out accuracy of a classifier between features (N, D) and (M, D), and its p-value.

    `logistic`: logistic regression on features standardised by the training folds, cross-validated in `folds`. The
    p-value is one-sided, for an accuracy above chance. It sees what a hyperplane separates: means, not spreads.
    `nearest`: each sample is given the side of its nearest other sample. Its accuracies tell what is wrong: both high,
    the two sides lie apart; fakes high and reals low, the fakes are collapsed; both low, every fake sits at a real
    sample, which is memorisation. The p-value is two-sided, from permuted sides.

    Both sides are cut to the same number of samples, `count` at most, drawn with `seed`, so that 0.5 is chance; cost
    grows with count·D for `logistic` and with count²·D for `nearest`.
    Raises ValueError where the widths differ, a side has fewer samples than `folds` (2 for `nearest`), or a feature is
    not finite.
    """
    check_features(real, fake)
    least = folds if classifier == "logistic" else 2
    size = min(len(real), len(fake), count)
    if size < least or least < 2:
        raise ValueError(f"at least {max(2, least)} samples of each side are needed, and 2 folds, not {size}")
    rng = np.random.default_rng(seed)
    sides = np.repeat([0, 1], size)
    features = torch.cat([_draw(side.detach(), size, rng) for side in (real, fake.to(real.device))])
    if classifier == "nearest":
        neighbours = nearest(features)[1][:, 0].cpu().numpy()
        right = sides[neighbours] == sides
        p_value = _permuted(neighbours, sides, int(right.sum()), rng)
    else:
        right = _cross_validated(features.float().cpu().numpy(), sides, folds, seed)
        p_value = _above_chance(int(right.sum()), len(right), folds)
    return TwoSample(
        accuracy=float(right.mean()),
        p_value=p_value,
        real_accuracy=float(right[:size].mean()),
        fake_accuracy=float(right[size:].mean()),
        count=size,
    )


def _draw(samples: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """`size` of the samples, without replacement, in their order."""
    chosen = np.sort(rng.choice(len(samples), size, replace=False))
    return samples[torch.from_numpy(chosen).to(samples.device)]


def _cross_validated(features: np.ndarray, sides: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Whether each sample is told right by a logistic regression that was trained without its fold."""
    right = np.zeros(len(sides), dtype=bool)
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, sides):
        # Hardly regularised, it would separate wide features of few samples and learn nothing that holds.
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200, random_state=seed))
        with warnings.catch_warnings():
            # A fit cut short is a classifier like any other: the test holds for whatever it has learnt.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features[train], sides[train])
        right[test] = model.predict(features[test]) == sides[test]
    return right


def _above_chance(right: int, total: int, folds: int) -> float:
    """One-sided p-value of a cross-validated count, by a normal approximation.

    Folds share training data, so their counts vary together, more than a binomial: the variance is corrected by
    1 + folds·(test size / training size) (Nadeau & Bengio 2003, section 3.1), which is on the safe side.
    """
    deviation = math.sqrt(total / 4 * (1 + folds / (folds - 1)))
    return 0.5 * math.erfc((right - total / 2) / deviation / math.sqrt(2))


def _permuted(neighbours: np.ndarray, sides: np.ndarray, right: int, rng: np.random.Generator) -> float:
    """Two-sided p-value: the neighbours stay whose they are, and the sides are dealt anew."""
    rounds = 1000
    chance = np.empty(rounds)
    for i in range(rounds):
        dealt = rng.permutation(sides)
        chance[i] = (dealt[neighbours] == dealt).sum()
    centre = len(sides) * (len(sides) / 2 - 1) / (len(sides) - 1)
    extreme = int((np.abs(chance - centre) >= abs(right - centre)).sum())
    return (extreme + 1) / (rounds + 1)
