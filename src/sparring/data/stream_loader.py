"""Shards made ready in the background: fetched, decoded and cached by a process of their own, ahead of the training.

The training says which shards it reads and which come next, and finds them in the cache. A process and not a thread, so
that decoding never holds the interpreter that runs the training; it is forked while that is still small.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from sparring.data import remote
from sparring.data.convert import convert
from sparring.data.decode import Fit
from sparring.data.pool import can_fork
from sparring.data.stream_cache import Entry, NoRoom, ShardCache
from sparring.data.stream_index import Index, Shard
from sparring.data.webdataset import TarSamples, read_samples
from sparring.errors import UserError
from sparring.host import cores

BUILDERS = 2  # shards that are made ready side by side: one is fetched while the other is decoded
DEATHS = 3  # times that the background process may die over one shard before the training gives up
REMINDER = 2.0  # seconds after which a shard that is waited for is asked for again
CROWDED = 20.0  # seconds to wait for room in a cache that others use
CROWDED_PAUSE = 0.25  # seconds between two looks for it


@dataclass(frozen=True)
class Defect:
    """What no user could have caused, with where it happened."""

    trace: str


@dataclass(frozen=True)
class Reading:
    """How shards become arrays, and what is known of them.

    size: (H, W) of the images; resize: whether they are brought to it by `fit`, or must have it by themselves.
    channels: 1 to 4. patience: seconds without an answer after which a server counts as gone.
    """

    index: Index
    size: tuple[int, int]
    channels: int
    fit: Fit
    resize: bool
    patience: float

    @cached_property
    def settings(self) -> list[Any]:
        """What decides the pixels, beside the shards."""
        return [1, list(self.size), self.channels, self.fit if self.resize else None]

    @cached_property
    def _start(self) -> Any:
        index = self.index
        content = json.dumps([self.settings, index.labelling, index.classes, index.numbered])
        return hashlib.blake2b(content.encode(), digest_size=16)

    def key(self, shard: int) -> str:
        """The name of a shard's cache entry: of its content, wherever it lies."""
        digest = self._start.copy()
        digest.update(self.index.shards[shard].digest.encode())
        return str(digest.hexdigest())

    def bytes(self, shard: int) -> int:
        """What an entry takes."""
        height, width = self.size
        return self.index.shards[shard].count * (height * width * self.channels + 16) + 4096

    def build(self, shard: int, folder: Path, workers: int) -> None:
        """Write the files of a shard's entry. Raises UserError for a shard that is gone, changed or holds no image."""
        wanted = self.index.shards[shard]
        file = Path(wanted.location).expanduser()
        if remote.is_remote(wanted.location):
            file = folder / "shard.tar"
            remote.fetch(wanted.location, file, size=wanted.size, digest=wanted.digest, patience=self.patience)
        else:
            _verify(file, wanted)
        samples = read_samples(file, wanted.location)
        if len(samples) != wanted.count:
            raise remote.changed(wanted.location)
        names = self.index.classes if self.index.numbered else ()
        source = TarSamples(wanted.location, [file], [samples], self.index.labelling, names)
        source.names = [f"{wanted.name}:{sample.key}" for sample in samples]
        chosen = np.arange(len(source))
        fit = self.fit if self.resize else None
        done = convert(
            source, chosen, folder / "images.npy", size=self.size, channels=self.channels, fit=fit, workers=workers
        )
        rows = np.searchsorted(done.kept, chosen) % len(done.kept)
        np.save(folder / "rows.npy", rows.astype(np.int64))
        if source.labels:
            numbers = {name: number for number, name in enumerate(self.index.classes)}
            labels = np.array([numbers[source.labels[index]] for index in done.kept], np.int64)
            np.save(folder / "labels.npy", labels[rows])
        (folder / "broken.json").write_text(json.dumps(done.broken))
        if file.parent == folder:
            file.unlink()


class ShardLoader:
    """Opens shards by number, and has those that come next made ready meanwhile.

    workers: processes that decode one shard. Raises UserError, when a shard is opened, for what its making ended in.
    """

    def __init__(self, reading: Reading, cache: ShardCache, *, workers: int | None = None) -> None:
        self.reading, self.cache = reading, cache
        self._workers = workers or max(1, cores() // (BUILDERS * _local_processes()))
        self._asked: list[int] = []
        self._deaths = 0
        self.process: Any = None  # where processes can be forked
        self._start()

    def want(self, shards: Sequence[int]) -> None:
        """Have these made ready, in this order, and no others any more."""
        asked = [shard for shard in dict.fromkeys(shards) if not self.cache.has(self.reading.key(shard))]
        while self._pipe.poll(0):  # or the pipe would be full one day
            self._receive()
        # What is left of an earlier wish is being made; what of it failed is asked for again when it is needed.
        if not set(asked) <= set(self._asked):
            self._send(asked)
        self._asked = asked

    def open(self, shard: int, *, crowded: Callable[[], None] | None = None) -> Entry:
        """An open shard; waits until it is ready. crowded: called where entries in use leave no room for it."""
        key = self.reading.key(shard)
        entry = self.cache.open(key)
        asked, deadline = float("-inf"), float("inf")
        while self._pipe.poll(0):  # what went wrong before this was asked for may be over
            self._receive()
        while entry is None:
            # Again and again: another process may have had it removed before this one came to open it.
            if time.monotonic() - asked >= REMINDER:
                self._send([shard, *(each for each in self._asked if each != shard)])
                asked = time.monotonic()
            if wait([self._pipe], 0.2):
                number, problem = self._receive()
                if number == shard and problem == "":
                    deadline = min(deadline, time.monotonic() + CROWDED)
                    if time.monotonic() > deadline:
                        raise self._too_small(shard)
                    if crowded is not None:
                        crowded()
                elif number == shard and problem is not None:
                    raise UserError(problem)
                elif number == shard:
                    asked = float("-inf")
            entry = self.cache.open(key)
            if entry is not None:
                self._deaths = 0
        return entry

    def close(self) -> None:
        """End the background process."""
        self._end()

    def _too_small(self, shard: int) -> UserError:
        return UserError(
            f"{self.cache.root}: the shards that are open at a time, of {self.reading.bytes(shard) / 2**30:.3g} GB each, "
            f"fill its {self.cache.bound / 2**30:.3g} GB: raise data.stream.cache_gb, or lower data.stream.open"
        )

    def _start(self) -> None:
        self._pipe, theirs = get_context("fork" if can_fork() else None).Pipe()
        arguments = (self.reading, self.cache, self._workers, theirs)
        if not can_fork():
            threading.Thread(target=_serve, args=arguments, daemon=True).start()
            self._end: Callable[[], object] = self._pipe.close
            return
        process = self.process = get_context("fork").Process(target=_live, args=(*arguments, self._pipe, os.getpid()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it touches no lock of the parent's threads
            process.start()
        theirs.close()
        # It is no daemon, for it has children itself: at its end the interpreter would wait for it for ever. What is
        # registered last is called first.
        end = weakref.finalize(self, _kill, process, self._pipe, os.getpid())
        end.atexit = False
        atexit.register(end)
        self._end = end

    def _send(self, shards: list[int]) -> None:
        try:
            self._pipe.send(shards)
        except OSError:
            self._revive()
            self._pipe.send(shards)

    def _receive(self) -> tuple[int, str | None]:
        """(shard, None) for one that is ready, (shard, "") for one without room, (shard, why) for one that failed."""
        try:
            number, problem = self._pipe.recv()
        except (EOFError, OSError):
            self._revive()
            self._send(self._asked)
            return -1, None
        if isinstance(problem, Defect):
            raise RuntimeError(f"while shard {number} was made ready:\n{problem.trace}")
        return number, problem

    def _revive(self) -> None:
        self._deaths += 1
        if self._deaths >= DEATHS:
            raise UserError(
                f"the process that reads the shards died {DEATHS} times over one; is there enough memory? "
                "Smaller shards and a lower data.stream.workers take less"
            )
        self._end()
        self._start()


def _kill(process: Any, pipe: Connection, owner: int) -> None:
    if os.getpid() == owner:
        process.kill()
        process.join()
        pipe.close()


def _live(reading: Reading, cache: ShardCache, workers: int, pipe: Connection, theirs: Connection, parent: int) -> None:
    """The life of the background process: until the parent ends it, or is gone."""
    # What a terminal or a scheduler sends to all processes is the parent's to handle; it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    theirs.close()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    with contextlib.suppress(OSError):
        os.nice(5)  # while the training computes, what it will need later can wait
    try:
        _serve(reading, cache, workers, pipe)
    except BaseException:
        if os.getppid() == parent:
            sys.excepthook(*sys.exc_info())
    os._exit(0)


def _serve(reading: Reading, cache: ShardCache, workers: int, pipe: Connection) -> None:
    """Make ready what is asked for, the newest wish first, and say what became of it."""
    queue: list[int] = []
    running: dict[int, Future[str | Defect | None]] = {}
    pause = 0.0
    keep: frozenset[str] = frozenset()

    def build(shard: int, spared: frozenset[str]) -> str | Defect | None:
        key = reading.key(shard)
        wanted = reading.index.shards[shard]
        extra = wanted.size if remote.is_remote(wanted.location) else 0
        try:
            cache.build(key, reading.bytes(shard) + extra, lambda to: reading.build(shard, to, workers), keep=spared)
        except NoRoom:
            return ""
        except UserError as error:
            return str(error)
        except Exception:
            return Defect(traceback.format_exc())
        return None

    with ThreadPoolExecutor(BUILDERS) as threads:
        while True:
            if pipe.poll(0.02 if running else 0.1 if queue else 0.5):
                try:
                    queue = pipe.recv()
                except (EOFError, OSError):
                    return
                keep = frozenset(map(reading.key, queue))
                queue = [shard for shard in queue if shard not in running]
            for shard, future in list(running.items()):
                if future.done():
                    del running[shard]
                    problem = future.result()
                    pipe.send((shard, problem))
                    if problem == "":
                        queue.insert(0, shard)
                        pause = time.monotonic() + CROWDED_PAUSE
            while queue and len(running) < BUILDERS and time.monotonic() > pause:
                shard = queue.pop(0)
                if not cache.has(reading.key(shard)):
                    running[shard] = threads.submit(build, shard, keep)
                else:
                    pipe.send((shard, None))


def _verify(file: Path, wanted: Shard) -> None:
    if not file.is_file():
        raise UserError(f"{wanted.location}: is not there; are all shards copied?")
    if file.stat().st_size != wanted.size or remote.digest_of(file) != wanted.digest:
        raise remote.changed(wanted.location)


def _local_processes() -> int:
    """How many processes of this training share the machine, as torchrun and Fabric tell it."""
    local = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or "1"
    return max(1, int(local)) if local.isdigit() else 1
