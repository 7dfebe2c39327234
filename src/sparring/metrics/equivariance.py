"""Equivariance of a generator: how well its images follow when what they are made from is moved (Karras et al. 2021, sec. 2.3).

EQ-T compares the image of a translated input with the translated image, EQ-R the same for rotations, as a peak
signal-to-noise ratio in dB over the places that both show (appendix E). What moves the reference image is here:

- whole pixels: copied; parts of a pixel: interpolated by a Lanczos-windowed sinc (EQ-T frac)
- rotations: a picture's frequencies fill a square, which a rotation turns. Both sides are limited to what the square and
  the turned one have in common, by a sinc-like kernel of its own for each angle

The paper windows that kernel by a product of turned Lanczos windows; here it is one radial window, so that EQ-R agrees in
meaning and not to the digit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RANGE = 2.0  # of images in [−1, 1]
TRAVEL = 0.125  # translations are drawn up to this share of the image's longer side, in both directions
LANCZOS = 3  # pixels on either side that a translation by parts of a pixel looks at
FREQUENCIES = 32  # a side, of the sum that stands for the kernel's integral


def decibels(errors: Tensor) -> float:
    """10·log₁₀(range² / mean squared error) of `errors` (N, 2), which hold each sample's sum of squares and how many they are."""
    total, places = errors.double().sum(0).tolist()
    return 10 * math.log10(RANGE**2 * places / total) if total else math.inf


def translation_errors(images: Tensor, moved: Tensor, shift: tuple[float, float]) -> Tensor:
    """Squared differences between `moved` and the images moved by `shift`, (N, 2), as `decibels` takes them.

    images, moved: (N, C, H, W) in [−1, 1]. shift: pixels down and to the right, whole or not.
    """
    reference, mask = translated(images, shift)
    return _errors(reference, moved, mask)


def rotation_errors(images: Tensor, turned: Tensor, angle: float) -> Tensor:
    """Squared differences between `turned` and the images turned by `angle`, both band-limited, (N, 2).

    images, turned: (N, C, H, W) in [−1, 1]. angle: in radians, from the axis to the right towards the one down.
    """
    reference, mask = resampled(images, angle, turn=True)
    limited, inside = resampled(turned, -angle, turn=False)
    return _errors(reference, limited, mask & inside)


def translated(images: Tensor, shift: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Images moved by (down, right) pixels, and where (H, W) all that they are made from lies in the image."""
    (rows, tall), (columns, wide) = (
        _shift_matrix(size, distance, images) for size, distance in zip(images.shape[-2:], shift, strict=True)
    )
    return rows @ images @ columns.T, tall[:, None] & wide[None, :]


def resampled(images: Tensor, angle: float, *, turn: bool) -> tuple[Tensor, Tensor]:
    """Images limited to the frequencies that are in the square before and after turning by `angle`, and turned or not.

    Returns images (N, C, H, W), and where (H, W) all that they are made from lies in the image.
    """
    height, width = images.shape[-2:]
    reach = kernel_reach(height, width)
    cosine, sine = math.cos(angle), math.sin(angle)
    down, right = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) - (height - 1) / 2,
        torch.arange(width, dtype=torch.float64) - (width - 1) / 2,
        indexing="ij",
    )
    # Turned by an angle, each place shows what was at the place turned back.
    x, y = (cosine * right + sine * down, cosine * down - sine * right) if turn else (right, down)
    x, y = (x + (width - 1) / 2).flatten(), (y + (height - 1) / 2).flatten()
    near = torch.arange(2 * reach) - reach + 1
    taps_x, taps_y = (near + place.floor()[:, None] for place in (x, y))
    weight = _kernel(x[:, None] - taps_x, y[:, None] - taps_y, angle, reach)
    weight = weight / weight.sum((1, 2), keepdim=True)
    there = (taps_y >= 0) & (taps_y < height), (taps_x >= 0) & (taps_x < width)
    inside = there[0].all(1) & there[1].all(1)

    source = taps_y.clamp(0, height - 1)[:, :, None] * width + taps_x.clamp(0, width - 1)[:, None, :]
    target = torch.arange(height * width)[:, None, None].expand_as(weight)
    matrix = torch.sparse_coo_tensor(
        torch.stack([target.flatten(), source.long().flatten()]),
        weight.flatten(),
        (height * width,) * 2,
        check_invariants=True,
    ).to(images.device, images.dtype)
    values = images.flatten(0, 1).flatten(1)
    return (matrix @ values.T).T.reshape(images.shape), inside.reshape(height, width).to(images.device)


def kernel_reach(height: int, width: int) -> int:
    """How many pixels a rotation's kernel looks at on either side: 6, and 3 in images too small for that."""
    return 6 if min(height, width) >= 24 else 3


def _kernel(x: Tensor, y: Tensor, angle: float, reach: int) -> Tensor:
    """The kernel at offsets x and y (P, K), (P, Ky, Kx): the sum of all waves that it lets pass, under a radial window."""
    frequency = (torch.arange(FREQUENCIES, dtype=torch.float64) + 0.5) / FREQUENCIES - 0.5
    across, along = frequency[None, :], frequency[:, None]
    turned_x = math.cos(angle) * across - math.sin(angle) * along
    turned_y = math.sin(angle) * across + math.cos(angle) * along
    passes = ((turned_x.abs() <= 0.5) & (turned_y.abs() <= 0.5)).double()
    # cos(a + b) of all waves at all places; as many as have −a have a.
    phase_x, phase_y = (2 * math.pi * offset[..., None] * frequency for offset in (x, y))
    waves = phase_y.cos() @ passes @ phase_x.cos().mT - phase_y.sin() @ passes @ phase_x.sin().mT
    radius = torch.hypot(x[:, None, :], y[:, :, None]) / reach
    return waves * torch.where(radius < 1, torch.sinc(radius), 0)


def _shift_matrix(size: int, distance: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """(size, size) that moves values by so many places, and which of them come from inside."""
    place = torch.arange(size, dtype=torch.float64) - distance
    offset = place[:, None] - torch.arange(size, dtype=torch.float64)
    if float(distance).is_integer():
        matrix, reach = (offset == 0).double(), 0
    else:
        matrix = torch.where(offset.abs() < LANCZOS, torch.sinc(offset) * torch.sinc(offset / LANCZOS), 0)
        matrix, reach = matrix / matrix.sum(1, keepdim=True).clamp(min=0.5), LANCZOS - 1
    inside = (place.floor() - reach >= 0) & (place.ceil() + reach <= size - 1)
    return matrix.to(like), inside.to(like.device)


def _errors(reference: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    squares = ((reference - other).square() * mask).double().sum((1, 2, 3))
    places = mask.sum() * reference.shape[1]
    return torch.stack([squares, places.double().expand(len(squares))], dim=1)
