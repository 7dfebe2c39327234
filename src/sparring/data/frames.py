"""Files of rows with named columns, as pandas frames: CSV and Parquet."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparring.errors import UserError, missing_extra, nearest

if TYPE_CHECKING:
    from pandas import DataFrame, Series

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")
MISSING = ("", "NA", "NaN", "nan", "null", "NULL")  # `None` and `?` may be answers
SNIFFED = 65536  # characters from which the delimiter is told


def read_frame(source: str) -> DataFrame:
    """The rows of a file, at least one. Raises UserError where it cannot be read or a row does not fit the columns."""
    pandas()
    path = Path(source).expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{source}: not a file of rows; there are {' '.join(ENDINGS)}")
    if not path.is_file():
        there = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{source}: no such file{nearest(path.name, there)}; is the path right?")
    frame = _parquet(source, path) if path.suffix.lower() == ".parquet" else _csv(source, path)
    frame.columns = [str(name).strip() for name in frame.columns]
    _require_different(source, frame.columns.tolist())
    if not len(frame) or not len(frame.columns):
        raise UserError(f"{source}: holds no rows")
    return frame


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
            width = 0
            for row in lines:
                if not width:
                    width = len(row)
                    _require_different(source, row)  # pandas would call the second one x.1
                if row and len(row) != width:
                    raise UserError(
                        f"{source}: line {lines.line_num} has {len(row)} values where the first has {width} columns"
                    )
        return pandas().read_csv(
            path, sep=delimiter, encoding="utf-8-sig", skipinitialspace=True,
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
        return csv.Sniffer().sniff(start, delimiters=",;\t|").delimiter
    except csv.Error:
        return ","  # a single column
