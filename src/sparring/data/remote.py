"""Files that lie elsewhere: one interface to the local disk and, through fsspec, to HTTP, S3 and other stores."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from sparring.errors import UserError, missing_extra

SCHEMES = {
    "http": "stream", "https": "stream", "s3": "s3", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
    "memory": "",
}  # fmt: skip
"""What can be read, and the extra or package that it needs."""

PART = 16 * 2**20  # bytes of one request: what is lost when a connection drops
STALL = 30.0  # seconds without a byte after which a connection counts as dropped
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0  # seconds between two attempts

Answer = TypeVar("Answer")


def is_remote(location: str) -> bool:
    """Whether a location is a URL and not a path."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", location))


def beside(location: str, name: str) -> str:
    """The location of a file that an index at `location` calls `name`. Raises UserError where that is not for it to name."""
    if is_remote(name):
        if not is_remote(location) or urlsplit(name).scheme not in SCHEMES:
            raise UserError(f"{location}: names {name}, which an index here may not; name shards beside it")
        return name
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or re.match(r"[A-Za-z]:", name):
        raise UserError(f"{location}: names {name!r}, which does not lie beside it; name shards beside it")
    if not is_remote(location):
        return str(Path(location).parent / name)
    if urlsplit(location).scheme in ("http", "https"):
        return urljoin(location, name)
    return f"{location.rpartition('/')[0]}/{name}"


def expand(pattern: str) -> list[str]:
    """The locations that a pattern means: `{000..127}`, `{a,b}`, and `*` `?` `[…]` where files can be listed.

    Raises UserError where there are none.
    """
    locations = _braces(pattern)
    web = pattern.startswith(("http://", "https://"))  # where `?` begins a query
    if any(mark in pattern for mark in ("*[" if web else "*[?")):
        if web:
            raise UserError(
                f"{pattern}: a web server does not list its files; write {{000000..000127}} for the numbers"
            )
        found = [_matching(each) for each in locations]
        locations = list(dict.fromkeys(itertools.chain.from_iterable(found)))
    if not locations:
        raise UserError(f"{pattern}: no file matches; is the path right?")
    return locations


def read(location: str, *, patience: float) -> bytes | None:
    """A small file, or None where there is none. Raises UserError where it cannot be had."""
    if not is_remote(location):
        try:
            return Path(location).expanduser().read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
    files = _system(location)
    try:
        return persistently(location, lambda: bytes(files.cat_file(location)), patience)
    except FileNotFoundError:
        return None


def fetch(location: str, file: Path, *, size: int | None = None, digest: str | None = None, patience: float) -> str:
    """Copy a remote file to `file`, part by part; returns the digest of what came.

    size: bytes that it must have; None: ask. digest: that it must have; None: any.
    A part that fails is asked for again, with growing pauses, until nothing has come for `patience` seconds.
    Raises UserError where the server stays away, or gives something else than was wanted.
    """
    files = _system(location)
    state = hashlib.blake2b(digest_size=16)
    try:
        if size is None:
            size = persistently(location, lambda: files.size(location), patience)
        with file.open("wb") as stream:
            done = 0
            while size is None or done < size:
                stop = None if size is None else min(done + PART, size)
                part = persistently(location, lambda: _part(files, location, done, stop, size), patience)  # noqa: B023
                stream.write(part)
                state.update(part)
                done += len(part)
                if size is None:
                    break
    except FileNotFoundError as error:
        raise UserError(f"{location}: is not there; is the address right, and are all shards uploaded?") from error
    found = state.hexdigest()
    if digest is not None and found != digest:
        raise changed(location)
    return found


def digest_of(file: Path) -> str:
    """The digest of a local file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def changed(location: str) -> UserError:
    """The error for a shard that is not what the index says."""
    return UserError(
        f"{location}: is truncated, or has changed since its index was made; copy it again, or make the index anew"
    )


def persistently(location: str, ask: Callable[[], Answer], patience: float) -> Answer:
    """What `ask` returns, asked again while it fails, for `patience` seconds.

    Raises UserError where it fails for longer or for good, FileNotFoundError where there is no such file.
    """
    began, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return ask()
        except FileNotFoundError:
            raise
        except ImportError as error:
            raise _missing(location, error) from error
        except Exception as error:  # every store raises exceptions of its own
            status = getattr(error, "status", None)
            hopeless = isinstance(error, PermissionError) or (
                isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)
            )
            if hopeless or time.monotonic() - began + pause > patience:
                reason = " ".join(str(error).split())[:120] or type(error).__name__
                last = "" if hopeless else f" after {patience:g} seconds of trying"
                raise UserError(
                    f"{location}: cannot be read{last} ({reason}); is the server there? "
                    "A training that this ends goes on with `sparring resume`"
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _part(files: Any, location: str, start: int, stop: int | None, size: int | None) -> bytes:
    """Bytes [start, stop) of a file of `size` bytes, or all of them from a server that knows no parts."""
    if stop is None or (start, stop) == (0, size):
        part = bytes(files.cat_file(location))
        if size is not None and len(part) != size:
            raise OSError(f"{len(part)} bytes came, {size} were to come")
        return part
    part = bytes(files.cat_file(location, start=start, end=stop))
    if len(part) == size and start == 0:
        return part
    if len(part) == size:
        return part[start:]  # it sent everything again
    if len(part) != stop - start:
        raise OSError(f"{len(part)} bytes came, {stop - start} were to come")
    return part


def _system(location: str) -> Any:
    """The file system of a URL. Raises UserError for a kind that is not read, or whose package is missing."""
    scheme = urlsplit(location).scheme
    if scheme not in SCHEMES:
        raise UserError(f"{location}: there is no reading from {scheme}://; there are {', '.join(SCHEMES)}")
    try:
        import fsspec

        options: dict[str, Any] = {}
        if scheme in ("http", "https"):
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL, sock_read=STALL)
            options = {"client_kwargs": {"timeout": timeout, "trust_env": True}, "use_listings_cache": False}
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise _missing(location, error) from error


def _missing(location: str, error: ImportError) -> UserError:
    scheme = urlsplit(location).scheme
    extra = SCHEMES[scheme]
    package = error.name or {"s3": "s3fs"}.get(scheme, extra)
    if extra in ("stream", "s3"):
        return missing_extra(package, extra, f"reading {scheme}://")
    return UserError(f"reading {scheme}:// needs the package {extra!r}, which is not installed: pip install {extra}")


def _matching(pattern: str) -> list[str]:
    if not is_remote(pattern):
        return sorted(glob.glob(str(Path(pattern).expanduser())))  # noqa: PTH207  (a Path takes no absolute pattern)
    files = _system(pattern)
    with contextlib.suppress(FileNotFoundError):
        return [files.unstrip_protocol(each) for each in sorted(files.glob(pattern))]
    return []


def _braces(pattern: str) -> list[str]:
    """`a{1..3}b{x,y}` as six texts; numbers keep their leading zeros."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if span:
        first, last = int(span[1]), int(span[2])
        if last < first or last - first >= 10**7:
            raise UserError(f"{pattern}: {match[0]} counts no shards; write {{000000..000127}}")
        inside = [str(number).zfill(len(span[1])) for number in range(first, last + 1)]
    else:
        inside = match[1].split(",")
    return [f"{pattern[: match.start()]}{each}{rest}" for each in inside for rest in _braces(pattern[match.end() :])]
