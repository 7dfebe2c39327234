"""From a set of attributes, values or classes to samples of what was asked for, by the verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from shell import TINY, sets, sparring

torch.set_num_threads(1)

FIXED = {"machine.precision": "32", "machine.threads": 1, "machine.channels_last": False, "machine.compile": False}
NAMES = {"classes": [str(number) for number in range(10)], "attributes": ["odd", "big"], "values": ["ink"]}


@pytest.fixture(scope="module")
def sets_of_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits with each kind of label, KIND.npz."""
    folder = tmp_path_factory.mktemp("labels")
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = {
        "classes": digits.target,
        "attributes": np.stack([digits.target % 2, digits.target > 4], axis=1),
        "values": images.mean(axis=(1, 2), dtype=np.float64)[:, None],
    }
    for kind, rows in labels.items():
        np.savez(folder / f"{kind}.npz", images=images, labels=rows, classes=np.array(NAMES[kind]))
    return folder


@pytest.fixture(scope="module")
def runs(sets_of_digits: Path) -> dict[str, Path]:
    """A tiny run for each kind of label, and one of a recipe without labels."""
    runs = {}
    for name, recipe, kind in (
        ("classes", "contragan", "classes"), ("attributes", "acgan", "attributes"), ("values", "cgan", "values"),
        ("none", "dcgan", "attributes"),
    ):  # fmt: skip
        runs[name] = sets_of_digits / f"run-{name}"
        words = sets({**TINY, **FIXED, "train.steps": 2, "data.cache": str(sets_of_digits / "cache")})
        ended = sparring("train", recipe, "--data", sets_of_digits / f"{kind}.npz", "--out", runs[name], *words)
        assert ended.code == 0, ended.err
        if name == "none":
            assert (
                "the data has 2 attributes, which the recipe 'dcgan' does not use: --set model.conditional" in ended.err
            )
        else:
            assert "does not use" not in ended.err
    return runs


def drawn(run: Path, label: str, out: Path) -> Any:
    ended = sparring("generate", run, "--label", label, "--count", 5, "--out", out)
    assert ended.code == 0, ended.err
    return np.load(out)


@pytest.mark.parametrize(
    ("kind", "label", "expected"),
    [
        ("classes", "7", 7),
        ("classes", "3=0.5,8=0.5", [0, 0, 0, 0.5, 0, 0, 0, 0, 0.5, 0]),
        ("attributes", "odd=1,big=0", [1, 0]),
        ("values", "ink=80", [80]),
    ],
)
def test_samples_are_of_the_label_that_was_asked_for(
    runs: dict[str, Path], tmp_path: Path, kind: str, label: str, expected: Any
) -> None:
    file = drawn(runs[kind], label, tmp_path / "a.npz")
    assert np.allclose(file["labels"], np.array([expected] * 5), atol=1e-4)
    assert file["classes"].tolist() == NAMES[kind] and file["images"].shape == (5, 8, 8, 1)


def test_an_attribute_that_is_not_asked_for_varies_as_in_the_data(runs: dict[str, Path], tmp_path: Path) -> None:
    ended = sparring("generate", runs["attributes"], "--label", "odd", "--count", 200, "--out", tmp_path / "a.npz")
    assert ended.code == 0
    labels = np.load(tmp_path / "a.npz")["labels"]
    assert (labels[:, 0] == 1).all() and 0.4 < labels[:, 1].mean() < 0.8  # 5, 7, 9 of 1, 3, 5, 7, 9


@pytest.mark.parametrize(
    ("kind", "label", "message"),
    [
        ("classes", "seven", "unknown label 'seven'; there are 0, 1, 2"),
        ("classes", "3=0.5", "sum to 0.5; they must sum to 1"),
        ("attributes", "ood=1", "unknown attribute 'ood' (did you mean 'odd'?)"),
        ("attributes", "odd=3", "it must be from 0 to 1"),
        ("values", "ink=900", "the data's are from"),
        ("values", "80", "says no number; write ink=NUMBER"),
        ("none", "odd=1", "draws samples without labels"),
    ],
)
def test_a_label_that_cannot_be_is_one_line_and_exit_code_2(
    runs: dict[str, Path], kind: str, label: str, message: str
) -> None:
    assert message in sparring("generate", runs[kind], "--label", label, "--count", 2).error


def test_sheets_have_a_row_an_attribute_and_a_step_of_a_value(runs: dict[str, Path]) -> None:
    """In the order of the rows, each with its caption to the left: so sheets are wider than high for few rows."""
    shapes = {
        kind: Image.open(runs[kind] / "samples" / "step-00000002.png").size
        for kind in ("classes", "attributes", "values")
    }
    cell = 48 + 2
    assert shapes["classes"][1] == 10 * cell + 2
    assert shapes["attributes"][1] == 2 * cell + 2
    assert shapes["values"][1] == 8 * cell + 2


@pytest.mark.parametrize("kind", ["attributes", "values"])
def test_an_exported_generator_takes_label_vectors_and_keeps_the_data_s_rows_to_itself(
    runs: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    ended = sparring("export", runs[kind], "--format", "safetensors", "--out", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    text = "".join(file.read_text() for file in (tmp_path / "out").rglob("*.json"))
    assert f'"{NAMES[kind][0]}"' in text and "label_rows" not in text and "label_mean" in text


def test_a_resumed_run_of_attributes_equals_an_uninterrupted_one(sets_of_digits: Path) -> None:
    weights = []
    for name, steps in (("whole", [4]), ("parts", [2, 4])):
        run = sets_of_digits / name
        words = sets({**TINY, **FIXED, "data.cache": str(sets_of_digits / "cache"), "train.checkpoint_every": 2})
        data = sets_of_digits / "attributes.npz"
        assert sparring("train", "acgan", "--data", data, "--out", run, "--steps", steps[0], *words).code == 0
        for more in steps[1:]:
            assert sparring("resume", run, "--steps", more).code == 0
        out = run / "samples.npz"
        assert sparring("generate", run, "--checkpoint", "last", "--count", 4, "--out", out).code == 0
        weights.append(np.load(out)["images"])
    assert np.array_equal(*weights)
