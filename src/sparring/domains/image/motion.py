"""Translations and rotations of what a generator makes its images from, and how well the images follow: EQ-T and EQ-R."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparring.core.game import Batch, Game
from sparring.errors import UserError
from sparring.metrics.equivariance import TRAVEL, decibels, rotation_errors, translation_errors
from sparring.metrics.meter import Probed, Value, Values

SAMPLES, AT_ONCE = 512, 16  # as many share a translation and an angle
FIGURES = ("eq_t", "eq_t_frac", "eq_r")


def probe(game: Game, seed: int) -> Probed:
    """Errors of samples that are moved in three ways, (SAMPLES, 6): for each of `FIGURES` two columns that `decibels` takes.

    Translations are even up to an eighth of the longer side, whole pixels for `eq_t`; angles on the circle.
    Raises UserError for a generator whose input cannot be moved.
    """
    generator = getattr(game, "generator", None)
    if not getattr(generator, "movable", False):
        raise UserError(
            "equivariance moves what images are made from, which this generator does not offer; stylegan3-t does"
        )
    rng = torch.Generator().manual_seed(seed)
    codes = game.draw_codes(SAMPLES, rng=torch.Generator(game.device).manual_seed(seed))["code"]
    rows = [_errors(generator.synthesis, part, rng) for part in codes.split(AT_ONCE)]  # type: ignore[union-attr]
    return Probed(Batch(features=torch.cat(rows).cpu()), {"at_once": AT_ONCE})


def measure(real: Batch, fake: Batch, seed: int) -> Values:
    """EQ-T for whole pixels and for parts of them, and EQ-R, in dB; those that have places to compare."""
    pairs = fake["features"].split(2, dim=1)
    return {name: Value(decibels(errors)) for name, errors in zip(FIGURES, pairs, strict=True) if errors[:, 1].any()}


def _errors(synthesis: torch.nn.Module, codes: Tensor, rng: torch.Generator) -> Tensor:
    plain: Tensor = synthesis(codes).float()
    height, width = plain.shape[-2:]
    unit = max(height, width)
    whole = [float(round(each)) for each in _travel(unit, rng)]
    parts = _travel(unit, rng)
    angle = 2 * math.pi * float(torch.rand((), generator=rng))
    errors = []
    for down, right in (whole, parts):
        # Each place looks at the one that moves there.
        moved = synthesis(codes, transform=_matrix([1, 0, -right / unit], [0, 1, -down / unit], codes)).float()
        errors.append(translation_errors(plain, moved, (down, right)))
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = synthesis(codes, transform=_matrix([cosine, sine, 0], [-sine, cosine, 0], codes)).float()
    return torch.cat([*errors, rotation_errors(plain, turned, angle)], dim=1)


def _travel(unit: int, rng: torch.Generator) -> list[float]:
    return ((2 * torch.rand(2, generator=rng) - 1) * TRAVEL * unit).tolist()


def _matrix(x: list[float], y: list[float], like: Tensor) -> Tensor:
    return torch.tensor([x, y], dtype=torch.float32, device=like.device)
