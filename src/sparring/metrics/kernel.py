"""Kernel distances of two sets of features: maximum mean discrepancy (Gretton et al. 2012) and KID (Bińkowski et al. 2018).

Both are the unbiased estimator of MMD² (Gretton et al. 2012, eq. 3), which is 0 in expectation for equal distributions
at every count of samples, and hence may be below 0. Everything is in float64: the estimate is a small difference of
means of kernel values, which float32 gives seven digits of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparring.errors import UserError

# Kernel values held at once (64 MiB of float64, a few times that in passing), and rows of them: with low blocks, little
# is computed below the diagonal.
CHUNK, HEIGHT = 1 << 23, 256

# Samples of both sides together that the median distance is taken of.
MEDIAN_SAMPLES = 2000

# Rows (n, D) and columns (m, D) of features to kernel values (n, m).
Kernel = Callable[[Tensor, Tensor], Tensor]


def kernel_distance(
    real: Tensor,
    fake: Tensor,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    seed: int = 0,
) -> tuple[float, float]:
    """KID: mean and standard deviation over subsets of the unbiased MMD² with k(x, y) = (γ x·y + coef)^degree.

    real, fake: features (N, D) and (M, D). subsets: how many pairs of subsets are drawn; in each, `subset_size`
    samples of either side, without repetition. gamma: 1/D where None (Bińkowski et al. 2018, sec. 4). seed: of the
    draws. The standard deviation (divided by the count of subsets, as in the reference implementation) says how far
    one subset's estimate scatters; the mean's own error is smaller, by up to the root of the count.
    Raises UserError where a side has fewer samples than a subset, and ValueError where the features do not fit.
    """
    _check(real, fake)
    if subsets < 1 or subset_size < 2:
        raise ValueError(f"KID needs at least one subset of at least 2 samples, not {subsets} of {subset_size}")
    if subset_size > min(len(real), len(fake)):
        raise UserError(
            f"KID draws subsets of {subset_size}, and there are {len(real)} real and {len(fake)} fake samples: "
            f"measure more samples or take a smaller subset_size"
        )
    scale = 1 / real.shape[1] if gamma is None else gamma

    def kernel(rows: Tensor, columns: Tensor) -> Tensor:
        return torch.addmm(rows.new_tensor(coef), rows, columns.T, alpha=scale).pow_(degree)

    of_real, of_fake = _draw(len(real), len(fake), subsets, subset_size, seed)
    total = len(real) + len(fake)
    if total**2 <= subsets * (2 * subset_size) ** 2:
        # Subsets that together hold more pairs than there are: each pair's kernel is computed once, for all of them.
        rows = _pooled(real, fake)
        in_real, in_fake = _members(of_real, total), _members(of_fake + len(real), total)
        estimates = _unbiased(rows, in_real.to(rows.device), in_fake.to(rows.device), kernel)
    else:
        sides = zip(of_real.to(real.device), of_fake.to(fake.device), strict=True)
        estimates = torch.cat([_of_all(real[ours], fake[theirs], kernel) for ours, theirs in sides])
    return float(estimates.mean()), float(estimates.std(unbiased=False))


def mmd(
    real: Tensor, fake: Tensor, *, bandwidths: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0), seed: int = 0
) -> float:
    """Unbiased MMD² with k(x, y) = Σ_b exp(−‖x − y‖² / 2(bm)²) over `bandwidths` b, m being the median distance.

    real, fake: features (N, D) and (M, D), at least two of each. Several bandwidths see differences at several scales
    without a choice of one. The median (`median_distance`, Gretton et al. 2012, sec. 8) is of both sides together, so
    that the figure is blind to a common scale. It is below twice the count of bandwidths, and 0 where all points are
    one point. Memory is bounded: kernel values are summed in blocks. seed: of the subsample for the median.
    Raises ValueError where the features do not fit or a bandwidth is not above 0.
    """
    _check(real, fake)
    if not bandwidths or min(bandwidths) <= 0:
        raise ValueError(f"bandwidths must be above 0, not {tuple(bandwidths)}")
    median = median_distance(real, fake, seed=seed)
    if median == 0:
        return 0.0

    def kernel(rows: Tensor, columns: Tensor) -> Tensor:
        squares = _squared_distances(rows, columns)
        total = torch.zeros_like(squares)
        for bandwidth in bandwidths:
            total += torch.exp(squares * (-0.5 / (bandwidth * median) ** 2))
        return total

    # A distance is the same from any origin, and from the middle it is the least rounded.
    middle = real.detach().mean(0, dtype=torch.float64)
    return float(_of_all(real.double() - middle, fake.double() - middle.to(fake.device), kernel))


def median_distance(real: Tensor, fake: Tensor, *, seed: int = 0) -> float:
    """The median of the distances between different samples of both sides together, features (N, D) and (M, D).

    Of 2,000 samples at most, drawn by `seed`. Where more than half of the distances are 0, the mean of the others
    stands in, and 0 where there are no others.
    """
    rows = torch.cat([real.detach(), fake.detach().to(real.device)])
    if len(rows) > MEDIAN_SAMPLES:
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:MEDIAN_SAMPLES]
        rows = rows[chosen.to(rows.device)]
    rows = rows.double()
    rows = rows - rows.mean(0)
    squares = _squared_distances(rows, rows)
    squares = squares[torch.ones_like(squares, dtype=torch.bool).triu_(1)]
    # Equal samples are at 0 up to the rounding of the product: a millionth of the largest distance is none.
    distances = squares.masked_fill_(squares <= 1e-12 * squares.max(), 0).sqrt_()
    median = float(distances.median())
    if median > 0:
        return median
    apart = distances[distances > 0]
    return float(apart.mean()) if len(apart) else 0.0


def _of_all(real: Tensor, fake: Tensor, kernel: Kernel) -> Tensor:
    """MMD² (1,) of all samples of two sides, features (N, D) and (M, D)."""
    rows = _pooled(real, fake)
    in_real = (torch.arange(len(rows), device=rows.device) < len(real)).double()[None]
    return _unbiased(rows, in_real, 1 - in_real, kernel)


def _unbiased(rows: Tensor, in_real: Tensor, in_fake: Tensor, kernel: Kernel) -> Tensor:
    """MMD² (S,) of S pairs of subsets of `rows` (n, D): who is in which is 0 or 1 in `in_real` and `in_fake` (S, n).

    All real rows come before all fake ones. Each pair of different rows is looked at once, in blocks.
    """
    within_real, within_fake, across = (in_real.new_zeros(len(in_real)) for _ in range(3))
    height = max(1, min(HEIGHT, CHUNK // len(rows)))
    for start in range(0, len(rows), height):
        # Above the diagonal only: the kernel is symmetric, and no sample is paired with itself.
        block = kernel(rows[start : start + height], rows[start:]).triu_(1)
        here = slice(start, start + height)
        from_real, from_fake = in_real[:, here] @ block, in_fake[:, here] @ block
        within_real += (from_real * in_real[:, start:]).sum(1)
        within_fake += (from_fake * in_fake[:, start:]).sum(1)
        across += (from_real * in_fake[:, start:]).sum(1)
    n, m = in_real.sum(1), in_fake.sum(1)
    return 2 * (within_real / (n * (n - 1)) + within_fake / (m * (m - 1)) - across / (n * m))


def _draw(real: int, fake: int, subsets: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (subsets, size) below `real` and below `fake`, without repetition in a row."""
    rng = torch.Generator().manual_seed(seed)
    # One side after the other, subset by subset, is the order of torchmetrics: equal seeds make equal figures.
    drawn = [[torch.randperm(count, generator=rng)[:size] for count in (real, fake)] for _ in range(subsets)]
    of_real, of_fake = (torch.stack(side) for side in zip(*drawn, strict=True))
    return of_real, of_fake


def _members(chosen: Tensor, count: int) -> Tensor:
    """Who is in which subset, 0 or 1, (S, count), of indices (S, size)."""
    return torch.zeros(len(chosen), count, dtype=torch.float64).scatter_(1, chosen, 1.0)


def _pooled(real: Tensor, fake: Tensor) -> Tensor:
    """Both sides in one, real first, in float64."""
    return torch.cat([real.detach().double(), fake.detach().double().to(real.device)])


def _squared_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """‖x − y‖² of rows (n, D) and columns (m, D): one matrix product, and rounding kept from below 0."""
    lengths = torch.addmm(columns.square().sum(1)[None], rows, columns.T, alpha=-2)
    return (lengths + rows.square().sum(1)[:, None]).clamp_(min=0)


def _check(real: Tensor, fake: Tensor) -> None:
    """Raise ValueError unless these are features (N, D) and (M, D) with at least two samples each."""
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise ValueError(
            f"features must be (N, D) and (M, D), of at least 2 samples, not {tuple(real.shape)} and {tuple(fake.shape)}"
        )
