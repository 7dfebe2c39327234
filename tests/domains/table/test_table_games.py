"""The games on tables: what is asked for is obeyed, frequencies are the data's, and a run goes the way of all runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import sparring
from sparring.core.game import Batch, Losses, Turn
from sparring.core.standing import take_standing_statistics
from sparring.domains import open_domain
from sparring.domains.table.conditions import TableLabels
from sparring.domains.table.data import TableData, TableOptions, open_table
from sparring.domains.table.games import ctgan
from sparring.domains.table.games.ctgan import CTGAN, moments
from sparring.domains.table.networks import Layer
from sparring.domains.table.rows import spans_of
from sparring.errors import UserError
from sparring.recipe import Recipe, load_recipe

torch.set_num_threads(1)

TINY = [
    "model.latent=4", "model.generator.width=8", "model.discriminator.width=8", "model.pack=2", "train.batch_size=8",
    "train.schedule={name: constant}",
]  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = 400
    kind = rng.choice(["p", "q", "r"], rows, p=[0.8, 0.15, 0.05])
    frame = pd.DataFrame({
        "kind": kind,
        "size": np.where(kind == "p", rng.normal(0, 1, rows), rng.normal(9, 1, rows)).round(2),
        "note": np.where(rng.random(rows) < 0.1, None, rng.choice(["a, b", "c=d"], rows)),
        "paid": np.where(rng.random(rows) < 0.6, 0, rng.integers(1, 900, rows)),
        "id": np.arange(rows) + 1000,
    })  # fmt: skip
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


@pytest.fixture
def data(table: Path) -> TableData:
    return open_table(TableOptions(source=str(table)))


def tiny(*more: str) -> Recipe:
    return load_recipe("ctgan").override([*TINY, *more])


def built(data: TableData, *more: str) -> CTGAN:
    torch.manual_seed(0)
    game = open_domain("table").build_game(tiny(*more), data.spec)
    assert isinstance(game, CTGAN)
    return game


def test_what_is_asked_for_is_there_in_every_row_however_the_generator_is_trained(data: TableData) -> None:
    game, domain = built(data).eval(), open_domain("table").knowing(data.spec)
    labels = game.labels
    assert isinstance(labels, TableLabels)
    for wish, wanted in (
        ("kind=r", {"kind": "r"}),
        ("kind=q,note=c=d", {"kind": "q", "note": "c=d"}),
        ("note=a, b, kind=p", {"note": "a, b", "kind": "p"}),
        ({"note": None}, {"note": None}),
    ):
        asked = labels.ask(wish).expand(50, -1)
        frame = domain.frame_of(game.generate(50, condition=asked))  # type: ignore[attr-defined]
        for column, level in wanted.items():
            assert (frame[column].isna() if level is None else frame[column] == level).all(), wish


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("kind=s", "no 's'"),
        ("kinds=p", "mean 'kind'"),
        ("size=3", "holds numbers"),
        ("p", "says no column"),
        ("kind=p,kind=q", "twice"),
        ("id=1001", "no categories"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_a_line(data: TableData, wish: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        TableLabels(data.columns).ask(wish)


def test_rows_are_drawn_for_categories_as_frequent_as_the_data_s_and_rehearsed_as_in_training(data: TableData) -> None:
    game = built(data)
    codes = game.draw_codes(6000, rng=torch.Generator().manual_seed(0))
    names = TableLabels(data.columns).names
    share = dict(zip(names, codes["label"].mean(0).tolist(), strict=True))
    # Two columns with categories, so each is asked for in half of the rows.
    assert share["kind=p"] == pytest.approx(0.4, abs=0.04) and share["kind=r"] == pytest.approx(0.025, abs=0.015)
    assert torch.equal(codes["label"].sum(1), torch.ones(6000))
    assert torch.equal(game.rehearsed, game.frequencies)
    other = built(data, "data.sampling=log_frequency")
    rare = other.rehearsed[list(names).index("kind=r")] / other.frequencies[list(names).index("kind=r")]
    assert rare > 2


def test_the_discriminator_sees_rows_that_have_what_was_asked_for_on_both_sides(data: TableData) -> None:
    game = built(data, "model.several=1")
    batch = data.batch(torch.arange(8))
    game.loss(Turn("discriminator", keep=True), batch, 0)
    condition = batch.memo["condition"]
    own = batch["data"][:, game.hot]
    assert (
        torch.equal(condition * own, condition) and (condition.sum(1) >= 1).all()
    )  # all asked for is in the data's rows
    fake = batch.memo["fake"].unflatten(1, (2, -1)).flatten(0, 1)[:, game.hot]
    assert torch.equal(fake[condition > 0], torch.ones(int(condition.sum())))
    asked = torch.nn.functional.one_hot(batch["asked"], len(condition[0]))
    assert (condition >= asked).all() and condition.sum() > 8


def test_a_drawn_row_has_one_category_a_column_and_places_within_reach(data: TableData) -> None:
    rows = built(data).eval().generate(64)["data"]
    spans = spans_of(data.columns)
    for span in spans:
        if span.column.places:
            assert rows[:, span.start].abs().max() <= 1
        hot = rows[:, span.hot]
        assert torch.equal(hot.sum(1), torch.ones(64)) and set(hot.unique().tolist()) <= {0.0, 1.0}
    assert spans[-1].hot.stop == rows.shape[1]


def test_statistics_of_batch_norm_are_of_rows_as_training_asks_for_them(data: TableData) -> None:
    game = built(data).eval()
    calls: list[torch.Tensor] = []
    game.generator.register_forward_pre_hook(lambda module, given: calls.append(given[1]))
    assert take_standing_statistics(game)
    asked = torch.cat(calls).mean(0)
    assert asked.sum() == pytest.approx(1) and torch.allclose(asked, game.rehearsed / 2, atol=0.05)


def test_second_moments_say_how_often_two_categories_meet_and_are_held_to_the_data_s(data: TableData) -> None:
    rows = torch.tensor([[1.0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 1]])
    assert torch.equal(moments(rows), torch.tensor([[0.5, 0, 0.25], [0, 0.5, 0.5], [0.25, 0.5, 0.75]]))
    game, batch = built(data, "loss.moments=2"), data.batch(torch.arange(8))
    game.loss(Turn("discriminator", keep=True), batch, 0)
    fake = batch.memo["fake"].unflatten(1, (2, -1)).flatten(0, 1)
    losses = game.loss(Turn("generator", fresh=False), batch, 0)
    expected = 2 * (moments(fake) - moments(batch["data"])).square().sum()
    assert float(losses["moments"].detach()) == pytest.approx(float(expected.detach()))
    losses["moments"].backward()
    assert game.generator.out.weight.grad.norm() > 0  # through categories that are chosen hard


def test_of_wide_rows_a_step_compares_the_moments_of_some_numbers_for_all(
    data: TableData, monkeypatch: pytest.MonkeyPatch
) -> None:
    game, rows = built(data, "loss.moments=2"), data.batch(torch.arange(8))["data"]
    packs = rows.view(4, -1)
    size = rows.shape[1]

    def term() -> tuple[float, int]:
        made = torch.linspace(0, 1, rows.numel()).view_as(rows).requires_grad_()
        batch, losses = Batch(data=packs), Losses({})
        batch.memo["rows"] = made.view_as(packs)
        game.add_generator_terms(losses, batch, None)
        losses["moments"].backward()
        assert made.grad is not None
        return float(losses["moments"].detach()), int(made.grad.any(0).sum())

    whole, seen = term()
    monkeypatch.setattr(ctgan, "WIDE", size // 2)
    some, places = zip(*(term() for _ in range(60)), strict=True)
    assert seen == size and set(places) == {size // 2}
    # Of the square's diagonal there is too much: twice at most.
    assert 0.9 * whole < np.mean(some) < 2.2 * whole and np.std(some) > 0


def test_the_discriminator_sees_one_category_a_column_with_the_gradient_of_soft_ones(data: TableData) -> None:
    for hard in (True, False):
        game = built(data, f"model.hard={str(hard).lower()}")
        rows = game.sample(32, None if game.labels is None else torch.zeros(32, 2 * len(game.labels.names)))
        hot = rows.unflatten(1, (2, -1)).flatten(0, 1)[:, game.hot]
        assert bool(((hot.detach() - hot.detach().round()).abs() < 1e-6).all()) == hard
        # A category a column, and the likeliest of the soft ones: as many as there are columns.
        assert torch.allclose(hot.sum(1), torch.full((64,), float(game.asked_of[-1] + 1)), atol=1e-4)
        rows.square().sum().backward()
        assert game.generator.out.weight.grad.abs().sum() > 0


def test_layers_whose_statistics_stand_still_are_one_product_and_give_the_same() -> None:
    layer = Layer(5, 7)
    for _ in range(20):
        layer(torch.randn(64, 5) * 3 + 1)
    layer.eval()
    rows = torch.randn(9, 5)
    with torch.no_grad():
        torch.nn.init.uniform_(layer.norm.weight, -2, 2)
        folded = layer(rows)
    assert torch.allclose(folded, layer(rows).detach(), atol=1e-5) and folded.max() > 0.1


def test_tables_in_memory_are_measured_against_each_other_and_by_runs(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))
    frame = pd.read_csv(table)
    found = sparring.evaluate(
        frame.sample(200, random_state=0), data=frame, domain="table", metrics="marginal_error", out=tmp_path / "out"
    )
    assert 0 < found.figures["marginal_error"].value < 0.1 and Path(found.data).suffix == ".parquet"
    sparring.train(
        tiny("evaluate.metric=null"), data=str(table), out=tmp_path / "run", steps=1, device="cpu", quiet=True
    )
    by_name, by_frame = (
        sparring.evaluate(tmp_path / "run", data=data, metrics="marginal_error", count=80, checkpoint="last")
        for data in (str(table), frame)
    )
    assert by_name.figures["marginal_error"].value == by_frame.figures["marginal_error"].value
    with pytest.raises(UserError, match="DataFrame"):
        sparring.evaluate(frame, data=[1, 2], domain="table")  # type: ignore[arg-type]


def test_rows_that_cannot_be_packed_are_refused_before_a_step(data: TableData) -> None:
    with pytest.raises(UserError, match="multiple"):
        built(data, "train.batch_size=7")


def test_a_table_of_numbers_alone_is_played_without_conditions(tmp_path: Path) -> None:
    source = tmp_path / "numbers.csv"
    pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["x", "y"]).to_csv(source, index=False)
    data = open_table(TableOptions(source=str(source)))
    game = built(data)
    assert game.labels is None
    for turn in game.turns(0):
        assert game.loss(turn, data.batch(torch.arange(8)), 0).total.isfinite()
    assert game.eval().generate(3)["data"].shape == (3, *data.spec.shape)


def test_a_resumed_run_equals_an_uninterrupted_one_and_writes_the_same_table(table: Path, tmp_path: Path) -> None:
    files = []
    for folder, steps in (("whole", 7), ("cut", 5)):
        sparring.train(
            tiny("train.checkpoint_every=5", "evaluate.metric=null"), data=str(table), out=tmp_path / folder,
            steps=steps, device="cpu", quiet=True,
        )  # fmt: skip
    sparring.resume(tmp_path / "cut", steps=7, device="cpu", quiet=True)
    for folder in ("whole", "cut"):
        (file,) = sparring.generate(tmp_path / folder, count=30, out=tmp_path / f"{folder}.csv", checkpoint="last")
        files.append(Path(file).read_bytes())
    assert files[0] == files[1]
    frame, real = pd.read_csv(tmp_path / "cut.csv"), pd.read_csv(table)
    assert list(frame.columns) == list(real.columns) and list(frame["id"]) == list(range(1000, 1030))
    assert (
        set(frame["kind"]) <= set(real["kind"]) and frame["size"].between(real["size"].min(), real["size"].max()).all()
    )


def test_a_run_is_asked_measured_and_shown(table: Path, tmp_path: Path) -> None:
    sparring.train(
        tiny("evaluate.every=3", "evaluate.count=60"),
        data=str(table),
        out=tmp_path / "run",
        steps=3,
        device="cpu",
        quiet=True,
    )
    assert (tmp_path / "run" / "samples" / "step-00000003.png").stat().st_size > 5000
    (file,) = sparring.generate(tmp_path / "run", count=20, out=tmp_path / "rare.parquet", label="kind=r,note=a, b")
    frame = pd.read_parquet(file)
    assert (frame["kind"] == "r").all() and (frame["note"] == "a, b").all() and len(frame) == 20
    # As many threads as there may be draw the same rows, in the same order.
    trained, rows = sparring.load(str(tmp_path / "run"), device="cpu"), []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        rows.append(torch.cat([batch["data"] for batch in trained.generate(9000)]))
    assert torch.equal(rows[0], rows[1]) and len(rows[0]) == 9000
    # The categories that come with rows are theirs.
    (batch,) = trained.generate(200)
    frames = [trained.domain.frame_of(each) for each in (batch, Batch(data=batch["data"]))]  # type: ignore[attr-defined]
    assert "numbers" in batch and frames[0].equals(frames[1])
    found = sparring.evaluate(
        tmp_path / "run",
        metrics="marginal_error,pair_error,tstr,adherence",
        count=80,
    )
    assert found.figures["adherence"].value == 1 and found.figures["tstr"].facts["target"] == "note"
    assert 0 < found.figures["marginal_error"].value < 1
    assert {Path(file).name for file in found.files} == {"columns.png", "associations.png", "cloud.png"}
    alone = sparring.evaluate(
        str(table), data=str(table), domain="table", metrics="marginal_error,pair_error", out=tmp_path
    )
    assert alone.figures["marginal_error"].value < 0.1


def test_a_copula_has_the_columns_of_the_data_and_how_they_go_together_and_independent_draws_do_not(
    table: Path, tmp_path: Path
) -> None:
    real = pd.read_csv(table)
    drawn = {}
    for name in ("copula", "independent"):
        sparring.train(name, data=str(table), out=tmp_path / name, device="cpu", quiet=True)
        (file,) = sparring.generate(tmp_path / name, count=4000, out=tmp_path / f"{name}.csv")
        drawn[name] = pd.read_csv(file)
        for column in ("kind", "note"):
            shares = [side[column].value_counts(normalize=True, dropna=False) for side in (real, drawn[name])]
            assert (shares[0] - shares[1].reindex(shares[0].index)).abs().max() < 0.04
        assert (drawn[name]["paid"] == 0).mean() == pytest.approx((real["paid"] == 0).mean(), abs=0.04)
        assert drawn[name]["size"].quantile([0.1, 0.5, 0.9]).tolist() == pytest.approx(
            real["size"].quantile([0.1, 0.5, 0.9]).tolist(), abs=0.4
        )
    # In the data a size above 5 is of a kind that is not p; a draw on its own knows nothing of that.
    apart = {name: (frame["kind"] == "p").eq(frame["size"] < 5).mean() for name, frame in drawn.items()}
    assert apart["copula"] > 0.75 and apart["independent"] < 0.71
    (file,) = sparring.generate(tmp_path / "copula", count=40, label="kind=r", out=tmp_path / "r.csv", quiet=True)
    assert (pd.read_csv(file)["kind"] == "r").all()  # by rejection, for nothing can be asked of it
