"""Runs of every game on tables go the way of all runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

import sparring
from planted import SMALL, TINY, gap, source_of
from sparring.recipe import load_recipe

torch.set_num_threads(1)


@pytest.mark.parametrize("name", TINY)
def test_a_run_resumes_to_the_same_bits_draws_a_table_and_is_measured(name: str, folder: Path, tmp_path: Path) -> None:
    files = []
    for kind, steps in (("whole", 6), ("cut", 4)):
        recipe = load_recipe(name).override([*SMALL, *TINY[name], "train.checkpoint_every=4", "evaluate.metric=null"])
        sparring.train(recipe, data=source_of(name, folder), out=tmp_path / kind, steps=steps, device="cpu", quiet=True)
    sparring.resume(tmp_path / "cut", steps=6, device="cpu", quiet=True)
    for kind in ("whole", "cut"):
        (file,) = sparring.generate(tmp_path / kind, count=200, out=tmp_path / f"{kind}.csv", checkpoint="last")
        files.append(Path(file).read_bytes())
    assert files[0] == files[1]
    real, frame = pd.read_csv(source_of(name, folder)), pd.read_csv(tmp_path / "cut.csv")
    assert list(frame.columns) == list(real.columns) and len(frame) == 200
    if sparring.load(tmp_path / "cut").game.labels is not None:
        (file,) = sparring.generate(tmp_path / "cut", count=20, out=tmp_path / "rich.csv", label="pay=high,sex=f")
        assert (pd.read_csv(file)[["pay", "sex"]] == ["high", "f"]).all(axis=None)
    metrics = {"medgan-records": "dimensions", "fairgan": "fairness", "tabfairgan": "fairness"}.get(name, "pair_error")
    found = sparring.evaluate(tmp_path / "cut", metrics=metrics, count=200, budget=0.1, out=tmp_path).figures
    if metrics == "fairness":
        assert found["parity"].facts["of_real"] == pytest.approx(gap(real), abs=0.1)
        assert set(found) == {"parity", "model_parity", "model_odds", "model_accuracy"}
    assert all(0 <= figure.value <= 1 for figure in found.values())


def test_a_training_says_what_columns_are_taken_for_and_a_resumed_one_does_not(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe("ctgan").override([*SMALL, *TINY["tabfairgan"][:3], "evaluate.metric=null"])
    sparring.train(recipe, data=source_of("ctgan", folder), out=tmp_path / "run", steps=1, device="cpu")
    said = " ".join(capfd.readouterr().err.split())
    assert "600 rows; what is taken for another kind than it is, data.columns corrects" in said
    assert "category: sex (2), pay (2)" in said and "continuous: age (" in said and "integer: debt (0 to" in said
    sparring.resume(tmp_path / "run", steps=2, device="cpu")
    assert "category:" not in capfd.readouterr().err
