"""Compare: runs measured in one way, the best named, and only called apart where the intervals say so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sparring
from shell import TINY
from shell import sparring as shell
from sparring.errors import UserError
from sparring.measuring.comparison import apart
from sparring.metrics.figure import Figure

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """`gan` on some digits, untrained and after 150 steps."""
    root = tmp_path_factory.mktemp("comparison")
    keys = {**TINY, "data.limit": 200, "evaluate.metric": "sliced_wasserstein", "evaluate.count": 50, "train.checkpoint_every": 50, "train.optimizer.lr": 2e-3, "train.batch_size": 32}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARRING_CACHE", str(root / "cache"))
        for name, steps in (("untrained", 0), ("trained", 150)):
            assignments = [f"{key}={value}" for key, value in keys.items()]
            sparring.train("gan", out=root / name, steps=steps, set=assignments, device="cpu", quiet=True)
    yield [root / "untrained", root / "trained"]


def test_the_better_run_is_the_one_that_was_trained(runs: list[Path], tmp_path: Path) -> None:
    found = sparring.compare(runs, features="pixels", metrics="fid,recall", out=tmp_path / "both.png")
    assert list(found.runs) == ["untrained", "trained"] and found.figures == ["fid", "recall"]
    assert found.best("fid") == ("trained", True)
    assert found.plain()["best"]["fid"] == {"run": "trained", "apart": True}
    with Image.open(tmp_path / "both.png") as picture:
        shown = np.asarray(picture.convert("RGB"))
    assert shown.shape[0] > 400 and len(np.unique(shown.reshape(-1, 3), axis=0)) > 50


def test_the_shell_marks_the_best(runs: list[Path], tmp_path: Path) -> None:
    ended = shell("compare", *runs, "--features", "pixels", "--metrics", "fid", "--out", tmp_path / "c.png")
    assert "★★" in ended.out and "trained" in ended.out and ended.code == 0
    assert shell(
        "compare", *runs, "--features", "pixels", "--metrics", "fid", "--out", tmp_path / "c.png", "--json"
    ).json


def test_runs_on_different_data_need_a_common_one(runs: list[Path], tmp_path: Path) -> None:
    keys = [f"{key}={value}" for key, value in {**TINY, "data.limit": 100}.items()]
    sparring.train("gan", out=tmp_path / "other", steps=0, set=keys, device="cpu", quiet=True)
    with pytest.raises(UserError, match=r"trained on different data.*--data"):
        sparring.compare([runs[0], tmp_path / "other"], features="pixels")
    found = sparring.compare([runs[0], tmp_path / "other"], data="digits", features="pixels", metrics="fid", count=50, out=tmp_path / "c.png")  # fmt: skip
    assert {result.figures["fid"].real for result in found.runs.values()} == {50}


def test_one_run_is_no_comparison_and_a_run_is_named_once(runs: list[Path]) -> None:
    with pytest.raises(UserError, match="at least two runs"):
        sparring.compare(runs[:1])
    with pytest.raises(UserError, match="named twice"):
        sparring.compare([runs[0], runs[0]])


def test_figures_are_apart_only_where_their_intervals_do_not_meet() -> None:
    def figure(low: float, high: float) -> Figure:
        return Figure("fid", (low + high) / 2, "pixels", 10, 10, (low, high))

    assert apart(figure(0, 1), figure(2, 3)) and apart(figure(2, 3), figure(0, 1))
    assert not apart(figure(0, 2), figure(1, 3))
    assert not apart(Figure("fid", 0.0, "pixels", 10, 10), figure(2, 3))
