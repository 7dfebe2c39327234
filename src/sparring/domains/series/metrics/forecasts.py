"""How good paths are as forecasts: of each past many, set against what came.

All are means over pasts, steps and features, in units of data between 0 and 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
INTERVALS = (0.5, 0.9)


def crps(paths: Tensor, came: Tensor) -> float:
    """Continuous ranked probability score, E|x − y| − ½ E|x − x′|, without bias; 0 for certain and right ones.

    paths: (N, S, h, F), S ≥ 2. came: (N, h, F). Source: Gneiting & Raftery 2007, eq. 21; unbiased as in Ferro 2014.
    """
    ordered = paths.double().sort(dim=1).values
    count = ordered.shape[1]
    apart = (ordered - came.double()[:, None]).abs().mean(1)
    # Σ|x − x′| over pairs of ordered draws: the i-th is added i times and taken away as often as there are later ones.
    weight = 2 * torch.arange(count, device=paths.device, dtype=torch.float64) - count + 1
    among = 2 * (ordered * weight[:, None, None]).sum(1) / (count * (count - 1))
    return float((apart - among / 2).mean())


def pinball(paths: Tensor, came: Tensor, levels: tuple[float, ...] = LEVELS) -> float:
    """Pinball loss of the paths' quantiles at these levels, its mean over levels; shapes as in `crps`."""
    tau = torch.tensor(levels, dtype=torch.float64, device=paths.device)
    short = came.double() - torch.quantile(paths.double(), tau, dim=1)  # (levels, N, h, F)
    tau = tau[:, None, None, None]
    return float(torch.maximum(tau * short, (tau - 1) * short).mean())


def inside(paths: Tensor, came: Tensor, interval: float) -> float:
    """The share of what came that lies between the paths' quantiles (1 ∓ interval) / 2; shapes as in `crps`."""
    ends = torch.tensor([(1 - interval) / 2, (1 + interval) / 2], dtype=torch.float64, device=paths.device)
    low, high = torch.quantile(paths.double(), ends, dim=1)
    return float(((low <= came) & (came <= high)).double().mean())


def bootstrap(past: Tensor, horizon: int, count: int, seed: int = 0) -> Tensor:
    """Paths (N, count, horizon, F) that go on from pasts (N, P, F) by changes drawn from each past's own, with replacement.

    The features of a step change together. What a forecast has to be better than.
    """
    rng = torch.Generator().manual_seed(seed)
    changes = past.diff(dim=1)
    drawn = torch.randint(changes.shape[1], (len(past), count * horizon), generator=rng).to(past.device)
    steps = changes.gather(1, drawn[:, :, None].expand(-1, -1, past.shape[2]))
    return past[:, None, -1:] + steps.unflatten(1, (count, horizon)).cumsum(2)
