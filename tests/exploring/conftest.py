"""Generators to explore: random weights will do, for what is claimed holds for any."""

from __future__ import annotations

import pytest
import torch

from sparring import api
from sparring.core.game import DataSpec
from sparring.domains import open_domain
from sparring.recipe import load_recipe
from sparring.trained import Trained

CLASSES = ("cat", "dog", "emu")


def untrained(recipe: str, *changes: str, classes: tuple[str, ...] = (), latent: int = 6) -> Trained:
    """A small game on 12×8 images."""
    chosen = api.resolve(load_recipe(recipe).override([f"model.latent={latent}", *changes]))
    spec = DataSpec((1, 12, 8), classes, 60, {"label_counts": [10.0, 20.0, 30.0]} if classes else {})
    domain = open_domain(chosen.domain)
    torch.manual_seed(0)
    game = domain.build_game(chosen, spec).eval()
    return Trained(game, domain, chosen, spec, 20)


NARROW = ("model.generator.width=8", "model.discriminator.width=4", "model.initialize.name=he")


@pytest.fixture(scope="session")
def plain() -> Trained:
    return untrained("dcgan", *NARROW)


@pytest.fixture(scope="session")
def classes() -> Trained:
    return untrained("cgan", *NARROW, classes=CLASSES)


@pytest.fixture(scope="session")
def styled() -> Trained:
    widths = [f"model.{role}.{key}" for role in ("generator", "discriminator") for key in ("width=4", "max_width=8")]
    trained = untrained("stylegan2", *widths, "model.generator.code=5")
    with torch.no_grad():
        trained.game.generator.mean_code.copy_(trained.codes(200)["code"].mean((0, 1)))  # type: ignore[union-attr,operator]
    return trained
