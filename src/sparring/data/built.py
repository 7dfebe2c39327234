"""Folders of decoded data, built once: each appears whole or not at all, and processes that want the same one wait."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from sparring.errors import UserError
from sparring.files import publish_folder

Opened = TypeVar("Opened")


def default_folder() -> Path:
    """`$SPARRING_CACHE`, or `~/.cache/sparring`."""
    return Path(os.environ.get("SPARRING_CACHE") or "~/.cache/sparring").expanduser()


def built(
    root: Path, name: str, key: str, opening: Callable[[Path], Opened | None], build: Callable[[Path], None]
) -> Opened:
    """Open the folder of `key` below `root`, after building it if it is not there or damaged.

    name: what the user calls the data; a folder's name begins with it. key: a digest of all that decides the content.
    opening: the folder, opened, or None where there is none or it is damaged. build: fills an empty folder.
    Raises UserError where `root` cannot be written to, or is full.
    """
    path = root / f"{_stem(name)}-{key}"
    found = opening(path)
    if found is not None:
        return found
    with _writable(root), _alone(root / f".{key}.lock") as alone:
        found = opening(path)  # another process may have built it while this one waited
        if found is not None:
            return found
        if alone:
            for stale in root.glob(f".{path.name}.*"):  # from builds that were killed
                shutil.rmtree(stale, ignore_errors=True)
        temporary = root / f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        try:
            build(temporary)
            _publish(temporary, path, opening)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    found = opening(path)
    if found is None:
        raise UserError(f"{path}: the image cache cannot be read back; say --set data.cache=FOLDER on another disk")
    return found


def _publish(temporary: Path, path: Path, opening: Callable[[Path], object | None]) -> None:
    """Rename the finished folder to its name, unless another process was quicker."""
    if path.exists() and opening(path) is None:
        # Damaged: it steps aside under a name that no other process uses.
        old = temporary.with_name(temporary.name + ".old")
        with contextlib.suppress(OSError):
            path.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        return
    try:
        publish_folder(temporary, path)
    except OSError:
        if opening(path) is None:
            raise


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[bool]:
    """Hold a lock among the processes of this machine; False where the system has none to give."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with file.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError:  # some network file systems
            yield False
            return
        yield True


@contextlib.contextmanager
def _writable(root: Path) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(
            f"{root}: images cannot be cached here ({error.strerror}): say --set data.cache=FOLDER or set SPARRING_CACHE"
        ) from error
    except OSError as error:
        if error.errno in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{root}: images cannot be cached here ({error.strerror}): make room or say --set data.cache=FOLDER"
            ) from error
        raise


def _stem(name: str) -> str:
    """The readable part of a cache's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name).strip("-.")[:40] or "images"
