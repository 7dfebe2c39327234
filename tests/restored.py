"""Games that restore photographs, at their smallest, and photographs to restore."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.game import Batch, DataSpec
from sparring.domains import open_domain
from sparring.recipe import Recipe, load_recipe

TINY = {
    "srresnet": ("model.generator.width=4", "model.generator.blocks=1"),
    "srgan": ("model.generator.width=4", "model.generator.blocks=1", "model.discriminator.width=4"),
    "esrgan": (
        "model.generator.width=4", "model.generator.blocks=1", "model.generator.growth=2", "model.generator.final_width=4",
        "model.discriminator.width=4",
    ),
    "inpaint": ("model.generator.width=2", "model.discriminator.width=2"),
    "colorize": ("model.generator.width=2", "model.generator.depth=3", "model.discriminator.width=2"),
}  # fmt: skip


class Photographs:
    """Smooth random images of one side."""

    def __init__(self, channels: int = 3, size: tuple[int, int] = (32, 32), **extra: Any) -> None:
        rng = torch.Generator().manual_seed(0)
        small = torch.rand(12, channels, 8, 8, generator=rng) * 2 - 1
        self.images = F.interpolate(small, size, mode="bilinear")
        self.spec = DataSpec((channels, *size), (), 12, {"paired": False, "input": None, **extra})
        self.fingerprint, self.broken = "photographs", []

    def __len__(self) -> int:
        return 12

    def to(self, device: torch.device) -> Self:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(data=self.images[indices])


def tiny(name: str, *keys: str) -> Recipe:
    recipe = load_recipe(name).override([*TINY[name], "train.batch_size=4", "data.source=x", "data.size=32", *keys])
    if recipe.loss.get("perceptual"):
        recipe = recipe.override(["loss.perceptual=0"])
    return recipe


def build(name: str, *keys: str, data: Photographs | None = None) -> Any:
    torch.manual_seed(0)
    recipe = tiny(name, *keys)
    return open_domain("translation").build_game(recipe, (data or Photographs()).spec)
