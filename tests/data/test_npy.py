"""Array files that grow: NumPy reads what was appended, and a failure leaves nothing."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparring.data.npy import crc_after_zeros, growing_npy, growing_npz

PARTS = [np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.arange(36, dtype=np.uint8).reshape(3, 3, 4)]


def test_a_grown_npy_file_is_what_numpy_would_have_saved(tmp_path: Path) -> None:
    with growing_npy(tmp_path / "a.npy") as append:
        for part in PARTS:
            append(part)
    np.save(tmp_path / "b.npy", np.concatenate(PARTS))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert np.load(tmp_path / "a.npy", mmap_mode="r").shape == (5, 3, 4)


def test_an_npz_file_grows_and_its_checksums_hold(tmp_path: Path) -> None:
    with growing_npz(tmp_path / "a.npz") as file:
        with file.growing("images") as append:
            for part in PARTS:
                append(part)
        file.add("labels", np.arange(5))
    assert zipfile.ZipFile(tmp_path / "a.npz").testzip() is None
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert list(arrays) == ["images", "labels"]
        assert np.array_equal(arrays["images"], np.concatenate(PARTS))
        assert np.array_equal(arrays["labels"], np.arange(5))


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=200), st.data())
def test_a_checksum_is_moved_through_what_stays_the_same(head: bytes, tail: bytes, data: st.DataObject) -> None:
    other = data.draw(st.binary(min_size=len(head), max_size=len(head)))
    moved = crc_after_zeros(zlib.crc32(head) ^ zlib.crc32(other), len(tail))
    assert zlib.crc32(head + tail) ^ moved == zlib.crc32(other + tail)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_what_fails_halfway_leaves_the_old_file_and_nothing_else(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="halfway"):
        if ending == "npy":
            with growing_npy(path) as append:
                append(PARTS[0])
                raise RuntimeError("halfway")
        with growing_npz(path) as file, file.growing("images") as append:
            append(PARTS[0])
            raise RuntimeError("halfway")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_rows_of_another_shape_or_none_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot follow"), growing_npy(tmp_path / "a.npy") as append:
        append(PARTS[0])
        append(PARTS[0].astype(np.int64))
    with pytest.raises(ValueError, match="nothing to write"), growing_npy(tmp_path / "a.npy"):
        pass
    assert list(tmp_path.iterdir()) == []
