"""Passes side by side: in their order, no more of them ahead than is said, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from sparring.abreast import abreast


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_results_come_in_order_from_threads_of_one_thread_each() -> None:
    both = threading.Barrier(2, timeout=20)

    def make(number: int) -> tuple[int, int]:
        if number < 2:
            both.wait()  # which one thread alone would never pass
        return number, torch.get_num_threads()

    assert list(abreast(make, range(9), ahead=3)) == [(number, 1) for number in range(9)]
    assert torch.get_num_threads() == 2
    found: list[int] = []
    fresh = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert found == [2]


@pytest.mark.usefixtures("two_threads")
def test_no_more_is_taken_than_is_asked_for_and_some_ahead() -> None:
    taken: list[int] = []

    def given() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    made = abreast(lambda number: -number, given(), ahead=2)
    assert next(made) == 0 and len(taken) == 3
    made.close()  # type: ignore[attr-defined]
    assert len(taken) == 3 and torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_comes_where_its_result_would_have() -> None:
    made = abreast(lambda number: 1 // (number - 1), range(3), ahead=2)
    assert next(made) == -1
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert torch.get_num_threads() == 2


def test_one_thread_makes_them_itself() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    mine = threading.get_ident()
    assert list(abreast(lambda _: threading.get_ident(), range(3), ahead=1)) == [mine] * 3
    torch.set_num_threads(before)
