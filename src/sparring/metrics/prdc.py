"""Improved precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

Each set's manifold is the union of balls round its samples that reach to the k-th nearest other sample of the same set.
Reference implementation: clovaai/generative-evaluation-prdc (`compute_prdc`), whose strict inequalities are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparring.metrics.neighbours import count_inside, neighbour_radii


@dataclass(frozen=True)
class PRDC:
    """precision, recall, coverage in [0, 1]; density ≥ 0, about 1 where the two distributions are equal.

    Tight fakes inside wide reals have a high precision and a low recall.
    """

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Membership:
    """What each sample contributes; the means are the figures, and resampling them gives the figures' spread.

    precision, density: one float64 a fake, (M,). recall, coverage: one a real sample, (N,).
    """

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def prdc(real: Tensor, fake: Tensor, *, k: int = 5) -> PRDC:
    """Precision, recall, density and coverage of features (N, D) and (M, D).

    precision: share of fakes inside the reals' manifold. recall: share of reals inside the fakes' manifold.
    density: mean number of real balls that hold a fake, over k. coverage: share of real balls that hold a fake.
    All depend on N, M and k: compare only figures with the same.
    Raises ValueError where the widths differ, a side has no more than k samples, or a feature is not finite.
    """
    members = membership(real, fake, k=k)
    return PRDC(**{name: float(value.mean()) for name, value in vars(members).items()})


def membership(real: Tensor, fake: Tensor, *, k: int = 5) -> Membership:
    """The terms whose means are the four figures. Arguments and errors as `prdc`."""
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"the {k}-th other neighbour needs more than {k} samples, not {len(real)} and {len(fake)}")
    inside = count_inside(real, fake, neighbour_radii(real, k=k), neighbour_radii(fake, k=k))
    return Membership(
        precision=(inside.a_balls_of_b > 0).double(),
        recall=(inside.b_balls_of_a > 0).double(),
        density=inside.a_balls_of_b.double() / k,
        coverage=(inside.b_in_a_ball > 0).double(),
    )
