"""The reports of sdmetrics (https://docs.sdv.dev/sdmetrics): what users of other packages compare samples by."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sparring.data.frames import pandas
from sparring.domains.table.cells import Cell
from sparring.domains.table.columns import NUMBERS, Column, numbers
from sparring.errors import missing_extra
from sparring.metrics.weights import Unavailable

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Score:
    """The score of a report, and of each of its properties by name, in [0, 1], higher being better."""

    total: float
    properties: dict[str, float]


def quality(real: Tensor, fake: Tensor, cells: Sequence[Cell]) -> Score:
    """How alike columns, and pairs of columns, are on both sides, features of both. Raises Unavailable.

    Numbers are compared as features have them, which changes none of the report's own: it takes distances of distributions
    and correlations.
    """
    types = {cell.column.name: {"sdtype": "numerical" if cell.number else "categorical"} for cell in cells}
    return _reported("QualityReport", _frame(real, cells), _frame(fake, cells), {"columns": types})


def diagnostic(real: DataFrame, fake: DataFrame, columns: Sequence[Column]) -> Score:
    """Whether tables have the same columns and types, values within the data's ranges and categories, and keys that differ.

    columns: of both tables. Raises Unavailable.
    """
    metadata: dict[str, Any] = {"columns": {}}
    sides = [real.copy(), fake.copy()]
    for column in columns:
        if column.kind == "date":
            kind = "datetime"
            for side in sides:
                seconds = numbers(side[column.name], "date", column.form)
                side[column.name] = pandas().to_datetime(pandas().Series(seconds), unit="s")
        elif column.kind == "key":
            kind = "id"
            metadata.setdefault("primary_key", column.name)
        else:
            kind = "numerical" if column.kind in NUMBERS else "categorical"
            for side in sides:
                if side[column.name].dtype.kind == "m":
                    side[column.name] = side[column.name].dt.total_seconds()
        metadata["columns"][column.name] = {"sdtype": kind}
    return _reported("DiagnosticReport", sides[0], sides[1], metadata)


def _frame(rows: Tensor, cells: Sequence[Cell]) -> DataFrame:
    """Features as a table: numbers, NaN where they are missing, and categories by their number."""
    made = {}
    for cell in cells:
        own = rows[:, cell.place].double().cpu().numpy()
        if cell.number:
            made[cell.column.name] = np.where(own[:, 1] > 0, np.nan, own[:, 0]) if cell.size > 1 else own[:, 0]
        else:
            made[cell.column.name] = own.argmax(1).astype(str)
    return pandas().DataFrame(made)


def _reported(which: str, real: DataFrame, fake: DataFrame, metadata: dict[str, Any]) -> Score:
    # Columns that are constant in a half have no correlation, which is left out, and warned of.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            from sdmetrics.reports import single_table
        except ImportError:
            raise Unavailable(str(missing_extra("sdmetrics", "table", "its reports"))) from None
        report = getattr(single_table, which)()
        report.generate(real, fake, metadata, verbose=False)
    found = report.get_properties().set_index("Property")["Score"]
    properties = {name.lower().replace(" ", "_"): round(float(score), 4) for name, score in found.dropna().items()}
    return Score(float(report.get_score()), properties)
