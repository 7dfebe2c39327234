"""Passes of small networks side by side, one thread each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


def abreast(make: Callable[[Given], Made], given: Iterable[Given], *, ahead: int) -> Iterator[Made]:
    """`make` of each, in their order, on as many threads as torch has, `ahead` of them at most before they are asked for.

    A product of a thousand rows is too small to be shared out: two threads at one of them are as fast as one, and each at its
    own 1.6 times as fast. torch's own contexts (`no_grad`, autocast) are a thread's: `make` has to enter them.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(make, given)
        return
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads, "abreast", torch.set_num_threads, (1,)) as pool:
        try:
            for each in given:
                waiting.append(pool.submit(make, each))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            # What a new thread gets is what was last said, on whichever thread.
            torch.set_num_threads(threads)
