"""Inception Score (Salimans et al. 2016, sec. 4): samples that are each of one class for certain, and of every class."""

from __future__ import annotations

import torch
from torch import Tensor


def inception_score(logits: Tensor, *, splits: int = 10, seed: int = 0) -> tuple[float, float]:
    """exp(E KL(p(y|x) ‖ p(y))) of class logits (N, K): mean and standard deviation over splits, in float64.

    From 1 (every sample looks the same to the classifier) to K (certain of each, and all classes equally frequent).
    The samples are shuffled by `seed` and cut into splits of equal size. p(y) is a split's own, so fewer samples or
    more splits lower the score: compare only figures with the same N and number of splits. The standard deviation is
    the sample's (divided by splits − 1), and 0 for one split.
    Raises ValueError for logits of another shape, or fewer samples than splits.
    """
    if logits.ndim != 2 or splits < 1 or len(logits) < splits:
        raise ValueError(
            f"an Inception Score needs logits (N, K) with N of at least the {splits} splits, not {tuple(logits.shape)}"
        )
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    given = logits.detach().double()[order.to(logits.device)].softmax(dim=1)
    scores = torch.stack([_score(part) for part in given.tensor_split(splits)])
    return float(scores.mean()), float(scores.std()) if splits > 1 else 0.0


def _score(given: Tensor) -> Tensor:
    """The score of class probabilities (N, K): E KL(p(y|x) ‖ p(y)) is the entropy of p(y) less the mean of p(y|x)'s."""
    # As entropies, a probability of 0 counts 0, and needs no logarithm.
    return (torch.special.entr(given.mean(0)).sum() - torch.special.entr(given).sum(1).mean()).exp()
