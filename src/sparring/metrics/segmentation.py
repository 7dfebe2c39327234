"""How well maps of classes agree: what of a picture a network takes for what it should be (Long et al. 2015, sec. 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """Figures of a confusion matrix, all in [0, 1], NaN where there is nothing to look at.

    pixel_accuracy: share of places that are right. class_accuracy: mean over the classes that there are of the share of
    their places that is found. mean_iou: mean over the classes that are there or were taken to be there of intersection
    over union. iou: of each class, NaN for one that is in neither. frequency_iou: `iou` weighted by the classes' places.
    """

    pixel_accuracy: float
    class_accuracy: float
    mean_iou: float
    frequency_iou: float
    iou: list[float]


def confusion(true: Tensor, found: Tensor, classes: int) -> Tensor:
    """How often class i (row) was taken for class j (column): int64 (K, K).

    true, found: whole numbers of one shape. Places whose true number is no class, 0 to K - 1, are left out (void).
    Matrices of parts of a set add up. Raises ValueError for other shapes, and where `found` names no class at a place
    that counts.
    """
    if true.shape != found.shape:
        raise ValueError(f"maps of one size are needed, not {tuple(true.shape)} and {tuple(found.shape)}")
    there = (true >= 0) & (true < classes)
    rows, columns = true[there].long(), found[there].long()
    if columns.numel() and (int(columns.min()) < 0 or int(columns.max()) >= classes):
        raise ValueError(
            f"what is found must be classes 0 to {classes - 1}, not {int(columns.min())} to {int(columns.max())}"
        )
    return torch.bincount(rows * classes + columns, minlength=classes**2).view(classes, classes)


def agreement(matrix: Tensor) -> Agreement:
    """The figures of a confusion matrix (K, K), rows true (Long et al. 2015, sec. 5)."""
    counts = matrix.double()
    right, true, found = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    union = true + found - right
    iou = right / union  # 0 / 0 is NaN: a class that is nowhere has none
    recall = right / true
    share = true / true.sum()
    return Agreement(
        pixel_accuracy=float(right.sum() / true.sum()),
        class_accuracy=float(recall.nanmean()),
        mean_iou=float(iou.nanmean()),
        frequency_iou=float((share * iou.nan_to_num(0)).sum()),
        iou=iou.tolist(),
    )
