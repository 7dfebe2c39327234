"""From what a user writes as `data.source` to sequences of values over time.

`sines`      made anew by the procedure of TimeGAN's paper, always the same; `slow-sines`, by that of its code
.npy .npz    (N, T, F) sequences, or (T, F) or (T,), one long sequence; in an .npz under one of KEYS, or the only array
.csv .tsv    a row a step, with a line of names or without; one sequence, or several told apart by a key column
.parquet     the same rows
"""

from __future__ import annotations

import csv
import math
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.domains.series.attributes import MOST
from sparring.domains.series.clock import Clock, read_clock
from sparring.errors import UserError, missing_extra, nearest

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
    attributes: columns that are constant in each sequence, by name, a cell a sequence; an empty one is missing.
    clock, times: the column that says when steps are, and what it says, (T,) a sequence; None where there is none.
    """

    values: list[Array]
    features: list[str]
    aside: list[tuple[str, str]] = field(default_factory=list)
    whole: bool = False
    attributes: dict[str, list[str]] = field(default_factory=dict)
    clock: Clock | None = None
    times: list[Array] = field(default_factory=list)


@dataclass(frozen=True)
class Columns:
    """What a user says of the columns of a file.

    key: the one that tells sequences apart; None takes one called `sequence`, if there is one. time: the one that says when;
    None: the first of dates. features: the ones to learn; None: all. attributes: what columns are, by name: `category` or
    `number` for attributes, `feature`, `drop`.
    """

    key: str | None = None
    time: str | None = None
    features: Sequence[str] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def named(self) -> list[tuple[str, str]]:
        """(option, column) of all that are named."""
        single = [(f"data.{option}", name) for option, name in (("key", self.key), ("time", self.time)) if name]
        return [
            *single,
            *(("data.columns", name) for name in self.features or ()),
            *(("data.attributes", name) for name in self.attributes),
        ]


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


def open_sequences(reference: str, columns: Columns | None = None) -> Sequences:
    """Read a file whole. Raises UserError where there is nothing that can be read as numbers over time."""
    columns = columns or Columns()
    path = Path(reference).expanduser()
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet", ".npy", ".npz"):
        raise UserError(
            f"{reference}: not a source of series; there are sines, slow-sines, and .csv .tsv .parquet .npy .npz files"
        )
    if not path.is_file():
        there = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{reference}: no such file{nearest(path.name, there)}; is the path right?")
    if suffix in (".csv", ".tsv"):
        return _sorted_out(reference, *_read_text(reference, path), columns)
    if suffix == ".parquet":
        return _sorted_out(reference, *_read_parquet(reference, path), columns)
    if named := columns.named():
        option, name = named[0]
        raise UserError(f"{reference}: an array has no column {name!r}: leave out {option}")
    return _read_arrays(reference, path)


def _read_arrays(reference: str, path: Path) -> Sequences:
    """Arrays; where `lengths` (N,) are beside them, sequences end there."""
    array, lengths = _read_array(reference, path)
    found = _as_sequences(reference, array)
    if lengths is None or not found.whole:
        return found
    if lengths.shape != (len(found.values),) or lengths.dtype.kind not in "iu" or lengths.max() > array.shape[1]:
        raise UserError(f"{reference}: its lengths are not one whole number a sequence, {array.shape[1]} at most")
    ended = [values[:length] for values, length in zip(found.values, lengths, strict=True)]
    return Sequences(ended, found.features)


def _read_array(reference: str, path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found, None
        with found as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        raise UserError(f"{reference}: cannot be read as NumPy arrays: {_short(error)}") from error
    names = [name for name in KEYS if name in arrays] or (list(arrays) if len(arrays) == 1 else [])
    if not names:
        raise UserError(f"{reference}: no array named {', '.join(KEYS)}; it holds {', '.join(arrays) or 'none'}")
    return arrays[names[0]], arrays.get("lengths")


def _as_sequences(reference: str, array: NDArray[np.generic]) -> Sequences:
    if array.dtype.kind not in "buif":
        raise UserError(f"{reference}: {array.dtype} is not numbers: save integers or floats")
    if array.ndim not in (1, 2, 3) or not array.size:
        raise UserError(f"{reference}: shape {array.shape} is not (N, T, F) sequences, nor (T, F) or (T,), a long one")
    values = array.astype(np.float64)
    if values.ndim == 1:
        values = values[:, None]
    names = [f"x{number + 1}" for number in range(values.shape[-1])]
    if values.ndim < 3:
        return Sequences([values], names)
    # Steps at the end that hold nothing at all are there to fill the array.
    ends = [int(np.flatnonzero(~np.isnan(each).all(axis=1)).max(initial=-1)) + 1 for each in values]
    whole = min(ends) == values.shape[1]
    return Sequences([each[:end] for each, end in zip(values, ends, strict=True)], names, whole=whole)


def _read_text(reference: str, path: Path) -> tuple[dict[str, list[str]], list[int]]:
    """Columns of cells, and the line of each row, of values separated by commas, semicolons or tabs.

    A first line with a cell that is neither number nor date holds names.
    """
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
    columns = {name: [line[index] for _, line in lines] for index, name in enumerate(names)}
    if len(columns) < len(names):
        raise UserError(f"{reference}: two columns have one name: rename one")
    return columns, [number for number, _ in lines]


def _read_parquet(reference: str, path: Path) -> tuple[dict[str, list[str]], list[int]]:
    """The same of a Parquet file, as text would hold it; rows count from 1."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise missing_extra("pyarrow", "series", "reading Parquet") from None
    try:
        table = parquet.read_table(path)
    except Exception as error:  # pyarrow raises several kinds of its own
        raise UserError(f"{reference}: cannot be read as Parquet: {_short(error)}") from error
    if not table.num_rows or not table.num_columns:
        raise UserError(f"{reference}: holds no rows")
    return {name: [_cell(value) for value in table[name].to_pylist()] for name in table.column_names}, [
        *range(1, table.num_rows + 1)
    ]


def _cell(value: object) -> str:
    """A value as text would hold it."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _sorted_out(reference: str, cells: Mapping[str, list[str]], lines: Sequence[int], columns: Columns) -> Sequences:
    """What each column is, and the sequences in it."""
    for option, name in columns.named():
        if name not in cells:
            what = " to tell sequences apart by" if option == "data.key" else f", which {option} names"
            raise UserError(f"{reference}: has no column {name!r}{what}{nearest(name, list(cells))}")
    key = columns.key if columns.key is not None else KEY_COLUMN if KEY_COLUMN in cells else None
    # Sequences in the order of their first rows, and rows in the file's order.
    owners = cells[key] if key is not None else [""] * len(lines)
    rows: dict[str, list[int]] = {owner: [] for owner in owners}
    for row, owner in enumerate(owners):
        rows[owner].append(row)
    parts = [np.array(each) for each in rows.values()]

    aside: list[tuple[str, str]] = []
    attributes: dict[str, list[str]] = {}
    kept: dict[str, Array] = {}
    dates = [name for name, column in cells.items() if name != key and _is_date(column) and not _static(column, parts)]
    clock, times = _clock(reference, cells, dates, columns.time)
    for name, column in cells.items():
        said = columns.attributes.get(name)
        if name == key:
            continue
        if clock is not None and name == clock.name:
            aside.append((name, "it names the steps"))
        elif said == "drop":
            aside.append((name, "data.attributes drops it"))
        elif said in ("category", "number") or (said is None and _static(column, parts)):
            single = _one_each(reference, name, column, parts)
            if said is None and _names(single):
                aside.append((name, "it is another one in most sequences"))
            else:
                attributes[name] = single
        elif said is None and (name == STEP_COLUMN or _is_date(column)):
            aside.append((name, "it names the steps"))
        elif columns.features is None or name in columns.features:
            kept[name] = _numbers(reference, name, column, lines)
        else:
            aside.append((name, "data.columns has it not"))
    if not kept:
        raise UserError(f"{reference}: holds no numbers beside {', '.join(cells)}")
    values = np.stack([*kept.values()], axis=1)
    ordered = [] if clock is None else [times[part] for part in parts]
    return Sequences([values[part] for part in parts], [*kept], aside, False, attributes, clock, ordered)


def _clock(
    reference: str, cells: Mapping[str, list[str]], dates: Sequence[str], named: str | None
) -> tuple[Clock | None, Array]:
    """The column that says when steps are: the one that is named, or else the first of dates."""
    for name in [named] if named else dates:
        if found := read_clock(name, cells[name]):
            return found
        if named:
            raise UserError(
                f"{reference}: column {name!r} of times holds what is neither a date, the year first, nor a number"
            )
    return None, np.zeros(0)


def _is_date(column: Sequence[str]) -> bool:
    return any(column) and all(CALENDAR.fullmatch(cell) for cell in column if cell)


def _static(column: Sequence[str], parts: Sequence[NDArray[np.int64]]) -> bool:
    """Whether a column is one value in each of several sequences, and not in all of them together."""
    if len(parts) < 2 or max(map(len, parts)) < 2 or len(set(column)) < 2:
        return False
    return all(len({column[row] for row in part}) == 1 for part in parts)


def _names(cells: Sequence[str]) -> bool:
    """Whether words are names of sequences rather than categories of them."""
    kinds = set(cells)
    return len(kinds) > max(MOST, len(cells) // 2) and any(_number(cell) is None for cell in kinds)


def _one_each(reference: str, name: str, column: Sequence[str], parts: Sequence[NDArray[np.int64]]) -> list[str]:
    for number, part in enumerate(parts):
        if len({column[row] for row in part}) > 1:
            raise UserError(f"{reference}[{number}]: the attribute {name!r} changes within the sequence")
    return [column[part[0]] for part in parts]


def _numbers(reference: str, name: str, cells: Sequence[str], lines: Sequence[int]) -> Array:
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
