"""sRGB ↔ CIE L*a*b* (1976), differentiable, in float32: lightness apart from colour.

White is D65 at 2° (ASTM E308), the matrices are those of IEC 61966-2-1. Beyond the gamut both ways go on: nothing is clipped.
"""

from __future__ import annotations

import torch
from torch import Tensor

WHITE = (0.95047, 1.0, 1.08883)
TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
BEND = 6 / 29  # where the cube root gives way to a straight line


def lab_of(rgb: Tensor) -> Tensor:
    """Images in sRGB, (N, 3, H, W) in [-1, 1] → L* in [0, 100], a*, b* within ±110."""
    with torch.autocast(rgb.device.type, enabled=False):
        linear = linear_of((rgb.float() + 1) / 2)
        x, y, z = _bent(torch.einsum("kc,nchw->nkhw", _matrix(rgb), linear)).unbind(1)
        return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def rgb_of(lab: Tensor) -> Tensor:
    """L*, a*, b* (N, 3, H, W) → sRGB, in [-1, 1] within its gamut."""
    with torch.autocast(lab.device.type, enabled=False):
        lightness, a, b = lab.float().unbind(1)
        y = (lightness + 16) / 116
        xyz = _straight(torch.stack([y + a / 500, y, y - b / 200], dim=1))
        linear = torch.einsum("ck,nkhw->nchw", torch.linalg.inv(_matrix(lab).double()).float(), xyz)
        return encoded(linear) * 2 - 1


def grey_of(rgb: Tensor) -> Tensor:
    """The grey image (N, 1, H, W) in [-1, 1] whose lightness L* is that of sRGB images (N, 3, H, W) in [-1, 1]."""
    with torch.autocast(rgb.device.type, enabled=False):
        linear = linear_of((rgb.float() + 1) / 2)
        weights = torch.tensor(TO_XYZ[1], device=rgb.device).view(1, 3, 1, 1)
        return encoded((linear * weights).sum(1, keepdim=True)) * 2 - 1


def linear_of(values: Tensor) -> Tensor:
    """Values of sRGB in [0, 1] → light."""
    # The unused branch is given a base whose power has a finite gradient.
    return torch.where(values > 0.04045, ((values.clamp(min=0.04) + 0.055) / 1.055) ** 2.4, values / 12.92)


def encoded(light: Tensor) -> Tensor:
    """Light → sRGB's values, in [0, 1] within the gamut."""
    return torch.where(light > 0.0031308, 1.055 * light.clamp(min=0.003) ** (1 / 2.4) - 0.055, 12.92 * light)


def _bent(xyz: Tensor) -> Tensor:
    return torch.where(xyz > BEND**3, xyz.clamp(min=BEND**3 / 2) ** (1 / 3), xyz / (3 * BEND**2) + 4 / 29)


def _straight(bent: Tensor) -> Tensor:
    return torch.where(bent > BEND, bent**3, 3 * BEND**2 * (bent - 4 / 29))


def _matrix(like: Tensor) -> Tensor:
    """To X, Y, Z in units of the white's."""
    return torch.tensor(TO_XYZ, device=like.device) / torch.tensor(WHITE, device=like.device)[:, None]
