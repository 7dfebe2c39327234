"""Columns of every type that a frame can have: what a game sees of them comes back as it was, and what is said of them holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sparring.domains.table.check import check_table
from sparring.domains.table.columns import Column, fit_column
from sparring.domains.table.data import TableData, TableOptions, decode, open_table
from sparring.domains.table.levels import natural
from sparring.errors import UserError

torch.set_num_threads(1)
ROWS = 40
TABULAR = Path(__file__).parents[3] / ".." / "shared" / "data" / "tabular"


def there_and_back(values: pd.Series, **options: Any) -> tuple[Column, pd.Series]:
    """A column as it comes back from what games see of it, by way of plain JSON and 32 bits as in a run."""
    frame = pd.DataFrame({"value": values, "other": np.arange(len(values)) % 3})
    fitted = [fit_column(frame["value"], options, 256), fit_column(frame["other"], {}, 256)]
    columns = [Column(**json.loads(json.dumps(column.plain()))) for column in fitted if column is not None]
    data = TableData("frame", frame, columns)
    return columns[0], decode(data.batch(torch.arange(len(frame)), augment=False)["data"], columns)["value"]


def cells(elements: st.SearchStrategy[Any], *, holes: bool = True) -> st.SearchStrategy[list[Any]]:
    """Values of a column, of few or of many different ones, some missing."""
    each = st.one_of(st.none(), elements, elements, elements) if holes else elements
    few = st.lists(each, min_size=1, max_size=4).flatmap(
        lambda some: st.lists(st.sampled_from(some), min_size=ROWS, max_size=ROWS)
    )
    return st.one_of(few, st.lists(each, min_size=ROWS, max_size=ROWS))


def same_holes(back: pd.Series, values: pd.Series) -> bool:
    return back.isna().tolist() == values.isna().tolist()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(cells(st.integers(-(2**63), 2**63 - 1)), st.sampled_from(["Int64", "int64"]))
def test_whole_numbers_of_any_size_keep_their_type_their_range_and_their_holes(values: list[Any], dtype: str) -> None:
    there = [each for each in values if each is not None]
    assume(there and (dtype == "Int64" or len(there) == len(values)))
    given_ = pd.Series(values, dtype=dtype)
    _column, back = there_and_back(given_, kind="integer")
    assert back.dtype == given_.dtype and same_holes(back, given_)
    whole = [int(each) for each in back.dropna()]
    assert min(there) <= min(whole) and max(whole) <= max(there)
    reach = max(there) - min(there)
    assert all(abs(a - b) <= max(1, reach // 10**5) + abs(b) // 2**52 for a, b in zip(whole, there, strict=True))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    cells(st.floats(allow_nan=True, allow_infinity=True, width=32)), st.sampled_from(["float32", "float64", "Float64"])
)
def test_floats_keep_their_type_and_their_range_and_infinite_ones_are_missing(values: list[Any], dtype: str) -> None:
    given_ = pd.Series([np.nan if each is None else each for each in values], dtype="float64").astype(dtype)
    finite = np.isfinite(given_.to_numpy(float, na_value=np.nan))
    assume(finite.any())
    _, back = there_and_back(given_, kind="continuous")
    there, made = given_.to_numpy(float, na_value=np.nan)[finite], back.to_numpy(float, na_value=np.nan)
    assert back.dtype == given_.dtype and (np.isfinite(made) == finite).all()
    assert there.min() <= made[finite].min() and made[finite].max() <= there.max()
    assert np.abs(made[finite] - there).max() <= 1e-5 * np.ptp(there) + 1e-12


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    cells(st.text(max_size=6)),
    st.sampled_from(["object", "string", "category", "ordered"]),
)
def test_text_of_any_script_comes_back_with_its_type_its_categories_and_their_order(
    values: list[Any], dtype: str
) -> None:
    if dtype in ("category", "ordered"):
        levels = [*sorted({each for each in values if each is not None}, reverse=True), "unused"]
        assume(len(set(levels)) == len(levels))
        given_ = pd.Series(pd.Categorical(values, levels, ordered=dtype == "ordered"))
    else:
        given_ = pd.Series(values, dtype=dtype)
    assume(given_.notna().any())
    column, back = there_and_back(given_, kind="ordinal" if dtype == "ordered" else "category")
    pd.testing.assert_series_equal(back, given_, check_names=False)
    if dtype == "ordered":
        there = [level for level in column.levels if level is not None]
        assert there == [level for level in levels if level in there]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    cells(st.datetimes(min_value=pd.Timestamp("1900-01-01").to_pydatetime(), max_value=pd.Timestamp("2090-01-01").to_pydatetime())),
    st.sampled_from(["datetime64[ns]", "datetime64[s]", "datetime64[ns, UTC]", "datetime64[us, Europe/Berlin]"]),
    st.sampled_from(["D", "min", "s", "us"]),
)  # fmt: skip
def test_dates_of_any_zone_keep_their_type_their_range_and_their_steps(
    values: list[Any], dtype: str, step: str
) -> None:
    when = pd.Series(pd.to_datetime(pd.Series(values, dtype="object"), utc=True)).dt.floor(step)
    given_ = when.dt.tz_convert(dtype[:-1].split(", ")[1]) if "," in dtype else when.dt.tz_localize(None)
    given_ = given_.astype(dtype)
    assume(given_.notna().any())
    column, back = there_and_back(given_, kind="date")
    assert back.dtype == given_.dtype and same_holes(back, given_)
    there, made = given_.dropna(), back.dropna()
    margin = pd.Timedelta("1ms")  # of float64 seconds, centuries from 1970
    assert there.min() - margin <= made.min() and made.max() <= there.max() + margin
    reach = (there.max() - there.min()).total_seconds()
    late = (made - there).dt.total_seconds().abs().max()
    assert late <= max(column.unit / 2 if reach > 1e5 * column.unit else 0, 1e-5 * reach) + 2e-3
    if step in ("D", "min"):
        assert ((made.dt.tz_convert("UTC") if "," in dtype else made).dt.second == 0).all()


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("%Y-%m-%d", None),
        ("%Y-%m-%dT%H:%M:%S", None),
        ("%Y-%m-%dT%H:%M:%S%z", None),
        ("%d.%m.%Y", "%d.%m.%Y"),
        ("%m/%d/%y %H:%M", "%m/%d/%y %H:%M"),
    ],
)
def test_dates_that_are_text_come_back_in_the_text_that_they_were(text: str, form: str | None) -> None:
    when = pd.Series(pd.date_range("2019-12-30", periods=ROWS, freq="1D" if "H" not in text else "67min"))
    values = (when.dt.tz_localize("Etc/GMT-2") if "%z" in text else when).dt.strftime(text).astype(object)
    values[3] = None
    column, back = there_and_back(values, format=form)
    assert column.kind == "date" and same_holes(back, values)
    assert back[back.notna()].tolist() == values[values.notna()].tolist()


def test_durations_are_numbers_and_come_back_as_durations() -> None:
    values = pd.Series(pd.to_timedelta([1.5 * n for n in range(ROWS - 1)] + [None], unit="min"))
    column, back = there_and_back(values)
    assert column.kind == "continuous" and back.dtype == values.dtype and same_holes(back, values)
    assert (back - values).abs().max() < pd.Timedelta("1s")


@pytest.mark.parametrize("dtype", ["period", "interval", "complex"])
def test_types_that_are_not_modelled_are_named(dtype: str) -> None:
    values = {
        "period": pd.Series(pd.period_range("2020-01", periods=9, freq="M")),
        "interval": pd.Series(pd.cut(pd.Series(range(9)), 3)),
        "complex": pd.Series([1j * n for n in range(9)]),
    }[dtype]
    with pytest.raises(UserError, match="column 'value'") as caught:
        there_and_back(values)
    assert "\n" not in str(caught.value)


def test_ordered_categories_are_in_the_order_that_is_said_or_by_size() -> None:
    values = pd.Series(["high", "low", None, "mid"] * 10, name="risk")
    column = fit_column(values, {"order": ["low", "mid", "high", "extreme"]}, 256)
    assert column is not None and column.levels == ["low", "mid", "high", None] and column.ordered
    assert column.counts == [10, 10, 10, 10] and column.kind == "category"
    by_size = fit_column(pd.Series(["10th", "9th", "1st-4th", "HS"] * 9, name="grade"), {"kind": "ordinal"}, 256)
    assert by_size is not None and by_size.levels == ["1st-4th", "9th", "10th", "HS"]
    assert by_size.guessed and not column.guessed
    whole = fit_column(pd.Series([3, 1, 2] * 9, name="stars"), {"kind": "ordinal"}, 256)
    assert whole is not None and whole.levels == [1, 2, 3] and not whole.guessed
    assert sorted([10, "b2", 2.5, "b10", True], key=natural) == [True, 2.5, 10, "b2", "b10"]
    for options, most, said in (
        ({"order": ["low", "high"]}, 256, "has 'mid', which its order lacks"),
        ({"kind": "ordinal"}, 3, "4 ordered categories"),
        ({"kind": "date", "order": ["low"]}, 256, "a date column has no order"),
        ({"kin": "date"}, 256, "mean 'kind'"),
        ({"kind": "boolean"}, 256, "no boolean column: it has"),
    ):
        with pytest.raises(UserError, match=said):
            fit_column(values, options, most)


@pytest.mark.parametrize("words", [("yes", "no"), (1, 0), ("T", "F"), (True, False)])
def test_answers_are_boolean_in_whatever_words(words: tuple[Any, Any]) -> None:
    values = pd.Series([words[n % 3 == 0] for n in range(ROWS)])
    column, back = there_and_back(values, kind="boolean")
    assert column.boolean and column.kind == "category"
    pd.testing.assert_series_equal(back, values, check_names=False)


def table(folder: Path) -> str:
    pd.DataFrame({
        "id": [f"p{n}" for n in range(ROWS)], "code": [n % 7 for n in range(ROWS)], "score": [n % 2 for n in range(ROWS)],
        "born": [f"{1 + n % 28:02}.03.{1950 + n}" for n in range(ROWS)], "grade": ["b", "a", "c", "a"] * 10,
        "paid": ["yes", "no"] * 20,
    }).to_csv(folder / "t.csv", index=False)  # fmt: skip
    return str(folder / "t.csv")


SDV = {
    "primary_key": "id",
    "METADATA_SPEC_VERSION": "SINGLE_TABLE_V1",
    "columns": {
        "id": {"sdtype": "id", "regex_format": "p[0-9]+"},
        "code": {"sdtype": "categorical"},
        "score": {"sdtype": "numerical", "computer_representation": "Float"},
        "born": {"sdtype": "datetime", "datetime_format": "%d.%m.%Y"},
        "grade": {"sdtype": "categorical", "order": ["c", "b", "a"]},
        "paid": {"sdtype": "boolean"},
    },
}
LISTED = {"columns": [{"name": "code", "type": "ordinal"}, {"name": "score", "type": "continuous"}]}


@pytest.mark.parametrize("nested", [False, True])
def test_metadata_say_what_columns_are_and_the_recipe_says_more(nested: bool, tmp_path: Path) -> None:
    source = table(tmp_path)
    (tmp_path / "m.json").write_text(json.dumps({"tables": {"people": SDV}} if nested else SDV))
    options = TableOptions(source=source, metadata=str(tmp_path / "m.json"), columns={"paid": {"kind": "drop"}})
    found = {column.name: column for column in open_table(options).columns}
    assert {name: column.kind for name, column in found.items()} == {
        "id": "key", "code": "category", "score": "continuous", "born": "date", "grade": "category",
    }  # fmt: skip
    assert found["grade"].levels == ["c", "b", "a"] and found["grade"].ordered and not found["code"].ordered
    words = check_table(options).summary["columns"]
    assert words["grade"] == "ordinal, c < b < a" and "paid" not in words


def test_metadata_of_the_benchmark_s_form_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(LISTED))
    found = open_table(TableOptions(source=table(tmp_path), metadata=str(tmp_path / "m.json"))).columns
    assert next(each for each in found if each.name == "code").levels == list(range(7))
    assert next(each for each in found if each.name == "score").kind == "integer"  # and not a category of two


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"columns": {"cod": {"sdtype": "categorical"}}}, "mean 'code'"),
        ({"columns": {"code": {"sdtype": "categoricl"}}}, "unknown type 'categoricl' .did you mean 'categorical'"),
        ({"columns": {"code": {"sdtype": "email"}}}, "unknown type 'email'; there are number,"),
        ({"columns": {"code": "categorical"}}, "write {'sdtype'"),
        ({"columns": [{"type": "categorical"}]}, "has no name"),
        ({"columns": {}, "primary_key": "key"}, "primary key 'key'"),
        ({"tables": {"a": {}, "b": {}}}, "of 2 tables"),
        ({"fields": {}}, "has no `columns`"),
        ([1], "not metadata"),
    ],
)
def test_metadata_that_do_not_fit_are_named_in_one_line(content: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(content))
    options = TableOptions(source=table(tmp_path), metadata=str(tmp_path / "m.json"))
    with pytest.raises(UserError, match=said) as caught:
        open_table(options)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"no such file.*mean 'm.json'"):
        open_table(TableOptions(source=options.source, metadata=str(tmp_path / "n.json")))


@pytest.mark.skipif(not TABULAR.is_dir(), reason="needs the Adult table")
def test_the_metadata_of_adult_fit_its_table() -> None:
    report = check_table(TableOptions(source=str(TABULAR / "adult.csv"), metadata=str(TABULAR / "adult.json")))
    words = report.summary["columns"]
    assert words["education"].startswith("ordinal, 1st-4th < 5th-6th < 7th-8th < 9th")
    assert words["age"].startswith("integer") and words["workclass"] == "category, 9 of them"
