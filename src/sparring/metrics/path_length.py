"""Perceptual path length: how much the picture changes for a step in the latent space (Karras et al. 2019, sec. 4.1).

Compared to the reference, nothing is ever rounded to bytes: a step of ε = 10⁻⁴ moves most pixels by less than one of
256 levels, so rounding leaves noise divided by ε². It measures about a thousand for a generator whose length is thirty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Generate = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]
Draw = Callable[[int, torch.Generator], Tensor]


def path_length(
    generate: Generate,
    distance: Distance,
    draw: Draw,
    *,
    space: Literal["z", "w"] = "z",
    sampling: Literal["full", "end"] = "full",
    epsilon: float = 1e-4,
    count: int = 1000,
    batch: int = 16,
    seed: int = 0,
) -> float:
    """The mean of `path_lengths` without the lowest and the highest percent, as it is published (count 50,000 there).

    Arguments and errors: see `path_lengths`.
    """
    return trimmed_mean(
        path_lengths(
            generate,
            distance,
            draw,
            space=space,
            sampling=sampling,
            epsilon=epsilon,
            count=count,
            batch=batch,
            seed=seed,
        )
    )


def path_lengths(
    generate: Generate,
    distance: Distance,
    draw: Draw,
    *,
    space: Literal["z", "w"] = "z",
    sampling: Literal["full", "end"] = "full",
    epsilon: float = 1e-4,
    count: int = 1000,
    batch: int = 16,
    seed: int = 0,
) -> Tensor:
    """d(G(path(t)), G(path(t + ε)))/ε² of `count` random paths, float64 (count,) (Karras et al. 2019, eq. 2 and 3).

    generate: latents (N, …) to images, in float: without rounding, in eval mode, and with whatever else is random in
        it (noise inputs, labels) the same for equal rows of a batch in both of two calls.
    distance: images to distances (N,) that grow with the square of a small change, as LPIPS and squared errors do.
    draw: so many latents, from a generator on the CPU; for `space="w"`, mapped ones.
    space: `z` follows great circles (`slerp`), the right paths for normal latents; `w` straight lines.
    sampling: `full` takes t uniform in [0, 1), `end` takes t = 0, where no latent is a mixture.
    seed: of latents and places. Raises ValueError for an epsilon that is not positive or no paths.
    """
    if epsilon <= 0 or count < 1:
        raise ValueError(f"a path length needs a positive epsilon and at least one path, not {epsilon} and {count}")
    random = torch.Generator().manual_seed(seed)
    along: Callable[[Tensor, Tensor, Tensor], Tensor] = slerp if space == "z" else torch.lerp
    lengths = []
    with torch.no_grad():
        for start in range(0, count, batch):
            rows = min(batch, count - start)
            one, other = draw(rows, random), draw(rows, random)
            places = torch.rand(rows, generator=random, dtype=torch.float64) * {"full": 1.0, "end": 0.0}[sampling]
            places = places.to(one.device).view(-1, *[1] * (one.ndim - 1))
            # In float64 until the last moment: in float32 ε would lose three of its digits to t.
            here, there = (along(one.double(), other.double(), t).to(one.dtype) for t in (places, places + epsilon))
            lengths.append(distance(generate(here), generate(there)).double().cpu() / epsilon**2)
    return torch.cat(lengths)


def trimmed_mean(values: Tensor, *, lowest: float = 0.01, highest: float = 0.99) -> float:
    """The mean of those values (N,) that lie between two quantiles of them, both included.

    The quantiles are values that occur, the next one outwards where none falls on them, as in the reference.
    """
    values = values.double()
    low, high = values.quantile(lowest, interpolation="lower"), values.quantile(highest, interpolation="higher")
    return float(values[(values >= low) & (values <= high)].mean())


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The point at share t of the great circle from a to b (Shoemake 1985), rows (N, …) flattened to vectors.

    Directions turn evenly and lengths are interpolated, so that normal latents keep the length that the generator was
    trained on; for a generator that normalises its latents it is the reference's path. t: broadcasts to (N, 1, …).
    """
    size_a, size_b = (_length(x) for x in (a, b))
    one, other = a / size_a, b / size_b
    cosine = (one * other).flatten(1).sum(1).view(size_a.shape).clamp(-1, 1)
    across = other - cosine * one
    # Parallel vectors span no circle: they stay on their line.
    across = across / _length(across).clamp(min=1e-12)
    angle = t * cosine.acos()
    return (angle.cos() * one + angle.sin() * across) * torch.lerp(size_a, size_b, t)


def _length(x: Tensor) -> Tensor:
    """Euclidean length of each row, shape (N, 1, …)."""
    return x.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
