"""Showing translations: an input, what was made of it, and what should have been, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sparring.imaging.show import sheet, to_uint8


def comparison(columns: dict[str, Tensor]) -> Image.Image:
    """One row a sample, one column an entry: name → images (N, C, H, W), in [-1, 1] or bytes; small ones are enlarged."""
    pictures = [visible(images) for images in columns.values()]
    height, width = (max(each.shape[axis] for each in pictures) for axis in (2, 3))
    count = max(each.shape[1] for each in pictures)
    laid = [_fitted(each, (height, width), 3 if count > 1 else 1) for each in pictures]
    rows = torch.stack(laid, dim=1).flatten(0, 1)
    return sheet(rows, columns=len(laid), headings=list(columns))


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
