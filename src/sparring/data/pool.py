"""Work on many items in worker processes that may crash or hang: the item that does it is named, the work goes on."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 60.0  # seconds without a finished item after which a worker counts as hung


class Lost:
    """In place of a result: the item that killed or hung a process of its own, and how."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def work_through(
    work: Callable[[Item], Result], chunks: Iterable[list[Item]], *, workers: int
) -> Iterator[list[Result | Lost]]:
    """`[work(item) for item in chunk]` for every chunk, in order.

    A chunk whose process dies or makes no progress for PATIENCE seconds is tried again item by item, in fresh
    processes; what dies again is Lost. What `work` raises is raised here. Where processes cannot be forked safely
    (Windows, macOS), threads do the work, and can neither die alone nor be given up.
    """
    if not can_fork():
        yield from _threads(work, chunks, workers)
        return
    waiting = enumerate(chunks)
    done: dict[int, list[Result | Lost]] = {}
    crew: list[_Worker] = []
    following = itertools.count()  # the number of the chunk that is yielded next
    expected, exhausted = next(following), False
    try:
        while True:
            idle = [worker for worker in crew if not worker.chunk]
            # Results wait for their turn in memory, so no one works far ahead of the slowest.
            while not exhausted and len(done) < 4 * workers and (idle or len(crew) < workers):
                number, chunk = next(waiting, (-1, []))
                if number < 0:
                    exhausted = True
                    break
                if not idle:
                    crew.append(_Worker(work))
                    idle.append(crew[-1])
                idle.pop().give(number, chunk)
            busy = [worker for worker in crew if worker.chunk]
            if not busy and not done:
                return
            ready = wait([worker.connection for worker in busy], timeout=min(1.0, PATIENCE / 4)) if busy else []
            for worker in busy:
                answer = worker.take() if worker.connection in ready else worker.check()
                if answer is None:
                    continue
                if isinstance(answer, Lost):
                    crew.remove(worker)
                    answer = _one_by_one(work, worker.chunk)
                done[worker.number] = answer
                worker.chunk = []
            while expected in done:
                yield done.pop(expected)
                expected = next(following)
    finally:
        for worker in crew:
            worker.kill()


def can_fork() -> bool:
    """Whether workers can be forked: they start at once, need no importable main module, and share the source."""
    return "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"


class _Worker:
    """A process that works on one chunk at a time."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self._beat = context.RawValue("Q", 0)
        self._process = context.Process(target=_serve, args=(work, theirs, self._beat, os.getpid()), daemon=True)
        with warnings.catch_warnings():
            # The children touch neither torch nor any lock but their own, whatever threads the parent has.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()
        self.number, self.chunk = -1, []

    number: int
    chunk: list[Any]

    def give(self, number: int, chunk: list[Any]) -> None:
        """Send a chunk; a worker that has died meanwhile is noticed when its answer is awaited."""
        self.number, self.chunk = number, chunk
        self._seen, self._since = -1, time.monotonic()
        try:
            self.connection.send(chunk)
        except OSError:
            return

    def take(self) -> list[Any] | Lost:
        """The answer that is there, or Lost if the process ended instead. Raises what `work` raised."""
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            self.kill()
            return Lost("the decoder crashed on it")
        if isinstance(answer, BaseException):
            raise answer
        return list(answer)

    def check(self) -> Lost | None:
        """Lost, and the process ended, if it has made no progress for PATIENCE seconds."""
        if self._beat.value != self._seen:
            self._seen, self._since = self._beat.value, time.monotonic()
        if time.monotonic() - self._since <= PATIENCE:
            return None
        self.kill()
        return Lost("the decoder hangs on it")

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _one_by_one(work: Callable[[Item], Result], chunk: list[Item]) -> list[Result | Lost]:
    """Work on each item by itself, in a process that is replaced when it is lost."""
    results: list[Result | Lost] = []
    worker: _Worker | None = None
    try:
        for item in chunk:
            worker = worker or _Worker(work)
            worker.give(0, [item])
            answer: Any = None
            while answer is None:
                answer = worker.take() if worker.connection.poll(min(1.0, PATIENCE / 4)) else worker.check()
            if isinstance(answer, Lost):
                results.append(answer)
                worker = None
            else:
                results += answer
    finally:
        if worker:
            worker.kill()
    return results


def _serve(work: Callable[[Any], Any], connection: Connection, beat: Any, parent: int) -> None:
    """A worker's life: chunks in, results out, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    # C libraries (libtiff) complain about damaged files straight to the terminal.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    while True:
        while not connection.poll(2.0):
            if os.getppid() != parent:
                return
        try:
            chunk = connection.recv()
        except (EOFError, OSError):
            return
        answer: Any = []
        try:
            for item in chunk:
                answer.append(work(item))
                beat.value += 1
        except Exception as error:
            answer = error
        try:
            connection.send(answer)
        except OSError:
            return


def _threads(
    work: Callable[[Item], Result], chunks: Iterable[list[Item]], workers: int
) -> Iterator[list[Result | Lost]]:
    def run(chunk: list[Item]) -> list[Result | Lost]:
        return [work(item) for item in chunk]

    with ThreadPoolExecutor(workers) as threads:
        remaining = iter(chunks)
        while window := list(itertools.islice(remaining, 2 * workers)):
            yield from threads.map(run, window)
