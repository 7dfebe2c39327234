"""Mode coverage where the modes are known: how many a generator reaches, and how evenly.

The protocol is PacGAN's (Lin et al. 2018, section 4; `MetricLogger` in fjxmlzn/PacGAN), which VEEGAN's (Srivastava et
al. 2017) agrees with. One good point makes a mode count, so the KL of the counts is told beside, and beside that its
floor: what a perfect sampler gets by chance with as many samples. KLs of different sample counts cannot be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK = 1 << 22
"""Coordinates held at once while points are compared with centres: 32 MiB in float64."""

Frequencies = Tensor | Sequence[float] | np.ndarray
"""How often each mode occurs, as weights ≥ 0 of any sum."""


@dataclass(frozen=True)
class Modes:
    """What samples reach of the known modes.

    count: modes with at least one good sample. modes: how many there are. samples: how many were looked at.
    high_quality: good samples over all, in [0, 1]. reverse_kl: KL(modes of the good samples ‖ reference) in nats,
    infinite where no sample is good. floor, floor_deviation: mean and standard deviation of that KL for a perfect
    sampler of as many samples. reachable: modes that it reaches on average. counts: good samples a mode.
    """

    count: int
    modes: int
    samples: int
    high_quality: float
    reverse_kl: float
    floor: float
    floor_deviation: float
    reachable: float
    counts: tuple[int, ...]


def mode_coverage(
    points: Tensor,
    centres: Tensor,
    deviation: float | Tensor,
    *,
    radius: float = 3.0,
    frequencies: Frequencies | None = None,
) -> Modes:
    """Modes of a mixture of Gaussians with diagonal covariances that points fall into.

    Each point goes to its nearest mode in Mahalanobis distance, and is good if that is less than `radius`; the KL is
    over the good points alone, as PacGAN's, against the modes' true frequencies. The perfect sampler of the floor draws
    from the mixture, and loses the points that chance puts beyond the radius (1.1 % of them in 2 dimensions).

    points: (N, D); one that is not finite is not good. centres: (K, D). deviation: standard deviations, a number or
    what broadcasts to (K, D). frequencies: of the modes, (K,); left out, all are equal.
    Raises ValueError where shapes differ, there are no points, or a deviation or frequency is not positive.
    """
    if points.ndim != 2 or centres.ndim != 2 or points.shape[1] != centres.shape[1] or not len(points):
        raise ValueError(
            f"points must be (N, D) and centres (K, D), not {tuple(points.shape)} and {tuple(centres.shape)}"
        )
    centres = centres.detach().double()
    deviation = torch.as_tensor(deviation, dtype=torch.float64, device=centres.device).expand_as(centres)
    if not bool((deviation > 0).all()):
        raise ValueError("every mode's standard deviation must be positive")
    truth = _shares(frequencies, len(centres))
    counts = np.zeros(len(centres), dtype=np.int64)
    for some in points.detach().to(centres.device).split(max(1, BLOCK // centres.numel())):
        gaps = (some.double()[:, None] - centres) / deviation
        distance, mode = torch.linalg.vector_norm(gaps, dim=2).min(dim=1)
        # A NaN is less than nothing, so such points are not good.
        counts += mode[distance < radius].bincount(minlength=len(centres)).cpu().numpy()
    half_width, half_square = torch.tensor([points.shape[1] / 2, radius**2 / 2], dtype=torch.float64)
    within = float(torch.special.gammainc(half_width, half_square))
    return _report(counts, len(points), truth, sampler=truth, within=within)


def mode_counts(
    labels: Tensor,
    modes: int,
    *,
    frequencies: Frequencies | None = None,
    reference: Frequencies | None = None,
) -> Modes:
    """Modes that classified samples fall into; all of them are good.

    Stacked-MNIST (Metz et al. 2017; Lin et al. 2018): the label of a sample is 100·red + 10·green + blue, each the
    class that a classifier gives one channel, `modes` is 1000, and the KL is against the uniform distribution.

    labels: integers in [0, modes), (N,). reference: what the KL is taken against, (modes,); left out, uniform.
    frequencies: what a perfect sampler would draw, for the floor alone, (modes,); left out, the reference. They differ
    where the data do not follow the reference: the digits of MNIST are not quite equally frequent, and a sampler of
    Stacked-MNIST cannot get below that.
    Raises ValueError where labels are out of range, or there are none, or a frequency of the reference is not positive.
    """
    if labels.ndim != 1 or not len(labels) or labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels must be integers of shape (N,), not {labels.dtype} of {tuple(labels.shape)}")
    labels = labels.detach().long()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= modes:
        raise ValueError(f"labels of {modes} modes lie in 0 … {modes - 1}, not in {low} … {high}")
    against = _shares(reference, modes)
    sampler = against if frequencies is None else _shares(frequencies, modes, positive=False)
    return _report(labels.bincount(minlength=modes).cpu().numpy(), len(labels), against, sampler=sampler, within=1.0)


def kl_floor(
    samples: int,
    frequencies: Frequencies,
    *,
    reference: Frequencies | None = None,
    within: float = 1.0,
    draws: int = 200,
    seed: int = 0,
) -> tuple[float, float, float]:
    """What a perfect sampler gets by chance: mean and standard deviation of its KL, and its mean count of modes.

    samples: how many it draws, from `frequencies` (K,). reference: what the KL is taken against, (K,); left out, the
    frequencies. within: the probability that a sample is good. draws: simulated samplings, by a generator of their own.
    For K equal frequencies it is about (K − 1)/(2·samples), more where samples are few.
    """
    sampler = _shares(frequencies, len(frequencies), positive=False)
    against = sampler if reference is None else _shares(reference, len(sampler))
    rng = np.random.default_rng(seed)
    chances = np.append(sampler * within, max(0.0, 1 - within))
    chances /= chances.sum()
    kls, reached = [], []
    for _ in range(draws):
        counts = rng.multinomial(samples, chances)[:-1]
        kls.append(_divergence(counts, against))
        reached.append(np.count_nonzero(counts))
    # So few samples that none may be good have an infinite floor, whose deviation is no number.
    deviation = float(np.std(kls)) if np.isfinite(kls).all() else math.inf
    return float(np.mean(kls)), deviation, float(np.mean(reached))


def _report(counts: np.ndarray, samples: int, against: np.ndarray, *, sampler: np.ndarray, within: float) -> Modes:
    floor, deviation, reachable = kl_floor(samples, sampler, reference=against, within=within)
    return Modes(
        count=int(np.count_nonzero(counts)),
        modes=len(counts),
        samples=samples,
        high_quality=int(counts.sum()) / samples,
        reverse_kl=_divergence(counts, against),
        floor=floor,
        floor_deviation=deviation,
        reachable=reachable,
        counts=tuple(counts.tolist()),
    )


def _divergence(counts: np.ndarray, reference: np.ndarray) -> float:
    """KL(counts ‖ reference) in nats; infinite without a count, because no generator is worse."""
    total = counts.sum()
    if not total:
        return math.inf
    seen = counts > 0
    shares = counts[seen] / total
    return max(0.0, float((shares * np.log(shares / reference[seen])).sum()))


def _shares(frequencies: Frequencies | None, modes: int, *, positive: bool = True) -> np.ndarray:
    """Frequencies as float64 that sum to 1, (modes,); uniform where none are given."""
    if frequencies is None:
        return np.full(modes, 1 / modes)
    weights = frequencies.detach().cpu().numpy() if isinstance(frequencies, Tensor) else frequencies
    shares = np.asarray(weights, dtype=np.float64)
    # A mode that never occurs has an infinite KL as soon as one sample falls into it.
    wrong = (shares <= 0) if positive else (shares < 0)
    if shares.shape != (modes,) or not np.isfinite(shares).all() or wrong.any() or not shares.sum() > 0:
        kind = "positive" if positive else "not negative"
        raise ValueError(f"frequencies must be {modes} finite numbers, {kind}, not {shares.shape} from {shares.min()}")
    return shares / shares.sum()
