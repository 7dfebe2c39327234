"""Work on many images in parallel threads, results in order, memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sparring.host import cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None, ahead: int = 4
) -> Iterator[Result]:
    """Yield `function(item)` in the order of the items, computed by `threads`; None is one a processor, at most 16.

    At most `ahead` results a thread wait to be taken, so that a slow consumer does not fill the memory. The first
    exception is raised where its result would have come; what has not begun by then is dropped.
    """
    threads = threads or min(16, cores())
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= threads * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
