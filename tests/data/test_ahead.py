"""Rows from the disk: those that were asked for, whatever was expected before."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparring.data.ahead import Foreseen, MappedRows
from sparring.data.sampling import Sampler


@pytest.fixture
def array(tmp_path: Path) -> np.memmap:
    """Fifty rows of noise in a file."""
    values = np.random.default_rng(0).integers(0, 256, (50, 3, 7, 5), dtype=np.uint8)
    np.save(tmp_path / "rows.npy", values)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="c")
    assert isinstance(mapped, np.memmap)
    return mapped


def same(rows: torch.Tensor, array: NDArray[np.uint8], indices: torch.Tensor) -> bool:
    return np.array_equal(rows.numpy(), array[indices.numpy()])


@pytest.mark.parametrize("without", ["", "RWF_NOWAIT", "posix_fadvise", "preadv"])
def test_rows_are_those_of_the_array_whatever_the_system_can_do(
    array: np.memmap, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    if without:
        monkeypatch.delattr(os, without, raising=False)
    rows = MappedRows(array)
    for indices in (torch.tensor([49, 0, 7, 7]), torch.tensor([3]), torch.empty(0, dtype=torch.int64)):
        assert same(rows.gather(indices), array, indices)


def test_what_was_expected_changes_no_bit(array: np.memmap) -> None:
    plain, ahead = MappedRows(array), MappedRows(array)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0)).split(8)
    state = torch.get_rng_state()
    for indices, following in zip(order, [*order[1:], order[0]], strict=True):
        gathered = ahead.gather(indices)
        ahead.expect(following)
        assert torch.equal(gathered, plain.gather(indices))
    assert torch.equal(state, torch.get_rng_state())


def test_other_rows_than_expected_come_too_and_the_expected_ones_afterwards(
    array: np.memmap, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = MappedRows(array)
    expected, other = torch.tensor([1, 2]), torch.tensor([2, 1])
    rows.expect(expected)
    assert same(rows.gather(other), array, other)
    monkeypatch.setattr(rows, "_fetch", None)  # they are there: nothing is fetched a second time
    assert same(rows.gather(expected), array, expected)


@pytest.mark.parametrize("index", [50, -1])
def test_a_row_that_is_not_there_is_an_error_and_not_another_row(array: np.memmap, index: int) -> None:
    with pytest.raises(IndexError, match="of 50"):
        MappedRows(array).gather(torch.tensor([3, index]))


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="without preadv the file stays mapped")
def test_a_file_that_has_become_shorter_is_an_error(array: np.memmap) -> None:
    rows = MappedRows(array)
    os.truncate(array.filename, 2000)
    with pytest.raises(OSError, match="shorter"):
        rows.gather(torch.tensor([40]))
    rows.expect(torch.tensor([41]))
    with pytest.raises(OSError, match="shorter"):
        rows.gather(torch.tensor([41]))


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 3), st.integers(0, 200))
def test_what_is_foreseen_is_what_the_sampler_asks_for_next(count: int, share: int, world: int, position: int) -> None:
    order = Foreseen(count, share * world, 5)
    ahead, plain = (Sampler(count, share * world, 5, rank=world - 1, world=world, order=each) for each in (order, None))
    ahead.position = plain.position = position
    foreseen = None
    for _ in range(2 + 2 * count // (share * world)):
        asked = ahead.next()
        assert torch.equal(asked, plain.next())
        assert foreseen is None or torch.equal(foreseen, asked)
        foreseen = order.after(asked)
    assert order.after(torch.tensor([count])) is None
