"""What every game between images has: networks by name, inputs of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pydantic
import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.game import DataSpec
from sparring.domains.translation.networks import DISCRIMINATORS, GENERATORS
from sparring.errors import UserError
from sparring.nn.building import resolve_networks
from sparring.options import validate
from sparring.recipe import Section

Made = Callable[[Tensor], Tensor]


class NetworkOptions(Section):
    """What the `model` section of every recipe between images has."""

    generator: dict[str, Any] = {"name": "unet"}
    discriminator: dict[str, Any] = {"name": "patch"}
    initialize: dict[str, Any] = {"name": "normal"}
    spectral_norm: list[Literal["generator", "discriminator"]] = pydantic.Field([])

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The section validated, with the defaults of the networks that it names filled in. Raises UserError."""
        plain = validate(cls, values, where="model")
        return resolve_networks(plain, {"generator": GENERATORS, "discriminator": DISCRIMINATORS})


def require_inputs(spec: DataSpec, recipe: str, *, paired: bool) -> int:
    """The channels of the inputs. Raises UserError for data without inputs, or without pairs where these are needed."""
    found = spec.extra.get("input")
    hint = spec.extra.get("hint", "")
    if not found:
        way = (
            "give a folder with two folders in it (data.sides=[A, B]), images that hold both (data.layout=joined), or a "
            "table of pairs"
        )
        raise UserError(
            f"recipe {recipe!r} translates from one side to another, and the data has one side only: {hint or way}"
        )
    if paired and not spec.extra.get("paired"):
        raise UserError(
            f"recipe {recipe!r} learns from pairs, and the sides of the data have no equal names: "
            f"{hint or 'use `cyclegan` or `cut`, say'}"
        )
    return int(found["channels"])


def any_size(source: Tensor, stride: int, make: Made, *, scale: int = 1) -> Tensor:
    """What `make` makes of inputs (N, S, H, W) whose sides need not be multiples of `stride`.

    They are continued by mirroring, evenly on both sides, and what was added is cut off. scale: of the outputs' size.
    """
    height, width = source.shape[2:]
    tall, wide = (math.ceil(side / stride) * stride for side in (height, width))
    if (tall, wide) == (height, width):
        return make(source)
    top, left = (tall - height) // 2, (wide - width) // 2
    made = make(mirror(source, (left, wide - width - left, top, tall - height - top)))
    return made[..., top * scale : (top + height) * scale, left * scale : (left + width) * scale]


def mirror(images: Tensor, margins: tuple[int, int, int, int]) -> Tensor:
    """Images (N, C, H, W) continued by `margins` (left, right, top, bottom), mirrored as often as it takes."""
    left, right, top, bottom = margins
    height, width = images.shape[2:]
    rows = _mirrored(height, top, bottom, images.device)
    columns = _mirrored(width, left, right, images.device)
    if max(top, bottom) < height and max(left, right) < width:
        return F.pad(images, margins, mode="reflect")
    return images[:, :, rows[:, None], columns]


def _mirrored(size: int, before: int, after: int, device: torch.device) -> Tensor:
    if size == 1:
        return torch.zeros(before + 1 + after, dtype=torch.int64, device=device)
    places = torch.arange(-before, size + after, device=device) % (2 * size - 2)
    return torch.where(places < size, places, 2 * size - 2 - places)
