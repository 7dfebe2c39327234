"""Rows that are what a user asks for: all of them are, drawn as the game draws such rows, and what cannot be is said at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import sparring
from sparring.data.frames import read_frame
from sparring.domains import open_domain
from sparring.domains.table.columns import Column, fit_column
from sparring.domains.table.conditions import TableLabels
from sparring.domains.table.data import TableData, TableOptions, decode, open_table
from sparring.domains.table.where import Where
from sparring.errors import UserError

torch.set_num_threads(1)
ROWS = 600


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("table") / "people.csv"
    pd.DataFrame({
        "age": rng.integers(17, 91, ROWS),
        "height": np.where(rng.random(ROWS) < 0.2, np.nan, rng.normal(170, 9, ROWS).round(1)),
        "job": np.where(rng.random(ROWS) < 0.1, None, rng.choice(["cook", "clerk, senior", "a>b"], ROWS, p=[0.7, 0.2, 0.1])),
        "grade": rng.choice(["low", "mid", "high"], ROWS, p=[0.5, 0.3, 0.2]),
        "member": rng.choice(["yes", "no"], ROWS),
        "city": [f"c{min(rng.geometric(0.1), 40)}" for _ in range(ROWS)],
        "since": [str(each)[:10] for each in pd.Timestamp("2019-05-01") + pd.to_timedelta(rng.integers(0, 900, ROWS), unit="D")],
        "id": [f"p{n}" for n in range(ROWS)],
    }).to_csv(path, index=False)  # fmt: skip
    return str(path)


@pytest.fixture(scope="module")
def data(source: str) -> TableData:
    columns = {"grade": {"order": ["low", "mid", "high"]}, "member": {"kind": "boolean"}}
    return open_table(TableOptions(source=source, max_levels=12, columns=columns))


def where(wish: object, data: TableData, labels: TableLabels | None = None) -> Where:
    return Where(wish, data.columns, labels, lambda rows, only: decode(rows["data"], data.columns, only=only))


@pytest.mark.parametrize(
    ("wish", "holds"),
    [
        ("age>40", lambda row: row.age > 40),
        ("age>=40, age<42", lambda row: 40 <= row.age < 42),
        ("age=40..42", lambda row: 40 <= row.age <= 42),
        ("age!=40,age<=41,age>39", lambda row: row.age == 41),
        ("height>170", lambda row: row.height > 170),
        ("height=missing", lambda row: np.isnan(row.height)),
        ("height!=missing", lambda row: not np.isnan(row.height)),
        ("since>2020-01-01", lambda row: row.since > "2020-01-01"),
        ("since=2020-01-01..2020-02-29", lambda row: "2020-01-01" <= row.since <= "2020-02-29"),
        ("job=clerk, senior", lambda row: row.job == "clerk, senior"),
        ("job=a>b,age<50", lambda row: row.job == "a>b" and row.age < 50),
        ("job!=cook", lambda row: row.job != "cook"),
        ("job!=missing, job!=cook", lambda row: row.job in ("clerk, senior", "a>b")),
        ("grade>=mid", lambda row: row.grade in ("mid", "high")),
        ("grade=low..mid,member=true", lambda row: row.grade in ("low", "mid") and row.member == "yes"),
        ("city=c11", lambda row: row.city == "c11"),
        ({"job": None, "member": True}, lambda row: row.job is np.nan and row.member == "yes"),
    ],
)
def test_rows_that_stay_are_those_that_are_all_that_is_asked_for(
    wish: object, holds: Callable[[object], bool], data: TableData, source: str
) -> None:
    frame = read_frame(source)
    expected = np.array([holds(row) for row in frame.itertuples()])
    assert 0 < expected.sum() < len(frame)
    assert where(wish, data).holds(frame).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("age>90", "no row can have age>90: column 'age' is from 17 to 90"),
        ("age>40,age<30", "age>40 and age<30"),
        ("age>=90,age!=90,age>90", "no row can have"),
        ("since>2030-01-01", "from 2019-05-01 to 2021-"),
        ("age=missing", "age=missing: column 'age' is from 17 to 90"),
        ("age>old", "'old' is no number"),
        ("since>soon", "'soon' is no date, say 2020-12-31"),
        ("job=cook,job!=cook", "no category of 'job' is both"),
        ("job>cook", "have no order"),
        ("grade>mild", "mean 'mid'"),
        ("grade<low", "no category of 'grade'"),
        ("member=perhaps", "no 'perhaps'"),
        ("jobs=cook", "mean 'job'"),
        ("id=p3", "no categories: it is key"),
        ("cook", "says no column"),
        ("job=cook,job=a>b", "asked for twice"),
    ],
)
def test_what_no_row_can_be_is_said_in_one_line(wish: str, said: str, data: TableData) -> None:
    with pytest.raises(UserError, match=said) as caught:
        where(wish, data)
    assert "\n" not in str(caught.value)


def test_an_order_that_nobody_said_is_not_compared_by() -> None:
    grades = pd.Series(["Bachelors", "Masters", "Preschool"] * 20, name="grade")
    column = fit_column(grades, {"kind": "ordinal"}, 256)
    assert column is not None
    with pytest.raises(UserError, match=r"nobody said the order.*data.columns.grade.order"):
        Where("grade>=Bachelors", [column], None, lambda rows, only: pd.DataFrame())
    assert Where("grade!=Masters", [column], None, lambda rows, only: pd.DataFrame()).levels["grade"] == {
        "Bachelors", "Preschool",
    }  # fmt: skip


def test_a_game_is_asked_for_all_that_it_can_be_and_the_rest_is_left_to_rejection(data: TableData) -> None:
    labels = TableLabels(data.columns)
    rng = torch.Generator().manual_seed(0)

    def asked(wish: str) -> tuple[dict[str, float], list[str]]:
        found = where(wish, data, labels)
        condition = found.condition(2000, rng)
        shares = {} if condition is None else {
            name: share for name, share in zip(labels.names, condition.mean(0).tolist(), strict=True) if share
        }  # fmt: skip
        return shares, found.checked

    assert asked("job=cook,age>40") == ({"job=cook": 1.0}, ["age"])
    assert asked("member=true") == ({"member=yes": 1.0}, [])
    assert asked("age>40") == ({}, ["age"])
    shares, checked = asked("grade>=mid")  # several categories, as frequent as in the data
    assert checked == [] and sum(shares.values()) == pytest.approx(1)
    assert shares["grade=mid"] / shares["grade=high"] == pytest.approx(1.5, rel=0.3)
    # Beside a category, what is likely is waited for: how often each goes with it, the game alone knows.
    assert asked("job=cook,grade>=mid") == ({"job=cook": 1.0}, ["grade"])
    shares, checked = asked("job=cook,city=c25")
    assert shares == {"job=cook": 1.0, "city=(rare)": 1.0} and checked == ["city"]


def test_a_game_that_knows_modes_is_asked_for_those_that_have_such_numbers(data: TableData) -> None:
    labels = TableLabels(data.columns, modes=True)
    age = next(column for column in data.columns if column.name == "age")
    found = where("age>80", data, labels)
    condition = found.condition(3000, torch.Generator().manual_seed(0))
    assert condition is not None and found.checked == ["age"]
    chosen = condition.nonzero()[:, 1] - labels.modes["age"]
    assert len(chosen) == 3000 and chosen.min() >= 0 and chosen.max() < len(age.centres)
    reach = [centre + 4 * deviation for centre, deviation in zip(age.centres, age.deviations, strict=True)]
    assert {number for number, top in enumerate(reach) if top >= 80} == set(chosen.tolist())
    assert len(set(chosen.tolist())) < len(age.centres)


@pytest.fixture(scope="module")
def run(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "ctgan"
    sparring.train(
        "ctgan", data=source, out=folder, steps=3, quiet=True, device="cpu",
        set=["model.latent=4", "model.generator.width=8", "model.discriminator.width=8", "train.batch_size=8", "train.sample_count=8",
             "data.columns.grade.order=[low,mid,high]", "data.max_levels=12", "evaluate.metric=null", "machine.compile=false"],
    )  # fmt: skip
    return folder


def test_drawn_rows_are_what_is_asked_for_and_the_share_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wish = "age>40,job=cook,grade>=mid,since>2019-07-01,city!=c1"
    sparring.generate(run, count=50, label=wish, out=tmp_path / "rows.csv")
    rows = read_frame(str(tmp_path / "rows.csv"))
    assert len(rows) == 50
    assert (rows["age"] > 40).all() and (rows["job"] == "cook").all() and rows["grade"].isin(["mid", "high"]).all()
    assert (rows["since"] > "2019-07-01").all() and (rows["city"] != "c1").all()
    assert "50 of 8,192 samples drawn" in capsys.readouterr().err
    sparring.generate(run, count=50, label="job=cook", out=tmp_path / "cooks.csv")
    assert not capsys.readouterr().err  # none was rejected


def test_rare_levels_are_found_among_those_that_share_one(run: Path, tmp_path: Path) -> None:
    sparring.generate(run, count=20, label="city=c25", out=tmp_path / "rows.csv", quiet=True)
    assert (read_frame(str(tmp_path / "rows.csv"))["city"] == "c25").all()


def test_rows_are_the_same_whatever_the_batches(run: Path, tmp_path: Path) -> None:
    trained = sparring.load(run, device="cpu")
    files = []
    for label in (None, "age>40"):
        for size in (300, 64):
            samples = trained.generate(300, label=label, batch_size=size)
            trained.domain.save(samples, trained.game.conditions, tmp_path / "rows.csv", "csv")
            files.append((tmp_path / "rows.csv").read_text())
    assert files[0] == files[1] != files[2] == files[3]
    assert re.search(r"c[23]\d,", files[0])  # one of those that share a level
    assert [batch.count for batch in trained.generate(300, label="age>40", batch_size=128)] == [128, 128, 44]


def test_what_the_game_never_draws_ends_in_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Where, "keep", lambda self, samples: torch.zeros(samples.count, dtype=torch.bool))
    with pytest.raises(UserError, match=r"only 0 of 205,800 samples drawn \(0.00%\) were age>89"):
        sparring.generate(run, count=5, label="age>89", out=tmp_path / "rows.csv")
    assert not (tmp_path / "rows.csv").exists()


def test_tables_without_a_game_are_asked_by_rejection_alone(source: str, tmp_path: Path) -> None:
    sparring.train("copula", data=source, out=tmp_path / "run", quiet=True, set=["train.sample_count=4"])
    sparring.generate(tmp_path / "run", count=30, label="job=cook,age<30", out=tmp_path / "rows.csv", quiet=True)
    rows = read_frame(str(tmp_path / "rows.csv"))
    assert (rows["job"] == "cook").all() and (rows["age"] < 30).all()


def test_dates_of_a_zone_are_asked_for_in_it() -> None:
    when = pd.Series(pd.date_range("2020-01-01", periods=48, freq="h", tz="Asia/Tokyo"), name="at")
    data = TableData("frame", pd.DataFrame({"at": when}), [_fitted(when)])
    found = where("at>=2020-01-02", data).holds(pd.DataFrame({"at": when}))
    assert found.tolist() == [n >= 24 for n in range(48)]
    assert open_domain("table").sieve(None, None) is None  # type: ignore[arg-type]


def _fitted(values: pd.Series) -> Column:
    column = fit_column(values, {}, 256)
    assert column is not None
    return column
