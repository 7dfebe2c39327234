"""Data augmentation of image batches, on the device, with randomness from torch's global generator alone.

This is augmentation of the *data*: a generator that learns from turned photographs draws turned photographs. What leaks
into samples: everything here except `flip_horizontal` (and `flip_vertical`) on data that is as likely mirrored as not.
`crop` and `scale` leak displaced and resized subjects, `rotate` tilted ones, the colour options odd colours, and `cutout`
holes, plainly. With too few images for the discriminator, augmenting both sides of the game is the remedy, not this.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pydantic
import torch
from torch import Tensor, nn

from sparring.core import chance
from sparring.errors import UserError
from sparring.recipe import Section

Transform = Callable[[Tensor], Tensor]


class Augment(Section):
    """How a batch is changed at random; everything is off by default."""

    flip_horizontal: float = pydantic.Field(0.0, ge=0, le=1, description="probability; true means ½")
    flip_vertical: float = pydantic.Field(0.0, ge=0, le=1, description="probability; true means ½")
    crop: float = pydantic.Field(
        0.0, ge=0, le=0.5, description="shift by up to this share of the size, edges reflected"
    )
    rotate: float = pydantic.Field(0.0, ge=0, le=180, description="turn by up to so many degrees, edges reflected")
    scale: float = pydantic.Field(0.0, ge=0, lt=1, description="resize by a factor in 1 ± this, edges reflected")
    brightness: float = pydantic.Field(0.0, ge=0, le=1, description="factor in 1 ± this")
    contrast: float = pydantic.Field(0.0, ge=0, le=1, description="factor in 1 ± this")
    saturation: float = pydantic.Field(0.0, ge=0, le=1, description="factor in 1 ± this; RGB only")
    hue: float = pydantic.Field(0.0, ge=0, le=0.5, description="turn by up to this share of the circle; RGB only")
    cutout: float = pydantic.Field(
        0.0, ge=0, le=1, description="blank a square of this share of the size, at mid-range"
    )

    @pydantic.field_validator("flip_horizontal", "flip_vertical", mode="before")
    @classmethod
    def _half(cls, value: object) -> object:
        return 0.5 if value is True else value


def build(options: Augment, shape: tuple[int, int, int]) -> Transform | None:
    """The augmentation of float images (N, C, H, W) in [-1, 1], C, H, W = `shape`; None where all options are off.

    Results are in [-1, 1], of the same shape and type, drawn afresh for every image.
    Raises UserError for colour options that the channels do not allow.
    """
    if (options.saturation or options.hue) and shape[0] != 3:
        raise UserError(
            f"data.augment: saturation and hue need RGB images, these have {shape[0]} channels: set them to 0"
        )
    if (options.brightness or options.contrast) and shape[0] not in (1, 3):
        raise UserError(
            f"data.augment: brightness and contrast need grey or RGB images, these have {shape[0]} channels: "
            "set them to 0, or say --set data.channels=3"
        )
    steps: list[Transform] = []
    if options.flip_horizontal or options.flip_vertical or options.crop:
        steps.append(lambda images: _move(images, options.flip_horizontal, options.flip_vertical, options.crop))
    if options.rotate or options.scale:
        steps.append(_affine(options))
    if options.brightness or options.contrast or options.saturation or options.hue:
        steps.append(_colour(options))
    if options.cutout:
        steps.append(lambda images: _cutout(images, options.cutout))

    def augment(images: Tensor) -> Tensor:
        for step in steps:
            images = step(images)
        return images

    return augment if steps else None


def light(images: Tensor, *, shift: float = 0.125) -> Tensor:
    """Mirror half of the images (N, C, H, W) and shift all by up to `shift` of their size, edges reflected.

    The T(x) of consistency regularisation (Zhang et al. 2020). Whole pixels are moved, so values stay what they were, and
    the result can be differentiated twice.
    """
    return _move(images, horizontal=0.5, vertical=0.0, shift=shift)


def _move(images: Tensor, horizontal: float, vertical: float, shift: float) -> Tensor:
    """Mirror with these probabilities and shift by whole pixels: one gather."""
    rows = _sources(images, images.shape[2], vertical, shift)
    columns = _sources(images, images.shape[3], horizontal, shift)
    sample = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _sources(images: Tensor, size: int, flip: float, shift: float) -> Tensor:
    """For each image the row (or column) that each of its rows is taken from: int64 (N, size)."""
    places = torch.arange(size, device=images.device).expand(len(images), size)
    reach = min(round(size * shift), size - 1)
    if reach:
        offsets = chance.integers(-reach, reach + 1, len(images), 1, device=images.device)
        places = (places + offsets).abs()
        places = (size - 1) - ((size - 1) - places).abs()
    if flip:
        mirrored = chance.uniform(len(images), 1, device=images.device) < flip
        places = torch.where(mirrored, size - 1 - places, places)
    return places


def _affine(options: Augment) -> Transform:
    from kornia.augmentation import RandomAffine

    scale = (1 - options.scale, 1 + options.scale) if options.scale else None
    module = RandomAffine(degrees=options.rotate, scale=scale, padding_mode="reflection", p=1.0)
    return lambda images: _apply(module, images).clamp(-1, 1)


def _colour(options: Augment) -> Transform:
    from kornia.augmentation import ColorJitter

    module = ColorJitter(options.brightness, options.contrast, options.saturation, options.hue, p=1.0)
    # kornia's colours are in [0, 1]
    return lambda images: _apply(module, (images + 1) / 2).clamp(0, 1) * 2 - 1


def _apply(module: nn.Module, images: Tensor) -> Tensor:
    """One of kornia's augmentations; its random numbers, drawn on the CPU, are the same for every number of processes."""

    def draw(count: int) -> dict[str, Tensor]:
        return module.forward_parameters(torch.Size((count, *images.shape[1:])))  # type: ignore[operator]

    common = ("order", "forward_input_shape")
    drawn = chance.drawn_elsewhere(len(images), draw, torch.device("cpu"), common=common)
    # What says how many the numbers were drawn for would contradict a process's share of them.
    drawn["forward_input_shape"] = torch.tensor(images.shape)
    return module(images, params=drawn)


def _cutout(images: Tensor, share: float) -> Tensor:
    """Cutout (DeVries & Taylor 2017): a square around a random pixel becomes 0, the middle of the range."""
    count, _, height, width = images.shape
    inside = torch.ones((), dtype=torch.bool, device=images.device)
    for size, view in ((height, (count, 1, height, 1)), (width, (count, 1, 1, width))):
        length = max(1, round(size * share))
        centre = chance.integers(0, size, count, 1, device=images.device)
        start = centre - math.floor(length / 2)
        places = torch.arange(size, device=images.device)
        inside = inside & ((places >= start) & (places < start + length)).view(view)
    return images.masked_fill(inside, 0.0)
