"""Showing translations: an input, what was made of it, and what should have been, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sparring.imaging.show import BACKGROUND, sheet, to_uint8

CELL = 128  # pixels that a picture should have at least: what is to be compared must be seen
GAP = 12  # pixels between blocks of rows


def translations(samples: Mapping[str, Tensor], conditions: Sequence[str] = ()) -> Image.Image:
    """A row a sample: its input, what was made of it, and, where they are known, the way back and what should have been.

    samples: as `Game.translate` gives them. conditions: names of the numbers in `label`: where the same inputs were turned
    into each, there is a column for each; otherwise rows have their names.
    """
    target = samples.get("real")
    label = samples.get("label")
    if label is None or label.is_floating_point() or not conditions or int(label.max()) >= len(conditions):
        names = None
    else:
        names = [conditions[number] for number in label.tolist()]
    columns = {
        "input": samples.get("input"), "output": samples["data"], "and back": samples.get("cycled"), "target": target
    }  # fmt: skip
    there = {name: each for name, each in columns.items() if each is not None}
    if names is None or "input" not in there:
        return comparison(there, labels=names)
    kinds = list(dict.fromkeys(names))
    rows = {kind: [number for number, name in enumerate(names) if name == kind] for kind in kinds}
    inputs = [visible(samples["input"][numbers]) for numbers in rows.values()]
    if len(kinds) > 1 and all(each.shape == inputs[0].shape and bool((each == inputs[0]).all()) for each in inputs):
        return comparison({"input": inputs[0], **{kind: samples["data"][numbers] for kind, numbers in rows.items()}})
    return comparison(there, labels=names)


def comparison(columns: Mapping[str, Tensor], *, labels: Sequence[str] | None = None) -> Image.Image:
    """One row a sample, one column an entry: name → images (N, C, H, W), in [-1, 1] or bytes; small ones are enlarged.

    Many rows go on in further blocks to the right, unless `labels` name each row.
    """
    pictures = [visible(images) for images in columns.values()]
    height, width = (max(each.shape[axis] for each in pictures) for axis in (2, 3))
    factor = max(1, CELL // max(height, width))
    deepest = max(each.shape[1] for each in pictures)
    laid = [_fitted(each, (height * factor, width * factor), 3 if deepest > 1 else 1) for each in pictures]
    rows = torch.stack(laid, dim=1)
    if labels is not None:
        return sheet(rows.flatten(0, 1), columns=len(laid), headings=list(columns), labels=labels, upscale=factor == 1)
    blocks = max(1, round(math.sqrt(len(rows) * height / (len(laid) * width))))
    parts = [
        sheet(part.flatten(0, 1), columns=len(laid), headings=list(columns), upscale=factor == 1)
        for part in rows.split(math.ceil(len(rows) / blocks))
    ]
    return _beside(parts)


def visible(images: Tensor, facts: dict[str, Any] | None = None) -> Tensor:
    """Images as bytes, uint8 (N, 1 or 3, H, W); encoded label maps in the colours of their classes, edges in white."""
    palette: Sequence[Sequence[int]] = (facts or {}).get("palette", ())
    if not palette or images.shape[1] < len(palette):
        if images.shape[1] not in (1, 2, 3, 4):
            return to_uint8(images[:, :1])
        pixels = to_uint8(images)
        return pixels[:, :3] if pixels.shape[1] == 4 else pixels[:, :1] if pixels.shape[1] == 2 else pixels
    maps = images[:, : len(palette)].detach().float().cpu()
    colours = torch.tensor(palette, dtype=torch.float32)
    shown = torch.einsum("nkhw,kc->nchw", maps, colours)
    if images.shape[1] > len(palette):
        edges = images[:, len(palette) :][:, :1].detach().float().cpu()
        shown = shown * (1 - edges) + 255 * edges
    return shown.round().clamp(0, 255).to(torch.uint8)


def _fitted(images: Tensor, size: tuple[int, int], channels: int) -> Tensor:
    if images.shape[2:] != size:
        images = F.interpolate(images.float(), size, mode="nearest").to(torch.uint8)
    return images.expand(-1, channels, -1, -1) if images.shape[1] == 1 else images


def _beside(parts: Sequence[Image.Image]) -> Image.Image:
    if len(parts) == 1:
        return parts[0]
    width = sum(part.width for part in parts) + GAP * (len(parts) - 1)
    whole = Image.new(
        parts[0].mode, (width, max(part.height for part in parts)), (BACKGROUND,) * len(parts[0].getbands())
    )
    left = 0
    for part in parts:
        whole.paste(part, (left, 0))
        left += part.width + GAP
    return whole
