"""Decoded shards on the local disk: within a bound, least recently used out, shared by the processes of a machine.

An entry is a folder `<root>/<key>` that appears whole or not at all:

    images.npy   uint8 (N, C, H, W), the images that can be read
    rows.npy     int64 (samples,), the row of each sample; a broken one has the row of the next that is not
    labels.npy   int64 (samples,), where there are labels: of the sample that its row shows
    broken.json  the names of the broken ones, with the reasons

Its time of change is when it was last opened. Whoever reads one holds a shared lock on its images, which the system
takes back however the process ends; what is locked is not removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparring.errors import UserError
from sparring.files import publish_folder

try:
    import fcntl
except ImportError:  # Windows: entries in use cannot be removed there, so nothing is lost without locks
    fcntl = None  # type: ignore[assignment]


@dataclass
class Entry:
    """A decoded shard that is open. `close` lets the cache remove it; arrays taken from it stay valid."""

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    broken: list[tuple[str, str]]
    lease: int

    def close(self) -> None:
        """Give it back."""
        _let_go(self.lease)


_held: set[int] = set()  # files that are open for their locks: bare numbers, which nothing closes unasked


def _hold(path: Path, flags: int = os.O_RDONLY) -> int:
    number = os.open(path, flags, 0o666)
    _held.add(number)
    return number


def _let_go(number: int) -> None:
    _held.discard(number)
    os.close(number)


def _forget() -> None:
    """In a forked process: what the parent holds is not for the child to hold, which may outlive it."""
    for number in _held:
        os.close(number)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class NoRoom(Exception):  # noqa: N818  (an event: what is in use now will not be for ever)
    """Nothing can be removed that is not in use."""


class ShardCache:
    """root: the folder. bound: bytes that all entries, and those being made, may take together."""

    def __init__(self, root: Path, bound: int) -> None:
        self.root, self.bound = root, bound

    def has(self, key: str) -> bool:
        """Whether an entry is there."""
        return (self.root / key / "images.npy").is_file()

    def open(self, key: str) -> Entry | None:
        """An entry, now in use; None where there is none. One that is damaged is removed."""
        folder = self.root / key
        try:
            lease = _hold(folder / "images.npy")
        except OSError:
            return None
        try:
            if fcntl is not None:
                fcntl.flock(lease, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(lease).st_ino != (folder / "images.npy").stat().st_ino:
                raise BlockingIOError  # removed between the opening and the lock
            # Copy-on-write: torch warns about arrays that it could not write to.
            images = np.asarray(np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False))
            rows = np.load(folder / "rows.npy", allow_pickle=False)
            labels = None
            if (folder / "labels.npy").exists():
                labels = np.load(folder / "labels.npy", allow_pickle=False)
            broken = [(str(name), str(reason)) for name, reason in json.loads((folder / "broken.json").read_text())]
            os.utime(folder)
        except (BlockingIOError, FileNotFoundError):  # it is being removed
            _let_go(lease)
            return None
        except (OSError, ValueError, EOFError):
            _let_go(lease)
            _remove(folder)
            return None
        return Entry(images, rows, labels, broken, lease)

    def build(self, key: str, size: int, fill: Callable[[Path], None], *, keep: frozenset[str] = frozenset()) -> None:
        """Have `fill` write an entry's files into a folder, and publish it; nothing where it is there already.

        size: bytes that it takes at most, on the way too. keep: keys that are not removed for it.
        Processes that build the same entry wait for each other. Raises NoRoom, or UserError where it exceeds the bound.
        """
        if size > self.bound:
            raise UserError(
                f"a shard takes {_gigabytes(size)} GB decoded, and data.stream.cache_gb allows {_gigabytes(self.bound)}: "
                f"say --set data.stream.cache_gb={_gigabytes(4 * size)}, or prepare smaller shards"
            )
        self.root.mkdir(parents=True, exist_ok=True)
        with _locked(self.root / f".{key}.lock"):
            if self.has(key):
                return
            with self._reserved(key, size, keep) as folder:
                fill(folder)
                (folder / "reserved").unlink()
                publish_folder(folder, self.root / key)
        (self.root / f".{key}.lock").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _reserved(self, key: str, size: int, keep: frozenset[str]) -> Iterator[Path]:
        """A folder to build in, whose final size counts from now on."""
        folder = self.root / f".build-{key}-{uuid.uuid4().hex[:8]}"
        with _locked(self.root / ".lock"):
            self._make_room(size, keep)
            folder.mkdir()
            mark = _hold(folder / "reserved", os.O_RDWR | os.O_CREAT)
            os.write(mark, str(size).encode())
            if fcntl is not None:
                fcntl.flock(mark, fcntl.LOCK_EX)  # held until it is published, or its builder is dead
        try:
            yield folder
        finally:
            _let_go(mark)
            shutil.rmtree(folder, ignore_errors=True)

    def _make_room(self, size: int, keep: frozenset[str]) -> None:
        taken, entries = size, []
        for folder in self.root.iterdir():
            with contextlib.suppress(OSError):  # removed meanwhile
                if folder.name.startswith(".build-"):
                    taken += self._reservation(folder)
                elif folder.is_dir() and not folder.name.startswith("."):
                    held = sum(file.stat().st_size for file in folder.iterdir())
                    entries.append((folder.stat().st_mtime, held, folder))
                    taken += held
        for _, held, folder in sorted(entries):
            if taken <= self.bound:
                return
            if folder.name not in keep and _remove(folder):
                taken -= held
        if taken > self.bound:
            raise NoRoom(f"{self.root}: all of it is in use")

    def _reservation(self, folder: Path) -> int:
        """What an entry that is being made will take; one whose builder is dead goes, and takes nothing."""
        try:
            mark = _hold(folder / "reserved")
            try:
                dead = time.time() - folder.stat().st_mtime > 3600 if fcntl is None else _try(mark)
                if not dead:
                    return int(os.read(mark, 32) or 0)
            finally:
                _let_go(mark)
        except FileNotFoundError:  # finished, and renamed in a moment
            return sum(file.stat().st_size for file in folder.iterdir())
        shutil.rmtree(folder, ignore_errors=True)
        return 0


def _remove(folder: Path) -> bool:
    """Remove an entry unless someone reads it."""
    try:
        images = _hold(folder / "images.npy")
        try:
            if fcntl is not None and not _try(images):
                return False
            # Under another name first, so that no one opens half of it.
            old = folder.with_name(f".old-{folder.name}-{uuid.uuid4().hex[:8]}")
            folder.rename(old)
        finally:
            _let_go(images)
    except OSError:
        return False
    shutil.rmtree(old, ignore_errors=True)
    return True


def _try(number: int) -> bool:
    """Lock a file for oneself, if no one else has."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock among the processes, and the threads, of this machine."""
    number = _hold(file, os.O_RDWR | os.O_CREAT)
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # some network file systems have none to give
                fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        _let_go(number)


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.3g}"
