"""From what a user writes as `data.source` to sequences of values over time.

`sines`      made anew by the procedure of TimeGAN's paper, always the same; `slow-sines`, by that of its code
.npy .npz    (N, T, F) sequences, or (T, F) or (T,), one long sequence; in an .npz under one of KEYS, or the only array
.csv .tsv    a row a step, with a line of names or without; one sequence, or several told apart by a key column
"""

from __future__ import annotations

import csv
import math
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparring.errors import UserError, nearest

Array = NDArray[np.float64]

KEYS = ("data", "series", "x", "x_train", "arr_0")
KEY_COLUMN, STEP_COLUMN = "sequence", "step"
"""Columns of this name say which sequence a row is of, and which step; so saved samples are read as they were."""

CALENDAR = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T]\d{1,2}:\d{2}.*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( \d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(:\d{2}.*)?"
)
_DAMAGE = (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile, MemoryError)


@dataclass(frozen=True)
class Sequences:
    """values: one float64 (T, F) a sequence, which may hold NaN. features: F names. aside: columns that were left out, with why.

    whole: the sequences are samples already, of one length, as arrays (N, T, F) hold them.
    """

    values: list[Array]
    features: list[str]
    aside: list[tuple[str, str]] = field(default_factory=list)
    whole: bool = False


def sines(count: int, steps: int, features: int, seed: int = 0) -> Array:
    """Sines (count, steps, features): sin(2πηt + θ), η ~ U[0, 1], θ ~ U[−π, π], each feature on its own (Yoon et al. 2019, 5.1).

    t counts steps from 0. The authors' code draws other ones, η and θ from U[0, 0.1].
    """
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(0, 1, (count, 1, features))
    phase = rng.uniform(-np.pi, np.pi, (count, 1, features))
    return np.sin(2 * np.pi * frequency * np.arange(steps)[:, None] + phase)


def slow_sines(count: int, steps: int, features: int, seed: int = 0) -> Array:
    """Sines (count, steps, features) as TimeGAN's code draws them: sin(ηt + θ), η and θ ~ U[0, 0.1], brought to [0, 1]."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0, 0.1, (2, count, 1, features))
    return (np.sin(frequency * np.arange(steps)[:, None] + phase) + 1) / 2


def open_sequences(reference: str, key: str | None = None) -> Sequences:
    """Read a file whole. key: the column that tells sequences apart; None takes one called `sequence`, if there is one.

    Raises UserError where there is nothing that can be read as numbers over time.
    """
    path = Path(reference).expanduser()
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".npy", ".npz"):
        raise UserError(
            f"{reference}: not a source of series; there are sines, slow-sines, and .csv .tsv .npy .npz files"
        )
    if not path.is_file():
        there = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{reference}: no such file{nearest(path.name, there)}; is the path right?")
    if suffix in (".csv", ".tsv"):
        return _read_table(reference, path, key)
    if key is not None:
        raise UserError(f"{reference}: an array has no column {key!r}: leave out data.key")
    return _as_sequences(reference, _read_array(reference, path))


def _read_array(reference: str, path: Path) -> NDArray[np.generic]:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        raise UserError(f"{reference}: cannot be read as NumPy arrays: {_short(error)}") from error
    names = [name for name in KEYS if name in arrays] or (list(arrays) if len(arrays) == 1 else [])
    if not names:
        raise UserError(f"{reference}: no array named {', '.join(KEYS)}; it holds {', '.join(arrays) or 'none'}")
    return arrays[names[0]]


def _as_sequences(reference: str, array: NDArray[np.generic]) -> Sequences:
    if array.dtype.kind not in "buif":
        raise UserError(f"{reference}: {array.dtype} is not numbers: save integers or floats")
    if array.ndim not in (1, 2, 3) or not array.size:
        raise UserError(f"{reference}: shape {array.shape} is not (N, T, F) sequences, nor (T, F) or (T,), a long one")
    values = array.astype(np.float64)
    if values.ndim == 1:
        values = values[:, None]
    names = [f"x{number + 1}" for number in range(values.shape[-1])]
    return Sequences([*values], names, whole=True) if values.ndim == 3 else Sequences([values], names)


def _read_table(reference: str, path: Path, key: str | None) -> Sequences:
    """Values separated by commas, semicolons or tabs; a first line with a cell that is neither number nor date holds names."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        rows = csv.reader(text.splitlines(), delimiter=delimiter)
        lines = [(rows.line_num, [cell.strip() for cell in row]) for row in rows if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{reference}: cannot be read as a text file: {_short(error)}") from error
    if not lines:
        raise UserError(f"{reference}: the file is empty")
    head = lines[0][1]
    named = any(_number(cell) is None and not CALENDAR.fullmatch(cell) for cell in head)
    names = lines.pop(0)[1] if named else [f"x{number + 1}" for number in range(len(head))]
    if not lines:
        raise UserError(f"{reference}: a line of names, and no values below it")
    for number, line in lines:
        if len(line) != len(names):
            raise UserError(f"{reference}, line {number}: {len(line)} values where the first line has {len(names)}")
    if key is not None and key not in names:
        raise UserError(f"{reference}: has no column {key!r} to tell sequences apart by{nearest(key, names)}")
    key = key if key is not None else KEY_COLUMN if KEY_COLUMN in names else None
    columns = {name: [line[index] for _, line in lines] for index, name in enumerate(names)}
    if len(columns) < len(names):
        raise UserError(f"{reference}: two columns have one name: rename one")
    aside: list[tuple[str, str]] = []
    kept: dict[str, Array] = {}
    for name, cells in columns.items():
        if name == key:
            continue
        if name == STEP_COLUMN or (all(CALENDAR.fullmatch(cell) for cell in cells if cell) and any(cells)):
            aside.append((name, "it names the steps"))
            continue
        kept[name] = _numbers(reference, name, cells, [number for number, _ in lines])
    if not kept:
        raise UserError(f"{reference}: holds no numbers beside {', '.join(columns)}")
    values = np.stack([*kept.values()], axis=1)
    if key is None:
        return Sequences([values], [*kept], aside)
    owners = np.array(columns[key])
    # In the order of their first rows, and rows in the file's order.
    return Sequences([values[owners == each] for each in dict.fromkeys(columns[key])], [*kept], aside)


def _numbers(reference: str, name: str, cells: list[str], lines: list[int]) -> Array:
    values = [_number(cell) for cell in cells]
    if None in values:
        where = values.index(None)
        raise UserError(
            f"{reference}, line {lines[where]}: {cells[where]!r} in column {name!r} is not a number: leave the column out, "
            f"or tell sequences apart by it with data.key={name}"
        )
    return np.array(values, np.float64)


def _number(cell: str) -> float | None:
    """The cell's value; an empty one is a missing number."""
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return None


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())[:100] or type(error).__name__
    return "it holds Python objects, which are never read" if "allow_pickle" in text else text
