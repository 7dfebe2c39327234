"""Masks of what is to be painted anew: (N, 1, H, W), 1 in the hole, drawn at random for every sample."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sparring.core import chance
from sparring.errors import UserError

Rng = torch.Generator | None
KINDS = ("free", "rectangle", "centre")
STROKES, CORNERS = 4, 8  # most strokes of a mask, and most straight pieces of a stroke


def draw_masks(
    shares: Mapping[str, float], count: int, size: tuple[int, int], device: torch.device, rng: Rng = None
) -> Tensor:
    """Masks of several kinds, float32 (count, 1, H, W); shares: kind → how often, one of `KINDS`.

    free: strokes (`strokes`). rectangle: of sides between a fourth and a half of the image's, anywhere inside. centre: the
    middle half of each side (Pathak et al. 2016, sec. 3.3).
    """
    makers = {
        "free": lambda: strokes(count, size, device, rng),
        "rectangle": lambda: rectangles(count, size, device, rng),
        "centre": lambda: centres(count, size, device),
    }
    kinds = [kind for kind, share in shares.items() if share]
    weights = torch.tensor([float(shares[kind]) for kind in kinds], device=device)
    chosen = chance.choices(weights, count, rng)
    masks = torch.stack([makers[kind]() for kind in kinds])
    return masks[chosen, torch.arange(count, device=device)]


def require_kinds(shares: Mapping[str, float]) -> None:
    """Raise UserError for kinds that there are not, and shares that are none."""
    for kind, share in shares.items():
        if kind not in KINDS:
            raise UserError(f"model.masks: there is no kind {kind!r}; there are {', '.join(KINDS)}")
        if share < 0:
            raise UserError(f"model.masks.{kind}: a share is at least 0, not {share}")
    if not sum(shares.values()):
        raise UserError("model.masks: give at least one kind a share above 0")


def strokes(count: int, size: tuple[int, int], device: torch.device, rng: Rng = None) -> Tensor:
    """Free-form masks (Yu et al. 2019, algorithm 1): up to four strokes of a brush that turns back and forth.

    A stroke has 4 to 8 straight pieces, each up to a sixth of the shorter side long, turned by about ±2π/5 in turns, and a
    width of 5 % to 15 % of that side. All sizes are shares of the side, so that masks look alike at every resolution.
    """
    height, width = size
    side = min(height, width)
    draws = chance.uniform(count, STROKES, 5 + 2 * CORNERS, device=device, rng=rng)
    start, number, brush, used = draws[..., :2], draws[..., 2], draws[..., 3], draws[..., 4]
    turns = 2 * math.pi / 5 + (draws[..., 5 : 5 + CORNERS] - 0.5) * (2 * math.pi / 7.5)
    turns[..., 0::2] *= -1
    # The first piece sets out anywhere; the sign of a turn changes from piece to piece.
    angles = 2 * math.pi * draws[..., 5:6] + turns.cumsum(-1)
    lengths = side / 6 * (0.3 + 0.7 * draws[..., 5 + CORNERS :])
    lengths = lengths * (torch.arange(CORNERS, device=device) < 4 + (number * (CORNERS - 3)).floor()[..., None])
    steps = torch.stack([lengths * angles.sin(), lengths * angles.cos()], dim=-1)
    extent = torch.tensor([height, width], device=device, dtype=torch.float32)
    first = start * extent
    corners = torch.cat([first[:, :, None], first[:, :, None] + steps.cumsum(2)], dim=2)
    corners = torch.minimum(corners.clamp(min=0), extent)
    # A disc of that radius holds the middle of a pixel wherever it lies.
    radius = (side * (0.05 + 0.1 * brush) / 2).clamp(min=0.75)
    # One to four strokes: the first always.
    drawn = torch.arange(STROKES, device=device) < 1 + (used[:, :1] * STROKES).floor()
    radius = torch.where(drawn, radius, -1.0)
    y = torch.arange(height, device=device)[:, None] + 0.5
    x = torch.arange(width, device=device)[None, :] + 0.5
    masks = torch.zeros(count, height, width, dtype=torch.bool, device=device)
    for stroke in range(STROKES):
        for corner in range(CORNERS):
            a, b = corners[:, stroke, corner], corners[:, stroke, corner + 1]
            masks |= _near(y, x, a, b) <= radius[:, stroke, None, None].square().copysign(radius[:, stroke, None, None])
    return masks[:, None].float()


def _near(y: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of all places from straight pieces a → b, both (N, 2): (N, H, W)."""
    way = b - a
    dy, dx = y - a[:, 0, None, None], x - a[:, 1, None, None]
    along = (dy * way[:, 0, None, None] + dx * way[:, 1, None, None]) / way.square().sum(1)[:, None, None].clamp(
        min=1e-6
    )
    along = along.clamp(0, 1)
    return (dy - along * way[:, 0, None, None]).square() + (dx - along * way[:, 1, None, None]).square()


def rectangles(count: int, size: tuple[int, int], device: torch.device, rng: Rng = None) -> Tensor:
    """Rectangles of sides between a fourth and a half of the image's, anywhere inside of it."""
    draws = chance.uniform(count, 4, device=device, rng=rng)
    extent = torch.tensor(size, device=device)
    sides = ((0.25 + 0.25 * draws[:, :2]) * extent).round().clamp(min=1)
    first = (draws[:, 2:] * (extent - sides + 1)).floor()
    return _boxes(size, first, first + sides)


def centres(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """The middle half of each side."""
    extent = torch.tensor(size, device=device)
    first = (extent // 4).expand(count, 2)
    return _boxes(size, first, first + (extent - extent // 2))


def _boxes(size: tuple[int, int], first: Tensor, last: Tensor) -> Tensor:
    y, x = (torch.arange(side, device=first.device) for side in size)
    down = (y >= first[:, :1]) & (y < last[:, :1])
    across = (x >= first[:, 1:]) & (x < last[:, 1:])
    return (down[:, :, None] & across[:, None, :])[:, None].float()
