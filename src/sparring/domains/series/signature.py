"""The signature of a path, truncated: all its iterated integrals up to a depth, batched and differentiable.

Of a path x in d dimensions level k has d^k numbers, ∫…∫ dx^{i₁} … dx^{iₖ} over t₁ < … < tₖ. A straight line with the
increment Δ has Δ^⊗k / k!; of two paths joined it is the product of theirs (Chen 1957). Together these give that of every
path between points. (Lyons 2014; Ni et al. 2021, section 2.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Levels = list[Tensor]
"""Level k of a signature at index k − 1, (…, d^k); level 0 is always 1."""


def signature(path: Tensor, depth: int) -> Tensor:
    """Signatures (N, d + d² + … + d^depth) of paths (N, T, d), straight between their points.

    Numbers of a level are in the order of their words, the last letter fastest. Raises ValueError for fewer than two points,
    or a depth below 1.
    """
    return torch.cat(signature_levels(path, depth), dim=-1)


def signature_levels(path: Tensor, depth: int) -> Levels:
    """The same, level by level."""
    if path.shape[1] < 2 or depth < 1:
        raise ValueError(f"a path of {path.shape[1]} points has no signature of depth {depth}")
    pieces = line(path.diff(dim=1), depth)
    # Neighbours are joined until one is left: as many rounds as T has binary digits, each of all pairs at once.
    while (count := pieces[0].shape[1]) > 1:
        joined = join([each[:, 0 : count - 1 : 2] for each in pieces], [each[:, 1::2] for each in pieces])
        odd = [each[:, count - 1 :] for each in pieces] if count % 2 else []
        pieces = [torch.cat([both, last], dim=1) for both, last in zip(joined, odd, strict=True)] if odd else joined
    return [each[:, 0] for each in pieces]


def line(increment: Tensor, depth: int) -> Levels:
    """Of a straight line with the increment (…, d): Δ^⊗k / k!."""
    levels = [increment]
    for level in range(2, depth + 1):
        levels.append(_tensor(levels[-1], increment) / level)
    return levels


def join(first: Levels, second: Levels) -> Levels:
    """Of a path that goes on as another (Chen's identity): level k is the sum of first_i ⊗ second_{k−i}, i from 0 to k."""
    levels = []
    for level in range(len(first)):
        total = first[level] + second[level]
        for own in range(level):
            total = total + _tensor(first[own], second[level - own - 1])
        levels.append(total)
    return levels


def size(dimensions: int, depth: int) -> int:
    """Numbers of a signature."""
    return int(sum(dimensions**level for level in range(1, depth + 1)))


def with_time(path: Tensor) -> Tensor:
    """Time from 0 to 1 as the last dimension, without which a signature does not see when: (N, T, d) → (N, T, d + 1)."""
    time = torch.linspace(0, 1, path.shape[1], dtype=path.dtype, device=path.device)
    return torch.cat([path, time.expand(len(path), -1)[:, :, None]], dim=2)


def with_basepoint(path: Tensor) -> Tensor:
    """0 before the first point, without which a signature does not see where: (N, T, d) → (N, T + 1, d)."""
    return torch.cat([torch.zeros_like(path[:, :1]), path], dim=1)


def lead_lag(path: Tensor) -> Tensor:
    """The path beside itself a step late, moving in turns: (N, T, d) → (N, 2T − 1, 2d), the leading one first.

    The areas between them hold its quadratic variation (Flint, Hambly & Lyons 2016).
    """
    twice = path.repeat_interleave(2, dim=1)
    return torch.cat([twice[:, 1:], twice[:, :-1]], dim=2)


AUGMENTATIONS = {
    "basepoint": with_basepoint,
    "lead_lag": lead_lag,
    "time": with_time,
    "sum": lambda path: path.cumsum(1),
}
"""What can be done to a path before its signature is taken, by the names that recipes use; `sum` makes prices of returns."""


def augment(path: Tensor, names: Sequence[str]) -> Tensor:
    """Paths (N, T, d), augmented in that order."""
    for name in names:
        path = AUGMENTATIONS[name](path)
    return path


def _tensor(left: Tensor, right: Tensor) -> Tensor:
    """(…, a), (…, b) → (…, a·b)."""
    return (left[..., :, None] * right[..., None, :]).flatten(-2)
