"""Whether samples give rows of the data away."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparring.metrics.neighbours import nearest


def closest(rows: Tensor, among: Tensor) -> Tensor:
    """Distance (N,) of each row to the closest of `among`, features of both."""
    return nearest(rows, among)[0][:, 0]


def exact_copies(fake: Tensor, train: Tensor) -> float:
    """Share of samples that equal a row of the data, in every column as `cells.Cells` sees it."""
    rows = {row.tobytes() for row in train.float().cpu().numpy()}
    return float(np.mean([row.tobytes() in rows for row in fake.float().cpu().numpy()]))


def membership_auc(members: Tensor, others: Tensor, fake: Tensor) -> float:
    """How well a row's distance to the closest sample tells whether it was trained on: area under the ROC curve, ½ if not at all.

    members: rows that were trained on; others: rows of the same distribution that were not.
    Source: Chen et al. 2020 (GAN-Leaks), the attack on a generator whose samples alone are known.
    """
    inside, outside = closest(members, fake), closest(others, fake)
    # The share of pairs in which the member is the closer one: Mann & Whitney's statistic.
    order = outside.sort().values
    above = len(order) - torch.searchsorted(order, inside, right=True)
    level = torch.searchsorted(order, inside, right=True) - torch.searchsorted(order, inside)
    return float(((above + 0.5 * level).double() / len(order)).mean())
