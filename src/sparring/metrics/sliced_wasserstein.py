"""Sliced Wasserstein distance: optimal transport along random lines (Bonneel et al. 2015; Deshpande et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

# Projected values held at once: 64 MiB of float64, several times that while sorting.
CHUNK = 1 << 23


def sliced_wasserstein(real: Tensor, fake: Tensor, *, projections: int = 512, seed: int = 0) -> float:
    """√(mean over directions θ of W₂²(θ·real, θ·fake)), in the features' units.

    real, fake: features (N, D) and (M, D); N and M may differ. Each direction is uniform on the unit sphere, and its
    W₂ between the two empirical distributions is exact. For clouds that differ by a shift s it is ‖s‖/√D on average.
    seed: of the directions, drawn by a generator of their own. The sum is in float64.
    Raises ValueError where the widths differ or a side is empty.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or not len(real) or not len(fake):
        raise ValueError(f"features must be (N, D) and (M, D), not {tuple(real.shape)} and {tuple(fake.shape)}")
    # Drawn on the CPU, so that every device measures along the same lines.
    directions = torch.randn(
        real.shape[1], projections, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    directions = (directions / directions.norm(dim=0)).to(real.device)
    real, fake = real.detach().double(), fake.detach().double().to(real.device)
    from_real, from_fake, mass = _coupling(len(real), len(fake), real.device)
    total = 0.0
    for chunk in directions.split(max(1, CHUNK // (len(real) + len(fake))), dim=1):
        gaps = (real @ chunk).sort(dim=0).values[from_real] - (fake @ chunk).sort(dim=0).values[from_fake]
        total += float((mass @ gaps.square()).sum())
    return (total / projections) ** 0.5


def _coupling(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The optimal plan between n and m sorted points of equal mass: which goes to which, and how much of it.

    It cuts [0, 1] where either quantile function jumps, at i/n and j/m: at most n + m − 1 pieces, the same on every
    line. Cuts are counted in units of 1/(nm), in whole numbers.
    """
    ends = torch.cat([torch.arange(1, n + 1, device=device) * m, torch.arange(1, m + 1, device=device) * n]).unique()
    mass = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    return (ends - 1) // m, (ends - 1) // n, mass
