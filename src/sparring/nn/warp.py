"""Images seen through affine maps, differentiable any number of times.

`F.grid_sample` has no second derivative, which a gradient penalty behind a warp needs. Here each pixel is gathered from
its four neighbours, and a gather's derivative is an operation that PyTorch can differentiate again.
"""

from __future__ import annotations

import torch
from torch import Tensor


def warp(images: Tensor, matrix: Tensor) -> Tensor:
    """The pixel at q shows what was at `matrix` · (q, 1), bilinearly; beyond its edges an image goes on mirrored.

    images: float (N, C, H, W). matrix: (N, 2, 3), from positions (x, y, 1) to positions (x, y), in pixels from the
    image's centre. The identity changes no bit.
    """
    height, width = images.shape[2:]
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=matrix.dtype, device=matrix.device)
    rows = torch.arange(height, dtype=matrix.dtype, device=matrix.device) - centre[1]
    columns = torch.arange(width, dtype=matrix.dtype, device=matrix.device) - centre[0]
    # (N, 2, H, W): what the column adds, what the row adds, and the shift.
    places = (
        matrix[:, :, 0, None, None] * columns
        + matrix[:, :, 1, None, None] * rows[:, None]
        + (matrix[:, :, 2] + centre)[:, :, None, None]
    )
    x, y = mirrored(places[:, 0], width), mirrored(places[:, 1], height)
    left, above = x.floor(), y.floor()
    right_share, below_share = (x - left)[:, None], (y - above)[:, None]
    left, above = left.long(), above.long()
    right, below = (left + 1).clamp(max=width - 1), (above + 1).clamp(max=height - 1)

    flat, channels = images.flatten(2), images.shape[1]

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).flatten(1)[:, None].expand(-1, channels, -1)
        return flat.gather(2, index).view_as(images)

    right_share, below_share = right_share.to(images.dtype), below_share.to(images.dtype)
    upper = torch.lerp(at(above, left), at(above, right), right_share)
    lower = torch.lerp(at(below, left), at(below, right), right_share)
    return torch.lerp(upper, lower, below_share)


def mirrored(places: Tensor, size: int) -> Tensor:
    """Positions on an endless line of `size` pixels and their mirror images, as positions from 0 to size − 1."""
    if size == 1:
        return torch.zeros_like(places)
    return (size - 1) - (places.remainder(2 * (size - 1)) - (size - 1)).abs()


def shift_matrix(x: Tensor, y: Tensor) -> Tensor:
    """Moves by (x, y), each (N,): (N, 3, 3)."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _rows([one, zero, x], [zero, one, y])


def scale_matrix(x: Tensor, y: Tensor) -> Tensor:
    """Stretches by factors, each (N,): (N, 3, 3)."""
    zero = torch.zeros_like(x)
    return _rows([x, zero, zero], [zero, y, zero])


def turn_matrix(angle: Tensor) -> Tensor:
    """Turns by an angle in radians, (N,): (N, 3, 3)."""
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _rows([cosine, -sine, zero], [sine, cosine, zero])


def _rows(first: list[Tensor], second: list[Tensor]) -> Tensor:
    zero = torch.zeros_like(first[0])
    last = [zero, zero, torch.ones_like(zero)]
    return torch.stack([torch.stack(row, dim=-1) for row in (first, second, last)], dim=-2)
