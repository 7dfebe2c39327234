"""Tables in private: counts have noise, conditions are not the data's, and a run goes the way of all runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import sparring
from sparring.api import resolve
from sparring.core.accounting import epsilon
from sparring.core.game import Batch, Losses, Turn, Unseen
from sparring.domains import open_domain
from sparring.domains.table.data import TableData, TableOptions, columns_of, open_table
from sparring.domains.table.games.ctgan import CTGAN
from sparring.domains.table.private import with_noise
from sparring.domains.table.rows import spans_of
from sparring.errors import UserError
from sparring.recipe import load_recipe
from sparring.run import Run
from sparring.stage import without_data
from sparring.trained import guarantee_of

pytest.importorskip("opacus.accountants", reason="opacus is not installed")
torch.set_num_threads(1)

TINY = [
    "model.latent=4", "model.generator.width=8", "model.discriminator.width=8", "train.batch_size=8", "train.steps=4",
    "train.checkpoint_every=2", "train.schedule={name: constant}", "train.turns.discriminator=1", "private.delta=1e-4",
    "private.epsilon=4",
]  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = 300
    frame = pd.DataFrame({
        "kind": rng.choice(["p", "q", "r"], rows, p=[0.8, 0.15, 0.05]),
        "size": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(0, 1, rows).round(2)),
        "note": np.where(rng.random(rows) < 0.1, None, rng.choice(["a", "b"], rows)),
        "code": rng.choice(list("klmnopqrstuv"), rows, p=np.arange(1, 13) / 78),
    })  # fmt: skip
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


@pytest.fixture
def data(table: Path) -> TableData:
    return open_table(TableOptions(source=str(table), max_levels=6, sampling="rows"))


def test_counts_have_noise_as_large_as_one_row_changes_all_of_them_times_what_was_asked(data: TableData) -> None:
    seen: list[float] = []
    rng = torch.Generator().manual_seed(0)

    def draw(count: int) -> torch.Tensor:
        found = torch.randn(count, generator=rng)
        seen.extend(found.tolist())
        return found

    made = with_noise(data.columns, 3.0, draw)
    old = {column.name: column for column in data.columns}
    kind = next(column for column in made if column.name == "kind")
    truth = dict(zip(old["kind"].levels, old["kind"].counts, strict=True))
    # Three columns of categories, and one of numbers, in whose bins and modes it is counted, so that a row changes all counts by
    # √5: the first three draws are those of `kind`.
    for level, drawn in zip(old["kind"].levels, seen[:3], strict=True):
        assert kind.counts[kind.levels.index(level)] == max(0, round(truth[level] + 3 * 5**0.5 * drawn))
    code = next(column for column in made if column.name == "code")
    assert code.levels[-1] == "(rare)" and code.counts[-1] == sum(code.rare_counts)
    assert sorted(map(str, code.levels)) == sorted(map(str, old["code"].levels))
    assert code.counts[:-1] == sorted(code.counts[:-1], reverse=True)
    size = next(column for column in made if column.name == "size")
    assert size.shares != old["size"].shares and sum(size.shares) == pytest.approx(1)
    assert size.missing >= 1 and size.centres == old["size"].centres
    assert size.counts != old["size"].counts and len(size.counts) == size.size and size.counts[-1] == size.missing


def test_rows_are_the_same_under_another_description(data: TableData) -> None:
    domain = open_domain("table")
    before = domain.knowing(data.spec).frame_of(data.batch(torch.arange(300)))  # type: ignore[attr-defined]
    data.describe(
        with_noise(
            data.columns, 200.0, lambda count: torch.arange(count).float()
        )  # the rarest become the most frequent
    )
    after = domain.knowing(data.spec).frame_of(data.batch(torch.arange(300)))  # type: ignore[attr-defined]
    assert columns_of(data.spec)[0].levels != ["p", "q", "r"], "nothing was put in another order"
    for name in ("kind", "size", "note"):
        pd.testing.assert_series_equal(before[name], after[name])


def built(data: TableData, *more: str) -> CTGAN:
    torch.manual_seed(0)
    recipe, _ = without_data(load_recipe("ctgan").override([*TINY, *more]))
    game = open_domain("table").build_game(recipe, data.spec)
    assert isinstance(game, CTGAN)
    return game


def test_fakes_are_drawn_for_conditions_that_no_row_tells_and_rows_keep_their_own(data: TableData) -> None:
    game = built(data)
    loss = game.row_loss(Turn("discriminator"), Unseen(64), 0)
    assert [len(each) for each in loss.fakes] == [64, 64]
    assert (loss.fakes[1].sum(1) == 1).all(), "of a fake one column is asked for"
    batch = data.batch(torch.arange(40))
    rows, asked = loss.own(batch)
    assert torch.equal(rows, batch["data"]) and (asked.sum(1) == 1).all()
    assert (rows[:, game.hot][asked > 0] == 1).all(), "what is asked for of a row is its own"


def test_the_recipe_s_terms_on_the_data_are_switched_off_and_said(table: Path) -> None:
    recipe = resolve(
        load_recipe("ctgan").override(["private.epsilon=3", "data.sampling=log_frequency", f"data.source={table}"])
    )
    private, off = without_data(recipe)
    assert private.loss["moments"] == 0 and private.data["sampling"] == "rows" and private.evaluate.metric is None
    assert {line.partition(":")[0] for line in off} == {
        "data.sampling",
        "loss.moments",
        "model.several",
        "evaluate.metric",
    }
    plain = recipe.override(["private.epsilon=null"])
    assert without_data(plain) == (plain, [])


def test_packed_rows_are_refused(data: TableData) -> None:
    with pytest.raises(UserError, match=r"model\.pack=2 judges rows together"):
        built(data, "model.pack=2").require_private()


def train(table: Path, out: Path, *more: str) -> sparring.api.TrainResult:
    return sparring.train("ctgan", data=str(table), out=out, device="cpu", quiet=True, set=[*TINY, *more])


def test_a_private_run_says_what_it_spent_wherever_it_is_opened(table: Path, tmp_path: Path) -> None:
    result = train(table, tmp_path / "run")
    facts = result.facts["privacy"]
    spent = [(facts["counts"][0], 1.0, 1), (facts["noise"], 8 / 300, 4)]
    assert facts["turns"] == 4 and facts["epsilon"] == epsilon(spent, 1e-4) <= 4
    assert guarantee_of(tmp_path / "run", "last") == facts
    assert "ε = " in (tmp_path / "run" / "report.html").read_text()
    lines = Run(tmp_path / "run").read_metrics()
    assert lines[-1]["private/epsilon"] == pytest.approx(facts["epsilon"], rel=1e-5)
    found = sparring.evaluate(tmp_path / "run", metrics="marginal_error")
    assert any(note.startswith("private: ε = ") for note in found.notes)
    stored = json.loads((tmp_path / "run" / "data.json").read_text())["extra"]["columns"]
    (kind,) = (column for column in stored if column["name"] == "kind")
    counts = pd.read_csv(table)["kind"].value_counts()
    assert dict(zip(kind["levels"], kind["counts"], strict=True)) != counts.to_dict(), (
        "the folder holds the data's own counts"
    )


def test_a_private_run_on_a_table_is_resumed_bit_for_bit(table: Path, tmp_path: Path) -> None:
    whole = train(table, tmp_path / "whole")
    # Cut short as by a kill: the newest checkpoint is not there, and the plan is as long.
    train(table, tmp_path / "cut")
    run = Run(tmp_path / "cut")
    for file in (newest := run.checkpoints / "step-00000004").iterdir():
        file.unlink()
    newest.rmdir()
    resumed = sparring.resume(tmp_path / "cut", device="cpu", quiet=True)
    assert resumed.facts["privacy"] == whole.facts["privacy"]
    drawn = [
        sparring.generate(tmp_path / name, count=20, out=tmp_path / f"{name}.csv", checkpoint="last")[0].read_bytes()
        for name in ("whole", "cut")
    ]
    assert drawn[0] == drawn[1]


def test_a_game_without_a_discriminator_is_refused_before_a_folder_is_made(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no discriminator"):
        sparring.train(
            "copula", data=str(table), out=tmp_path / "run", device="cpu", quiet=True, set=["private.epsilon=3"]
        )
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_windows_of_series_are_judged_in_private_and_not_shown(tmp_path: Path) -> None:
    result = sparring.train(
        "rcgan", out=tmp_path / "run", device="cpu", quiet=True,
        set=["model.width=6", "train.batch_size=8", "train.steps=3", "data.window=5", "data.count=400", "private.noise=1"],
    )  # fmt: skip
    assert result.facts["privacy"]["turns"] == 3 and result.facts["privacy"]["counts"] == []
    assert json.loads((tmp_path / "run" / "data.json").read_text())["extra"]["shown"] == []
    assert sparring.generate(tmp_path / "run", count=4, out=tmp_path / "new.csv", checkpoint="last")


def test_samples_are_held_to_how_often_the_data_have_each_category(data: TableData) -> None:
    keys = [
        "model.generator.width=8",
        "model.discriminator.width=8",
        "loss.marginals=3",
        "loss.moments=0",
        "data.source=x",
    ]
    game = open_domain("table").build_game(load_recipe("ctgan").override([*keys, "data.sampling=rows"]), data.spec)
    rows = data.batch(torch.arange(len(data)), augment=False)["data"]
    span = next(span for span in spans_of(data.columns) if span.column.name == "kind")
    one = rows.clone()
    one[:, span.hot] = torch.tensor([1.0, 0, 0])
    shares = torch.tensor(span.column.counts) / len(data)
    for made, expected in ((rows, 0.0), (one, 3 * float((shares - torch.tensor([1.0, 0, 0])).square().sum()))):
        losses, batch = Losses({}), Batch(data=rows)
        batch.memo["rows"] = made
        game.add_generator_terms(losses, batch, None)  # type: ignore[attr-defined]
        assert float(losses["marginals"]) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(UserError, match=r"loss\.marginals: rows that are drawn by their categories"):
        open_domain("table").build_game(
            load_recipe("ctgan").override([*keys, "data.sampling=log_frequency"]), data.spec
        )
