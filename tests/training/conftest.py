"""Trainers on real digits held in memory, without any domain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from sparring.core.game import Batch, DataSpec, Game
from sparring.recipe import Machine, Recipe
from sparring.run import Run
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer
from toygan import ToyGame


class Digits:
    """The smallest thing that is a `data.dataset.Dataset`."""

    def __init__(self) -> None:
        images = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
        self.images = images
        self.spec = DataSpec((1, 8, 8), (), len(images))
        self.fingerprint = "digits"
        self.broken: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> Self:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(data=self.images[indices])


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer of a toy game: `make_trainer({"train.steps": 5}, folder="a", game=…)`."""
    data = Digits()

    def make(
        keys: dict[str, Any] | None = None, *, folder: str | None = "run", game: Game | None = None, **arguments: Any
    ) -> Trainer:
        settings = {"train.steps": 6, "train.batch_size": 16, "train.checkpoint_every": 3, **(keys or {})}
        recipe = Recipe(name="toy").override([f"{key}={value}" for key, value in settings.items()])
        run = None
        if folder is not None:
            run = Run(tmp_path / folder)
            if not run.recipe_file.exists():
                Run.create(run.folder, recipe, data.spec, data.fingerprint)
        seed_everything(recipe.train.seed)
        engine = Engine(device="cpu", machine=Machine(**{"precision": "32", **arguments.pop("machine", {})}))
        return Trainer(game or ToyGame(data.spec), data, recipe, engine, run, say=lambda text: None, **arguments)

    return make
