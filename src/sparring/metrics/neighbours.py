"""Exact nearest neighbours in bounded memory: never the whole matrix of distances.

One matrix product a block gives all squared distances of some rows, ‖a‖² + ‖b‖² − 2a·b, but cancellation eats the small
ones. So the product, in float32, only proposes: every value comes with a bound of its rounding error, what the bound
cannot settle is done again in float64, and the distances that are returned are norms of differences in float64.
Distances are Euclidean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1 << 22
"""Distances held at once: 16 MiB in float32; what is made of them takes a few times that."""

GROUP = 16
"""The few smallest of a long row are sought in the groups with the smallest minima: one fast pass and little else."""

SPARE = 4
"""Neighbours looked at beyond the k-th, so that hardly a row's k nearest are left unsettled by rounding."""

TIE = 1e-12
"""Distances are equal if they differ relatively by no more: the order of a sum's terms may change its last digits."""

NARROW = 64
"""Up to this width the product costs no more than the rest, and float64 is used at once."""

WIDE = 512
"""From this width half a product saved is worth more than the bookkeeping that it costs."""


def nearest(points: Tensor, others: Tensor | None = None, *, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest of `others` to each point: distances (N, k) in float64, ascending, and their indices (N, k).

    points: features (N, D). others: features (M, D); left out, the neighbours are the other points of the same set
    (each point is no neighbour of itself, its duplicates are). Of equal distances either may come first.
    Raises ValueError where the widths differ, k is more than there are neighbours, or a feature is not finite.
    """
    own = others is None
    points = points.detach()
    targets = points if others is None else others.detach()
    check_features(points, targets)
    available = len(targets) - own
    if not 1 <= k <= available:
        raise ValueError(f"{k} neighbours are asked for, and there are {available} to choose from: give more samples")
    distances = torch.empty(len(points), k, dtype=torch.float64, device=points.device)
    indices = torch.empty(len(points), k, dtype=torch.long, device=points.device)
    rows = torch.arange(len(points), device=points.device)
    for precision in _precisions(points.shape[1]):
        frame = _Frame.of(targets, precision)
        unsettled = []
        count = min(k + SPARE, available)
        # Each pair of a set can serve both its ends, once all rows are asked for.
        both_ends = own and precision != torch.float64 and points.shape[1] >= WIDE
        proposals = _propose_within(frame, count) if both_ends else _propose(frame, points, rows, count, own)
        for chunk, bounds, candidates in proposals:
            exact, order = _distances(points[chunk], targets, candidates).sort(dim=1)
            distances[chunk], indices[chunk] = exact[:, :k], candidates.gather(1, order[:, :k])
            if count < available:
                # Whoever is no candidate is at least as far away as the last candidate's lower bound.
                unsettled.append(chunk[exact[:, k - 1].square() > bounds[:, -1]])
        rows = torch.cat(unsettled) if unsettled else rows[:0]
        if not len(rows):
            break
    return distances, indices


def neighbour_radii(points: Tensor, *, k: int) -> Tensor:
    """The distance of each point (N, D) to its k-th nearest other point: (N,), in float64. Errors as `nearest`."""
    return nearest(points, k=k)[0][:, -1]


@dataclass(frozen=True)
class Inside:
    """Who lies inside whose ball. Counts are integers, of points strictly inside.

    a_balls_of_b: (M,) how many balls round points of a hold each point of b. b_in_a_ball: (N,) how many points of b
    each ball round a point of a holds. b_balls_of_a: (N,) how many balls round points of b hold each point of a.
    """

    a_balls_of_b: Tensor
    b_in_a_ball: Tensor
    b_balls_of_a: Tensor


def count_inside(a: Tensor, b: Tensor, a_radii: Tensor, b_radii: Tensor) -> Inside:
    """Count the points inside the balls round those of the other set.

    a, b: features (N, D) and (M, D). a_radii, b_radii: (N,) and (M,). A distance that equals the radius but for the
    last digits of float64 is on the sphere, which is not inside.
    Raises ValueError where the widths differ or a feature is not finite.
    """
    check_features(a, b)
    a, b = a.detach(), b.detach()
    inside = Inside(*(torch.zeros(size, dtype=torch.long, device=a.device) for size in (len(b), len(a), len(a))))
    a_radii, b_radii = a_radii.double(), b_radii.double()
    rows = torch.arange(len(a), device=a.device)
    for precision in _precisions(a.shape[1]):
        frame = _Frame.of(b, precision)
        # Nothing is strictly inside a ball of no size: where all is equal, this spares the pairs of everything.
        a_limits, b_limits = (
            torch.where(radii > 0, radii.square() * (1 + frame.slack), -torch.inf) for radii in (a_radii, b_radii)
        )
        unsettled = []
        for chunk, lower in frame.lower_bounds(a, rows):
            some = a[chunk]
            norms = frame.norms(some)
            i, j = (lower < (a_limits[chunk] - norms)[:, None].to(precision)).nonzero().unbind(1)
            in_a = _settle(frame, some, b, i, j, lower[i, j] + norms[i], a_radii[chunk[i]])
            # The same distances against the other radii: these belong to columns, and move to the left side.
            lower -= b_limits.to(precision)
            p, q = (lower < -norms[:, None].to(precision)).nonzero().unbind(1)
            in_b = _settle(frame, some, b, p, q, lower[p, q] + b_limits[q] + norms[p], b_radii[q])
            if in_a is None or in_b is None:
                unsettled.append(chunk)
                continue
            inside.a_balls_of_b.add_(j[in_a].bincount(minlength=len(b)))
            inside.b_in_a_ball[chunk] = i[in_a].bincount(minlength=len(chunk))
            inside.b_balls_of_a[chunk] = p[in_b].bincount(minlength=len(chunk))
        rows = torch.cat(unsettled) if unsettled else rows[:0]
        if not len(rows):
            break
    return inside


def check_features(*sets: Tensor) -> None:
    """Raise ValueError unless all are finite features (N, D) of one width, with N of at least 1."""
    if any(s.ndim != 2 or not len(s) or s.shape[1] != sets[0].shape[-1] for s in sets):
        shapes = " and ".join(str(tuple(s.shape)) for s in sets)
        raise ValueError(f"features must be (N, D) and (M, D), not {shapes}")
    if not all(bool(s.isfinite().all()) for s in sets):
        raise ValueError("some features are NaN or infinite: the samples or the network that made them are broken")


@dataclass(frozen=True)
class _Frame:
    """The columns of a matrix of squared distances, prepared once: centred, because norms are what rounding grows with.

    The rounding error of ‖a‖² + ‖b‖² − 2a·b is at most slack·(‖a‖² + ‖b‖²), so shrinking the squared norms by that
    factor turns the distances into lower bounds, at no cost.
    """

    centre: Tensor
    columns: Tensor
    squares: Tensor
    slack: float

    @staticmethod
    def of(targets: Tensor, precision: torch.dtype) -> _Frame:
        width = targets.shape[1]
        # A dot product of D terms is off by at most D·u·‖a‖‖b‖, and by about √D·u in practice (Higham & Mary 2019):
        # 8√D leaves room. The 8 is for norms, centring and the sums.
        slack = (min(width, 8 * width**0.5) + 8) * torch.finfo(precision).eps
        # Subtracted in the wider of the two dtypes: the samples' own may round what float64 is here to keep.
        centre = targets.mean(0, dtype=torch.float64).to(torch.promote_types(targets.dtype, precision))
        columns = (targets.to(centre.dtype) - centre).to(precision)
        return _Frame(centre, columns, _squares(columns), slack)

    def norms(self, rows: Tensor) -> Tensor:
        """The shrunk squared norms of rows (n, D), in float64: what lower bounds want added."""
        return _squares(self.place(rows)) * (1 - self.slack)

    def place(self, rows: Tensor) -> Tensor:
        return (rows.to(self.centre.dtype) - self.centre).to(self.columns.dtype)

    def lower_bounds(self, points: Tensor, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Some rows at a time, and lower bounds (n, M) of their squared distances to all columns, less `norms`.

        The block is written over by the next one.
        """
        size, precision = len(self.columns), self.columns.dtype
        height = min(len(rows), max(1, BLOCK // size))
        bias = (self.squares * (1 - self.slack)).to(precision)
        # New memory for each block would cost more, in page faults, than the passes over it.
        buffer = torch.empty(height, size, dtype=precision, device=points.device)
        for chunk in rows.split(height):
            block = buffer[: len(chunk)]
            torch.addmm(bias, self.place(points[chunk]), self.columns.T, alpha=-2, out=block)
            yield chunk, block


Proposals = Iterator[tuple[Tensor, Tensor, Tensor]]
"""Indices of some points (n,), the smallest lower bounds of their squared distances (n, count), and whose those are."""


def _propose(frame: _Frame, points: Tensor, rows: Tensor, count: int, own: bool) -> Proposals:
    """For some of the points; own: they are the frame's columns, and none is its own neighbour."""
    for chunk, lower in frame.lower_bounds(points, rows):
        if own:
            lower[torch.arange(len(chunk), device=chunk.device), chunk] = torch.inf
        bounds, candidates = _smallest(lower, count)
        yield chunk, bounds.double() + frame.norms(points[chunk])[:, None], candidates


def _propose_within(frame: _Frame, count: int) -> Proposals:
    """For all columns of the frame among themselves, at half the products: only those above the diagonal are made."""
    columns = frame.columns
    size = len(columns)
    shrunk = (frame.squares * (1 - frame.slack)).to(columns.dtype)
    height = min(size, max(1, BLOCK // size))
    buffer = torch.empty(height * size, dtype=columns.dtype, device=columns.device)
    bounds = columns.new_full((size, count), torch.inf)
    candidates = torch.zeros(size, count, dtype=torch.long, device=columns.device)

    def keep(some: slice, values: Tensor, indices: Tensor) -> None:
        values, order = torch.cat([bounds[some], values], dim=1).topk(count, dim=1, largest=False)
        bounds[some] = values
        candidates[some] = torch.cat([candidates[some], indices], dim=1).gather(1, order)

    for start in range(0, size, height):
        stop = min(start + height, size)
        rows, rest = slice(start, stop), slice(stop, size)
        block = buffer[: (stop - start) * (size - start)].view(stop - start, size - start)
        torch.addmm(shrunk[start:], columns[rows], columns[start:].T, alpha=-2, out=block)
        block += shrunk[rows, None]
        block.fill_diagonal_(torch.inf)
        values, found = _smallest(block, min(count, size - start))
        keep(rows, values, found + start)
        if stop < size:
            values, found = _smallest(block[:, stop - start :].T, min(count, stop - start))
            keep(rest, values, found + start)
    for some in torch.arange(size, device=columns.device).split(height):
        yield some, bounds[some].double(), candidates[some]


def _settle(
    frame: _Frame, rows: Tensor, columns: Tensor, i: Tensor, j: Tensor, lower: Tensor, radii: Tensor
) -> Tensor | None:
    """Whether each pair of rows[i] and columns[j] is less than its radius apart, or None where too many need a look.

    lower: the pairs' lower bounds of squared distances, in float64; all below the radius, or about.
    """
    upper = lower + 2 * frame.slack * (_squares(frame.place(rows))[i] + frame.squares[j])
    sure = upper < radii.square() * (1 - frame.slack)
    doubtful = (~sure).nonzero().squeeze(1)
    if frame.columns.dtype != torch.float64 and len(doubtful) > SPARE * len(rows):
        return None
    for some in doubtful.split(max(1, BLOCK // rows.shape[1])):
        gaps = rows[i[some]].double() - columns[j[some]].double()
        sure[some] = torch.linalg.vector_norm(gaps, dim=1) < radii[some] * (1 - TIE)
    return sure


def _precisions(width: int) -> tuple[torch.dtype, ...]:
    """What to try in turn; the last one settles everything."""
    return (torch.float64,) if width <= NARROW else (torch.float32, torch.float64)


def _squares(rows: Tensor) -> Tensor:
    """Squared norms (n,), in float64."""
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square()


def _smallest(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` smallest values of each row (n, M), ascending, and their columns: several times faster than topk.

    Of the groups that a row falls into, the `count` with the smallest minima hold them all.
    """
    groups = rows.shape[1] // GROUP
    if groups <= 2 * count:
        return rows.topk(count, dim=1, largest=False)
    grouped = rows[:, : groups * GROUP].unflatten(1, (GROUP, groups))
    chosen = grouped.amin(1).topk(count, dim=1, largest=False).indices
    step = torch.arange(GROUP, device=rows.device) * groups
    columns = (chosen[:, None, :] + step[:, None]).flatten(1)
    # What is left over when the row is cut into equal groups comes along whole.
    rest = torch.arange(groups * GROUP, rows.shape[1], device=rows.device).expand(len(rows), -1)
    columns = torch.cat([columns, rest], dim=1)
    values, order = rows.gather(1, columns).topk(count, dim=1, largest=False)
    return values, columns.gather(1, order)


def _distances(rows: Tensor, targets: Tensor, candidates: Tensor) -> Tensor:
    """Distances (n, m) of rows (n, D) to their candidates (n, m), from differences in float64."""
    height = max(1, BLOCK // (candidates.shape[1] * rows.shape[1]))
    parts = []
    for some, indices in zip(rows.split(height), candidates.split(height), strict=True):
        gaps = targets[indices].double()
        parts.append(torch.linalg.vector_norm(gaps.sub_(some.double()[:, None]), dim=-1))
    return torch.cat(parts)
