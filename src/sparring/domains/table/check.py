"""What is wrong with a table, and what each of its columns is taken for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sparring.data.checks.listed import ListedReport, some_of
from sparring.data.frames import read_frame
from sparring.domains.table.columns import Column, fit_column
from sparring.domains.table.conditions import said
from sparring.domains.table.constraints import Constraints, plan_for
from sparring.domains.table.data import TableOptions, column_options
from sparring.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

REASONS = {
    "text": "it is free text, which is not modelled: set its kind to drop or category",
    "constant": "it has one value, which every sample will have",
    "key": "it numbers the rows, and is made anew",
    "holes": "values are missing, and will be from samples as often",
    "endless": "it holds infinite values, which are taken for missing ones",
    "rare": "it has more categories than data.max_levels; the rarest share one, and are drawn by how often they were there",
    "copies": "it equals an earlier row",
    "breaks": "it breaks a constraint of data.constraints, and is refused by a training",
}
SHOWN = 1000  # copied rows that are named


@dataclass(frozen=True)
class TableReport(ListedReport):
    """What was found. columns: name → what it is taken for, as `summary` has them in words. Rows count from 0.

    The lists hold names of columns; copies: numbers of rows that equal an earlier one. breaks: rows and the constraints
    that they break.
    """

    reasons = REASONS

    text: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    key: list[str] = field(default_factory=list)
    holes: list[str] = field(default_factory=list)
    endless: list[str] = field(default_factory=list)
    rare: list[str] = field(default_factory=list)
    copies: list[int] = field(default_factory=list)
    breaks: list[str] = field(default_factory=list)

    def name_of(self, kind: str, each: int | str) -> str:
        return str(each) if kind == "breaks" else f"row {each}" if kind == "copies" else f"column {each}"


def check_table(options: TableOptions) -> TableReport:
    """Look over a file. Raises UserError where it cannot be read."""
    frame = read_frame(options.source, options.query)
    known = column_options(options, frame.columns.tolist())
    columns: dict[str, Column] = {}
    text: list[str] = []
    for name in frame.columns:
        try:
            column = fit_column(frame[name], known.get(name, {}), options.max_levels, log_tails=options.log_tails)
        except UserError:
            text.append(name)
            continue
        if column is not None:
            columns[name] = column
    duplicated = np.flatnonzero(frame.duplicated().to_numpy())[:SHOWN].tolist()
    endless = [
        name for name in frame.select_dtypes("number") if np.isinf(frame[name].to_numpy(float, na_value=np.nan)).any()
    ]
    return TableReport(
        options.source,
        {"rows": len(frame), "columns": {name: _words(column) for name, column in columns.items()}},
        text=text,
        constant=[name for name, column in columns.items() if column.kind == "constant"],
        key=[name for name, column in columns.items() if column.kind == "key"],
        holes=[name for name in frame.columns if frame[name].isna().any()],
        endless=endless,
        rare=[name for name, column in columns.items() if column.rare],
        copies=duplicated,
        breaks=[
            f"row {row}: {words}"
            for words, rows in _broken(options.constraints, frame, [*columns.values()])
            for row in np.flatnonzero(rows)[:SHOWN].tolist()
        ],
    )


def introduce(rows: int, columns: Iterable[Column]) -> list[str]:
    """What columns are taken for, a line a kind."""
    kinds: dict[str, list[str]] = {}
    for column in columns:
        kind, _, more = _words(column).partition(", ")
        more = more.removesuffix(" of them")
        kinds.setdefault(kind, []).append(f"{column.name} ({more})" if more else column.name)
    lines = [f"{rows:,} rows; what is taken for another kind than it is, data.columns corrects (docs/tables.md)"]
    return [*lines, *(f"  {kind}: {some_of(names)}" for kind, names in kinds.items())]


def _broken(
    constraints: Constraints, frame: DataFrame, columns: list[Column]
) -> Iterable[tuple[str, NDArray[np.bool_]]]:
    return () if constraints == Constraints() else plan_for(constraints, columns).broken(frame)


def _words(column: Column) -> str:
    if column.boolean:
        return "boolean"
    if column.ordered:
        shown = [said(level) for level in column.levels]
        order = " < ".join(shown if len(shown) <= 8 else [*shown[:4], "…", *shown[-3:]])
        return f"ordinal, {order}" + (", by the alphabet: say data.columns.NAME.order" if column.guessed else "")
    if column.kind == "category":
        return f"category, {column.size - bool(column.rare) + len(column.rare)} of them"
    if column.kind in ("continuous", "integer"):
        return f"{column.kind}, {column.low:.8g} to {column.high:.8g}"
    return column.kind
