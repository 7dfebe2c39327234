"""Labels: from the folders that images lie in, or from a table of paths and labels."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparring.data.decode import EXTENSIONS
from sparring.data.labelling import SEPARATOR, Labelling, Wanted, label_by_columns, label_by_texts
from sparring.errors import UserError

PATH_KEYS = ("path", "file", "file_name", "filename", "image", "image_path", "img", "image_id")
LABEL_KEYS = ("label", "class", "category", "target", "y")
SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})


def class_folders(reference: str, names: Sequence[str], *, separator: str) -> list[str]:
    """The first folder of each name, where every image lies in one and there are two or more; otherwise empty.

    separator: between the reference and a folder in it, for the message.
    Raises UserError where those folders are the parts of a split (train, test, …): they are not classes, and training
    on the test part must not happen unnoticed.
    """
    folders = [name.partition("/")[0] if "/" in name else "" for name in names]
    distinct = sorted(set(folders))
    if "" in distinct or len(distinct) < 2:
        return []
    if all(folder.lower() in SPLITS for folder in distinct):
        part = next((folder for folder in distinct if folder.lower().startswith("train")), distinct[0])
        whole = reference.rstrip("/")
        raise UserError(f"{whole} holds the parts {', '.join(distinct)}: choose one, e.g. {whole}{separator}{part}")
    return folders


def sort_classes(labels: Iterable[str]) -> list[str]:
    """The distinct labels in the order of their numbers: numerically where all are numbers, else by name."""
    distinct = set(labels)
    try:
        return sorted(distinct, key=lambda label: (float(label), label))
    except ValueError:
        return sorted(distinct)


def label_files(
    reference: str, names: Sequence[str], file: Path | None, wanted: Wanted, *, separator: str
) -> Labelling:
    """The labels of image files by a table, or by the folders that they lie in. Raises UserError."""
    if file:
        return read_labels(file, names, wanted)
    labelling = label_by_texts(reference, class_folders(reference, names, separator=separator), wanted)
    return labelling if labelling.texts or labelling.vectors else replace(labelling, note=unfiled(names))


def unfiled(names: Sequence[str]) -> str:
    """Says so where some images lie in folders and others beside them: then no folder is a class. Otherwise empty."""
    loose = [name for name in names if "/" not in name]
    folders = {name.partition("/")[0] for name in names if "/" in name}
    if not loose or len(folders) < 2:
        return ""
    return (
        f"{len(loose)} of {len(names)} images lie in no sub-folder ({loose[0]}, …), so sub-folders are no classes: "
        "move these into one to have labels"
    )


@dataclass(frozen=True)
class Table:
    """A table of images. paths: of each row. columns: name → a text for each row. label: the column named like one."""

    paths: list[str]
    columns: dict[str, list[str]]
    label: str | None

    def pick(self, rows: Sequence[int]) -> dict[str, list[str]]:
        """The columns of these rows, in this order."""
        return {name: [column[row] for row in rows] for name, column in self.columns.items()}


def read_labels(file: Path, names: Sequence[str], wanted: Wanted = Wanted()) -> Labelling:  # noqa: B008 (frozen)
    """The labels of the images `names` by a table of paths and labels.

    A path of the table means the image of that name, or the only one with that file name.
    Raises UserError where an image has no label.
    """
    table = read_columns(file)
    rows = {path: row for row, path in enumerate(table.paths)}
    # A file name that is there twice, on either side, is told apart by its whole path alone.
    listed, present = (Counter(Path(path).name for path in paths) for paths in (rows, names))
    by_file = {Path(path).name: row for path, row in rows.items()}
    by_file = {name: row for name, row in by_file.items() if listed[name] == present[name] == 1}
    found = [rows.get(name, by_file.get(Path(name).name, -1)) for name in names]
    blank = table.columns.get(table.label or "", ["."] * len(table.paths)) if not wanted else ["."] * len(table.paths)
    missing = [name for name, row in zip(names, found, strict=True) if row < 0 or not blank[row]]
    if missing:
        raise UserError(f"{file}: no label for {len(missing)} of {len(names)} images ({missing[0]}, …); add them")
    return label_by_columns(str(file), table.pick(found), table.label, wanted)


def read_table(file: Path) -> list[tuple[str, str]]:
    """The (path, label) rows of a table; a label is empty where the table has none. Raises UserError as `read_columns`."""
    table = read_columns(file)
    labels = table.columns[table.label] if table.label else [""] * len(table.paths)
    return list(zip(table.paths, labels, strict=True))


def read_columns(file: Path) -> Table:
    """The rows of a CSV, TSV, JSON or JSONL file as texts, empty where a row has nothing.

    Raises UserError where the file cannot be read or has no column of paths.
    """
    rows = read_rows(file)
    path_key = _key(rows, PATH_KEYS)
    if path_key is None:
        raise UserError(f"{file}: no column of paths: name it {' or '.join(PATH_KEYS[:4])}")
    paths = rows[path_key]
    if "" in paths:
        raise UserError(f"{file}: row {paths.index('') + 1} has no path; fill it in or remove it")
    columns = {key: texts for key, texts in rows.items() if key != path_key}
    return Table(paths, columns, _key(rows, LABEL_KEYS))


def read_rows(file: Path) -> dict[str, list[str]]:
    """The columns of a CSV, TSV, JSON or JSONL file: name → a text for each row, empty where a row has nothing.

    Raises UserError where the file cannot be read or holds no rows.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".json":
            rows = json.loads(text)
        elif file.suffix.lower() == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = _csv_rows(text)
    except (OSError, UnicodeDecodeError, csv.Error, RecursionError, json.JSONDecodeError) as error:
        raise UserError(f"{file}: cannot be read as {file.suffix.lstrip('.').upper()}: {error}") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file}: expected a list of rows with a path and a label each")
    return {str(key): [_text(row.get(key)) for row in rows] for key in rows[0]}


def _csv_rows(text: str) -> list[dict[str, Any]]:
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    rows = [row for row in reader if any(cell.strip() for cell in row)]
    if rows and rows[0][0].strip().lower().endswith(EXTENSIONS):
        rows.insert(0, ["path", "label"])  # no header line
    return [dict(zip((cell.strip() for cell in rows[0]), row, strict=False)) for row in rows[1:]] if rows else []


def _key(columns: Iterable[str], known: Sequence[str]) -> str | None:
    lower = {key.lower(): key for key in columns}
    return next((lower[key] for key in known if key in lower), None)


def _text(value: Any) -> str:
    """A cell as text; a whole number that a table stored as 3.0 is "3", and a list is joined like attributes."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return SEPARATOR.join(_text(each) for each in value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
