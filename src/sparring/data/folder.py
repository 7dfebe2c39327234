"""Images that are files: a folder of them, or a list of paths."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparring.data.decode import EXTENSIONS, decode
from sparring.data.labelling import Labelling, Wanted
from sparring.data.labels import label_files
from sparring.data.source import BrokenSample, ImageSource
from sparring.errors import UserError

MAX_BYTES = 2**30  # of one encoded image


class FileSource(ImageSource):
    """Images that are files of their own.

    root: the folder that `names` are relative to.
    stamps: size and time of each file, in the order of the names, for the fingerprint.
    """

    def __init__(
        self, name: str, root: Path, names: list[str], labelling: Labelling, stamps: Sequence[tuple[int, int]]
    ) -> None:
        self.name, self.root, self.names = name, root, names
        self.labels, self.vectors, self.note = labelling.texts, labelling.vectors, labelling.note
        self._stamps = stamps

    def load(self, index: int) -> NDArray[np.uint8]:
        """Decode one file. Raises BrokenSample."""
        return decode(self.raw(index), self.names[index])

    def raw(self, index: int) -> bytes:
        """The bytes of one file. Raises BrokenSample."""
        try:
            # Not by way of a Path: of a small image's time that takes a tenth.
            with open(os.path.join(self.root, self.names[index]), "rb") as stream:  # noqa: PTH118, PTH123
                # No more than is there: Python takes memory for all that is asked for, and gives it back, each time.
                data = stream.read(min(os.fstat(stream.fileno()).st_size, MAX_BYTES) + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BrokenSample(f"cannot be read: {reason}") from error
        if len(data) > MAX_BYTES:
            raise BrokenSample("larger than 1 GB")
        return data

    def path(self, index: int) -> Path:
        """The file of one image."""
        return Path(self.root, self.names[index])

    def fingerprint(self) -> str:
        """Of names, labels, sizes and times."""
        digest = hashlib.blake2b(digest_size=16)
        for name, stamp in zip(self.names, self._stamps, strict=True):
            digest.update(f"{name}\0{stamp[0]}\0{stamp[1]}\n".encode(errors="surrogateescape"))
        digest.update("\0".join(self.labels).encode(errors="surrogateescape"))
        if self.vectors is not None:
            digest.update(self.vectors.digest())
        return digest.hexdigest()


def open_folder(
    reference: str,
    root: Path,
    labels_file: Path | None = None,
    wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
) -> FileSource:
    """Every image below `root`, in the order of their names; hidden files and folders are passed over.

    labels_file: a table of paths (relative to `root`) and labels, instead of class folders.
    Raises UserError where there are no images, or the sub-folders are the parts of a split.
    """
    found = sorted(files_below(root, _is_image))
    if not found:
        raise UserError(f"{reference}: found no images (looked for {' '.join(EXTENSIONS)}); is the path right?")
    names = [name for name, _, _ in found]
    labelling = label_files(reference, names, labels_file, wanted, separator="/")
    return FileSource(reference, root, names, labelling, [(size, time) for _, size, time in found])


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file, for a fingerprint; (-1, 0) where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1, 0
    return status.st_size, status.st_mtime_ns


def files_below(root: Path, wanted: Callable[[str], bool]) -> Iterable[tuple[str, int, int]]:
    """(path relative to `root`, size, time in ns) of every file below it whose path (in full) is wanted.

    Hidden files and folders are passed over. Raises UserError where `root` cannot be read.
    """
    waiting = [("", str(root))]
    seen: set[tuple[int, int]] = set()
    while waiting:
        prefix, folder = waiting.pop()
        try:
            status = Path(folder).stat()
            # A link to a folder that was walked already (a loop, most likely) is not walked again.
            if (status.st_dev, status.st_ino) in seen and status.st_ino:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                listing = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError:
            if not prefix:
                raise UserError(f"{root}: cannot be read; may you open it?") from None
            continue
        for entry in listing:
            if entry.name.startswith("."):
                continue
            try:
                if wanted(entry.path):
                    if entry.is_file():
                        status = entry.stat()
                        yield prefix + entry.name, status.st_size, status.st_mtime_ns
                        continue
                    if entry.is_symlink() and not entry.is_dir():
                        yield prefix + entry.name, -1, 0  # a dangling link: a broken image, to be named as such
                        continue
                if entry.is_dir():
                    waiting.append((f"{prefix}{entry.name}/", entry.path))
            except OSError:
                continue


def _is_image(path: str) -> bool:
    return path.lower().endswith(EXTENSIONS)
