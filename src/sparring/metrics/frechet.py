"""Fréchet distance between Gaussians fitted to two sets of features (FID; Heusel et al. 2017, eq. 6).

The moments are those of the reference implementation (mean, and covariance divided by N − 1). Its general matrix root,
slow and with imaginary rounding errors to cut off, is replaced by what the formula needs of it, the trace.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Samples and columns that a covariance takes in at once: 128 MiB of float64 at 2,048 features.
ROWS, COLUMNS = 8192, 512

# A pivot below this share of the largest variance: the covariance is singular as far as float64 can tell.
LEAST_PIVOT = 1e-12

# How far rounding may move the distance, relative to it, before a slower and more accurate route is taken.
TOLERANCE = 1e-7


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) of features (N, D) and (M, D): a squared distance, in float64.

    It is biased upwards by a small count of samples: compare only figures with the same N and M, or take
    `frechet_infinity`. Raises ValueError where the widths differ or a side has fewer than two samples.
    """
    _check(real, fake)
    if max(len(real), len(fake)) < real.shape[1]:
        return _frechet_of_few(real, fake)
    return frechet_from_moments(*moments(real), *moments(fake))


def frechet_infinity(real: Tensor, fake: Tensor, *, parts: Sequence[int] = (1, 2, 3), seed: int = 0) -> float:
    """The Fréchet distance that features (N, D) and (M, D) point to as both counts grow without end: no bias by count.

    The bias is linear in 1/count (Chong & Forsyth 2020, "Effectively unbiased FID and Inception Score and where to
    find them"), so a line through distances at several counts meets the vertical axis at FID∞. There, counts
    are drawn anew from the generated side, fifteen times. Here both sides are cut, at random, into each number of
    `parts`, and the distances of a cut are averaged: every sample serves every point of the line, so that six
    distances are enough and FID∞ scatters hardly more than FID does.

    It estimates without bias, so a value below 0 is possible and says that no difference was found. Parts with fewer
    samples than D leave the linear range: from N/D of about 3 upwards little bias is left, below it some.
    seed: of the cuts. Raises ValueError for fewer than two different numbers of parts, or parts of less than 2 samples.
    """
    _check(real, fake)
    counts = sorted(set(parts))
    if len(counts) < 2 or counts[0] < 1 or min(len(real), len(fake)) < 2 * counts[-1]:
        raise ValueError(
            f"an extrapolation needs two or more numbers of parts, with at least 2 samples in each of them, "
            f"not {tuple(parts)} of {len(real)} and {len(fake)} samples"
        )
    rng = torch.Generator().manual_seed(seed)
    # One order for all cuts: halves and thirds of the same order are as good as fresh draws, and cost no copy.
    real, fake = (side[torch.randperm(len(side), generator=rng).to(side.device)] for side in (real, fake))
    means = []
    for count in counts:
        pairs = zip(real.tensor_split(count), fake.tensor_split(count), strict=True)
        means.append(sum(frechet_distance(one, other) for one, other in pairs) / count)
    # A part has N / count samples, so `count` is 1/samples in units of the whole.
    x = torch.tensor(counts, dtype=torch.float64)
    y = torch.tensor(means, dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean())


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), in float64, in memory bounded by D."""
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"a covariance needs features (N, D) with N of at least 2, not {tuple(features.shape)}")
    features = features.detach()
    width = features.shape[1]
    mean = features.mean(0, dtype=torch.float64)
    cov = torch.zeros(width, width, dtype=torch.float64, device=features.device)
    for part in features.split(ROWS):
        centred = part.double() - mean
        # On and below the diagonal only: nearly half of the products are the other half's mirror image.
        for start in range(0, width, COLUMNS):
            stop = start + COLUMNS
            cov[start:, start:stop].addmm_(centred[:, start:].T, centred[:, start:stop])
    cov = (cov.tril() + cov.tril(-1).T) / (len(features) - 1)
    return mean, cov


def frechet_from_moments(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> float:
    """The Fréchet distance of N(mu1, cov1) and N(mu2, cov2): means (D,), covariances (D, D), symmetric; in float64.

    Tr (Σ₁Σ₂)^½ is the trace of (LᵀΣ₂L)^½ for any L with LLᵀ = Σ₁, the root of a symmetric matrix. With Cholesky's L
    that is cheap, and accurate where Σ₁ and Σ₂ are far from singular. Where they are not, or where the distance
    is a small difference of large traces, it is the sum of the singular values of L₁ᵀL₂, which are never squared.
    """
    if mu1.shape != mu2.shape or cov1.shape != cov2.shape:
        raise ValueError(f"moments of features of one width are needed, not {tuple(mu1.shape)} and {tuple(mu2.shape)}")
    mu1, cov1, mu2, cov2 = (moment.detach().double() for moment in (mu1, cov1, mu2, cov2))
    apart = (mu1 - mu2).square().sum() + cov1.trace() + cov2.trace()
    root = _cholesky(cov1)
    if root is not None:
        values = torch.linalg.eigvalsh(root.T @ cov2 @ root)
        distance = apart - 2 * values.clamp(min=0).sqrt().sum()
        if _doubt(values) <= TOLERANCE * distance:
            return float(distance)
    first, second = (_factor(cov) for cov in (cov1, cov2))
    distance = apart - 2 * torch.linalg.svdvals(first.T @ second).sum()
    # Of equal moments, rounding leaves a figure on either side of 0.
    return max(float(distance), 0.0)


def _frechet_of_few(real: Tensor, fake: Tensor) -> float:
    """The same distance where both sides have fewer samples than features, and no (D, D) covariance is worth its cost.

    With centred features A and B, (N − 1)Σ₁ = AᵀA and (M − 1)Σ₂ = BᵀB. The eigenvalues of Σ₁Σ₂ other than 0 are then
    the squared singular values of ABᵀ, (N, M), over (N − 1)(M − 1).
    """
    real, fake = real.detach().double(), fake.detach().double()
    mu1, mu2 = real.mean(0), fake.mean(0)
    a, b = (real - mu1) / (len(real) - 1) ** 0.5, (fake - mu2) / (len(fake) - 1) ** 0.5
    distance = (
        (mu1 - mu2).square().sum() + a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()
    )
    return max(float(distance), 0.0)


def _doubt(values: Tensor) -> Tensor:
    """How far rounding may have moved Σ√λ of eigenvalues (D,) that a symmetric solver found, largest last."""
    # Each λ is off by some units of rounding of the largest; a root makes much of that near 0.
    noise = 10 * torch.finfo(values.dtype).eps * values[-1].clamp(min=0)
    values = values.clamp(min=0)
    return 2 * ((values + noise).sqrt() - values.sqrt()).sum()


def _cholesky(cov: Tensor) -> Tensor | None:
    """L with LLᵀ = cov, (D, D), or None for a covariance that is singular or nearly so."""
    root, failed = torch.linalg.cholesky_ex(cov)
    if failed or root.diagonal().min() ** 2 < LEAST_PIVOT * cov.diagonal().max():
        return None
    return root


def _factor(cov: Tensor) -> Tensor:
    """L with LLᵀ = cov, (D, rank)."""
    root = _cholesky(cov)
    if root is not None:
        return root
    values, vectors = torch.linalg.eigh(cov)
    # What is left of the null space is rounding, and a root would blow it up to half of the digits.
    kept = values > len(cov) * torch.finfo(cov.dtype).eps * values[-1]
    return vectors[:, kept] * values[kept].sqrt()


def _check(real: Tensor, fake: Tensor) -> None:
    """Raise ValueError unless these are features (N, D) and (M, D) with at least two samples each."""
    if real.ndim != 2 or fake.ndim != 2 or min(len(real), len(fake)) < 2:
        raise ValueError(
            f"a covariance needs features (N, D) with N of at least 2, not {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"features of one width are needed, not {real.shape[1]} and {fake.shape[1]}")
