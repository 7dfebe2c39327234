"""From what a user writes as `data.source` to rows of numbers and their labels.

`ring`, `grid`   mixtures of Gaussians, drawn anew and always the same
.npy             numbers (N, D) or (N,)
.npz             the same under one of POINT_KEYS, or as the only array beside the labels
.csv .tsv        a row each, with a line of names or without
"""

from __future__ import annotations

import csv
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparring.domains.vector.mixtures import COUNT, MIXTURES, SEED
from sparring.errors import UserError, nearest

POINT_KEYS = ("data", "points", "vectors", "features", "x", "x_train", "arr_0")
LABEL_COLUMNS = ("label", "labels", "class")  # of tables: a column named y is a coordinate there
LABEL_KEYS = (*LABEL_COLUMNS, "y", "y_train", "target", "targets")  # of an .npz
CLASS_KEY = "classes"  # names, which whole-number labels of an .npz count from 0

_DAMAGE = (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile, MemoryError)


@dataclass(frozen=True)
class Rows:
    """points: float64 (N, D), which may hold NaN. labels: N texts, or empty."""

    points: NDArray[np.float64]
    labels: list[str]


def open_rows(reference: str, label: str | None = None) -> Rows:
    """Read a source whole.

    label: the column, or the array of an .npz, that holds labels; None takes the first of LABEL_COLUMNS or LABEL_KEYS.
    Raises UserError where there is nothing that can be read as numbers.
    """
    if reference in MIXTURES:
        if label is not None:
            raise UserError(f"{reference} has no labels: leave out data.label")
        return Rows(MIXTURES[reference]().draw(COUNT, SEED), [])
    path = Path(reference).expanduser()
    suffix = path.suffix.lower()
    if suffix not in READERS:
        hint = nearest(reference, MIXTURES) or f"; there are {', '.join(MIXTURES)}, and {' '.join(READERS)} files"
        raise UserError(f"{reference}: not a source of vectors{hint}")
    if not path.is_file():
        there = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{reference}: no such file{nearest(path.name, there)}; is the path right?")
    rows = READERS[suffix](reference, path, label)
    if not rows.points.size:
        raise UserError(f"{reference}: holds no numbers")
    return rows


def _read_npy(reference: str, path: Path, label: str | None) -> Rows:
    if label is not None:
        raise UserError(f"{reference}: an .npy has no labels: save an .npz with `data` and `{label}`, or a .csv")
    try:
        array = np.load(path, allow_pickle=False)
    except _DAMAGE as error:
        raise UserError(f"{reference}: cannot be read as a NumPy array: {_short(error)}") from error
    return Rows(_as_points(reference, array), [])


def _read_npz(reference: str, path: Path, label: str | None) -> Rows:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except _DAMAGE as error:
        raise UserError(f"{reference}: cannot be read as NumPy arrays: {_short(error)}") from error
    lower = {key.lower(): key for key in arrays}
    label_key = _label_key(reference, list(arrays), label, LABEL_KEYS)
    others = [key for key in arrays if key != label_key and key.lower() != CLASS_KEY]
    key = next((lower[known] for known in POINT_KEYS if known in lower and lower[known] in others), None)
    if key is None and len(others) != 1:
        found = ", ".join(arrays) or "none"
        raise UserError(f"{reference}: no array named {', '.join(POINT_KEYS)}; it holds {found}: rename the points")
    points = _as_points(reference, arrays[key or others[0]])
    if label_key is None:
        return Rows(points, [])
    names = arrays.get(lower.get(CLASS_KEY, ""))
    return Rows(points, _as_labels(reference, arrays[label_key], len(points), names))


def _read_table(reference: str, path: Path, label: str | None) -> Rows:
    """Numbers separated by commas, semicolons or tabs; a first line with a cell that is no number holds the names."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{reference}: cannot be read as a text file: {_short(error)}") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines(), delimiter=delimiter) if line]
    if not lines:
        raise UserError(f"{reference}: the file is empty")
    has_names = any(_number(cell) is None for cell in lines[0])
    names = lines.pop(0) if has_names else [str(index + 1) for index in range(len(lines[0]))]
    label_key = _label_key(reference, names, label, LABEL_COLUMNS) if has_names or label is not None else None
    column = None if label_key is None else names.index(label_key)
    labels: list[str] = []
    values: list[list[float]] = []
    for number, line in enumerate(lines, start=2 if has_names else 1):
        if len(line) != len(names):
            raise UserError(f"{reference}, line {number}: {len(line)} values where the first line has {len(names)}")
        if column is not None:
            labels.append(line.pop(column))
        values.append(_numbers(line, reference, number, [name for name in names if name != label_key]))
    return Rows(np.array(values, np.float64).reshape(len(values), -1), labels)


READERS = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_table, ".tsv": _read_table}


def _numbers(cells: Sequence[str], reference: str, line: int, names: Sequence[str]) -> list[float]:
    try:
        return [float(cell) if cell else math.nan for cell in cells]
    except ValueError:
        name, cell = next((name, cell) for name, cell in zip(names, cells, strict=True) if _number(cell) is None)
        raise UserError(
            f"{reference}, line {line}: {cell!r} in column {name!r} is not a number: leave the column out, "
            f"or name it as the labels with data.label={name}"
        ) from None


def _number(cell: str) -> float | None:
    """The cell's value; an empty one is a missing number."""
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return None


def _label_key(reference: str, names: Sequence[str], label: str | None, known: Sequence[str]) -> str | None:
    if label is not None:
        if label not in names:
            raise UserError(f"{reference}: has no {label!r} to take labels from{nearest(label, names)}")
        return label
    lower = {name.lower(): name for name in names}
    return next((lower[key] for key in known if key in lower), None)


def _as_points(reference: str, array: NDArray[np.generic]) -> NDArray[np.float64]:
    if array.dtype.kind not in "buif":
        raise UserError(f"{reference}: {array.dtype} is not numbers: save integers or floats")
    if array.ndim not in (1, 2):
        raise UserError(f"{reference}: shape {array.shape} is not (N, D) or (N,); flatten what belongs to one sample")
    return array.astype(np.float64).reshape(len(array), -1)


def _as_labels(reference: str, labels: NDArray[np.generic], count: int, names: NDArray[np.generic] | None) -> list[str]:
    labels = labels.reshape(-1) if labels.ndim == 2 and 1 in labels.shape else labels
    if labels.shape != (count,):
        raise UserError(f"{reference}: labels of shape {labels.shape} for {count} rows: there must be one for each")
    if names is not None and names.dtype.kind == "U" and labels.dtype.kind in "iub":
        numbers = labels.astype(np.int64)
        if numbers.min() < 0 or numbers.max() >= len(names):
            raise UserError(f"{reference}: labels do not number the {len(names)} names in `{CLASS_KEY}` from 0")
        return [str(name) for name in names[numbers].tolist()]
    if labels.dtype.kind == "f":
        return [f"{value:g}" for value in labels.tolist()]
    if labels.dtype.kind not in "Uiub":
        raise UserError(f"{reference}: labels of {labels.dtype} are neither text nor numbers")
    return [str(value) for value in labels.tolist()]


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())[:100] or type(error).__name__
    return "it holds Python objects, which are never read" if "allow_pickle" in text else text
