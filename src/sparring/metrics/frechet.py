"""Fréchet distance between Gaussians fitted to two sets of features (FID; Heusel et al. 2017, eq. 6).

The moments are those of the reference implementation (mean, and covariance divided by N − 1).
"""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) of features (N, D) and (M, D): a squared distance, in float64.

    It is biased upwards by a small count of samples: compare only figures with the same N and M.
    Raises ValueError where the widths differ or a side has fewer than two samples.
    """
    return frechet_from_moments(*moments(real), *moments(fake))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), in float64."""
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"a covariance needs features (N, D) with N of at least 2, not {tuple(features.shape)}")
    features = features.detach().double()
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_from_moments(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> float:
    """The Fréchet distance of N(mu1, cov1) and N(mu2, cov2): means (D,), covariances (D, D), symmetric.

    Tr (Σ₁Σ₂)^½ is the trace of (Σ₁^½ Σ₂ Σ₁^½)^½, the root of a symmetric matrix, and needs no general matrix root,
    whose imaginary rounding errors the reference implementation has to cut off.
    """
    if mu1.shape != mu2.shape or cov1.shape != cov2.shape:
        raise ValueError(f"moments of features of one width are needed, not {tuple(mu1.shape)} and {tuple(mu2.shape)}")
    mu1, cov1, mu2, cov2 = (moment.detach().double() for moment in (mu1, cov1, mu2, cov2))
    values, vectors = torch.linalg.eigh(cov1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    distance = (mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    # Of equal moments, rounding leaves a figure on either side of 0.
    return max(float(distance), 0.0)
