"""Rows with named columns: they are written as pandas writes them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sparring.data.frames import csv_text

ROWS = 40
RNG = np.random.default_rng(0)
COLUMNS = {
    "text": [None, 'a,"b"', "x\ny", "", "q"] * 8,
    "long": RNG.normal(size=ROWS) * 10.0 ** RNG.integers(-12, 20, ROWS),
    "short": RNG.normal(size=ROWS).astype(np.float32),
    "gaps": np.where(RNG.random(ROWS) < 0.3, np.nan, RNG.integers(0, 9, ROWS)),
    "whole": pd.array([1, None, 10**15, -3] * 10, dtype="Int64"),
    "byte": RNG.integers(0, 9, ROWS).astype(np.uint8),
    "yes": RNG.random(ROWS) < 0.5,
    "maybe": pd.array([True, None] * 20, dtype="boolean"),
    "day": [*pd.date_range("2020", periods=ROWS - 1), pd.NaT],
    "hour": pd.date_range("2020", periods=ROWS, freq="7h"),
    "there": pd.date_range("2020", periods=ROWS, freq="7h", tz="UTC"),
    "kind": pd.Categorical(["u", "v, w"] * 20),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_is_written_as_pandas_writes_it(name: str) -> None:
    frame = pd.DataFrame({name: COLUMNS[name]})
    assert csv_text(frame) == frame.to_csv(index=False, lineterminator="\n")


@pytest.mark.parametrize("header", [True, False])
def test_rows_are_written_as_pandas_writes_them(header: bool) -> None:
    frame = pd.DataFrame({f"the {name}, say": values for name, values in COLUMNS.items()})
    assert csv_text(frame, header=header) == frame.to_csv(index=False, header=header, lineterminator="\n")
