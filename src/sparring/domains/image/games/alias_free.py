"""The game of alias-free generators: styles without mixing and path lengths, and images that are blurred at first."""

from __future__ import annotations

import math
from typing import Self

import pydantic
import torch
from torch import Tensor

from sparring.core.game import DataSpec
from sparring.core.schedules import anneal
from sparring.domains.image.games.adversarial import ModelOptions
from sparring.domains.image.games.style import PathLength, StyledGame, StyledOptions
from sparring.nn.filters import blur
from sparring.recipe import Recipe, Section


class Blur(Section):
    """Blurring all that the discriminator sees, less and less."""

    sigma: float = pydantic.Field(
        0.0, ge=0, description="standard deviation of the first images' blur, in pixels; 0: none"
    )
    images: int = pydantic.Field(200000, ge=1, description="real images over which it falls to 0, in a straight line")


class AliasFreeOptions(StyledOptions):
    """`model` of an alias-free game: a styled one's, with the paper's choices."""

    style_mixing: float = pydantic.Field(0.0, ge=0, le=1, description="probability that a sample has two latents")
    path_length: PathLength = PathLength(weight=0.0)
    blur: Blur = Blur()


class AliasFreeGame(StyledGame):
    """StyleGAN3 (Karras et al. 2021): StyleGAN2's game without style mixing and path-length regularisation.

    blur: at first the discriminator sees real and generated images blurred, by less from step to step: it would focus on
    high frequencies early and the generator of configuration R collapse (appendix D.2).
    """

    options_model = AliasFreeOptions
    blurred: Blur
    batch_size: int

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build the networks that `model` names. Raises UserError."""
        game = super().from_recipe(recipe, spec)
        game.batch_size = recipe.train.batch_size
        return game

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Take over the blur."""
        super().complete(options, spec)
        assert isinstance(options, AliasFreeOptions)
        self.blurred = options.blur

    def disturb(self, samples: Tensor, step: int) -> Tensor:
        """Blur, and then what every game does."""
        sigma = anneal(self.blurred.sigma, 0.0, step * self.batch_size, self.blurred.images)
        return super().disturb(blur(samples, gaussian(sigma).to(samples)) if sigma else samples, step)


def gaussian(sigma: float) -> Tensor:
    """The taps of a Gaussian low-pass filter up to three deviations (in samples) from its middle, sum 1."""
    reach = math.ceil(3 * sigma)
    row = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    return row / row.sum()
