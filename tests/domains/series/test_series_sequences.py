"""Sequences of several lengths, at uneven times, with holes, with attributes: read, played, drawn and written."""

from __future__ import annotations

import csv
import itertools
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sparring
from sparring.core.game import Batch
from sparring.domains import open_domain
from sparring.domains.series.clock import Clock, calendar, read_clock
from sparring.domains.series.data import SeriesData, SeriesOptions, from_unit, open_series
from sparring.domains.series.features import Moments
from sparring.domains.series.games.series_game import SeriesGame
from sparring.errors import UserError
from sparring.recipe import Recipe, load_recipe
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

torch.set_num_threads(1)

CONDITIONAL = {
    "rcgan": ["model.width=8", "model.latent=2"],
    "c-rnn-gan": ["model.width=6", "model.latent=2", "model.depth=1"],
}


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    """24 patients with 3 to 6 visits at uneven days; a word and a number are each patient's own; y is here and there missing."""
    rng = np.random.default_rng(0)
    lines = ["patient,day,x,y,sex,age"]
    for patient in range(24):
        sex = "fm"[patient % 2]
        day = date(2024, 1, 1) + timedelta(patient)
        for visit in range(3 + patient % 4 if sex == "f" else 3):
            day += timedelta(int(rng.integers(1, 30)))
            y = "" if (visit + patient) % 5 == 0 else f"{rng.normal():.3f}"
            x = (5 if sex == "f" else -5) + rng.normal()
            lines.append(f"p{patient},{day},{x:.4f},{y},{sex},{30 + 1.5 * patient}")
    path = tmp_path / "visits.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def opened(path: Path, **options: Any) -> SeriesData:
    given = {"window": 6, "shortest": 3, "key": "patient", "missing": "forward", **options}
    return open_series(SeriesOptions(source=str(path), **given))


def everything(data: SeriesData) -> Batch:
    return data.batch(torch.arange(len(data)))


def recipe(name: str) -> Recipe:
    return load_recipe(name).override(CONDITIONAL[name])


def game_of(name: str, data: SeriesData) -> SeriesGame:
    torch.manual_seed(0)
    game = open_domain("series").build_game(recipe(name), data.spec)
    assert isinstance(game, SeriesGame)
    return game.eval().requires_grad_(False)


def rows_of(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open() as stream:
        return list(csv.DictReader(stream))


# Lengths


def test_shorter_sequences_are_padded_with_a_mask_and_scaled_by_their_own_steps(visits: Path) -> None:
    data = opened(visits)
    batch = everything(data)
    lengths = batch["mask"].sum(1)
    assert sorted(set(lengths.tolist())) == [3, 5]
    assert (batch["data"][batch["mask"] == 0] == 0).all()
    own = from_unit(batch["data"].numpy(), data.spec.extra)[batch["mask"].numpy() > 0]
    raw = np.array([float(row["x"]) for row in rows_of(visits)])
    assert sorted(own[:, 0]) == pytest.approx(sorted(raw), abs=1e-4)


def test_without_padding_short_sequences_are_left_out_as_before(visits: Path) -> None:
    data = opened(visits, window=5, shortest=None)
    assert len(data) == 6 and "mask" not in everything(data)
    assert all("fewer than a window" in why for _, why in data.broken)
    with pytest.raises(UserError, match=r"fewer than a window of 6; data\.shortest pads them"):
        opened(visits, shortest=None)
    assert any("fewer than data.shortest=5" in why for _, why in opened(visits, shortest=5).broken)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_losses_do_not_look_at_what_fills_windows_up(name: str, visits: Path) -> None:
    data = opened(visits)
    game = game_of(name, data)
    batch = everything(data)
    other = Batch({**batch, "data": torch.where(batch["mask"][:, :, None] > 0, batch["data"], 0.7)})
    for turn in game.turns(0):
        found = []
        for each in (batch, other):
            torch.manual_seed(1)
            found.append(game.loss(turn, each, 0).total)
        assert float(found[0]) == pytest.approx(float(found[1]), abs=1e-6), turn.name


def test_the_way_back_begins_at_a_sequence_s_own_end() -> None:
    from sparring.domains.series.games.crnn import TwoWays

    judge = TwoWays(2, 5, 1)
    x = torch.randn(1, 6, 2)
    mask = (torch.arange(6) < 4).float()[None]
    padded, _ = judge(x, mask)
    alone, _ = judge(x[:, :4])
    torch.testing.assert_close(padded[:, :4], alone)


def test_lengths_are_drawn_as_the_data_have_them_together_with_attributes(visits: Path) -> None:
    data = opened(visits)
    drawn = game_of("rcgan", data).generate(400, rng=torch.Generator().manual_seed(0))
    lengths = drawn["mask"].sum(1)
    male = drawn["label"] == data.spec.classes.index("m")
    assert set(lengths[male].tolist()) == {3.0}  # as in the data
    there = everything(data)["mask"].sum(1)
    for length in there.unique():
        assert float((lengths == length).float().mean()) == pytest.approx(
            float((there == length).float().mean()), abs=0.08
        )
    assert (drawn["data"][drawn["mask"] == 0] == 0).all()


def test_a_game_of_one_length_refuses_padded_windows(visits: Path) -> None:
    with pytest.raises(UserError, match=r"one length only: leave out data\.shortest"):
        open_domain("series").build_game(load_recipe("timegan"), opened(visits).spec)


def test_moments_are_of_a_window_s_own_steps() -> None:
    x = torch.rand(4, 5, 2)
    mask = (torch.arange(5) < 3).float().expand(4, 5)
    padded = Moments()(Batch(data=x * mask[:, :, None], mask=mask))["features"]
    torch.testing.assert_close(padded[:, :-1], Moments()(Batch(data=x[:, :3]))["features"])
    assert (padded[:, -1] == 0.6).all()


# Attributes


def test_what_is_constant_in_each_sequence_is_an_attribute_of_it(visits: Path) -> None:
    data = opened(visits)
    assert data.spec.extra["features"] == ["x", "y"] and data.spec.classes == ("f", "m")
    assert [(each["name"], each["kind"]) for each in data.spec.extra["attributes"]] == [
        ("sex", "category"),
        ("age", "number"),
    ]
    report = open_domain("series").check(str(visits), key="patient", window=6, shortest=3).plain()
    assert report["summary"]["attributes"] == {"sex": "category of 2: f, m", "age": "number, 30 to 64.5"}
    assert report["summary"]["time"] == "day" and report["missing"] == ["y"] and report["uneven"]


def test_what_is_inferred_can_be_corrected(visits: Path) -> None:
    data = opened(visits, attributes={"age": "feature", "sex": "drop"})
    assert data.spec.extra["features"] == ["x", "y", "age"] and not data.spec.classes
    with pytest.raises(UserError, match="'x' changes within the sequence"):
        opened(visits, attributes={"x": "number"})
    with pytest.raises(UserError, match=r"data\.label='age' is no attribute with categories"):
        opened(visits, label="age")


def test_a_name_of_each_sequence_is_no_attribute(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sequence,x,who\n" + "".join(f"{n},{n * t},person {n}\n" for n in range(40) for t in range(4)))
    data = open_series(SeriesOptions(source=str(path), window=4))
    assert not data.spec.extra["attributes"] and "another one in most" in data.spec.extra["label_note"]


def test_attributes_are_asked_for_by_name_and_what_is_not_asked_for_is_left_to_the_data(visits: Path) -> None:
    game = game_of("rcgan", opened(visits))
    labels = game.labels
    assert labels is not None
    assert (
        labels.ask("f").tolist()[:2] == labels.ask("sex=f").tolist()[:2] == [1, 0]
        and labels.ask("sex=f,age=33").isnan().sum() == 0
    )
    rng = torch.Generator().manual_seed(0)
    drawn = game.generate(50, condition=labels.ask("m").expand(50, -1), rng=rng)
    assert (drawn["label"] == 1).all() and len(drawn["attributes"][:, 2].unique()) > 5
    for wish, message in (
        ("x=f", "no attribute 'x'"),
        ("sex=g", "has no 'g'"),
        ("age=99", "from 30 to 64.5"),
        ("age=old", "to be a number"),
        ("huh", "no category of sex, age; write sex=f"),
    ):
        with pytest.raises(UserError, match=message):
            labels.ask(wish)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_both_networks_are_told_the_attributes(name: str, visits: Path) -> None:
    data = opened(visits)
    game = game_of(name, data)
    codes = game.draw_codes(4, rng=torch.Generator().manual_seed(0))
    one = game.render(codes)["data"]
    codes["attributes"] = codes["attributes"].flip(1)
    assert not torch.equal(game.render(codes)["data"], one)
    batch = everything(data)
    found = []
    for each in (batch, Batch({**batch, "attributes": batch["attributes"].flip(1)})):
        torch.manual_seed(1)
        found.append(float(game.loss(game.turns(0)[0], each, 0).total))
    assert found[0] != found[1]


def test_rcgan_learns_what_the_label_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.csv"
    rows = [
        f"{n},{(1 if n % 2 else -1) + 0.2 * rng.normal()},{'mf'[n % 2]}" for n in range(64) for _ in range(4 + n % 3)
    ]
    path.write_text("\n".join(["sequence,x,sex", *rows]))
    data = open_series(SeriesOptions(source=str(path), window=6, shortest=4))
    fast = ["train.optimizer.lr=0.005", "train.players.discriminator.optimizer={name: adam, lr: 0.005}"]
    own = load_recipe("rcgan").override(["model.width=16", "model.latent=2", "train.batch_size=32", *fast])
    seed_everything(0)
    trainer = Trainer(open_domain("series").build_game(own, data.spec), data, own, Engine(device="cpu"), None)
    for _ in range(200):
        trainer.play_step()
    with torch.no_grad():
        drawn = trainer.game.eval().generate(200, rng=torch.Generator().manual_seed(0))
    means = [float(drawn["data"][drawn["label"] == sex].sum() / drawn["mask"][drawn["label"] == sex].sum()) for sex in (0, 1)]  # fmt: skip
    assert data.spec.classes == ("f", "m") and means[0] > means[1] + 0.25


def test_a_run_s_samples_have_what_was_asked_for(visits: Path, tmp_path: Path) -> None:
    sparring.train(
        load_recipe("rcgan"), data=str(visits), out=tmp_path / "run", steps=2, device="cpu", quiet=True,
        set=["model.width=8", "data.window=6", "data.shortest=3", "data.key=patient", "data.missing=forward",
             "train.batch_size=24", "evaluate.metric=null"],
    )  # fmt: skip
    (file,) = sparring.generate(
        tmp_path / "run", count=9, label="sex=m", out=tmp_path / "m.parquet", checkpoint="last", device="cpu"
    )
    import pyarrow.parquet as parquet

    table = parquet.read_table(file)
    assert table.column_names == ["sequence", "step", "x", "y", "sex", "age"]
    assert set(table["sex"].to_pylist()) == {"m"} and table.num_rows == 9 * 3
    assert len([*(tmp_path / "run" / "samples").iterdir()]) == 2


# Times and holes


def test_gaps_are_learnt_and_times_come_out_again(visits: Path, tmp_path: Path) -> None:
    data = opened(visits, gaps=True)
    assert data.spec.extra["features"] == ["x", "y", "log gap"]
    domain = open_domain("series").knowing(data.spec)
    batch = everything(data)
    # Frames are windows of the data: with its own one, a window has its own times.
    order = np.random.default_rng(0).permutation(len(data))
    frame = torch.empty(len(data), dtype=torch.int64)
    frame[torch.from_numpy(order)] = torch.arange(len(data))
    (file,) = domain.save([Batch({**batch, "frame": frame})], (), tmp_path / "again.csv", "csv")
    again, first = rows_of(file), rows_of(visits)
    assert [row["day"] for row in again] == [row["day"] for row in first]
    assert [float(row["x"]) for row in again] == pytest.approx([float(row["x"]) for row in first], abs=1e-4)
    assert [(row["sex"], float(row["age"])) for row in again] == [(row["sex"], float(row["age"])) for row in first]
    drawn = game_of("rcgan", data).generate(5, rng=torch.Generator().manual_seed(0))
    assert (np.diff(domain.times(drawn), axis=1) >= 86400).all()  # type: ignore[attr-defined]


def test_times_that_go_back_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("day,x\n2024-01-01,1\n2024-01-03,2\n2024-01-02,3\n")
    with pytest.raises(UserError, match=r"\[0\]: step 2 is not later than the one before"):
        open_series(SeriesOptions(source=str(path), window=2, gaps=True))
    (tmp_path / "b.csv").write_text("x\n1\n2\n3\n")
    with pytest.raises(UserError, match=r"data\.gaps wants a column of dates"):
        open_series(SeriesOptions(source=str(tmp_path / "b.csv"), window=2, gaps=True))


def test_a_number_may_be_the_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,x\n" + "".join(f"{t * t},{t % 3}\n" for t in range(12)))
    data = open_series(SeriesOptions(source=str(path), window=4, gaps=True, time="t"))
    gaps = np.exp(from_unit(everything(data)["data"].numpy(), data.spec.extra)[0, :, 1])
    assert gaps[1:] == pytest.approx([1, 3, 5], rel=1e-4)


def test_the_calendar_knows_mondays_midnights_and_januaries() -> None:
    cells = ["2024-01-01 00:00", "2024-01-01 06:00", "2024-07-04 12:00"]
    found = read_clock("t", cells)
    assert found is not None
    clock, times = found
    turns = calendar(clock, times, ["hour", "weekday", "month"])
    assert turns.shape == (3, 6)
    assert turns[0] == pytest.approx([0, 1, 0, 1, 0, 1], abs=1e-9)
    assert turns[1, :2] == pytest.approx([1, 0], abs=1e-9)
    angle = 2 * np.pi * 3 / 7  # a Thursday
    assert turns[2, 2:] == pytest.approx([np.sin(angle), np.cos(angle), 0, -1], abs=1e-9)
    assert clock.text(times) == ["2024-01-01 00:00:00", "2024-01-01 06:00:00", "2024-07-04 12:00:00"]


def test_the_calendar_is_told_and_samples_have_the_times_they_were_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    days = [date(2024, 1, 1) + timedelta(t) for t in range(70)]
    path.write_text("day,x\n" + "".join(f"{day},{day.weekday()}\n" for day in days))
    data = open_series(SeriesOptions(source=str(path), window=7, calendar=["weekday"]))
    assert everything(data)["calendar"].shape == (64, 7, 2)
    game = game_of("rcgan", data)
    assert game.given_size == 2
    drawn = game.generate(6, rng=torch.Generator().manual_seed(0))
    domain = open_domain("series").knowing(data.spec)
    (file,) = domain.save([drawn], (), tmp_path / "new.csv", "csv")
    written = [date.fromisoformat(row["day"]) for row in rows_of(file)]
    assert all(later - earlier == timedelta(1) for n, (earlier, later) in enumerate(itertools.pairwise(written)) if n % 7 < 6)  # fmt: skip
    told = game.frame_calendar[drawn["frame"]][:, :, 0].flatten()
    assert told.tolist() == pytest.approx([np.sin(2 * np.pi * day.weekday() / 7) for day in written], abs=1e-6)
    with pytest.raises(UserError, match=r"knows no conditions: leave out data\.calendar"):
        open_domain("series").build_game(load_recipe("timegan"), data.spec)


def test_missing_values_repeat_the_last_one_or_are_learnt(visits: Path, tmp_path: Path) -> None:
    rows = rows_of(visits)
    forward = opened(visits)
    assert "missing values of y repeat the last one" in forward.spec.extra["label_note"]
    y = from_unit(everything(forward)["data"].numpy(), forward.spec.extra)[0, :, 1]
    mine = [row["y"] for row in rows if row["patient"] == "p0"]
    first = next(cell for cell in mine if cell)
    expected, last = [], float(first)
    for cell in mine:
        last = float(cell) if cell else last
        expected.append(last)
    assert y[: len(mine)] == pytest.approx(expected, abs=1e-4)
    learnt = opened(visits, missing="learn")
    assert learnt.spec.extra["features"] == ["x", "y", "y missing"]
    (file,) = open_domain("series").knowing(learnt.spec).save([everything(learnt)], (), tmp_path / "again.csv", "csv")
    assert [row["y"] == "" for row in rows_of(file)] == [row["y"] == "" for row in rows]


# Files


@pytest.mark.parametrize("form", ["csv", "parquet", "npz", "npy"])
def test_saved_samples_of_several_lengths_are_read_as_they_were(form: str, visits: Path, tmp_path: Path) -> None:
    data = opened(visits, attributes={"sex": "drop", "age": "drop"})
    batch = everything(data)
    (file,) = open_domain("series").knowing(data.spec).save([batch], (), tmp_path / f"a.{form}", form)
    again = open_series(SeriesOptions(source=str(file), window=6, shortest=3), data.spec.extra)
    torch.testing.assert_close(everything(again)["data"], batch["data"], atol=1e-6, rtol=0)
    assert torch.equal(everything(again)["mask"], batch["mask"])


def test_parquet_is_read_as_the_text_of_it(visits: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(visits, parse_dates=["day"])
    frame.to_parquet(tmp_path / "visits.parquet")
    for options in ({}, {"gaps": True}):
        text, same = opened(visits, **options), opened(tmp_path / "visits.parquet", **options)
        assert text.spec.extra["attributes"] == same.spec.extra["attributes"]
        assert torch.equal(everything(text)["data"], everything(same)["data"])
    (tmp_path / "bad.parquet").write_bytes(b"junk")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        opened(tmp_path / "bad.parquet")


def test_dates_go_through_text_and_back() -> None:
    assert read_clock("t", ["1", "x"]) is None
    found = read_clock("t", ["2020-02-29", "2021-03-01"])
    assert found is not None and found[0] == Clock("t", True, 86400.0)
    assert found[0].text(found[1] + 1000) == ["2020-02-29", "2021-03-01"]


def test_chosen_columns_alone_are_learnt(visits: Path) -> None:
    assert opened(visits, columns=["y"]).spec.extra["features"] == ["y"]
    with pytest.raises(UserError, match=r"has no column 'z', which data.columns names"):
        opened(visits, columns=["z"])


def test_the_end_of_a_sequence_is_held_out_and_measured_on(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.linspace(0, 1, 100))
    options = SeriesOptions(source=str(tmp_path / "a.npy"), window=5, held_out=0.2)
    data = open_series(options)
    assert data.held_out is not None and len(data) == 76 and len(data.held_out) == 16
    assert float(everything(data)["data"].max()) == 1 and float(everything(data.held_out)["data"].min()) > 1
    reference = open_domain("series").open_reference(options.source, options.model_dump(), data.spec)
    assert torch.equal(reference.batch(torch.arange(16))["data"], everything(data.held_out)["data"])
