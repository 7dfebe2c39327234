"""NumPy's files, written as the values come: `.npy`, and `.npz` with an array whose length is known at its end.

A file is whole or not there: it grows under a temporary name and is flushed and renamed when the last value is in it.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sparring.files import whole_file

Append = Callable[[NDArray[Any]], None]
"""Takes the next values (n, …), all of one dtype and one shape but for n."""


@contextmanager
def growing_npy(path: Path) -> Iterator[Append]:
    """Yield a function that appends arrays (n, …) to a `.npy` file; readers may map it into memory.

    On any error nothing is left behind and `path` stays as it was. Raises ValueError where nothing was appended.
    """
    with whole_file(path) as stream:
        array = _Growing(stream.write)
        yield array.append
        stream.seek(0)
        stream.write(array.header())


@contextmanager
def growing_npz(path: Path) -> Iterator[NpzFile]:
    """Yield an uncompressed `.npz` file to put arrays into. On any error nothing is left behind, as with `growing_npy`."""
    with whole_file(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        yield NpzFile(stream, archive)


class NpzFile:
    """An `.npz` file that is being written, one array after the other."""

    def __init__(self, stream: BinaryIO, archive: zipfile.ZipFile) -> None:
        self._stream, self._archive = stream, archive

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Write a whole array."""
        with self._archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
            np.lib.format.write_array(member, array, allow_pickle=False)

    @contextmanager
    def growing(self, name: str) -> Iterator[Append]:
        """Yield a function that appends arrays (n, …) to the array `name`; only one array grows at a time."""
        info = zipfile.ZipInfo(f"{name}.npy")
        with self._archive.open(info, "w", force_zip64=True) as member:
            array = _Growing(member.write)
            yield array.append
        # The number of rows stands before the rows, and the checksum before both: they are put right in place.
        provisional, final = array.provisional, array.header()
        info.CRC ^= crc_after_zeros(zlib.crc32(provisional) ^ zlib.crc32(final), info.file_size - len(final))
        end = self._stream.tell()
        self._stream.seek(info.header_offset)
        self._stream.write(info.FileHeader(zip64=True) + final)
        self._stream.seek(end)


def crc_after_zeros(crc: int, count: int) -> int:
    """A CRC-32 register (without its initial and final complement) after `count` further zero bytes.

    That is crc · x^(8 count) modulo CRC-32's polynomial. Checksums are linear: two messages of one length that differ in
    their first bytes alone have checksums that differ by the difference of those bytes' checksums, carried so to the end.
    """
    power, square = 1 << 31, 1 << 23  # x⁰ and x⁸: the highest bit is the lowest power
    while count:
        if count & 1:
            power = _times(power, square)
        square = _times(square, square)
        count >>= 1
    return _times(crc, power)


def _times(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo CRC-32's."""
    product = 0
    for power in range(31, -1, -1):
        if a >> power & 1:
            product ^= b
        b = b >> 1 ^ (0xEDB88320 if b & 1 else 0)
    return product


class _Growing:
    """Rows of a `.npy` file of unknown number: a header that says 0, then the rows; the real header is as long."""

    def __init__(self, write: Callable[[Any], object]) -> None:
        self._write, self._rows = write, 0
        self._kind: tuple[np.dtype[Any], tuple[int, ...]] | None = None
        self.provisional = b""

    def append(self, array: NDArray[Any]) -> None:
        """Write the next rows."""
        kind = (array.dtype, array.shape[1:])
        if self._kind is None:
            self._kind = kind
            self.provisional = self.header()
            self._write(self.provisional)
        if kind != self._kind:
            raise ValueError(f"rows of {kind} cannot follow rows of {self._kind}")
        self._write(np.ascontiguousarray(array).data)
        self._rows += len(array)

    def header(self) -> bytes:
        """What stands before the rows, for as many as there are now."""
        if self._kind is None:
            raise ValueError("there is nothing to write")
        dtype, shape = self._kind
        description = {
            "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (self._rows, *shape),
        }  # fmt: skip
        stream = io.BytesIO()
        # NumPy leaves room for any first dimension, so that headers of growing arrays can be replaced.
        np.lib.format.write_array_header_1_0(stream, description)
        return stream.getvalue()
