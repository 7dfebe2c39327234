"""The one pass over all images: each is decoded once and leaves a thumbnail and a digest behind."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparring.data.checks.threads import in_threads
from sparring.data.source import BrokenSample, ImageSource

THUMBNAIL = 32  # pixels a side at most; smaller images keep their own size
BLANK_SPREAD = 1.0  # levels of 255: the standard deviation below which an image shows nothing
_CHUNK = 64  # images a task: enough to make threads worth their switch


@dataclass
class Scan:
    """What all checks work on; N images.

    shapes: int32 (N, 3), height, width, channels; zeros where the image cannot be read.
    thumbnails: uint8 (N, h, w, C), h and w at most 32, C is 1 where all images are grey, else 3; alpha over white.
    digests: one for each image, equal where shape and pixels are; empty where the image cannot be read.
    blank: bool (N,), the standard deviation in each channel is below BLANK_SPREAD, or all is transparent.
    broken: index -> why the image cannot be read.
    """

    shapes: NDArray[np.int32]
    thumbnails: NDArray[np.uint8]
    digests: list[bytes]
    blank: NDArray[np.bool_]
    broken: dict[int, str]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Readable and not blank: bool (N,)."""
        readable: NDArray[np.bool_] = self.shapes[:, 0] > 0
        return readable & ~self.blank


def scan_images(source: ImageSource, progress: Callable[[int, int], None] | None = None) -> Scan:
    """Decode every image once, in threads. Memory: at most 3 KiB an image, and one decoded image a thread."""
    count = len(source)
    height, width = _thumbnail_size(source)
    shapes = np.zeros((count, 3), np.int32)
    thumbnails = np.zeros((count, height, width, 1), np.uint8)
    digests = [b""] * count
    blank = np.zeros(count, bool)
    broken: dict[int, str] = {}

    def look(start: int) -> list[_Look | str]:
        return [_look(source, index, height, width) for index in range(start, min(start + _CHUNK, count))]

    done = 0
    for looks in in_threads(look, range(0, count, _CHUNK), threads=1 if source.sequential else None):
        for index, one in enumerate(looks, done):
            if isinstance(one, str):
                broken[index] = one
                continue
            if one.thumbnail.shape[-1] > thumbnails.shape[-1]:  # the first image in colour
                thumbnails = np.repeat(thumbnails, 3, axis=-1)
            shapes[index], thumbnails[index] = one.shape, one.thumbnail
            digests[index], blank[index] = one.digest, one.blank
        done += len(looks)
        if progress is not None:
            progress(done, count)
    return Scan(shapes, thumbnails, digests, blank, broken)


@dataclass
class _Look:
    shape: tuple[int, ...]
    thumbnail: NDArray[np.uint8]
    digest: bytes
    blank: bool


def _look(source: ImageSource, index: int, height: int, width: int) -> _Look | str:
    """What one image leaves behind, or why it cannot be read."""
    try:
        image = source.load(index)
    except BrokenSample as problem:
        return str(problem)
    image = np.ascontiguousarray(image)
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(image.data)
    thumbnail = _thumbnail(over_white(image), height, width)
    return _Look(image.shape, thumbnail, digest.digest(), _is_blank(image, thumbnail))


def over_white(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without the alpha channel, uint8 (H, W, 1 or 3): transparent parts become white."""
    if image.shape[-1] in (1, 3):
        return image
    alpha = image[..., -1:].astype(np.float32) / 255
    return (image[..., :-1] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


def _thumbnail(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    small = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small).reshape(height, width, -1)


def _is_blank(image: NDArray[np.uint8], thumbnail: NDArray[np.uint8]) -> bool:
    # Averaging only lowers the spread: a thumbnail that shows something spares the look at all pixels.
    if image.shape[-1] in (1, 3) and thumbnail.std(axis=(0, 1)).max() >= BLANK_SPREAD + 1:
        return False
    if image.shape[-1] in (2, 4) and image[..., -1].max() <= BLANK_SPREAD:
        return True
    return bool(image.std(axis=(0, 1)).max() < BLANK_SPREAD)


def _thumbnail_size(source: ImageSource, probes: int = 16) -> tuple[int, int]:
    """The commonest size among a few images spread over the source, at most 32×32."""
    sizes: Counter[tuple[int, int]] = Counter()
    last = min(probes, len(source)) - 1 if source.sequential else len(source) - 1
    for index in np.unique(np.linspace(0, last, probes).astype(int)):
        try:
            height, width = source.load(int(index)).shape[:2]
        except BrokenSample:
            continue
        sizes[min(height, THUMBNAIL), min(width, THUMBNAIL)] += 1
    return sizes.most_common(1)[0][0] if sizes else (THUMBNAIL, THUMBNAIL)
