"""Excel workbooks: a sheet as rows with named columns, and rows as a sheet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sparring.errors import UserError, missing_extra, nearest

if TYPE_CHECKING:
    from pandas import DataFrame

ROWS = 1_048_576  # of a sheet, the line of names among them


def split_workbook(source: str) -> tuple[str, str | None]:
    """`people.xlsx:patients` → the file and the sheet; a source of another kind, or without a sheet, is all file."""
    path, colon, sheet = source.rpartition(":")
    return (path, sheet) if colon and path.lower().endswith(".xlsx") else (source, None)


def read_workbook(source: str, path: Path, sheet: str | None, missing: list[str]) -> DataFrame:
    """The rows of a sheet, the only one that holds any where none is named. missing: texts that say nothing is there.

    Formulas have the values that the file keeps of them. Raises UserError.
    """
    pandas = _libraries("reading")
    try:
        book = pandas.ExcelFile(path, engine="openpyxl")
    except Exception as error:  # zipfile's, openpyxl's, and KeyErrors of theirs
        raise UserError(f"{source}: not an Excel workbook ({str(error).splitlines()[0]})") from None
    with book:
        names = [str(name) for name in book.sheet_names]
        if sheet is None:
            full = [name for name in names if any(book.book[name].iter_rows(max_row=2, values_only=True))]
            if len(full) != 1:
                which = ", ".join(full) or "none with rows"
                raise UserError(f"{source}: which sheet? Write {path.name}:SHEET; it has {which}")
            sheet = full[0]
        elif sheet not in names:
            raise UserError(f"{source}: has no sheet {sheet!r}{nearest(sheet, names)}; it has {', '.join(names)}")
        # pandas would number the second of two columns of one name, and make up names.
        first = next(book.book[sheet].iter_rows(max_row=1, values_only=True), ())
        heads = ["" if cell is None else str(cell).strip() for cell in first]
        while heads and not heads[-1]:
            heads.pop()
        for number, name in enumerate(heads, 1):
            if not name:
                raise UserError(f"{source}: column {number} has no name in the first line")
            if name in heads[: number - 1]:
                raise UserError(f"{source}: two columns are called {name!r}")
        return book.parse(
            sheet, usecols=range(len(heads)), keep_default_na=False, na_values=missing
        ).dropna(how="all", ignore_index=True)  # fmt: skip


def write_workbook(frames: Iterable[DataFrame], stream: IO[bytes], out: Path) -> None:
    """Write tables with the same columns one below the other on one sheet. Times with a zone are text, which Excel has not.

    Raises UserError where there are more rows than a sheet holds, or characters that it cannot.
    """
    _libraries("writing")
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.utils.exceptions import IllegalCharacterError

    book = Workbook(write_only=True)
    sheet = book.create_sheet("samples")
    written = 0

    def cell(value: Any) -> Any:
        made = WriteOnlyCell(sheet, value=_plain(value))
        if isinstance(value, str):
            made.data_type = "s"  # or `=…` would be a formula
        return made

    try:
        for frame in frames:
            if not written:
                sheet.append([cell(name) for name in frame.columns])
                written = 1
            written += len(frame)
            if written > ROWS:
                raise UserError(f"{out}: a sheet of Excel holds {ROWS - 1:,} rows at most: write .csv or .parquet")
            for row in frame.astype(object).itertuples(index=False, name=None):
                sheet.append([cell(value) for value in row])
    except IllegalCharacterError as error:
        raise UserError(f"{out}: Excel has no room for control characters ({str(error)[:40]!r}): write .csv") from None
    book.save(stream)


def _plain(value: Any) -> Any:
    """A cell's value as openpyxl takes it; None where it is missing."""
    import pandas

    if value is None or (not isinstance(value, str) and pandas.isna(value)):
        return None
    if isinstance(value, pandas.Timestamp):
        return value.isoformat() if value.tzinfo else value.to_pydatetime(warn=False)
    return value.item() if hasattr(value, "item") else value


def _libraries(purpose: str) -> Any:
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise missing_extra("openpyxl", "table", f"{purpose} Excel") from None
    import pandas

    return pandas
