"""Tables as games are to see them: what is read comes back as it was, and what cannot be used is named in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparring.core.game import Batch
from sparring.domains.table.cells import Cells
from sparring.domains.table.columns import Column, fit_column, infer
from sparring.domains.table.data import TableData, TableOptions, columns_of, decode, log_frequency, open_table
from sparring.domains.table.mixtures import fit_modes
from sparring.domains.table.rows import OneHots, spans_of
from sparring.errors import UserError

torch.set_num_threads(1)
ROWS = 60


def mixed(rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "age": rng.integers(17, 91, rows),
        "height": np.where(np.arange(rows) % 7 == 3, np.nan, rng.normal(170, 9, rows).round(1)),
        "sex": rng.choice(["female", "male"], rows),
        "job": pd.Series(rng.choice(["cook", "clerk", None], rows, p=[0.5, 0.3, 0.2]), dtype=object),
        "member": rng.random(rows) < 0.3,
        "since": pd.Timestamp("2019-05-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D"),
        "country": ["Peru"] * rows,
    })  # fmt: skip


def reopened(frame: pd.DataFrame, **options: object) -> tuple[TableData, pd.DataFrame]:
    """A table as it comes back from what games see of it."""
    columns = [column for name in frame.columns if (column := fit_column(frame[name], {}, options.get("most", 256)))]  # type: ignore[arg-type]
    data = TableData("frame", frame, columns)
    return data, decode(data.batch(torch.arange(len(frame)), augment=False)["data"], columns_of(data.spec))


def test_a_mixed_table_comes_back_as_it_was() -> None:
    frame = mixed()
    data, back = reopened(frame)
    assert list(back.columns) == list(frame.columns) and (back.dtypes == frame.dtypes).all()
    pd.testing.assert_frame_equal(back, frame, check_exact=False, rtol=1e-6)
    hot = torch.cat([data.batch(torch.arange(9))["data"][:, s.hot] for s in spans_of(data.columns)], 1)
    assert torch.equal(hot.sum(1), torch.full((9,), 6.0))  # a level or mode of each column that varies


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_whole_numbers_and_categories_come_back_whatever_they_are(draw: st.DataObject) -> None:
    whole = draw.draw(st.lists(st.integers(-(10**6), 10**6), min_size=ROWS, max_size=ROWS))
    words = draw.draw(st.lists(st.sampled_from(["a", "b", "", "ß", " c", "1"]), min_size=ROWS, max_size=ROWS))
    frame = pd.DataFrame({"whole": whole, "word": pd.Series(words, dtype=object)})
    if infer(frame["whole"]) == "key" or (frame.nunique() < 2).all():
        return
    _, back = reopened(frame)
    assert (back.dtypes == frame.dtypes).all()
    assert back["word"].tolist() == words
    assert np.abs(back["whole"].to_numpy() - np.array(whole)).max() <= max(1, 1e-5 * np.ptp(whole))


def test_what_a_game_makes_up_stays_within_what_the_data_have() -> None:
    frame = mixed()
    data, _ = reopened(frame)
    made = decode(torch.randn(500, *data.spec.shape, generator=torch.Generator().manual_seed(0)) * 3, data.columns)
    assert (made.dtypes == frame.dtypes).all()
    assert made["age"].between(frame["age"].min(), frame["age"].max()).all()
    assert set(made["job"].dropna()) <= {"cook", "clerk"} and made["height"].isna().any()
    assert (made["height"].dropna() * 10 % 1).round(6).isin([0, 1]).all()  # one decimal, as in the data


def test_rare_levels_share_one_and_come_back_as_often_as_they_were() -> None:
    names = [f"c{number}" for number in range(300) for _ in range(1 + (number == 7) * 300)]
    frame = pd.DataFrame({"city": pd.Series(names, dtype=object), "n": np.arange(len(names)) % 5})
    data, back = reopened(frame, most=4)
    assert spans_of(data.columns)[0].column.size == 4
    assert (back["city"] == "c7").sum() == 301 and back["city"].nunique() > 150
    assert set(back["city"]) <= set(names)


def test_keys_are_made_anew_and_go_on_from_where_rows_ended() -> None:
    frame = pd.DataFrame({"id": np.arange(100, 200), "value": np.arange(100) % 3})
    data, back = reopened(frame)
    assert back["id"].is_unique
    again = decode(data.batch(torch.arange(10), augment=False)["data"], data.columns, start=100)
    assert not set(again["id"]) & set(back["id"])


def test_rows_of_a_training_have_the_category_that_is_asked_and_by_the_log_of_its_frequency(tmp_path: Path) -> None:
    pd.DataFrame({"kind": ["often"] * 990 + ["seldom"] * 10, "x": np.random.default_rng(0).normal(size=1000)}).to_csv(
        tmp_path / "t.csv", index=False
    )
    data = open_table(TableOptions(source=str(tmp_path / "t.csv")))
    torch.manual_seed(0)
    batch = data.batch(torch.zeros(4000, dtype=torch.int64))
    (span,) = [each for each in spans_of(data.columns) if each.column.name == "kind"]
    shown = batch["data"][:, span.hot]
    assert torch.equal(shown.argmax(1), batch["asked"])
    expected = log_frequency(torch.tensor(span.column.counts))
    assert torch.allclose(shown.mean(0), expected, atol=0.03) and expected.min() > 0.2
    # Of one category each of its rows is as likely as any other.
    (place,) = [each.start for each in spans_of(data.columns) if each.column.name == "x"]
    assert batch["data"][shown.argmax(1) == 1][:, place].unique().numel() == 10
    assert "asked" not in data.batch(torch.arange(5), augment=False)


def test_another_table_is_coded_by_the_columns_of_the_first(tmp_path: Path) -> None:
    frame = mixed()
    frame.to_parquet(tmp_path / "a.parquet")
    frame[::-1].to_parquet(tmp_path / "b.parquet")
    first = open_table(TableOptions(source=str(tmp_path / "a.parquet")))
    second = open_table(TableOptions(source=str(tmp_path / "b.parquet")), columns_of(first.spec))
    rows = torch.arange(len(frame))
    assert torch.equal(second.batch(rows, augment=False)["data"], first.batch(rows.flip(0), augment=False)["data"])
    frame.assign(sex="other").to_parquet(tmp_path / "c.parquet")
    with pytest.raises(UserError, match="'other' is not among its categories"):
        open_table(TableOptions(source=str(tmp_path / "c.parquet")), first.columns)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n3\n", "line 3 has 1 values"),
        ("a,b\n", "holds no rows"),
        ("a,a\n1,2\n3,4\n", "two columns are called 'a'"),
        ("a\n1\n", "one row"),
        ("a\n5\n5\n5\n", "no column varies"),
        ("", "t.csv"),
        ("text\n" + "".join(f"this is sentence number {n}\n" for n in range(40)), "free text"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        open_table(TableOptions(source=str(tmp_path / "t.csv")))
    assert "\n" not in str(caught.value)


def test_another_encoding_and_a_missing_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("name,n\nJosé,1\nAna,2\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        open_table(TableOptions(source=str(tmp_path / "t.csv")))
    with pytest.raises(UserError, match="no such file"):
        open_table(TableOptions(source=str(tmp_path / "u.csv")))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([str(n) if n % 3 else "x" for n in range(40)], "category"),
        ([10**30 + n % 7 for n in range(40)], "category"),
        ([2**62 + 1000 * n for n in range(40)], "integer"),
        ([[np.inf, -np.inf, np.nan, float(n)][n % 4] for n in range(40)], "integer"),
        ([1e300 * n for n in range(40)], "continuous"),
        ([1e-300 * n for n in range(40)], "continuous"),
        ([n % 2 == 0 for n in range(40)], "category"),
    ],
    ids=["mixed", "beyond 64 bits", "62 bits", "infinite", "huge", "tiny", "boolean"],
)
def test_nasty_columns_are_coded_and_shown_as_points_and_come_back_within_their_range(
    values: list[object], kind: str
) -> None:
    frame = pd.DataFrame({"value": values, "other": np.arange(40) % 3})
    data, back = reopened(frame)
    assert back.dtypes.tolist() == frame.dtypes.tolist()
    if kind == "category":
        assert data.columns[0].kind == "category" and set(back["value"]) == set(frame["value"])
    else:
        there = np.isfinite(frame["value"].to_numpy(float))
        assert (np.isfinite(back["value"].to_numpy(float)) == there).all()
        assert back["value"][there].to_numpy(float) == pytest.approx(frame["value"][there].to_numpy(float), rel=1e-5)
    points = Cells(data.columns)(data.batch(torch.arange(40), augment=False))["features"]
    assert points.isfinite().all() and points.abs().max() < 10


def test_single_values_come_back_exactly_from_modes_without_a_width_and_the_rest_is_a_mixture() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([np.zeros(900), np.full(90, 40.0), rng.normal(100, 3, 500), rng.normal(200, 3, 500)])
    centres, deviations = fit_modes(values, 10, 0.005)
    assert list(centres[deviations == 0]) == [0.0] and 2 <= (deviations > 0).sum() <= 5
    for mode in (100, 200):
        near = np.abs(centres - mode) < 2
        assert near.any() and deviations[near].max() < 6
    few, widths = fit_modes(np.arange(1000) % 16 * 0.5, 10, 0.005)
    assert list(few) == [n * 0.5 for n in range(16)] and not widths.any()


def test_an_unseen_number_of_a_column_of_single_values_is_taken_for_the_nearest() -> None:
    column = fit_column(pd.Series([0, 5, 9] * 20, name="n"), {}, 256)
    assert column is not None
    number, place = column.code(pd.Series([1, 4, 100]))
    assert [column.centres[n] for n in number] == [0, 5, 9] and not place.any()


def indebted(rows: int = 600) -> pd.DataFrame:
    """Debts, half of which are 0, and the others have a long tail."""
    rng = np.random.default_rng(0)
    debts = np.where(rng.random(rows) < 0.5, 0, np.exp(rng.normal(5, 1.8, rows)).round()).astype(int)
    return pd.DataFrame({"sex": rng.choice(["m", "f"], rows), "age": rng.normal(40, 9, rows).round(1), "debt": debts})


def test_a_long_tail_is_coded_by_its_logarithm_and_comes_back_as_it_was() -> None:
    frame = indebted()
    columns = [column for name in frame if (column := fit_column(frame[name], {}, 256, log_tails=True))]
    assert [column.name for column in columns if column.log] == ["debt"]
    data = TableData("debts", frame, columns)
    rows = data.batch(torch.arange(len(frame)), augment=False)["data"]
    back = decode(rows, columns)["debt"]
    assert np.allclose(back, frame["debt"], rtol=2e-5, atol=1) and ((back == 0) == (frame["debt"] == 0)).all()
    debt = columns[-1]
    assert sum(debt.counts) == len(frame) and debt.counts[debt.centres.index(0.0)] == (frame["debt"] == 0).sum()
    features = Cells(columns)(Batch(data=rows))["features"]
    assert float(features[:, -1].std()) == pytest.approx(
        1, abs=0.2
    )  # measured in its own units, and not in their logarithm


def test_a_column_is_coded_by_its_logarithm_where_it_is_said_and_slips_are_named() -> None:
    debt = indebted()["debt"]
    assert not fit_column(debt, {"log": False}, 256, log_tails=True).log  # type: ignore[union-attr]
    assert fit_column(debt, {"log": True}, 256).log  # type: ignore[union-attr]
    with pytest.raises(UserError, match="did you mean 'log'"):
        fit_column(debt, {"log_": True}, 256)
    with pytest.raises(UserError, match="true or false"):
        fit_column(debt, {"log": "yes"}, 256)


def test_rows_are_drawn_by_modes_of_numbers_as_well_where_it_is_asked_for() -> None:
    frame = indebted()
    columns = [column for name in frame if (column := fit_column(frame[name], {}, 256))]
    data = TableData("debts", frame, columns, "modes")
    batch = data.batch(torch.zeros(6000, dtype=torch.int64))
    sex, age, debt = spans_of(columns)
    hot = torch.cat([batch["data"][:, span.hot] for span in (sex, age, debt)], 1)  # categories are numbered first
    assert torch.equal(hot[torch.arange(6000), batch["asked"]], torch.ones(6000))
    shares = torch.bincount(batch["asked"], minlength=hot.shape[1]) / 6000
    expected = torch.cat([log_frequency(torch.tensor(span.column.counts)) / 3 for span in (sex, age, debt)])
    assert torch.allclose(shares, expected, atol=0.03)


def test_a_matrix_without_a_line_of_names_is_read_and_its_columns_get_some(tmp_path: Path) -> None:
    (tmp_path / "codes.dat").write_text("0\t1\t0\n1\t1\t0\n0\t0\t1\n1\t0\t1\n")
    data = open_table(TableOptions(source=str(tmp_path / "codes.dat")))
    assert [column.name for column in data.columns] == ["x1", "x2", "x3"] and len(data) == 4
    (tmp_path / "spaced.dat").write_text("0 1 7\n1 1 8\n0 0 9\n")
    assert open_table(TableOptions(source=str(tmp_path / "spaced.dat"))).columns[2].high == 9


def test_rows_of_one_hots_and_soft_rows_are_told_by_their_largest_number() -> None:
    columns = [
        Column("a", "category", "object", 3, levels=["x", "y", "z"], counts=[1, 1, 1]),
        Column("n", "continuous", "float64", 3, centres=[0.0, 5.0], deviations=[1.0, 1.0]),
        Column("b", "category", "object", 3, levels=["p", "q", "r"], counts=[1, 1, 1]),
    ]
    hots = OneHots(spans_of(columns))
    rows = torch.tensor([[0, 1, 0, -0.7, 0, 1, 0, 0, 1], [1, 0, 0, 0.2, 1, 0, 0, 1, 0]])
    assert hots.numbers(rows).tolist() == [[1, 1, 2], [0, 0, 1]]
    assert hots.numbers(rows * 0.5 + 0.1).tolist() == [[1, 1, 2], [0, 0, 1]]
    # A number of 1 is not the largest where another is above it.
    above = rows.clone()
    above[0, :3] = torch.tensor([2.0, 1, 0])
    assert hots.numbers(above).tolist() == [[0, 1, 2], [0, 0, 1]]
    # As many numbers as one-hots, but not one in each.
    odd = rows.clone()
    odd[0, 0], odd[0, 4:6] = 0.5, torch.tensor([-1.0, 0.0])
    assert hots.numbers(odd).tolist() == [[1, 1, 2], [0, 0, 1]]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_categories_are_drawn_as_often_as_their_softmax_says_and_never_beside_what_is_asked_for(seed: int) -> None:
    torch.manual_seed(seed)
    columns = [
        Column("n", "continuous", "float64", 3, centres=[0.0, 5.0, 9.0], deviations=[1.0, 1.0, 1.0]),
        Column("a", "category", "object", 3, levels=list("vwxyz"), counts=[1] * 5),
        Column("b", "category", "object", 3, levels=list("pqr"), counts=[1] * 3),
    ]
    hots, made = OneHots(spans_of(columns)), torch.randn(1, 12) * 3
    asked = torch.zeros(20000, 8)
    asked[:, 5 + seed % 3] = 1
    rows, numbers = hots.drawn(made.expand(20000, -1).contiguous(), torch.rand(20000, 3), asked)
    assert torch.equal(numbers, hots.numbers(rows))
    for place, size in ((1, 3), (4, 5)):
        shares = made[0, place : place + size].softmax(0)
        assert torch.allclose(rows[:, place : place + size].mean(0), shares, atol=0.02)
    assert (rows[:, 9 + seed % 3] == 1).all() and torch.equal(rows[:, 9:].sum(1), torch.ones(20000))
    assert torch.equal(rows[:, 0], made[0, 0].tanh().expand(20000))
    # Whether logits are small or not, and whichever way is taken for it, the same chance chooses the same.
    luck, few = torch.rand(500, 3), asked[:500]
    made = made.expand(500, -1).contiguous()
    low = torch.cat([made[:, :1], made[:, 1:] - 100], 1)
    assert (hots.drawn(made, luck, few)[0] != hots.drawn(low, luck, few)[0]).float().mean() < 0.001  # but for rounding
    two = few.clone()
    two[:, 0] = two[:, 3] = 1  # two categories of one column: one of them
    rows, _ = hots.drawn(made, luck, two)
    assert torch.equal(rows[:, [4, 7]].sum(1), torch.ones(500)) and torch.equal(rows[:, 4:9].sum(1), torch.ones(500))
    # A chance of nearly 1 still chooses a number that is there.
    edge, _ = hots.drawn(torch.tensor([[0.0, 0, -200, -200] + [0.0] * 8]), torch.full((1, 3), 1 - 2**-24), None)
    assert edge[0, 1:4].tolist() == [1, 0, 0]


def test_soft_rows_are_a_gumbel_softmax_with_its_own_gradient_and_hard_ones_have_that_gradient_too() -> None:
    torch.manual_seed(0)
    columns = [
        Column("a", "category", "object", 3, levels=list("vwx"), counts=[1] * 3),
        Column("n", "integer", "int64", 3, centres=[0.0, 5.0], deviations=[1.0, 1.0]),
        Column("b", "category", "object", 3, levels=["p", "q"], counts=[1] * 2),
    ]
    hots = OneHots(spans_of(columns))
    made, noise = torch.randn(6, 8, dtype=torch.float32, requires_grad=True), torch.randn(6, 7)
    asked = torch.zeros(6, 5)
    asked[0, 1] = asked[1, 4] = 1
    logits = torch.cat([made[:, :3], made[:, 4:]], 1) + noise.index_select(1, hots.order.argsort())
    logits = logits + 1e6 * torch.cat([asked[:, :3], torch.zeros(6, 2), asked[:, 3:]], 1)
    a, n, b = ((part / 0.5).softmax(1) for part in logits.split([3, 2, 2], 1))
    wanted = torch.cat([a, made[:, 3:4].tanh(), n, b], 1)
    weights = torch.randn(6, 8)
    (expected,) = torch.autograd.grad((wanted * weights).sum(), made)
    for hard in (False, True):
        rows = hots.soft(made, noise.clone(), asked, 0.5, hard)
        (gradient,) = torch.autograd.grad((rows * weights).sum(), made)
        assert torch.allclose(gradient, expected, atol=1e-5) and gradient[:, :3].abs().max() > 0.01
        shown = torch.cat([wanted[:, :3].round(), wanted[:, 3:4], wanted[:, 4:].round()], 1) if hard else wanted
        assert torch.allclose(rows[:, 3:], shown[:, 3:], atol=1e-5)
        assert torch.equal(rows[0, :3], torch.tensor([0.0, 1, 0]))
