"""Pictures larger than what fits, piece by piece: tiles that overlap, faded into each other, a row of them at a time.

Where two tiles overlap, the outer quarter of each is not used at all: what a network makes near the border of a tile
suffers from the border. Across the middle half one fades into the other. So whatever a generator computes from no more
than a quarter of the overlap around each place comes out as if the picture had been translated whole.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sparring.errors import UserError

BUDGET = 512 * 2**20
"""Bytes of activations that a forward pass of one tile may take."""
PATCHES = 4
"""Patches a side of a picture that the statistics of norms are taken from together, of as many pixels as one tile."""

Span = tuple[int, int]
Piece = TypeVar("Piece")
Make = Callable[[Piece], Tensor]
"""A part of a picture as the generator takes it → outputs (1, C, h·scale, w·scale), float32 on the CPU."""
Cut = Callable[[Span, Span], Piece]
"""Rows and columns of a picture → that part of it as the generator takes it."""
Finish = Callable[[Tensor], NDArray[Any]]
"""Outputs (C, h, w) → the values of a file."""


@dataclass(frozen=True)
class Grid:
    """Where the tiles of a picture lie: spans of rows and of columns, each ascending; all are combined with all."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def seams(self) -> tuple[list[int], list[int]]:
        """The rows, and the columns, in the middle of each overlap, where one tile gives way to the next."""
        down, across = ([(b + e) // 2 for (_, e), (b, _) in pairwise(spans)] for spans in (self.rows, self.columns))
        return down, across

    def patches(self, stride: int) -> list[tuple[Span, Span]]:
        """Pieces spread evenly over the picture, of equal size, and together of no more pixels than one tile."""
        (height, width) = (spans[-1][1] for spans in (self.rows, self.columns))
        tall, wide = (spans[0][1] for spans in (self.rows, self.columns))
        side = max(stride, min(tall, wide) // PATCHES // stride * stride)
        down, across = min(PATCHES, tall // side), min(PATCHES, wide // side)
        tops, lefts = _even(height, side, down), _even(width, side, across)
        return [((top, top + side), (left, left + side)) for top in tops for left in lefts]


def lay(height: int, width: int, tile: int, overlap: int, stride: int) -> Grid:
    """Tiles of `tile` pixels a side over a picture whose sides are multiples of `stride`, as few as overlap by `overlap`.

    They begin at multiples of `stride`, where what the generator halves falls as in the whole picture, and are spread
    evenly, so that neighbours overlap by `overlap` or more. Raises UserError for sizes that cannot be.
    """
    if tile < 1 or tile % stride:
        lower = max(stride, tile // stride * stride)
        raise UserError(
            f"--tile {tile}: this generator takes sides that are multiples of {stride}: say {lower} or {lower + stride}"
        )
    if not 0 <= overlap <= tile // 2:
        raise UserError(f"--overlap {overlap}: tiles of {tile} overlap by 0 to {tile // 2} pixels")
    return Grid(_spans(height, tile, overlap, stride), _spans(width, tile, overlap, stride))


def translate_tiled(make: Make[Piece], cut: Cut[Piece], grid: Grid, finish: Finish, *, scale: int = 1) -> NDArray[Any]:
    """The whole output, (H, W, C) as `finish` gives it. Beside it, memory holds one row of tiles.

    scale: how many times as large as its input an output is.
    """
    height, width = grid.rows[-1][1] * scale, grid.columns[-1][1] * scale
    across, down = _weights(grid.columns, scale), _weights(grid.rows, scale)
    whole: NDArray[Any] | None = None
    strip, first = torch.empty(0), 0
    for row, (top, bottom) in enumerate(grid.rows):
        for column, (left, right) in enumerate(grid.columns):
            made = make(cut((top, bottom), (left, right)))[0]
            if not strip.numel():
                strip = torch.zeros(made.shape[0], made.shape[1], width)
            strip[:, :, left * scale : right * scale] += made * down[row][:, None] * across[column]
        ready = (grid.rows[row + 1][0] if row + 1 < len(grid.rows) else bottom) * scale
        done = finish(strip[:, : ready - first])
        if whole is None:
            whole = np.empty((height, width, done.shape[2]), done.dtype)
        whole[first:ready] = done
        # What the next row reaches into goes on; below it there is nothing yet.
        kept = strip[:, ready - first :].clone()
        strip.zero_()
        strip[:, : kept.shape[1]] = kept
        first = ready
    assert whole is not None
    return whole


def bytes_per_pixel(run: Callable[[], Any], pixels: int) -> float:
    """The most bytes of tensors that are alive at one time while `run` translates a picture of so many pixels, by pixel.

    Counted, not measured: the same on every machine, and so are the tiles that are chosen by it.
    """
    with _Alive() as alive:
        run()
    return alive.peak / pixels


def choose_tile(height: int, width: int, cost: float, stride: int) -> int | None:
    """The side of tiles for a generator that takes `cost` bytes a pixel; None where the picture fits whole."""
    if height * width * cost <= BUDGET:
        return None
    return max(1, int(math.sqrt(BUDGET / cost)) // stride) * stride


@contextlib.contextmanager
def common_statistics(modules: Sequence[nn.Module], run: Callable[[], Any]) -> Iterator[int]:
    """Inside, instance and group norms take the mean and variance they find while `run` plays patches of a picture as a batch.

    An instance norm makes a picture's own mean and contrast those it has learnt, channel by channel, and would do so with
    every tile: sky and street would both come out middling. With one mean and variance for all, of all patches together,
    tiles agree as parts of one picture do. (Chen et al. 2022, "Thumbnail Instance Normalization", take them from the
    shrunken picture; patches in full size keep the detail that a norm's variance is made of.) Yields how many norms.
    """
    norms = [
        each
        for module in modules
        for each in module.modules()
        if isinstance(each, nn.GroupNorm) or (isinstance(each, nn.InstanceNorm2d) and not each.track_running_stats)
    ]
    found: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def shared(norm: nn.InstanceNorm2d | nn.GroupNorm) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            if norm not in found:
                found[norm] = _statistics(x, norm.num_groups if isinstance(norm, nn.GroupNorm) else x.shape[1])
            mean, variance = found[norm]
            return F.batch_norm(x, mean, variance, norm.weight, norm.bias, False, 0.0, norm.eps)

        return forward

    try:
        for norm in norms:
            norm.forward = shared(norm)  # type: ignore[method-assign,assignment]
        if norms:
            run()
        yield len(norms)
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


def _statistics(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel's group over the whole batch (N, C, h, w), (C,) both."""
    variance, mean = torch.var_mean(x.unflatten(1, (groups, -1)), dim=(0, 2, 3, 4), correction=0)
    return mean.repeat_interleave(x.shape[1] // groups), variance.repeat_interleave(x.shape[1] // groups)


def _even(size: int, part: int, count: int) -> list[int]:
    """Where so many parts begin that are spread evenly; a single one lies in the middle."""
    free = size - part
    return [free // 2] if count == 1 else [round(free * index / (count - 1)) for index in range(count)]


def _spans(size: int, tile: int, overlap: int, stride: int) -> tuple[Span, ...]:
    if tile >= size:
        return ((0, size),)
    # Whole strides, unless tiles are so small that they would not overlap as was asked.
    unit = stride if tile - overlap >= stride else 1
    step = (tile - overlap) // unit * unit
    count = 1 + math.ceil((size - tile) / step)
    starts = [unit * round((size - tile) / unit * index / (count - 1)) for index in range(count)]
    return tuple((start, start + tile) for start in starts)


def _weights(spans: Sequence[Span], scale: int) -> list[Tensor]:
    """How much each span counts at each of its places, (length·scale,): over all spans the sum is 1 everywhere."""
    places = [
        (torch.arange((stop - start) * scale, dtype=torch.float64) + 0.5) / scale + start for start, stop in spans
    ]
    weights = [torch.ones_like(each) for each in places]
    for index in range(len(spans) - 1):
        begin, end = spans[index + 1][0], spans[index][1]
        rising = _fade(places[index + 1], begin, end)
        weights[index + 1] *= rising
        weights[index] *= 1 - _fade(places[index], begin, end)
    # The sum is 1 but where a third tile comes into the fading of two.
    total = torch.zeros(spans[-1][1] * scale, dtype=torch.float64)
    for (start, stop), each in zip(spans, weights, strict=True):
        total[start * scale : stop * scale] += each
    return [
        (each / total[start * scale : stop * scale]).float() for (start, stop), each in zip(spans, weights, strict=True)
    ]


def _fade(places: Tensor, begin: int, end: int) -> Tensor:
    """0 up to a quarter of the overlap, 1 from three quarters on, half a wave of a cosine between; a step where none is."""
    if begin >= end:
        return (places > begin).double()
    share = ((places - begin) / (end - begin) * 2 - 0.5).clamp(0, 1)
    return 0.5 - 0.5 * torch.cos(math.pi * share)


class _Alive(TorchDispatchMode):
    """Bytes of the tensors that are alive, of those that were made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_place(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor) and each.numel() and _place(each) not in given:  # no view of what is counted
                size = each.numel() * each.element_size()
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(each, self._release, size)
        return made

    def _release(self, size: int) -> None:
        self.now -= size


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
