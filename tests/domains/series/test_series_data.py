"""Series as they are read: sequences, windows, scales, files that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.core.game import Batch
from sparring.data.dataset import Dataset
from sparring.domains import open_domain
from sparring.domains.domain import Domain
from sparring.domains.series.data import SeriesData, SeriesOptions, from_unit, open_series, to_unit
from sparring.domains.series.sources import sines
from sparring.errors import UserError

torch.set_num_threads(1)


@pytest.fixture
def series() -> Domain:
    return open_domain("series")


def opened(path: Path, **options: Any) -> SeriesData:
    return open_series(SeriesOptions(source=str(path), **options))


def all_windows(data: Dataset) -> torch.Tensor:
    return data.batch(torch.arange(len(data)))["data"]


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_one_long_sequence_becomes_overlapping_windows(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "x,y\n" + "".join(f"{t},{10 * t}\n" for t in range(7)))
    data = opened(path, window=4)
    assert data.spec.shape == (4, 2) and len(data) == 4
    windows = from_unit(all_windows(data).numpy(), data.spec.extra)
    assert windows[1, :, 0] == pytest.approx([1, 2, 3, 4]) and windows[3, :, 1] == pytest.approx([30, 40, 50, 60])
    assert len(opened(path, window=4, stride=3)) == 2


def test_no_window_straddles_two_sequences_even_where_their_rows_alternate(tmp_path: Path) -> None:
    rows = [(name, sign * (t + 1)) for t in range(6) for name, sign in (("up", 1), ("down", -1))]
    path = table(tmp_path / "a.csv", "who,x\n" + "".join(f"{name},{x}\n" for name, x in rows))
    data = opened(path, window=3, key="who")
    windows = from_unit(all_windows(data).numpy(), data.spec.extra)[:, :, 0]
    assert len(windows) == 8
    assert all((window > 0).all() or (window < 0).all() for window in windows)
    assert np.abs(np.diff(np.abs(windows), axis=1)) == pytest.approx(1)


def test_dates_are_no_features_and_it_is_said(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "day,price\n" + "".join(f"2024-01-0{t},{t * t}\n" for t in range(1, 8)))
    data = opened(path, window=3)
    assert data.spec.extra["features"] == ["price"]
    assert "the column day is left out: it names the steps" in data.spec.extra["label_note"]


def test_windows_with_holes_and_sequences_that_are_too_short_are_left_out_and_named(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "sequence,x\n" + "".join(f"a,{'' if t == 4 else t}\n" for t in range(9)) + "b,1\n")
    data = opened(path, window=3)
    assert len(data) == 4 and torch.isfinite(all_windows(data)).all()
    assert [reason for _, reason in data.broken] == [
        "3 windows hold a value that is not a number",
        "1 steps are fewer than a window of 3",
    ]


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=12), st.floats(-1e3, 1e3), st.floats(0.01, 1e4))
def test_scaling_there_and_back_changes_nothing(values: list[float], low: float, span: float) -> None:
    scaling = {"low": [low], "high": [low + span]}
    there = np.array(values)[:, None]
    assert from_unit(to_unit(there, scaling), scaling) == pytest.approx(there, rel=1e-9, abs=1e-6)


def test_a_constant_feature_is_the_same_in_every_sample(series: Domain, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "x,y\n" + "".join(f"{t},7\n" for t in range(9)))
    data = opened(path, window=3)
    known = series.knowing(data.spec)
    known.save([Batch(data=torch.rand(2, 3, 2))], (), tmp_path / "b.npy", "npy")
    assert (np.load(tmp_path / "b.npy", allow_pickle=False)[:, :, 1] == 7).all()


@pytest.mark.parametrize("form", ["csv", "npz", "npy"])
def test_saved_samples_are_read_as_they_were_in_the_data_s_own_units(series: Domain, tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.normal(size=(9, 5, 2)) * [1, 1e6] + [0, 3e7])
    data = opened(tmp_path / "a.npy", window=5)
    path = tmp_path / f"b.{form}"
    batch = data.batch(torch.arange(9))
    series.knowing(data.spec).save([Batch(data=batch["data"][:4]), Batch(data=batch["data"][4:])], (), path, form)
    again, _ = series.open_samples(str(path), str(tmp_path / "a.npy"), window=5)
    torch.testing.assert_close(all_windows(again), batch["data"], atol=1e-6, rtol=0)


def test_other_data_are_scaled_as_the_run_s_are(series: Domain, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.linspace(0, 10, 20))
    np.save(tmp_path / "b.npy", np.linspace(0, 20, 20))
    np.save(tmp_path / "c.npy", np.ones((20, 2)))
    options = series.resolve_data({"source": str(tmp_path / "a.npy"), "window": 4})
    spec = series.open_data(options).spec
    other = series.open_reference(str(tmp_path / "b.npy"), options, spec)
    assert float(all_windows(other).max()) == pytest.approx(2)
    with pytest.raises(UserError, match="has 2 features where the other side has 1"):
        series.open_reference(str(tmp_path / "c.npy"), options, spec)


def test_sines_are_the_paper_s() -> None:
    waves = sines(500, 24, 2)
    assert waves.shape == (500, 24, 2) and np.abs(waves).max() <= 1
    # A sine of frequency η obeys x[t+1] + x[t−1] = 2 cos(2πη) x[t].
    middle = waves[:, 1:-1]
    ratio = np.nanmedian((waves[:, 2:] + waves[:, :-2]) / np.where(np.abs(middle) > 1e-3, middle, np.nan), axis=1)
    assert (waves[:, 2:] + waves[:, :-2]) == pytest.approx(ratio[:, None] * middle, abs=1e-6)
    # Of η ~ U[0, 1], cos(2πη) has mean 0 and deviation √½.
    assert (ratio / 2).mean() == pytest.approx(0, abs=0.08) and (ratio / 2).std() == pytest.approx(0.5**0.5, abs=0.05)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"x,y\n", "no values below it"),
        ("a.csv", b"x,y\n1,2\n3\n", "line 3: 1 values where the first line has 2"),
        ("a.csv", b"x,y\n1,2\n3,oops\n", "line 3: 'oops' in column 'y' is not a number"),
        ("a.csv", b"x,x\n1,2\n", "two columns have one name"),
        ("a.csv", b"\xff\xfe\x00\x01", "cannot be read as a text file"),
        ("a.csv", b"day\n2024-01-01\n", "holds no numbers beside day"),
        ("a.csv", b"x\n1\n2\n", "0 usable windows of 24 steps"),
        ("a.csv", b"x\n" + b"3\n" * 40, "no feature ever varies"),
        ("a.npy", b"junk", "cannot be read as NumPy arrays"),
        ("a.txt", b"1", "not a source of series"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        opened(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("x\n1\n")
    with pytest.raises(UserError, match=r"no such file \(did you mean 'prices.csv'\?\)"):
        opened(tmp_path / "price.csv")
    with pytest.raises(UserError, match="has no column 'shop' to tell sequences apart by"):
        opened(tmp_path / "prices.csv", key="shop")


def test_a_check_finds_what_was_planted(series: Domain, tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [("a", t, 5, f"2024-01-{t + 1:02}") for t in range(6)] + [
        ("b", t, 5, f"2024-01-{t + 1:02}") for t in range(6)
    ]
    rows += [("c", 9, 5, "2024-01-01"), *(("d", "" if t == 2 else 3 * t, 5, f"2024-01-{t + 1:02}") for t in range(6))]
    text = "who,x,y,day\n" + "".join(",".join(str(cell) for cell in row) + "\n" for row in rows)
    path = table(tmp_path / "a.csv", text)
    report = series.check(str(path), key="who", window=3).plain()
    assert report["copies"] == [1] and report["short"] == [2] and report["holes"] == [3]
    assert report["constant"] == ["y"] and report["aside"] == ["day"]
    assert report["summary"]["windows"] == 9
    assert ("short", f"{path}[2]") in [(finding["kind"], finding["name"]) for finding in report["findings"]]


def test_a_training_is_told_windows_and_the_first_features() -> None:
    data = open_series(SeriesOptions(source="sines", count=5, features=14, window=6))
    names = ", ".join(f"x{number + 1}" for number in range(12))
    assert open_domain("series").introduce(data.spec) == [
        f"5 windows of 6 steps (data.window) of {names}, and 2 others"
    ]
