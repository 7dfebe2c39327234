"""Constraints: rows that break one are named before a training, and no sample breaks one, whatever a game makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparring
from sparring.data.frames import read_frame
from sparring.domains import open_domain
from sparring.domains.table.cells import Cells
from sparring.domains.table.check import check_table
from sparring.domains.table.constraints import Constraints, Plan
from sparring.domains.table.data import TableData, TableOptions, columns_of, decode, open_table, plan_of
from sparring.errors import UserError
from sparring.recipe import load_recipe

torch.set_num_threads(1)
ROWS = 300
COUNTRY = {"Paris": "France", "Lyon": "France", "Lima": "Peru", "Cusco": "Peru"}
CONSTRAINTS = {
    "ranges": {"age": [18, None], "start": ["2018-12-31", "2030-01-01"], "before": ["low", "high"]},
    "order": [["start", "end"], ["before", "after"]],
    "strict": [["low", "mid", "high"]],
    "together": [["city", "country", "zip"]],
    "unique": [["name", "visit"]],
}


def people(rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2019-05-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D")
    end = pd.Series(start + pd.to_timedelta(rng.integers(0, 90, rows), unit="D"))
    low = rng.normal(0, 5, rows).round(2)
    mid = (low + 0.01 + rng.exponential(2, rows)).round(2)
    city = rng.choice([*COUNTRY], rows, p=[0.5, 0.2, 0.2, 0.1])
    before = rng.integers(0, 3, rows)
    levels = np.array(["low", "mid", "high"])
    return pd.DataFrame({
        "age": rng.integers(18, 80, rows), "end": end.where(rng.random(rows) < 0.8), "start": start,
        "high": mid + rng.integers(1, 9, rows), "low": np.where(rng.random(rows) < 0.1, np.nan, low), "mid": mid,
        "zip": [None if name == "Cusco" else float(1000 + len(name)) for name in city],
        "city": city, "country": [COUNTRY[name] for name in city],
        "name": [f"n{number // 4}" for number in range(rows)], "visit": [number % 4 for number in range(rows)],
        "before": levels[before], "after": levels[np.minimum(2, before + rng.integers(0, 2, rows))],
    })  # fmt: skip


def options(source: str, **constraints: Any) -> TableOptions:
    order = ["low", "mid", "high"]
    return TableOptions(
        source=source, columns={"before": {"order": order}, "after": {"order": order}, "visit": {"kind": "number"}},
        constraints=Constraints(**(constraints or CONSTRAINTS)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("table") / "people.parquet"
    people().to_parquet(path)
    return str(path)


@pytest.fixture(scope="module")
def data(source: str) -> TableData:
    return open_table(options(source))


def valid(frame: pd.DataFrame) -> None:
    known = people()
    assert frame["age"].between(18, known["age"].max()).all()
    assert (frame["start"] <= frame["end"])[frame["end"].notna()].all()
    assert (frame["low"] < frame["mid"])[frame["low"].notna()].all() and (frame["mid"] < frame["high"]).all()
    combinations = {tuple(row) for row in known[["city", "country", "zip"]].fillna(-1).itertuples(index=False)}
    assert {tuple(row) for row in frame[["city", "country", "zip"]].fillna(-1).itertuples(index=False)} <= combinations
    rank = {"low": 0, "mid": 1, "high": 2}
    assert (frame["before"].map(rank) <= frame["after"].map(rank)).all()
    assert not frame.duplicated(["name", "visit"]).any()
    for name in ("start", "end", "high", "mid"):
        assert frame[name].dropna().between(known[name].min(), known[name].max()).all()


def test_a_table_goes_to_the_game_and_comes_back_as_it_was(data: TableData) -> None:
    frame = people()
    plan = plan_of(data.spec)
    assert plan is not None and {column.name for column in plan.shown} == set(frame.columns)
    seen = {column.name for column in columns_of(data.spec)}
    assert {"end - start", "mid - low", "high - mid", "city & country & zip"} <= seen and not {
        "end",
        "mid",
        "city",
    } & seen
    back = plan.backward(decode(data.batch(torch.arange(ROWS), augment=False)["data"], columns_of(data.spec)))
    assert list(back.columns) == list(frame.columns) and (back.dtypes == frame.dtypes).all()
    pd.testing.assert_frame_equal(back, frame, check_exact=False, rtol=1e-4, atol=0.02)
    exact = ["age", "start", "end", "city", "country", "zip", "before", "after", "name", "visit"]
    pd.testing.assert_frame_equal(back[exact], frame[exact])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), wide=st.floats(0.1, 30))
def test_whatever_a_game_makes_differences_and_combinations_hold(seed: int, wide: float, data: TableData) -> None:
    plan = plan_of(data.spec)
    assert plan is not None
    made = torch.randn(64, *data.spec.shape, generator=torch.Generator().manual_seed(seed)) * wide
    frame = plan.backward(decode(made, columns_of(data.spec)))
    breaks = {words for words, rows in plan.broken(frame, unique=False) if rows.any()}
    assert breaks <= {"before <= after"}  # which alone is kept by rejection
    valid(frame.assign(before="low", after="low", name=np.arange(64)))


def test_points_are_of_the_columns_that_users_see(data: TableData) -> None:
    plan, columns = plan_of(data.spec), columns_of(data.spec)
    assert plan is not None
    space = Cells(columns, plan)
    rows = space(data.batch(torch.arange(ROWS), augment=False))["features"]
    plain = open_table(TableOptions(source=data.name, columns=options(data.name).columns))
    direct = Cells(plain.columns)(plain.batch(torch.arange(ROWS), augment=False))["features"]
    assert [cell.column.name for cell in space.cells] == [cell.column.name for cell in Cells(plain.columns).cells]
    assert torch.allclose(rows, direct, atol=2e-3) and space.digest != Cells(plain.columns).digest


@pytest.fixture(scope="module")
def run(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "ctgan"
    values = options(source).model_dump(mode="json")
    sparring.train(
        "ctgan", data=source, out=folder, steps=3, quiet=True, device="cpu",
        set=["model.latent=4", "model.generator.width=8", "model.discriminator.width=8", "train.batch_size=8", "train.sample_count=8",
             "machine.compile=false", "evaluate.every=3", "evaluate.count=60", f"data.columns={values['columns']}",
             f"data.constraints={ {key: values['constraints'][key] for key in CONSTRAINTS} }".replace("None", "null")],
    )  # fmt: skip
    return folder


def test_samples_of_a_run_break_no_constraint_and_the_share_that_did_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sparring.generate(run, count=150, out=tmp_path / "rows.parquet")
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert len(rows) == 150 and (rows.dtypes == people().dtypes).all()
    valid(rows)
    assert "150 of 8,192 samples drawn" in (said := capsys.readouterr().err) and "unique name, visit" in said
    sparring.generate(run, count=20, label="country=Peru,age>40,city!=Cusco", out=tmp_path / "lima.csv", quiet=True)
    lima = read_frame(str(tmp_path / "lima.csv"))
    assert (lima["city"] == "Lima").all() and (lima["age"] > 40).all() and len(lima) == 20
    with pytest.raises(UserError, match="no row of the data has them together"):
        sparring.generate(run, count=2, label="country=Peru,city=Paris", out=tmp_path / "no.csv")
    with pytest.raises(UserError, match=r"only \d+ of .* and 400 are asked for"):  # of 75 names with 4 visits
        sparring.generate(run, count=400, out=tmp_path / "no.csv")


def test_a_run_with_constraints_is_measured_and_shown(run: Path) -> None:
    found = sparring.evaluate(run, metrics="marginal_error,pair_error,adherence", count=100)
    by_column = found.figures["marginal_error"].facts["by_column"]
    assert set(by_column) == set(people().columns) and found.figures["adherence"].value == 1


def test_a_game_is_asked_for_the_combinations_that_have_what_is_wanted(data: TableData) -> None:
    domain = open_domain("table").knowing(data.spec)
    game = domain.build_game(load_recipe("ctgan").override(["train.batch_size=8"]), data.spec)
    sieve = domain.sieve(game, "country=France")
    assert sieve is not None and game.labels is not None
    asked = sieve.condition(500, torch.Generator().manual_seed(0))
    assert asked is not None
    shares = {name: float(share) for name, share in zip(game.labels.names, asked.mean(0), strict=True) if share}
    assert len(shares) == 2 and all('"France"' in name for name in shares) and sum(shares.values()) == pytest.approx(1)
    paris = next(share for name, share in shares.items() if "Paris" in name)
    assert paris == pytest.approx(0.5 / 0.7, abs=0.1)


@pytest.mark.parametrize(
    ("change", "words", "row"),
    [
        ({"age": 17}, "age>=18", 5),
        ({"end": pd.Timestamp("2001-01-01")}, "start <= end", 5),
        ({"high": -99.0}, "mid < high", 5),
        ({"name": "n0", "visit": 0}, "unique name, visit", 5),
        ({"before": "high", "after": "low"}, "before <= after", 5),
    ],
)
def test_rows_that_break_a_constraint_are_named_and_refused(
    change: dict[str, Any], words: str, row: int, tmp_path: Path
) -> None:
    frame = people()
    for name, value in change.items():
        frame.loc[row, name] = value
    frame.to_parquet(tmp_path / "t.parquet")
    asked = options(str(tmp_path / "t.parquet"))
    assert check_table(asked).breaks == [f"row {row}: {words}"]
    with pytest.raises(UserError, match=f"1 of 300 rows break '{words}', the first being row {row}") as caught:
        open_table(asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ({"order": [["strat", "end"]]}, "mean 'start'"),
        ({"order": [["start"]]}, "not two columns"),
        ({"order": [["start", "age"]]}, "one is date, the other integer"),
        ({"order": [["before", "city"]]}, "one is ordinal, the other category"),
        ({"together": [["city"]]}, "not several columns"),
        ({"together": [["city", "country"], ["city", "zip"]]}, "'city' is in two of the lists"),
        ({"ranges": {"age": ["old", None]}}, "'old' is no number"),
    ],
)
def test_constraints_that_cannot_be_are_refused_in_one_line(
    constraints: dict[str, Any], said: str, source: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        open_table(options(source, **constraints))
    assert "\n" not in str(caught.value)


def test_a_column_above_two_others_is_kept_by_rejection_and_circles_end(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 50, 200), rng.integers(0, 50, 200)
    frame = pd.DataFrame({"a": a, "b": b, "c": np.maximum(a, b) + rng.integers(0, 20, 200), "d": a})
    frame.to_parquet(tmp_path / "t.parquet")
    path = str(tmp_path / "t.parquet")
    both = plan_of(open_table(TableOptions(source=path, constraints=Constraints(order=[["a", "c"], ["b", "c"]]))).spec)
    assert both is not None and [each.name for each in both.differences] == ["c - a"] and len(both.words) == 2
    circle = plan_of(
        open_table(TableOptions(source=path, constraints=Constraints(order=[["a", "d"], ["d", "a"]]))).spec
    )
    assert circle is not None and [each.name for each in circle.differences] == ["d - a"]
    assert Plan.read(both.plain()) == both
    sparring.train(
        "independent", data=path, out=tmp_path / "run", quiet=True,
        set=["data.constraints.order=[[a,c],[b,c]]", "train.sample_count=4"],
    )  # fmt: skip
    sparring.generate(tmp_path / "run", count=500, out=tmp_path / "rows.csv", quiet=True)
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert (rows["a"] <= rows["c"]).all() and (rows["b"] <= rows["c"]).all() and (rows["a"] > rows["b"]).any()
