"""Runs of small games with random weights: what is translated need not have learnt anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sparring import api
from sparring.core.game import DataSpec
from sparring.domains import open_domain
from sparring.recipe import load_recipe
from sparring.run import Run
from sparring.training.checkpoint import save_checkpoint

PICTURE = {"kind": "image", "channels": 3}
CITY = [[30, 30, 30], [200, 40, 40], [40, 200, 40]]
LABELS = {
    "kind": "labels", "channels": 3, "values": [0, 1, 7], "classes": ["road", "sky", "car"], "void": None, "palette": CITY,
    "edges": False,
}  # fmt: skip
RESNET = "model.generator={name: resnet, width: 4, blocks: 1}"
UNET = "model.generator={name: unet, width: 4, depth: 5}"


def pictures_of(facts: dict[str, Any]) -> DataSpec:
    """Data of pairs whose outputs have 16×16 pixels in colour."""
    extra = {"paired": True, "sides": ["A", "B"], "roles": ["input", "output"], "input": facts, "output_dtype": "uint8"}
    return DataSpec((3, 16, 16), (), 8, extra)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(recipe, overrides, spec) → the folder of a run of its game."""

    def make(recipe: str = "pix2pix", *sets: str, spec: DataSpec | None = None) -> Path:
        chosen = api.resolve(load_recipe(recipe).override(list(sets or (RESNET,)), data={"source": "photos"}))
        spec = spec or pictures_of(PICTURE)
        torch.manual_seed(0)
        game = open_domain(chosen.domain).build_game(chosen, spec)
        for name, value in game.named_parameters():
            if name.endswith("weight") and value.ndim == 4:
                torch.nn.init.normal_(value, std=0.2)  # so that outputs depend on inputs
        run = Run.create(tmp_path_factory.mktemp("runs") / "run", chosen, spec, "0123abcd")
        weights = {
            f"{name}.{key}": value
            for name, module in game.averaged().items()
            for key, value in module.state_dict().items()
        }
        save_checkpoint(run.checkpoints, 20, {"weights": weights}, {"state": {"best": {}}})
        return run.folder

    return make


@pytest.fixture
def maps() -> DataSpec:
    """Data whose inputs are label maps."""
    return pictures_of(LABELS)


@pytest.fixture(scope="session")
def plain(make_run: Callable[..., Path]) -> Path:
    """A run of pictures from pictures, without any randomness."""
    return make_run()


@pytest.fixture(scope="session")
def noisy(make_run: Callable[..., Path]) -> Path:
    """A run whose generator has dropout as its noise."""
    return make_run("pix2pix", UNET)


@pytest.fixture(scope="session")
def mapped(make_run: Callable[..., Path]) -> Path:
    """A run of pictures from label maps."""
    return make_run("pix2pix", RESNET, spec=pictures_of(LABELS))


def picture(width: int, height: int, *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Random, but smooth, as photographs are."""
    values = np.random.default_rng(seed).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    return Image.fromarray(values).convert(mode).resize((width, height), Image.Resampling.BICUBIC)
