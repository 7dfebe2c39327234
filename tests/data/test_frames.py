"""Rows with named columns, wherever they are: what is read is what was written, and what cannot be is named in a line."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
import yaml

import sparring
from sparring.data.frames import keep_frame, read_frame
from sparring.data.workbooks import write_workbook
from sparring.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def people() -> pd.DataFrame:
    return pd.DataFrame({
        "name": ["Ana", "José", "=1+1", None], "age": [31, 45, 28, 70], "height": [1.62, np.nan, 1.8, 1.75],
        "member": [True, False, True, True], "since": pd.to_datetime(["2020-01-01", "2021-06-30", None, "2019-12-31"]),
    })  # fmt: skip


def database(folder: Path, people: pd.DataFrame, **others: pd.DataFrame) -> str:
    with sqlite3.connect(folder / "people.db") as connection:
        for name, frame in {"people": people, **others}.items():
            frame.to_sql(name, connection, index=False)
    connection.close()
    return f"sqlite:///{folder}/people.db"


def workbook(folder: Path, people: pd.DataFrame) -> str:
    with (folder / "people.xlsx").open("wb") as stream:
        write_workbook([people[:3], people[3:]], stream, folder / "people.xlsx")
    return str(folder / "people.xlsx")


def parquet(folder: Path, people: pd.DataFrame) -> str:
    people.to_parquet(folder / "people.parquet")
    return str(folder / "people.parquet")


@pytest.mark.parametrize("write", [workbook, parquet])
def test_what_is_written_is_what_is_read(
    write: Callable[[Path, pd.DataFrame], str], people: pd.DataFrame, tmp_path: Path
) -> None:
    back = read_frame(write(tmp_path, people))
    pd.testing.assert_frame_equal(back, people, check_dtype=False)
    assert [dtype.kind for dtype in back.dtypes] == [dtype.kind for dtype in people.dtypes]


def test_rows_of_a_database_are_the_same_in_whatever_order_it_holds_them(people: pd.DataFrame, tmp_path: Path) -> None:
    frames = []
    for number, order in enumerate(([0, 1, 2, 3], [2, 0, 3, 1])):
        (tmp_path / str(number)).mkdir()
        frames.append(read_frame(database(tmp_path / str(number), people.iloc[order]) + "?table=people"))
    pd.testing.assert_frame_equal(*frames)
    assert sorted(frames[0]["age"]) == [28, 31, 45, 70] and frames[0]["name"].isna().sum() == 1


def test_a_query_chooses_and_may_hold_what_looks_like_a_parameter(people: pd.DataFrame, tmp_path: Path) -> None:
    url = database(tmp_path, people, others=people)
    frame = read_frame(url, "SELECT name, age, 'a :b' AS note FROM people WHERE age > 30 -- the old\n;")
    assert sorted(frame["age"]) == [31, 45, 70] and set(frame["note"]) == {"a :b"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DROP TABLE people", "one SELECT"),
        ("SELECT 1; DROP TABLE people", "one SELECT"),
        ("SELECT 1) x; DROP TABLE people; --", "one SELECT"),
        ("WITH a AS (SELECT 1) DELETE FROM people", "syntax error"),
        ("SELECT agee FROM people", "no such column: agee"),
    ],
)
def test_nothing_but_a_select_is_run(query: str, said: str, people: pd.DataFrame, tmp_path: Path) -> None:
    url = database(tmp_path, people)
    with pytest.raises(UserError, match=said) as caught:
        read_frame(url, query)
    assert "\n" not in str(caught.value)
    assert len(read_frame(url)) == 4  # the only table needs no name


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///{}/people.db?table=peopel", "mean 'people'"),
        ("sqlite:///{}/people.db", "which table.*it has others, people"),
        ("sqlite:///{}/peple.db?table=people", "mean 'people.db'"),
        ("sqlite://", "names no file"),
        ("mongo://host/db?table=x", "mongo is no kind of database"),
        ("postgresql://ana:hunter2@host/db?table=x", "the password would be kept"),
        ("postgresql://host/db?table=x&sslpassword=hunter2", "the sslpassword would be kept"),
        ("postgresql://ana:${{AWS_KEY}}@host/db?table=x", "only variables that begin with SPARRING_"),
        ("postgresql://ana:${{SPARRING_NONE}}@host/db?table=x", "no such variable"),
    ],
)
def test_what_a_url_cannot_be_is_said_without_its_secrets(
    url: str, said: str, people: pd.DataFrame, tmp_path: Path
) -> None:
    database(tmp_path, people, others=people)
    with pytest.raises(UserError, match=said) as caught:
        read_frame(url.format(tmp_path))
    assert "\n" not in str(caught.value) and "hunter2" not in str(caught.value)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_frame(f"sqlite:///{tmp_path}/new.db?table=x")
    assert not list(tmp_path.glob("*.db"))


def test_a_run_folder_holds_the_name_of_a_variable_and_not_what_it_stands_for(
    people: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database(tmp_path, people)
    monkeypatch.setenv("SPARRING_FILE", str(tmp_path / "people.db"))
    url = "sqlite:///${SPARRING_FILE}?table=people"
    sparring.train("independent", data=url, out=tmp_path / "run", quiet=True, set=["train.sample_count=4"])
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["data"]["source"] == url
    written = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not any(str(tmp_path / "people.db").encode() in content for content in written)
    sparring.generate(tmp_path / "run", count=5, out=tmp_path / "rows.csv")
    assert len(read_frame(str(tmp_path / "rows.csv"))) == 5


def test_a_frame_in_memory_is_kept_once_and_trains_as_its_file_does(people: pd.DataFrame, tmp_path: Path) -> None:
    kept = keep_frame(people)
    assert keep_frame(people.set_index(np.arange(4) + 7)) == kept != keep_frame(people[::-1])
    pd.testing.assert_frame_equal(read_frame(kept), people)
    result = sparring.train("independent", data=people, out=tmp_path / "run", quiet=True, set=["train.sample_count=4"])
    assert result.facts["data"]["source"] == kept
    assert sparring.check_data(people, domain="table").plain()["summary"]["rows"] == 4
    for wrong, said in (([1, 2], "not list"), (pd.DataFrame({"a": [1, "x"]}), "cannot be kept")):
        with pytest.raises(UserError, match=said):
            sparring.train("independent", data=wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="named by a source"):
        sparring.train("dcgan", data=people)


def test_sheets_are_named_where_there_are_several_and_formulas_are_never_written(
    people: pd.DataFrame, tmp_path: Path
) -> None:
    path = workbook(tmp_path, people)
    book = openpyxl.load_workbook(path)
    assert book["samples"]["A4"].data_type == "s"
    book.create_sheet("empty")
    book.save(path)
    assert len(read_frame(path)) == 4
    book.create_sheet("other").append(["x", "x"])
    book.save(path)
    with pytest.raises(UserError, match=r"which sheet\? Write people.xlsx:SHEET; it has samples, other"):
        read_frame(path)
    assert len(read_frame(f"{path}:samples")) == 4
    for sheet, said in (("sample", "mean 'samples'"), ("other", "two columns are called 'x'")):
        with pytest.raises(UserError, match=said):
            read_frame(f"{path}:{sheet}")
    (tmp_path / "text.xlsx").write_text("a,b")
    with pytest.raises(UserError, match="not an Excel workbook"):
        read_frame(str(tmp_path / "text.xlsx"))


def test_cells_that_are_no_numbers_or_text_are_made_such_or_refused(tmp_path: Path) -> None:
    pd.DataFrame({
        "price": [Decimal("1.50"), None], "day": [pd.Timestamp("2020-02-29").date(), pd.Timestamp("2021-03-01").date()],
    }).to_parquet(tmp_path / "a.parquet")  # fmt: skip
    frame = read_frame(str(tmp_path / "a.parquet"))
    assert frame["price"].dtype == float and str(frame["day"].dtype).startswith("datetime64")
    for number, value in enumerate((b"x", [1])):
        pd.DataFrame({"odd": [value, value]}).to_parquet(tmp_path / f"{number}.parquet")
        with pytest.raises(UserError, match="'odd' holds values of the type"):
            read_frame(str(tmp_path / f"{number}.parquet"))
