"""Images inside a zip or tar archive, read in memory: nothing is ever extracted, so no name in it can do harm."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import tarfile
import threading
import zipfile
import zlib
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sparring.data.decode import EXTENSIONS, decode
from sparring.data.folder import MAX_BYTES
from sparring.data.labelling import Labelling, Vectors, Wanted
from sparring.data.labels import label_files
from sparring.data.source import BrokenSample, ImageSource
from sparring.errors import UserError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_DAMAGE: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, KeyError)
_DAMAGE += (zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)


class ArchiveSource(ImageSource):
    """Images inside an archive.

    The table of members is read when first needed, because a cache may already know all that is in it.

    name: what the user passed. file: the archive. folder: the folder inside that is meant, or empty for all of it.
    """

    def __init__(
        self,
        name: str,
        file: Path,
        folder: str = "",
        labels_file: Path | None = None,
        wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
    ) -> None:
        self.name, self.file, self.folder, self._labels_file, self._wanted = name, file, folder, labels_file, wanted
        self._open = threading.local()

    @abstractmethod
    def members(self) -> list[tuple[str, Any]]:
        """Every file in the archive: its name, and what `read` needs to find it."""

    @abstractmethod
    def open(self) -> Any:
        """Open the archive: the handle of one thread of one process."""

    @abstractmethod
    def read(self, handle: Any, where: Any) -> bytes:
        """The bytes of one member, at most MAX_BYTES + 1."""

    def load(self, index: int) -> NDArray[np.uint8]:
        """Decode one member. Raises BrokenSample."""
        return decode(self.raw(index), self._images[index][0])

    def raw(self, index: int) -> bytes:
        """The bytes of one member. Raises BrokenSample."""
        try:
            data = self.read(self._handle(), self._images[index][1])
        except _DAMAGE as error:
            raise BrokenSample(f"cannot be read from the archive: {' '.join(str(error).split())[:80]}") from error
        if len(data) > MAX_BYTES:
            raise BrokenSample("larger than 1 GB")
        return data

    def fingerprint(self) -> str:
        """Of the archive's size and time, and the bytes at its head and tail (a zip's table of members is its tail)."""
        # "2": what a table's columns mean was another thing before.
        how = [self._labels_file, "2", self._wanted] if self._labels_file or self._wanted else [None]
        return stamp_file(self.file, self.folder, *how)

    @cached_property
    def names(self) -> list[str]:  # type: ignore[override]
        """`archive.zip:cats/1.png` for every image."""
        return [f"{self.file.name}:{name}" for name, _ in self._images]

    @cached_property
    def labels(self) -> list[str]:  # type: ignore[override]
        """By class folders or by the labels file; empty without labels."""
        return self._labelling.texts

    @cached_property
    def vectors(self) -> Vectors | None:  # type: ignore[override]
        """By the labels file."""
        return self._labelling.vectors

    @cached_property
    def note(self) -> str:  # type: ignore[override]
        """What of the labels is not used."""
        return self._labelling.note

    @cached_property
    def _labelling(self) -> Labelling:
        inside = _below_single_folder([name.removeprefix(self._prefix) for name, _ in self._images])
        return label_files(self.name, inside, self._labels_file, self._wanted, separator="/" if self.folder else ":")

    @cached_property
    def _images(self) -> list[tuple[str, Any]]:
        try:
            found = sorted(((_clean(name), where) for name, where in self.members()), key=lambda member: member[0])
        except _DAMAGE as error:
            raise _unreadable(self.name, error) from error
        images = [(name, where) for name, where in found if _is_image(name) and name.startswith(self._prefix)]
        if self.sequential:
            images.sort(key=lambda member: member[1])
        if not images:
            raise UserError(f"{self.name}: found no images (looked for {' '.join(EXTENSIONS)}); is the path right?")
        return images

    @property
    def _prefix(self) -> str:
        return self.folder + "/" if self.folder else ""

    def _handle(self) -> Any:
        # A handle that came through a fork shares its file position with the parent's: each process opens its own.
        if getattr(self._open, "process", None) != os.getpid():
            self._open.handle, self._open.process = self.open(), os.getpid()
        return self._open.handle

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _open=threading.local())


class ZipSource(ArchiveSource):
    """Images inside a zip archive."""

    def members(self) -> list[tuple[str, zipfile.ZipInfo]]:
        """Every file in the archive."""
        with zipfile.ZipFile(self.file) as archive:
            return [(info.filename, info) for info in archive.infolist() if not info.is_dir()]

    def open(self) -> zipfile.ZipFile:
        """Open the archive."""
        return zipfile.ZipFile(self.file)

    def read(self, handle: zipfile.ZipFile, where: zipfile.ZipInfo) -> bytes:
        """The bytes of one member, checked against its checksum."""
        with handle.open(where) as stream:
            return stream.read(MAX_BYTES + 1)


class TarSource(ArchiveSource):
    """Images inside a tar archive; a compressed one is best read in order, because going back means starting again."""

    def __init__(
        self,
        name: str,
        file: Path,
        folder: str = "",
        labels_file: Path | None = None,
        wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(name, file, folder, labels_file, wanted)
        with file.open("rb") as stream:
            head = stream.read(6)
        self._opener = _decompressor(head)
        self.sequential = self._opener is not None

    def members(self) -> list[tuple[str, tuple[int, int]]]:
        """Every regular file in the archive: its offset and size."""
        with self.open() as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            return [(info.name, (info.offset_data, info.size)) for info in archive if info.isreg() and not info.sparse]

    def open(self) -> IO[bytes]:
        """Open the archive, decompressed."""
        return self._opener(self.file) if self._opener else self.file.open("rb")

    def read(self, handle: IO[bytes], where: tuple[int, int]) -> bytes:
        """The bytes of one member. Raises EOFError where the archive ends too early."""
        offset, size = where
        handle.seek(offset)
        data = handle.read(min(size, MAX_BYTES + 1))
        if len(data) < min(size, MAX_BYTES + 1):
            raise EOFError("the archive ends before it")
        return data


def split_archive(reference: str) -> tuple[Path, str] | None:
    """`photos.zip:train/cats` as (photos.zip, train/cats); None where the reference is no archive that exists."""
    lower = reference.lower()
    for end in sorted({position + len(suffix) for suffix in ARCHIVES for position in _positions(lower, suffix)}):
        file = Path(reference[:end]).expanduser()
        if (end == len(reference) or reference[end] == ":") and file.is_file():
            return file, _clean(reference[end + 1 :])
    return None


def open_archive(
    reference: str,
    file: Path,
    folder: str,
    labels_file: Path | None = None,
    wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
) -> ArchiveSource:
    """Open the images below `folder` inside the archive `file`; empty means all of it.

    A single folder around everything is passed over before class folders are looked for.
    Raises UserError where the file is no archive.
    """
    kind = ZipSource if file.suffix.lower() == ".zip" else TarSource
    try:
        with kind(reference, file, folder, labels_file, wanted).open():
            return kind(reference, file, folder, labels_file, wanted)
    except _DAMAGE as error:
        raise _unreadable(reference, error) from error


def stamp_file(file: Path, *settings: Any, ends: int = 2**20) -> str:
    """A fingerprint of one big file: its size, time and the bytes at both ends, and the `settings` it is read with."""
    status = file.stat()
    digest = hashlib.blake2b(f"{status.st_size}\0{status.st_mtime_ns}".encode(), digest_size=16)
    with file.open("rb") as stream:
        digest.update(stream.read(ends))
        stream.seek(max(0, status.st_size - ends))
        digest.update(stream.read(ends))
    for setting in settings:
        content = setting.read_bytes() if isinstance(setting, Path) else str(setting).encode()
        digest.update(b"\0" + hashlib.blake2b(content).digest())
    return digest.hexdigest()


def _unreadable(reference: str, error: Exception) -> UserError:
    return UserError(f"{reference}: not an archive that can be read, or a damaged one ({error}); copy it again")


def _decompressor(head: bytes) -> Any:
    """What opens a compressed file that starts with these bytes, or None where it is not compressed."""
    openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    return next((opener for magic, opener in openers.items() if head.startswith(magic)), None)


def _clean(name: str) -> str:
    """A member's name without what could point outside (`../`, a leading `/`, a drive)."""
    parts = name.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", ".", "..") and not part.endswith(":"))


def _is_image(name: str) -> bool:
    parts = name.split("/")
    return name.lower().endswith(EXTENSIONS) and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _below_single_folder(names: list[str]) -> list[str]:
    top = {name.partition("/")[0] for name in names}
    if len(top) == 1 and all("/" in name for name in names):
        return [name.partition("/")[2] for name in names]
    return names


def _positions(text: str, part: str) -> list[int]:
    return [position for position in range(len(text)) if text.startswith(part, position)]
