"""Images that a table lists: a CSV or JSON file of paths and labels."""

from __future__ import annotations

from pathlib import Path

from sparring.data.folder import FileSource, stamp
from sparring.data.labelling import Wanted, label_by_columns
from sparring.data.labels import read_columns
from sparring.errors import UserError


def open_index(reference: str, file: Path, wanted: Wanted = Wanted()) -> FileSource:  # noqa: B008 (frozen)
    """The images that `file` lists, in its order; paths are relative to the folder it lies in.

    Files that are missing count as broken images. Raises UserError where all are, or some rows have no label.
    """
    table = read_columns(file)
    labelling = label_by_columns(reference, table.columns, table.label, wanted)
    stamps = [stamp(file.parent / path) for path in table.paths]
    if all(size < 0 for size, _ in stamps):
        raise UserError(f"{reference}: none of its files exists ({table.paths[0]}, …); write paths relative to it")
    return FileSource(reference, file.parent, table.paths, labelling, stamps)
