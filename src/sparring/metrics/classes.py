"""How well generated samples keep to the class they were asked for: accuracy, and a Fréchet distance a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparring.metrics.frechet import frechet_distance


def conditional_accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of generated samples that a classifier takes for the class they were asked for, in [0, 1].

    logits: (N, K), of a classifier that was trained on real data. labels: the classes asked for, (N,), whole numbers
    below K. It says nothing of variety: one perfect sample a class, repeated, scores 1.
    Raises ValueError where the shapes do not fit or a label is no class.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(f"needs logits (N, K) and labels (N,), not {tuple(logits.shape)} and {tuple(labels.shape)}")
    _check_labels(labels, logits.shape[1])
    return float((logits.detach().argmax(1) == labels.to(logits.device)).double().mean())


def class_frechet(
    real: Tensor, fake: Tensor, real_labels: Tensor, fake_labels: Tensor, *, classes: Sequence[str], least: int = 50
) -> dict[str, float]:
    """The Fréchet distance between the real and the fake samples of each class, by the class's name.

    real, fake: features (N, D) and (M, D). real_labels, fake_labels: (N,) and (M,), indices into `classes`. A class
    with fewer than `least` samples on either side is left out; `scarce_classes` tells which, and how many it has.
    The bias by count is each class's own: compare one class between models, rather than classes with each other
    unless their counts are alike. (Intra-FID: Miyato & Koyama 2018, sec. 5; its mean over classes is this dict's.)
    Raises ValueError where shapes do not fit, a label is no class, two classes share a name, or `least` is below 2.
    """
    if least < 2:
        raise ValueError(f"a covariance needs at least 2 samples of a class, not {least}")
    for side, labels in ((real, real_labels), (fake, fake_labels)):
        if side.ndim != 2 or labels.shape != side.shape[:1]:
            raise ValueError(
                f"needs features (N, D) and labels (N,), not {tuple(side.shape)} and {tuple(labels.shape)}"
            )
    scarce = scarce_classes(real_labels, fake_labels, classes=classes, least=least)
    return {
        name: frechet_distance(real[(real_labels == k).to(real.device)], fake[(fake_labels == k).to(fake.device)])
        for k, name in enumerate(classes)
        if name not in scarce
    }


def scarce_classes(
    real_labels: Tensor, fake_labels: Tensor, *, classes: Sequence[str], least: int = 50
) -> dict[str, tuple[int, int]]:
    """The classes with fewer than `least` samples on either side: name to counts of (real, fake).

    Labels are (N,) and (M,), indices into `classes`. Raises ValueError where one is no class or two share a name.
    """
    if len(set(classes)) != len(classes):
        raise ValueError("two classes have the same name")
    counts = []
    for labels in (real_labels, fake_labels):
        _check_labels(labels, len(classes))
        counts.append(torch.bincount(labels, minlength=len(classes)).tolist())
    return {name: (r, f) for name, r, f in zip(classes, *counts, strict=True) if min(r, f) < least}


def _check_labels(labels: Tensor, classes: int) -> None:
    """Raise ValueError unless every label is a whole number from 0 to `classes` − 1."""
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be whole numbers, not {labels.dtype}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels must be from 0 to {classes - 1}, not {int(labels.min())} to {int(labels.max())}")
