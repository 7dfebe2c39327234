"""Rows with named columns, written as they come: CSV and Parquet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparring.errors import missing_extra
from sparring.files import whole_file

Columns = Mapping[str, list[Any]]


def write_rows(parts: Iterator[Columns], out: Path, form: str) -> None:
    """Write columns, all with the same names, one after the other; form: `csv` or `parquet`. NaN is an empty cell in CSV.

    Raises UserError where the library of Parquet is not installed; then, and on any error, nothing is left behind.
    """
    if form == "csv":
        _write_csv(parts, out)
    else:
        _write_parquet(parts, out)


def _write_csv(parts: Iterator[Columns], out: Path) -> None:
    with whole_file(out) as stream:
        for number, columns in enumerate(parts):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            if number == 0:
                writer.writerow(columns)
            writer.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))
            stream.write(text.getvalue().encode())


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    # Samples are 32-bit numbers: nine digits give them back.
    return "" if math.isnan(value) else f"{value:.9g}"


def _write_parquet(parts: Iterator[Columns], out: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise missing_extra("pyarrow", "series", "writing Parquet") from None
    with whole_file(out) as stream:
        first = pyarrow.table(dict(next(parts)))
        with parquet.ParquetWriter(stream, first.schema) as writer:
            writer.write_table(first)
            for columns in parts:
                writer.write_table(pyarrow.table(dict(columns), schema=first.schema))
