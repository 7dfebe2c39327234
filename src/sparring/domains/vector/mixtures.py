"""Mixtures of Gaussians in the plane: the data on which it is plain to see which modes a generator has found.

They are data sources by name: a further one is a function that returns a `Mixture`, and a line in `MIXTURES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COUNT = 100_000  # points of the training set: as many as PacGAN's
SEED = 0


@dataclass(frozen=True)
class Mixture:
    """Gaussians of one standard deviation in every direction, all equally likely.

    centres: float64 (K, D). deviation: in the same units.
    """

    centres: NDArray[np.float64]
    deviation: float

    def draw(self, count: int, seed: int) -> NDArray[np.float64]:
        """`count` points, float64 (count, D), in random order; the same seed draws the same points."""
        rng = np.random.default_rng(seed)
        chosen = rng.integers(len(self.centres), size=count)
        return self.centres[chosen] + self.deviation * rng.standard_normal((count, self.centres.shape[1]))


def ring() -> Mixture:
    """8 Gaussians on the unit circle, σ = 0.01 (Srivastava et al. 2017, VEEGAN, section 4.1; as Lin et al. 2018, PacGAN)."""
    angles = 2 * np.pi * np.arange(8) / 8
    return Mixture(np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.01)


def grid() -> Mixture:
    """25 Gaussians at {−4, −2, 0, 2, 4}², σ = 0.05 (Srivastava et al. 2017, section 4.1; as Lin et al. 2018)."""
    marks = np.arange(-4.0, 5.0, 2.0)
    return Mixture(np.stack(np.meshgrid(marks, marks, indexing="ij"), axis=-1).reshape(-1, 2), 0.05)


MIXTURES: dict[str, Callable[[], Mixture]] = {"ring": ring, "grid": grid}
