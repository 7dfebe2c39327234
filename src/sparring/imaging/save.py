"""Writing drawn images: batches come, files go, and the next batch is drawn meanwhile.

Memory holds a few batches, however many there are. What is written appears when all of it is there: files grow under
temporary names, so that a run that fails or is killed leaves no half picture and no half array.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sparring.core.game import Batch
from sparring.data import pool
from sparring.data.npy import growing_npy, growing_npz
from sparring.host import cores
from sparring.imaging.show import to_uint8

AHEAD = 2  # batches that may wait for the disk
PICTURES = 64  # that a process encodes at a time


def save_npz(samples: Iterable[Batch], conditions: Sequence[str], out: Path) -> list[Path]:
    """One array file: `images` uint8 (N, H, W, C), and where samples have a `label`, `labels` and their names `classes`.

    labels: int64 (N,) into `classes`, or float32 (N, K) where these are attributes, values or shares of classes.
    """
    labels: list[NDArray[Any]] = []
    with growing_npz(out) as file:
        with file.growing("images") as append:
            _write_behind(_noting(samples, labels), append)
        if labels:
            file.add("labels", np.concatenate(labels))
            file.add("classes", np.array(conditions))
    return [out]


def save_npy(samples: Iterable[Batch], conditions: Sequence[str], out: Path) -> list[Path]:
    """Images uint8 (N, H, W, C) in a file that can be mapped into memory; labels as in `save_npz` in `NAME-labels.npy`."""
    labels: list[NDArray[Any]] = []
    beside = out.with_name(f"{out.stem}-labels.npy")
    with growing_npy(out) as append:
        _write_behind(_noting(samples, labels), append)
        if labels:
            with growing_npy(beside) as append_labels:
                append_labels(np.concatenate(labels))
    return [out, beside] if labels else [out]


def save_pngs(samples: Iterable[Batch], out: Path, *, digits: int = 6, workers: int | None = None) -> list[Path]:
    """A PNG a sample, `000000.png` on, encoded by several processes; returns the paths in the order of the samples.

    A folder that is there already keeps its other files. workers: processes; None: all cores but one, at least two.
    Raises OSError where the disk cannot take them, UserError for NaN.
    """
    with _whole_pictures(out) as folder:

        def numbered() -> Iterator[list[tuple[int, NDArray[np.uint8]]]]:
            number = 0
            for batch in samples:
                pictures = _bytes(batch["data"])
                for start in range(0, len(pictures), PICTURES):
                    chunk = list(enumerate(pictures[start : start + PICTURES], number))
                    number += len(chunk)
                    yield chunk

        def name(number: int) -> str:
            return f"{number:0{digits}d}.png"

        def write(item: tuple[int, NDArray[np.uint8]]) -> int:
            number, picture = item
            stream = io.BytesIO()
            # Level 3 takes 0.4 of the time of PIL's 6 on photographs, for 6 % more bytes. No fsync: thousands may come.
            Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).save(
                stream, "PNG", compress_level=3
            )
            (folder / name(number)).write_bytes(stream.getvalue())
            return number

        names: list[str] = []
        # At least two, so that one is free to take the next pictures while these are still being written.
        for written in pool.work_through(write, numbered(), workers=workers or max(2, cores() - 1)):
            for number in written:
                if isinstance(number, pool.Lost):
                    raise OSError(errno.EIO, f"a picture could not be written ({number.reason})", str(out))
                names.append(name(number))
    return [out / each for each in names]


def _noting(samples: Iterable[Batch], labels: list[NDArray[Any]]) -> Iterator[Tensor]:
    """The images of each batch; its labels are put on the list."""
    for batch in samples:
        if "label" in batch:
            label = batch["label"].cpu()
            labels.append(label.numpy().astype(np.float32 if label.is_floating_point() else np.int64))
        yield batch["data"]


def _write_behind(images: Iterable[Tensor], write: Callable[[NDArray[np.uint8]], None]) -> None:
    """Write each batch in a thread while the next one is drawn; no more than AHEAD batches wait. Raises what `write` does."""
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[None]] = deque()
        for batch in images:
            if len(waiting) == AHEAD:
                waiting.popleft().result()
            waiting.append(thread.submit(write, _bytes(batch)))
        for each in waiting:
            each.result()


def _bytes(images: Tensor) -> NDArray[np.uint8]:
    """Images (N, C, H, W) in [-1, 1] as uint8 (N, H, W, C)."""
    pixels: NDArray[np.uint8] = to_uint8(images).permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


@contextmanager
def _whole_pictures(out: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files are moved to the folder `out` when all are there; none is if anything fails."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
    # Inside a folder that is there: it may be all that its owner may write to, or a disk of its own.
    temporary = out / ".pictures.tmp" if out.exists() else out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # from a run that was killed
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if temporary.parent == out:
            for file in sorted(temporary.iterdir()):
                file.replace(out / file.name)
        else:
            temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
