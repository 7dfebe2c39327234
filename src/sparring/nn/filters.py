"""FIR resampling of images, by PyTorch's own operations: upsample, filter, downsample, in one step and to any derivative.

Upsampling by U puts U − 1 zeros behind every value, the filter is a convolution, downsampling by D keeps every D-th value
(Karras et al. 2020, appendix B, call that `upfirdn2d`). Zeros are never multiplied: an axis that grows is one product
with a matrix where it is short, which a CPU does several times as fast as a convolution of a few taps, and a convolution for each
phase of the output where it is long; an axis that does not grow is a depthwise convolution, unless the filter is long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.nn.resample import Size

Filter = Tensor
"""(T,): the same taps along both axes, one after the other; (Tʸ, Tˣ): any filter of two dimensions."""
Factor = int | tuple[int, int]
Padding = int | Sequence[int]

MATRIX_LIMIT = 128  # values along an axis: beyond, a matrix of mostly zeros costs more than the phases
LONG = 8  # taps from which a matrix is the faster one for an axis that shrinks, too


def binomial(taps: int = 4) -> Tensor:
    """The binomial low-pass filter of so many taps, sum 1: [1, 3, 3, 1] / 8 is the one of StyleGAN2."""
    row = torch.ones(1)
    for _ in range(taps - 1):
        row = F.pad(row, (0, 1)) + F.pad(row, (1, 0))
    return row / row.sum()


def upfirdn2d(
    x: Tensor, taps: Filter, up: Factor = 1, down: Factor = 1, padding: Padding = 0, gain: float = 1.0
) -> Tensor:
    """Upsample, pad, convolve with `taps`, downsample: (N, C, H, W) → (N, C, H′, W′).

    taps: a filter as `Filter` says, in x's precision from here on. up, down: whole factors ≥ 1, for both axes or (y, x).
    padding: zeros around the upsampled image (whose last zeros belong to it), for all sides, (y, x) or (top, bottom,
        left, right); negative ones crop. gain: scales the filter.
    H′ = ⌊(H·up + top + bottom − T) / down⌋ + 1, and so along x. Raises ValueError where that is no size.
    """
    (up_y, up_x), (down_y, down_x) = _pair(up), _pair(down)
    top, bottom, left, right = _sides(padding)
    taps = taps.to(x.dtype)
    scaled = taps * gain
    if taps.ndim == 2:
        return _phases(x, scaled, (up_y, up_x), (down_y, down_x), (top, bottom, left, right))

    def vertical(x: Tensor) -> Tensor:
        return _along_y(x, scaled, up_y, down_y, top, bottom)

    def horizontal(x: Tensor) -> Tensor:
        return _along_x(x, taps, up_x, down_x, left, right)

    # The second pass has the first one's output to filter: the axis that shrinks goes first.
    return vertical(horizontal(x)) if up_x * down_y < up_y * down_x else horizontal(vertical(x))


def blur(x: Tensor, taps: Filter) -> Tensor:
    """Filter maps (N, C, H, W) at their size, with zeros beyond the edge."""
    return upfirdn2d(x, taps, padding=_centred(taps, (1, 1), (1, 1)))


def upsample(x: Tensor, taps: Filter, factor: Factor = 2, gain: float = 1.0) -> Tensor:
    """(N, C, H, W) → (N, C, factor·H, factor·W), keeping the mean of what is smooth; zeros beyond the edge."""
    up = _pair(factor)
    return upfirdn2d(x, taps, up=up, padding=_centred(taps, up, (1, 1)), gain=gain * up[0] * up[1])


def downsample(x: Tensor, taps: Filter, factor: Factor = 2, gain: float = 1.0) -> Tensor:
    """(N, C, H, W) → (N, C, ⌈H / factor⌉, ⌈W / factor⌉); zeros beyond the edge."""
    down = _pair(factor)
    top, bottom, left, right = _centred(taps, (1, 1), down)
    rest_y, rest_x = -x.shape[-2] % down[0], -x.shape[-1] % down[1]
    return upfirdn2d(x, taps, down=down, padding=(top, bottom + rest_y, left, right + rest_x), gain=gain)


def to_size(x: Tensor, taps: Filter, size: Size) -> Tensor:
    """Maps at the next rung of a `ladder` in either direction: each side doubles, halves or stays; odd ones lose their last value."""
    small = x.shape[-2:]
    for axis in (0, 1):
        if size[axis] not in (small[axis], 2 * small[axis], 2 * small[axis] - 1, -(-small[axis] // 2)):
            raise ValueError(f"{tuple(small)} → {size} is no rung of a ladder: a side doubles, halves or stays")
    grows = [1 + (after > before) for before, after in zip(small, size, strict=True)]
    shrinks = [1 + (after < before) for before, after in zip(small, size, strict=True)]
    if max(grows) > 1:
        x = upsample(x, taps, (grows[0], grows[1]))[..., : max(size[0], small[0]), : max(size[1], small[1])]
    return downsample(x, taps, (shrinks[0], shrinks[1])) if max(shrinks) > 1 else x


def _along_y(x: Tensor, taps: Tensor, up: int, down: int, before: int, after: int) -> Tensor:
    if _dense(x.shape[-2], taps, up):
        return _matrix(taps, x.shape[-2], up, down, before, after).T @ x
    return _phases(x, taps[:, None], (up, 1), (down, 1), (before, after, 0, 0))


def _along_x(x: Tensor, taps: Tensor, up: int, down: int, before: int, after: int) -> Tensor:
    if _dense(x.shape[-1], taps, up):
        return x @ _matrix(taps, x.shape[-1], up, down, before, after)
    return _phases(x, taps[None, :], (1, up), (1, down), (0, 0, before, after))


def _dense(count: int, taps: Tensor, up: int) -> bool:
    return count <= MATRIX_LIMIT and (up > 1 or len(taps) >= LONG)


def _matrix(taps: Tensor, count: int, up: int, down: int, before: int, after: int) -> Tensor:
    """What `upfirdn` along an axis multiplies its `count` values with, (count, count′)."""
    outputs = (_length(count, len(taps), up, before, after) - 1) // down + 1
    of_input = torch.arange(count, device=taps.device)[:, None] * up
    of_output = torch.arange(outputs, device=taps.device)[None, :] * down
    tap = of_output + len(taps) - 1 - before - of_input
    return torch.where((tap >= 0) & (tap < len(taps)), taps[tap.clamp(0, len(taps) - 1)], 0)


def _phases(x: Tensor, taps: Tensor, up: Size, down: Size, padding: tuple[int, int, int, int]) -> Tensor:
    """`upfirdn2d` with a filter of two dimensions: one convolution, whose U² outputs for each channel are U² phases of the result."""
    count, channels, *size = x.shape
    phases_y = _lay_out(size[0], taps.shape[0], up[0], padding[0], padding[1])
    phases_x = _lay_out(size[1], taps.shape[1], up[1], padding[2], padding[3])
    # Convolutions of PyTorch are correlations. Zeros around the taps give every phase the same first input and length.
    kernel = F.pad(taps.flip(0, 1), (*phases_x.around, *phases_y.around))
    tall, wide = kernel.shape[0] // up[0], kernel.shape[1] // up[1]
    kernel = kernel.reshape(tall, up[0], wide, up[1]).flip(1, 3).permute(1, 3, 0, 2).reshape(-1, 1, tall, wide)
    x = _padded(x, (*phases_x.padding, *phases_y.padding))
    stride = (down[0] if up[0] == 1 else 1, down[1] if up[1] == 1 else 1)
    y = F.conv2d(x, kernel.repeat(channels, 1, 1, 1), stride=stride, groups=channels)
    if up == (1, 1):
        return y
    y = y.reshape(count, channels, *up, *y.shape[-2:]).permute(0, 1, 4, 2, 5, 3)
    y = y.reshape(count, channels, y.shape[2] * up[0], y.shape[4] * up[1])[..., : phases_y.length, : phases_x.length]
    return y[..., :: down[0] // stride[0], :: down[1] // stride[1]]


class _Axis(NamedTuple):
    """How the phases of one axis are laid out.

    around: zeros before and behind the taps. padding: of the input, not upsampled. length: of the output, not downsampled.
    """

    around: tuple[int, int]
    padding: tuple[int, int]
    length: int


def _lay_out(count: int, taps: int, up: int, before: int, after: int) -> _Axis:
    length = _length(count, taps, up, before, after)
    # Output U·q + r looks at the inputs from q − first on, once the padding before is U·first + U − 1.
    lead = -(before + 1) % up
    first = (before + lead) // up
    around = (lead, -(taps + lead) % up)
    each = (taps + sum(around)) // up
    outputs = -(-length // up)
    return _Axis(around, (first, outputs + each - 1 - count - first), length)


def _length(count: int, taps: int, up: int, before: int, after: int) -> int:
    length = count * up + before + after - taps + 1
    if length < 1:
        raise ValueError(
            f"{count} values upsampled by {up} and padded by {before} + {after} are fewer than {taps} taps"
        )
    return length


def _padded(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    if max(padding) > 0:
        x = F.pad(x, [max(side, 0) for side in padding])
    # Not in one call: torch crops first, and what is left must not be less than nothing.
    return F.pad(x, [min(side, 0) for side in padding]) if min(padding) < 0 else x


def _centred(taps: Tensor, up: Size, down: Size) -> tuple[int, int, int, int]:
    """Zeros (top, bottom, left, right) that keep the image's middle where it is."""
    sizes = (taps.shape[0], taps.shape[-1])
    around = []
    for size, grow, shrink in zip(sizes, up, down, strict=True):
        spare = size - grow - shrink + 1  # odd taps at factor 1: half on either side
        around += [(spare + 1) // 2 + grow - 1, spare // 2]
    return around[0], around[1], around[2], around[3]


def _pair(factor: Factor) -> Size:
    pair = (factor, factor) if isinstance(factor, int) else (factor[0], factor[1])
    if min(pair) < 1:
        raise ValueError(f"a factor of {factor}: at least 1, up or down")
    return pair


def _sides(padding: Padding) -> tuple[int, int, int, int]:
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if len(padding) == 2:
        return padding[0], padding[0], padding[1], padding[1]
    top, bottom, left, right = padding
    return top, bottom, left, right
