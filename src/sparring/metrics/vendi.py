"""Vendi score: the effective number of different samples (Friedman & Dieng 2023).

Orders other than 1 are those of Pasarkar & Dieng 2024 ("Cousins of the Vendi score"). Reference implementation:
vertaix/Vendi-Score.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sparring.metrics.neighbours import check_features

MOST = 10_000
"""The largest matrix whose eigenvalues are taken: 800 MB in float64, and minutes."""


def vendi(
    features: Tensor,
    *,
    order: float = 1.0,
    kernel: Literal["cosine", "rbf"] = "cosine",
    bandwidth: float | None = None,
) -> float:
    """The exponential of the entropy of the eigenvalues of K/N, in float64: between 1 (all equal) and N (no two alike).

    features: (N, D). order: of the Rényi entropy, in [0, ∞]: 1 is Shannon's; smaller heeds rare samples more, ∞ the
    most common kind alone. kernel: `cosine` is x·y/(‖x‖‖y‖), where samples of all zeros, which have no direction, are
    alike and unlike all others; its matrix has the eigenvalues of the D×D one, whichever is smaller. `rbf` is
    exp(−‖x − y‖²/(2·bandwidth²)); bandwidth: in the features' units, by default the median distance between samples.
    It grows with N: compare only figures with the same. It sees diversity alone: noise is diverse.
    Raises ValueError where a feature is not finite, an option is out of range, or both N and D (N for `rbf`) are
    greater than 10,000.
    """
    check_features(features)
    if not order >= 0:
        raise ValueError(f"the order of an entropy must be at least 0, not {order}")
    if bandwidth is not None and (kernel != "rbf" or bandwidth <= 0):
        raise ValueError(f"a bandwidth is a positive number and belongs to the rbf kernel, not {bandwidth} to {kernel}")
    features = features.detach().double()
    matrix = _cosine(features) if kernel == "cosine" else _rbf(features, bandwidth)
    return _effective_number(torch.linalg.eigvalsh(matrix / len(features)), order)


def _cosine(features: Tensor) -> Tensor:
    """The Gram matrix of unit vectors, or the D×D one with the same eigenvalues but for zeros."""
    # Scaled by the largest entry first: squares of very small or large ones leave the range.
    scale = features.abs().amax(1, keepdim=True)
    empty = (scale == 0).double()
    units = torch.nn.functional.normalize(features / (scale + empty), dim=1)
    units = torch.cat([units, empty], dim=1)
    _check_size(min(units.shape))
    return units.T @ units if units.shape[1] < units.shape[0] else units @ units.T


def _rbf(features: Tensor, bandwidth: float | None) -> Tensor:
    _check_size(len(features))
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    if bandwidth is None:
        pairs = distances[*torch.triu_indices(len(features), len(features), 1, device=features.device)]
        bandwidth = float(pairs.median()) if len(pairs) else 1.0
        if bandwidth == 0:
            raise ValueError("more than half of the samples are equal, so their median distance is 0: set a bandwidth")
    return distances.div_(bandwidth).square_().div_(-2).exp_()


def _check_size(size: int) -> None:
    if size > MOST:
        raise ValueError(
            f"the score needs the eigenvalues of a {size}×{size} matrix, at most {MOST}: take fewer samples"
        )


def _effective_number(eigenvalues: Tensor, order: float) -> float:
    """The exponential of the Rényi entropy of eigenvalues that sum to 1 (Hill number)."""
    # Rounding leaves the zeros of a singular matrix on either side of 0; low orders would count them as kinds.
    smallest = len(eigenvalues) * torch.finfo(torch.float64).eps * float(eigenvalues.max())
    shares = eigenvalues[eigenvalues > smallest]
    if order == 1:
        return math.exp(-float((shares * shares.log()).sum()))
    if math.isinf(order):
        return 1 / float(shares.max())
    return float(shares.pow(order).sum()) ** (1 / (1 - order))
