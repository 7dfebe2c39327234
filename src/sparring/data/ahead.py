"""Rows of an array that lies on a disk: a batch is asked for at once, and the next one while this one is played on."""

from __future__ import annotations

import errno
import os
import weakref
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.data.sampling import Shuffled


class MappedRows:
    """Rows (N, …) of a memory-mapped array, gathered by number.

    Touching a mapped row that is not in memory waits for the disk, row after row, and the system then reads far more
    around it than was wanted: a shuffled batch is the worst there is. Here the system is told all rows of a batch that
    are not in memory before the first is waited for, so that it reads them side by side, and those alone; `expect` does
    that in a thread, for the rows that are wanted next. What is gathered is the same, whatever was expected.

    pin: put rows into page-locked memory, from where a GPU fetches them without waiting.
    """

    def __init__(self, array: np.memmap, *, pin: bool = False) -> None:
        self._array, self._pin = array, pin
        self._row_bytes = array[:1].nbytes
        self._file = os.open(str(array.filename), os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._thread: ThreadPoolExecutor | None = None
        self._expected: tuple[NDArray[np.int64], Future[Tensor]] | None = None

    def gather(self, indices: Tensor) -> Tensor:
        """The rows at `indices` (n,): (n, …) in the array's dtype, on the CPU. Raises IndexError for one that is not there."""
        wanted = indices.cpu().numpy()
        if self._expected and np.array_equal(self._expected[0], wanted):
            _, coming = self._expected
            self._expected = None
            return coming.result()
        return self._fetch(wanted)

    def expect(self, indices: Tensor) -> None:
        """Fetch these rows in the background, for the next `gather` that asks for them; only the latest are kept."""
        wanted = indices.cpu().numpy()
        self._thread = self._thread or ThreadPoolExecutor(1, "rows")
        self._expected = (wanted, self._thread.submit(self._fetch, wanted))

    def _fetch(self, indices: NDArray[np.int64]) -> Tensor:
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self._array):
            raise IndexError(f"rows {indices.min()} to {indices.max()} of {len(self._array)}")
        rows = torch.from_numpy(np.empty((len(indices), *self._array.shape[1:]), self._array.dtype))
        rows = rows.pin_memory() if self._pin else rows
        if not len(indices) or not hasattr(os, "preadv"):
            # Not torch's own: its threads, started from this one, would take the training's cores. `clip` spares a copy.
            np.take(self._array, indices, axis=0, out=rows.numpy(), mode="clip")
            return rows
        content = rows.numpy().data.cast("B")
        places = [
            (content[place * self._row_bytes :][: self._row_bytes], self._array.offset + index * self._row_bytes)
            for place, index in enumerate(indices.tolist())
        ]
        missing = [place for place in places if not self._read_cached(*place)]
        if hasattr(os, "posix_fadvise"):
            for _, start in missing:
                os.posix_fadvise(self._file, start, self._row_bytes, os.POSIX_FADV_WILLNEED)
        for row, start in missing:
            self._read(row, start)
        return rows

    def _read_cached(self, row: memoryview, start: int) -> bool:
        """Read a row if it is in memory; where the system cannot tell, it counts as not there."""
        try:
            return os.preadv(self._file, [row], start, os.RWF_NOWAIT) == len(row)
        except (OSError, AttributeError):
            return False

    def _read(self, row: memoryview, start: int) -> None:
        done = 0
        while done < len(row):
            count = os.preadv(self._file, [row[done:]], start + done)
            if not count:
                raise OSError(errno.EIO, "the file has become shorter", str(self._array.filename))
            done += count


class Foreseen:
    """The random order of a training that says, batch by batch, what comes next. See `data.sampling.Order`.

    count: number of samples. batch_size: of all processes together.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self._batch_size = batch_size
        # Two, for each keeps one epoch's permutation: the next batch may lie in the next epoch.
        self._now, self._next = Shuffled(count, seed), Shuffled(count, seed)
        self._latest: tuple[Tensor, int, int] | None = None

    def indices(self, start: int, stop: int) -> Tensor:
        """The samples at positions [start, stop), the same as those of `Shuffled`."""
        asked = self._now.indices(start, stop)
        self._latest = (asked, start, stop)
        return asked

    def after(self, indices: Tensor) -> Tensor | None:
        """What the next step will ask for, where `indices` are the latest that were asked for; else None."""
        if self._latest is None or not torch.equal(self._latest[0], indices.cpu()):
            return None
        _, start, stop = self._latest
        return self._next.indices(start + self._batch_size, stop + self._batch_size)
