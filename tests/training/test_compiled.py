"""Compiled networks play the same game: first-order passes compiled, penalties and samples as the networks are written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

import sparring
from sparring.core import compiled
from sparring.training.checkpoint import newest_good

torch.set_num_threads(1)

TINY = ["train.steps=4", "train.batch_size=8", "model.latent=4", "train.sample_count=4", "evaluate.metric=null"]
WIDTH = ["model.generator.width=8", "model.discriminator.width=8"]


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything of torch.compile but the code that it generates, which takes a compiler and minutes."""
    torch.compiler.reset()
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    monkeypatch.setattr(compiled, "_in_use", False)


def weights(recipe: str, folder: Path, *keys: str) -> dict[str, torch.Tensor]:
    """The game after a few steps on digits."""
    result = sparring.train(recipe, out=folder, set=[*TINY, *WIDTH, *keys], device="cpu", quiet=True)
    checkpoint = newest_good(folder / "checkpoints", print)
    assert result.run and checkpoint
    return checkpoint.tensors("game")


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [
        ("dcgan", []),
        ("default", []),  # R1 and R2 differentiate the very pass that the loss looks at
        ("default", ["machine.precision=bf16"]),  # penalties pass by themselves, in 32 bits
        ("wgan-gp", ["train.turns.discriminator=2"]),
    ],
)
def test_a_compiled_training_is_the_same_training(recipe: str, keys: list[str], tmp_path: Path) -> None:
    plain = weights(recipe, tmp_path / "plain", *keys)
    counters.clear()
    fast = weights(recipe, tmp_path / "fast", "machine.compile=true", *keys)
    assert counters["stats"]["unique_graphs"] >= 1, "nothing was compiled"
    # Adam's first steps are as long for a rounding as for a gradient.
    tolerance = {"dcgan": 1e-4, "wgan-gp": 1e-4, "default": 2e-3}[recipe] if not keys or recipe != "default" else 2e-2
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value, rtol=tolerance, atol=tolerance)


def test_samples_are_drawn_without_compiling_for_their_number(tmp_path: Path) -> None:
    counters.clear()
    weights("dcgan", tmp_path / "run", "machine.compile=true", "train.steps=0")  # a sheet, and no step
    assert counters["stats"]["unique_graphs"] == 0


def test_nothing_of_the_compiler_is_touched_without_it() -> None:
    assert compiled.eager().__class__.__name__ == "nullcontext"
