"""The projected game: the discriminator judges what a frozen network sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from sparring.domains.image.games.adversarial import ImageGame, ModelOptions
from sparring.domains.image.networks.projected import ProjectedDiscriminator
from sparring.errors import UserError


class ProjectedGame(ImageGame):
    """Projected GAN (Sauer et al. 2021): the plain game, whose discriminator gets its backbone before the first step."""

    @classmethod
    def build_discriminator(cls, shape: tuple[int, int, int], options: ModelOptions, classes: int) -> nn.Module:
        """The discriminator. Raises UserError for another one, or where spectral norm would change what is frozen."""
        discriminator = super().build_discriminator(shape, options, classes)
        if not isinstance(discriminator, ProjectedDiscriminator):
            name = options.discriminator["name"]
            raise UserError(f"model.discriminator.name: this game needs the discriminator projected, not {name!r}")
        if "discriminator" in options.spectral_norm:
            raise UserError("model.spectral_norm: the heads of a projected discriminator have it already: leave it out")
        return discriminator

    def players(self) -> dict[str, nn.Module]:
        """Of the discriminator the heads alone: what is frozen is no player's."""
        return {"discriminator": self.discriminator.heads, "generator": self.generator}  # type: ignore[dict-item]

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Give the backbone its weights."""
        self.discriminator.prepare(data, progress)  # type: ignore[operator]
