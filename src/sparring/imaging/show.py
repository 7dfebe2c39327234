"""Showing images: sample sheets, PNG files, and the way from [-1, 1] back to bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sparring.errors import UserError
from sparring.files import write_whole

GUTTER = 2
CELL = 48  # pixels that a cell should have at least, to be seen
WIDEST = 2000  # pixels of a sheet
BACKGROUND, INK = 236, 40
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def sheet(
    images: Tensor,
    *,
    columns: int | None = None,
    upscale: bool = True,
    labels: Sequence[str] | None = None,
    headings: Sequence[str] | None = None,
) -> Image.Image:
    """Lay images on a grid, row by row, with gutters of two pixels.

    images: (N, C, H, W), float in [-1, 1] or uint8; C is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Alpha shows
        as a checkerboard. The sheet is grey (mode L) for C = 1 and RGB otherwise.
    columns: images in a row; None makes the sheet about square.
    upscale: fit the pixels to the eye: small images grow by a whole factor until a cell has 48 pixels, as far as the
        sheet stays within 2000; sheets wider than that shrink by a whole factor. False: a pixel is a pixel.
    labels: one word a row, written to its left; longer ones are cut. headings: one word a column, above it; longer ones
        are cut to its width.

    Raises ValueError for other shapes, no images, labels or headings that are not one each; UserError for NaN.
    """
    if images.ndim != 4 or not len(images) or images.shape[1] not in MODES:
        raise ValueError(f"a sheet shows images (N, 1 to 4, H, W) with N > 0, not {tuple(images.shape)}")
    count, _, height, width = images.shape
    columns = min(count, columns or math.ceil(math.sqrt(count * height / width)))
    rows = math.ceil(count / columns)
    if labels is not None and len(labels) != rows:
        raise ValueError(f"{len(labels)} labels for a sheet of {rows} rows")
    if headings is not None and len(headings) != columns:
        raise ValueError(f"{len(headings)} headings for a sheet of {columns} columns")

    pixels = to_uint8(images)
    cells = _opaque(_fit(pixels, columns) if upscale else pixels)
    channels, height, width = cells.shape[1:]
    grid = torch.full((rows * columns, channels, height + GUTTER, width + GUTTER), BACKGROUND, dtype=torch.uint8)
    grid[:count, :, GUTTER:, GUTTER:] = cells
    grid = grid.view(rows, columns, *grid.shape[1:]).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    grid = torch.nn.functional.pad(grid, (0, GUTTER, 0, GUTTER), value=BACKGROUND)
    picture = Image.fromarray(grid.permute(1, 2, 0).squeeze(2).numpy())
    wide = picture if labels is None else _with_labels(picture, labels, height + GUTTER)
    return wide if headings is None else _with_headings(wide, headings, wide.width - picture.width, width + GUTTER)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8 on the CPU: round((x + 1)·127.5), clamped; uint8 images as they are.

    The exact inverse of x / 127.5 - 1. Raises UserError where a value is NaN or infinite.
    """
    images = images.detach()
    if images.dtype == torch.uint8:
        return images.cpu()
    values = images.float()
    if not values.isfinite().all():
        raise UserError("the images hold NaN or infinite values: the generator has diverged; use an earlier checkpoint")
    # On the device: bytes are a quarter of what would have to be fetched.
    return ((values + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8).cpu()


def save_png(image: Image.Image, path: Path) -> None:
    """Write `image` as PNG in one atomic step."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_whole(path, buffer.getvalue())


def _fit(images: Tensor, columns: int) -> Tensor:
    """Grow or shrink uint8 images by a whole factor, so that a sheet of `columns` is good to look at."""
    height, width = images.shape[2:]
    room = max(1, (WIDEST - GUTTER) // columns - GUTTER)
    if width > room:
        factor = min(math.ceil(width / room), height, width)
        return torch.nn.functional.avg_pool2d(images.float(), factor).round().to(torch.uint8)
    factor = max(1, min(math.ceil(CELL / min(height, width)), room // width))
    return images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def _opaque(images: Tensor) -> Tensor:
    """Lay images with alpha (C 2 or 4) over a checkerboard: uint8 (N, 1 or 3, H, W) → RGB where there was alpha."""
    if images.shape[1] in (1, 3):
        return images
    height, width = images.shape[2:]
    parity = (torch.arange(height)[:, None] // 8 + torch.arange(width) // 8) % 2
    board = 255.0 - 51.0 * parity
    alpha = images[:, -1:].float() / 255
    blended = images[:, :-1].float() * alpha + board * (1 - alpha)
    return blended.round().to(torch.uint8).expand(-1, 3, -1, -1)


def _with_labels(picture: Image.Image, labels: Sequence[str], row_height: int) -> Image.Image:
    font = _font(max(10, min(18, row_height // 3)))
    texts = [_cut(" ".join(label.split()), font, limit=220) for label in labels]
    margin = 16 + max((math.ceil(font.getlength(text)) for text in texts), default=0)
    wide = Image.new(picture.mode, (picture.width + margin, picture.height), (BACKGROUND,) * len(picture.getbands()))
    wide.paste(picture, (margin, 0))
    pen = ImageDraw.Draw(wide)
    for row, text in enumerate(texts):
        middle = row * row_height + (GUTTER + row_height) // 2
        pen.text((margin - 8, middle), text, fill=(INK,) * len(picture.getbands()), font=font, anchor="rm")
    return wide


def _with_headings(picture: Image.Image, headings: Sequence[str], margin: int, column_width: int) -> Image.Image:
    font = _font(max(10, min(18, column_width // 4)))
    height = 2 * GUTTER + font.size + 4
    ground, ink = ((tone,) * len(picture.getbands()) for tone in (BACKGROUND, INK))
    tall = Image.new(picture.mode, (picture.width, picture.height + round(height)), ground)
    tall.paste(picture, (0, round(height)))
    pen = ImageDraw.Draw(tall)
    for column, heading in enumerate(headings):
        text = _cut(" ".join(heading.split()), font, limit=column_width)
        middle = margin + column * column_width + (GUTTER + column_width) // 2
        pen.text((middle, height - GUTTER), text, fill=ink, font=font, anchor="mb")
    return tall


def _cut(text: str, font: ImageFont.FreeTypeFont, limit: float) -> str:
    if font.getlength(text) <= limit:
        return text
    while text and font.getlength(text + "…") > limit:
        text = text[:-1]
    return text + "…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib brings DejaVu, which knows Greek, Cyrillic and more; PIL's own font is Latin only.
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)
