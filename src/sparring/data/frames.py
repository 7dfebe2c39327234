"""Rows with named columns as pandas frames: CSV, Parquet, Excel, databases, and frames that are in memory already.

Matrices, `.dat`, have no line of names: their columns get some, x1, x2, ….
"""

from __future__ import annotations

import csv
import hashlib
import io
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparring.data.built import default_folder
from sparring.data.database import is_database, read_database
from sparring.data.workbooks import read_workbook, split_workbook
from sparring.errors import UserError, missing_extra, nearest
from sparring.files import write_whole

if TYPE_CHECKING:
    from pandas import DataFrame, Series

ENDINGS = (".csv", ".tsv", ".txt", ".dat", ".parquet", ".xlsx")
UNNAMED = ".dat"  # files without a line of names
MISSING = ("", "NA", "NaN", "nan", "null", "NULL")  # `None` and `?` may be answers
SNIFFED = 65536  # characters from which the delimiter is told


def read_frame(source: str, query: str | None = None) -> DataFrame:
    """The rows of a file or a database, at least one; every cell a number, text, a date or true or false, or missing.

    source: one of `ENDINGS`, `people.xlsx:SHEET` for one of several sheets, or the URL of a database (see `data.database`), to
    which alone a query can be put. Raises UserError where it cannot be read or a row does not fit the columns.
    """
    pandas()
    if is_database(source):
        frame = read_database(source, query)
    elif query is not None:
        raise UserError(f"{source}: data.query is for databases: leave it out, or name one by its URL")
    else:
        frame = _file(source)
    frame.columns = [str(name).strip() for name in frame.columns]
    _require_different(source, frame.columns.tolist())
    if not len(frame) or not len(frame.columns):
        raise UserError(f"{source}: holds no rows")
    for name in frame.columns:
        if frame[name].dtype == object:
            frame[name] = _plain(source, frame[name])
    return frame


def keep_frame(frame: Any) -> str:
    """Keep a table that is in memory among the files of the cache, and name that file: so a run of it can go on.

    Equal tables are one file; the index is left out. Raises UserError for what is no table, or cannot be kept.
    """
    pd = pandas()
    if not isinstance(frame, pd.DataFrame):
        raise UserError(f"data are the name of a source or a pandas DataFrame, not {type(frame).__name__}")
    named = frame.set_axis([str(name) for name in frame.columns], axis=1).reset_index(drop=True)
    _require_different("the DataFrame", named.columns.tolist())
    stream = io.BytesIO()
    try:
        named.to_parquet(stream, index=False)
    except ImportError:
        raise missing_extra("pyarrow", "table", "keeping a DataFrame") from None
    except Exception as error:  # pyarrow's own, of many kinds
        raise UserError(f"the DataFrame cannot be kept as Parquet: {' '.join(str(error).split())[:160]}") from None
    content = stream.getvalue()
    path = default_folder() / "frames" / f"frame-{hashlib.blake2b(content, digest_size=8).hexdigest()}.parquet"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    return str(path)


def _file(source: str) -> DataFrame:
    name, sheet = split_workbook(source)
    path = Path(name).expanduser()
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UserError(f"{source}: not a file of rows; there are {' '.join(ENDINGS)}, and URLs of databases")
    if not path.is_file():
        there = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{source}: no such file{nearest(path.name, there)}; is the path right?")
    if ending == ".xlsx":
        return read_workbook(source, path, sheet, list(MISSING))
    return _parquet(source, path) if ending == ".parquet" else _csv(source, path)


def _plain(source: str, values: Series) -> Series:
    """A column of objects: dates and decimal numbers as such, and nothing that is neither text nor a number. Raises UserError."""
    kinds = {type(each) for each in values.dropna().unique()} if _hashable(values) else {list}
    if kinds and all(issubclass(kind, date) for kind in kinds):
        return pandas().to_datetime(values)
    if Decimal in kinds and kinds <= {Decimal, int, float}:
        return values.astype(float)
    if strange := [kind.__name__ for kind in kinds if not issubclass(kind, str | int | float | bool | np.generic)]:
        if set(strange) <= {"UUID", "time"}:
            return values.map(str, na_action="ignore")
        raise UserError(f"{source}: column {values.name!r} holds values of the type {strange[0]}: leave it out")
    return values


def _hashable(values: Series) -> bool:
    try:
        values.dropna().unique()
    except TypeError:
        return False
    return True


def csv_text(frame: DataFrame, *, header: bool = True) -> str:
    """The rows as lines of CSV, as `DataFrame.to_csv` writes them without an index. Different values are written out once."""
    lines = [",".join(map(_quoted, map(str, frame.columns)))] if header else []
    if len(frame.columns) == 1:  # an empty line would be no row
        lines += [text or '""' for text in _texts(frame[frame.columns[0]])]
    else:
        lines += map(",".join, zip(*(_texts(frame[name]) for name in frame.columns), strict=True))
    return "\n".join([*lines, ""])


def _texts(column: Series) -> list[str]:
    """A column's values as CSV has them, empty where they are missing."""
    codes, there = pandas().factorize(column, use_na_sentinel=True)
    kind, bytes_each = column.dtype.kind, getattr(column.dtype, "itemsize", 0)
    plain = str if kind in "iu" else repr if kind == "f" and bytes_each == 8 else None
    # Others by their own type: of 32 bits with as many digits as they have, and dates that are all days as days.
    texts = map(plain, there.tolist()) if plain else map(_quoted, pandas().Series(there).astype(str))
    array = np.array([*texts, ""], object)
    return array[codes].tolist()


def _quoted(text: str) -> str:
    """A value in quotes where it needs them (RFC 4180)."""
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\n\r') else text


def pandas() -> Any:
    """The library. Raises UserError where it is not installed."""
    try:
        import pandas
    except ImportError:
        raise missing_extra("pandas", "table", "reading files of rows") from None
    return pandas


def _parquet(source: str, path: Path) -> DataFrame:
    try:
        return pandas().read_parquet(path)
    except ImportError:
        raise missing_extra("pyarrow", "table", "reading Parquet") from None
    except Exception as error:
        raise UserError(f"{source}: not a Parquet file ({str(error).splitlines()[0]})") from None


def _csv(source: str, path: Path) -> DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            start = stream.read(SNIFFED)
            delimiter = _delimiter(start, path)
            stream.seek(0)
            # pandas fills short rows up without a word.
            lines = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
            unnamed = path.suffix.lower() == UNNAMED
            width = 0
            for row in lines:
                if not width:
                    width = len(row)
                    if not unnamed:
                        _require_different(source, row)  # pandas would call the second one x.1
                if row and len(row) != width:
                    raise UserError(
                        f"{source}: line {lines.line_num} has {len(row)} values where the first has {width} columns"
                    )
        names = {"header": None, "names": [f"x{number + 1}" for number in range(width)]} if unnamed else {}
        return pandas().read_csv(
            path, sep=delimiter, **names, encoding="utf-8-sig", skipinitialspace=True,
            keep_default_na=False, na_values=list(MISSING), low_memory=False, index_col=False,
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 text (byte {error.start}): save it in that encoding") from None
    except (csv.Error, ValueError) as error:
        raise UserError(f"{source}: {str(error).splitlines()[0]}") from None


def _require_different(source: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in map(str.strip, names):
        if name in seen:
            raise UserError(f"{source}: two columns are called {name!r}")
        seen.add(name)


def _delimiter(start: str, path: Path) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    try:
        return (
            csv.Sniffer().sniff(start, delimiters=",;\t|" + (" " if path.suffix.lower() == UNNAMED else "")).delimiter
        )
    except csv.Error:
        return ","  # a single column
