"""All images of a source into one array file, by many processes; broken ones are skipped and named."""

from __future__ import annotations

import errno
import math
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.data import pool
from sparring.data.decode import Fit, channels, decode, fit, probe, quiet
from sparring.data.source import BrokenSample, ImageSource
from sparring.errors import UserError
from sparring.host import cores

CHUNK = 256  # images that a worker takes at a time
CHUNK_BYTES = 16 * 2**20  # and how big their pixels, or their files, may be together

Progress = Callable[[int, int], None]
Item = tuple[int, bytes | str | None]


@dataclass(frozen=True)
class Converted:
    """shape: (C, H, W). kept: numbers of the images in the file, in its order. broken: (name, reason) of the others."""

    shape: tuple[int, int, int]
    kept: list[int]
    broken: list[tuple[str, str]]


def convert(
    source: ImageSource,
    chosen: NDArray[np.int64],
    file: Path,
    *,
    size: Sequence[int] | None,
    channels: int | None,
    fit: Fit | None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Write the images `chosen` to `file` as .npy, uint8 (N, C, H, W).

    size, channels: None for what the images have, as in `sparring.data.cache.build_cache`, and as the errors are.
    """
    run = _Run(source, chosen, workers or cores())
    written = None
    if size is None or channels is None:
        # Most sets are of one kind: take the first image's shape for everyone's, and look at all only where one differs.
        height, width, count = run.first_shape()
        task = Decode(source, tuple(size or (height, width)), channels or count, fit, expected=count)
        written = _write(run, task, file, progress)
        if written is None:
            size, channels = _survey(run, size, channels)
    if written is None:
        task = Decode(source, tuple(size or ()), channels or 0, fit)
        written = _write(run, task, file, progress) or ([], [])
    kept, broken = written
    if not kept:
        raise _unreadable(source, broken)
    return Converted((task.channels, task.size[0], task.size[1]), kept, broken)


@dataclass(frozen=True)
class Decode:
    """Image number (and its bytes, where the parent read them) → uint8 (C, H, W), or why it is broken, as text.

    fit: None where every image must have `size` by itself. expected: the channels that an image must have by itself;
    None for any. With `expected`, an image of another shape gives None.
    """

    source: ImageSource
    size: tuple[int, ...]
    channels: int
    fit: Fit | None
    expected: int | None = None

    def __call__(self, item: Item) -> NDArray[np.uint8] | str | None:
        """Decode one image."""
        index, data = item
        if isinstance(data, str):
            return data
        try:
            image = self.source.load(index) if data is None else decode(data, self.source.names[index])
        except BrokenSample as error:
            return str(error)
        other_size = self.fit is None and image.shape[:2] != self.size
        if self.expected is not None and (other_size or image.shape[2] != self.expected):
            return None
        if other_size:
            return f"is {image.shape[1]}×{image.shape[0]}, and its header says otherwise"
        image = fit(channels(image, self.channels), (self.size[0], self.size[1]), self.fit or "crop")
        return np.ascontiguousarray(image.transpose(2, 0, 1))


@dataclass(frozen=True)
class Probe:
    """Image number → shape (H, W, C), or why it is broken, as text."""

    source: ImageSource

    def __call__(self, item: Item) -> tuple[int, int, int] | str:
        """Look at one image's header."""
        index, data = item
        if isinstance(data, str):
            return data
        try:
            file = data or self.source.path(index) or self.source.raw(index)
            if file is not None:
                return probe(file)
            height, width, count = self.source.load(index).shape
        except BrokenSample as error:
            return str(error)
        return height, width, count


@dataclass(frozen=True)
class _Run:
    """Some images of a source, and the processes to work on them with."""

    source: ImageSource
    chosen: NDArray[np.int64]
    workers: int

    def __call__(self, task: Callable[[Item], Any], item_bytes: int = 64) -> Iterator[tuple[int, Any]]:
        """(number, `task` of it) for every image, in order; item_bytes: how big a result is."""
        length = max(1, min(CHUNK, CHUNK_BYTES // max(1, item_bytes), math.ceil(len(self.chosen) / (4 * self.workers))))
        if self._holds_arrays():
            # Nothing to decode, so nothing that could crash or that would pay for a process.
            yield from ((index, task((index, None))) for index in self.chosen.tolist())
            return
        sent: list[list[int]] = []

        def chunks() -> Iterator[list[Item]]:
            for chunk in self._chunks(length):
                sent.append([index for index, _ in chunk])
                yield chunk

        with quiet:  # the processes are made in here, and inherit it
            for results in pool.work_through(task, chunks(), workers=self.workers):
                yield from zip(sent.pop(0), results, strict=True)

    def first_shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of the first image whose header can be read."""
        broken: list[tuple[str, str]] = []
        for index, result in _Run(self.source, self.chosen, 1)(Probe(self.source)):
            if isinstance(result, tuple):
                return result
            broken.append((self.source.names[index], _reason(result)))
        raise _unreadable(self.source, broken)

    def _holds_arrays(self) -> bool:
        try:
            return len(self.chosen) == 0 or self.source.raw(int(self.chosen[0])) is None
        except BrokenSample:
            return False

    def _chunks(self, length: int) -> Iterator[list[Item]]:
        """Numbers by chunks, with the bytes where the source is best read in order by one process."""
        chunk: list[Item] = []
        held = 0
        for index in self.chosen.tolist():
            data: bytes | str | None = None
            if self.source.sequential:
                try:
                    data = self.source.raw(index)
                    held += len(data or b"")
                except BrokenSample as error:
                    data = str(error)
            chunk.append((index, data))
            if len(chunk) == length or held > CHUNK_BYTES:
                yield chunk
                chunk, held = [], 0
        if chunk:
            yield chunk


def _write(
    run: _Run, task: Decode, file: Path, progress: Progress | None
) -> tuple[list[int], list[tuple[str, str]]] | None:
    """Numbers of the images written and (name, reason) of the broken ones; None at the first image of another shape."""
    shape = (task.channels, *task.size)
    total, needed = len(run.chosen), len(run.chosen) * math.prod(shape)
    if needed > shutil.disk_usage(file.parent).free:
        raise _full(file, needed)
    kept: list[int] = []
    broken: list[tuple[str, str]] = []
    try:
        with file.open("wb") as stream:
            stream.write(_npy_header((total, *shape)))
            for index, result in run(task, math.prod(shape)):
                if result is None:
                    return None
                if isinstance(result, np.ndarray):
                    stream.write(result.data)
                    kept.append(index)
                else:
                    broken.append((run.source.names[index], _reason(result)))
                done = len(kept) + len(broken)
                if progress and (done % CHUNK == 0 or done == total):
                    progress(done, total)
            stream.seek(0)
            stream.write(_npy_header((len(kept), *shape)))  # as long as before, whatever N is
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _full(file, needed) from error
        raise
    return kept, broken


def _survey(run: _Run, size: Sequence[int] | None, channels: int | None) -> tuple[Sequence[int], int]:
    """The size that all images have and the channels they need, from their headers."""
    shapes: set[tuple[int, int, int]] = {result for _, result in run(Probe(run.source)) if isinstance(result, tuple)}
    sizes = sorted({(height, width) for height, width, _ in shapes}, key=lambda size: (math.prod(size), size))
    if size is None and len(sizes) > 1:
        (low_height, low_width), (high_height, high_width) = sizes[0], sizes[-1]
        raise UserError(
            f"{run.source.name}: images have different sizes ({len(sizes)} sizes, from {low_width}×{low_height} to "
            f"{high_width}×{high_height}): say --set data.size=64"
        )
    found = {count for _, _, count in shapes}
    needed = (3 if max(found) >= 3 else 1) + (1 if found & {2, 4} else 0)
    return size or sizes[0], channels or needed


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """The 128 bytes before the values of a .npy file of bytes."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.ljust(117) + b"\n"


def _reason(result: Any) -> str:
    return result.reason if isinstance(result, pool.Lost) else str(result)


def _full(file: Path, needed: int) -> UserError:
    root = file.parent.parent
    return UserError(
        f"{root}: the image cache needs {math.ceil(needed / 2**20)} MB and {shutil.disk_usage(root).free >> 20} MB are "
        "free: make room, or say --set data.cache=FOLDER on another disk"
    )


def _unreadable(source: ImageSource, broken: list[tuple[str, str]]) -> UserError:
    example = f" ({broken[0][0]}: {broken[0][1]})" if broken else ""
    return UserError(f"{source.name}: none of its {len(broken)} images can be read{example}; are they images?")
