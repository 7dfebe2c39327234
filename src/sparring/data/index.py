"""Images that a table lists: a CSV or JSON file of paths and labels."""

from __future__ import annotations

from pathlib import Path

from sparring.data.folder import FileSource
from sparring.data.labels import read_table
from sparring.errors import UserError


def open_index(reference: str, file: Path) -> FileSource:
    """The images that `file` lists, in its order; paths are relative to the folder it lies in.

    Files that are missing count as broken images. Raises UserError where all are, or some rows have no label.
    """
    rows = read_table(file)
    labels = [label for _, label in rows]
    unlabelled = next((number for number, label in enumerate(labels, 1) if not label), None)
    if unlabelled and any(labels):
        raise UserError(f"{reference}: row {unlabelled} has no label; fill it in or remove it")
    stamps = [_stamp(file.parent / path) for path, _ in rows]
    if all(size < 0 for size, _ in stamps):
        raise UserError(f"{reference}: none of its files exists ({rows[0][0]}, …); write paths relative to it")
    return FileSource(reference, file.parent, [path for path, _ in rows], labels if any(labels) else [], stamps)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1, 0
    return status.st_size, status.st_mtime_ns
