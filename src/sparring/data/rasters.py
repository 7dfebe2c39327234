"""Images of any sizes, decoded once: one after the other in one memory-mapped file.

Where all images get one size, `data.cache` is the place. This one is for what must keep its own: images that patches are
cut from, and pairs whose sides must keep their proportions.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.data import pool
from sparring.data.built import built, default_folder
from sparring.data.convert import Progress
from sparring.data.decode import Fit, channels, decode_indices, fit
from sparring.data.source import BrokenSample, ImageSource
from sparring.errors import UserError
from sparring.host import cores

FORMAT = 2  # raise it when the same source and settings would give other pixels: old ones are then left alone
CHUNK = 32  # images that a worker takes at a time

Pixels = NDArray[Any]
"""uint8 or uint16."""
Reader = Callable[..., Pixels]
"""(source, number, what it is given by name) → (H, W, C), uint8 or uint16. Raises BrokenSample. One of this module's
functions or a like one: processes are sent it, and caches are keyed by its name and what it is given."""


@dataclass(frozen=True)
class Rasters:
    """Decoded images, each of its own size.

    pixels: all values in a row, memory-mapped, uint8 or uint16. shapes: int64 (N, 3), each one's C, H, W; all 0 for
    one that cannot be read. names: as their source gives them. broken: number → why it cannot be read.
    fingerprint: hexadecimal digest of content and settings. values: the different numbers of maps and masks, ascending.
    """

    pixels: Pixels
    shapes: NDArray[np.int64]
    starts: NDArray[np.int64]
    names: list[str]
    broken: dict[int, str]
    fingerprint: str
    values: list[int]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Pixels:
        """Image number `index`, (C, H, W): a view, so that a patch of it reads no more than itself."""
        count, height, width = self.shapes[index]
        return self.pixels[self.starts[index] : self.starts[index + 1]].reshape(count, height, width)


def read_image(source: ImageSource, index: int) -> Pixels:
    """A picture, eight bits a channel."""
    return source.load(index)


def read_indices(source: ImageSource, index: int) -> Pixels:
    """A map of class numbers, (H, W, 1). See `data.decode.decode_indices`. Raises BrokenSample."""
    data = source.raw(index)
    if data is not None:
        return decode_indices(data, source.names[index])
    image = source.load(index)
    if (image != image[..., :1]).any():
        raise BrokenSample("is a colour image, where a map of class numbers is wanted")
    return image[..., :1]


def read_mask(source: ImageSource, index: int) -> Pixels:
    """What is marked in a mask, (H, W, 1): 255 where the picture is half bright or more, 0 elsewhere. Raises BrokenSample."""
    return np.where(channels(source.load(index), 1) >= 128, np.uint8(255), np.uint8(0))


def build_rasters(
    source: ImageSource,
    *,
    reader: Reader = read_image,
    given: Mapping[str, Any] | None = None,
    count: int | None = 3,
    size: tuple[int, int] | None = None,
    how: Fit = "crop",
    fill: int = 0,
    folder: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Rasters:
    """Decode a source, or open what an earlier start decoded.

    reader: what a file holds; given: what else it is called with, plain JSON values. count: channels to bring pictures to; None: as they are (for maps and masks).
    size, how: bring all to (H, W), by antialiasing where the reader gives pictures and by the nearest value elsewhere.
    fill: what maps are padded with.
    Images that cannot be read keep their number, so that the sides of a pair stay together.
    Raises UserError where none can be read, or the disk is full.
    """
    settings = {"format": FORMAT, "reader": reader.__name__, "count": count, "size": size, "how": how if size else None}
    if fill:
        settings["fill"] = fill
    if given:
        settings["given"] = dict(given)
    content = f"{source.fingerprint()}{json.dumps(settings, sort_keys=True)}rasters"
    key = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()

    def build(target: Path) -> None:
        _build(
            source,
            count is None,
            partial(_read, source, partial(reader, **(given or {})), count, size, how, fill),
            target,
            workers or cores(),
            progress,
        )

    return built(folder or default_folder(), source.name, key, lambda path: _open(path, key), build)


def resize_nearest(image: Pixels, size: tuple[int, int], how: Fit, fill: int = 0) -> Pixels:
    """A map (H, W, C) at another size without a value that was not there, padded with `fill`. See `data.decode.fit`."""
    if fill > np.iinfo(image.dtype).max:
        image = image.astype(np.uint16)
    height, width = image.shape[:2]
    if how == "pad":
        # The same places as `fit` gives a picture, so that a map and its picture stay in register.
        scale = min(size[0] / height, size[1] / width)
        inner = tuple(min(max(1, round(old * scale)), new) for old, new in zip((height, width), size, strict=True))
        canvas = np.full((*size, image.shape[2]), fill, image.dtype)
        top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        canvas[top : top + inner[0], left : left + inner[1]] = resize_nearest(image, (inner[0], inner[1]), "stretch")
        return canvas
    ratios = size[0] / height, size[1] / width
    factors = (max(ratios),) * 2 if how == "crop" else ratios
    # The place in the map that lies under the middle of each new pixel.
    rows, columns = (
        np.floor((np.arange(new) + 0.5 - new / 2) / factor + old / 2).astype(np.int64).clip(0, old - 1)
        for new, old, factor in zip(size, (height, width), factors, strict=True)
    )
    return image[rows[:, None], columns]


def _read(
    source: ImageSource,
    reader: Reader,
    count: int | None,
    size: tuple[int, int] | None,
    how: Fit,
    fill: int,
    index: int,
) -> Pixels | str:
    """One image as it is stored, (C, H, W), or why it cannot be."""
    try:
        image = reader(source, index)
    except BrokenSample as error:
        return str(error)
    picture = count is not None
    if picture:
        image = channels(image, count or 0)
    if size is not None and image.shape[:2] != size:
        image = fit(image, size, how) if picture else resize_nearest(image, size, how, fill)
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _build(
    source: ImageSource,
    maps: bool,
    read: Callable[[int], Pixels | str],
    folder: Path,
    workers: int,
    progress: Progress | None,
) -> None:
    numbers = list(range(len(source)))
    chunks = (numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK))
    shapes: list[list[int]] = []
    broken: dict[int, str] = {}
    seen = np.zeros(1 << 16, bool)
    wide = False
    with (folder / "pixels.bin").open("wb") as stream:
        for found in _decoded(read, chunks, workers, source.sequential):
            for image in found:
                if isinstance(image, str | pool.Lost):
                    broken[len(shapes)] = image if isinstance(image, str) else image.reason
                    shapes.append([0, 0, 0])
                    continue
                if image.dtype == np.uint16 and not wide:
                    wide = True
                    _widen(stream, folder / "pixels.bin")
                if maps:
                    seen[image] = True
                stream.write(np.ascontiguousarray(image, np.uint16 if wide else np.uint8).tobytes())
                shapes.append(list(image.shape))
            if progress:
                progress(len(shapes), len(numbers))
    if len(broken) == len(shapes):
        first = f" ({source.names[0]}: {broken[0]})" if broken else ""
        raise UserError(f"{source.name}: none of its {len(shapes)} images can be read{first}")
    manifest: dict[str, Any] = {
        "source": source.name,
        "dtype": "uint16" if wide else "uint8",
        "shapes": shapes,
        "broken": broken,
        "names": source.names,
        "values": np.flatnonzero(seen).tolist(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _decoded(
    read: Callable[[int], Pixels | str], chunks: Iterator[list[int]], workers: int, sequential: bool
) -> Iterator[Sequence[Pixels | str | pool.Lost]]:
    if sequential or workers == 1:
        yield from ([read(index) for index in chunk] for chunk in chunks)
    else:
        yield from pool.work_through(read, chunks, workers=workers)


def _widen(stream: io.BufferedWriter, file: Path) -> None:
    """Write anew, as 16 bits, what was written as 8 before the first wider image came."""
    stream.flush()
    narrow = np.fromfile(file, np.uint8)
    stream.seek(0)
    stream.truncate()
    stream.write(narrow.astype(np.uint16).tobytes())


def _open(path: Path, key: str) -> Rasters | None:
    """The rasters at `path`, or None where there are none or they are damaged."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        shapes = np.array(manifest["shapes"], np.int64).reshape(-1, 3)
        starts = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))])
        dtype = np.dtype(manifest["dtype"])
        if (path / "pixels.bin").stat().st_size != starts[-1] * dtype.itemsize:
            return None
        # Copy-on-write: torch warns about arrays that it could not write to.
        pixels = np.memmap(path / "pixels.bin", dtype, mode="c")
        broken = {int(number): str(reason) for number, reason in manifest["broken"].items()}
        names, values = [str(name) for name in manifest["names"]], [int(value) for value in manifest["values"]]
        return Rasters(pixels, shapes, starts, names, broken, key, values)
    except (OSError, ValueError, KeyError, TypeError):
        return None
