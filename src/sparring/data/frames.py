"""Files of rows with named columns, as pandas frames: CSV and Parquet; and `.dat`, matrices whose columns get names, x1, x2, …."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparring.errors import UserError, missing_extra, nearest

if TYPE_CHECKING:
    from pandas import DataFrame

ENDINGS = (".csv", ".tsv", ".txt", ".dat", ".parquet")
UNNAMED = ".dat"  # files without a line of names
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
