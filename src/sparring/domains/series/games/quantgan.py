"""QuantGAN (Wiese, Knobloch, Korn & Kretschmer 2020): returns by temporal convolutional networks, in paths of any length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import pydantic
import torch
from torch import Tensor

from sparring.core import chance
from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.game import Batch, DataSpec
from sparring.domains.series.networks.paths import Form, Scaled, Unscaled, path_network, standardise
from sparring.domains.series.networks.tcn import TemporalConvolution, receptive_field
from sparring.errors import UserError
from sparring.options import validate
from sparring.recipe import Recipe, Section


class ModelOptions(Section):
    """The recipe's `model` section."""

    noise: int = pydantic.Field(3, ge=1, description="numbers of noise a step, N(0, 1)")
    width: int = pydantic.Field(32, ge=1, description="channels of all networks")
    levels: int = pydantic.Field(6, ge=1, description="dilations 1, 2, 4, …: 6 see 127 steps, fewer fewer")
    form: Form = pydantic.Field(
        "volatility",
        description="σ·ε + μ, with σ and μ of the noise before a step and ε of its own; or one network of all",
    )


class QuantGAN(AdversarialGame):
    """Temporal convolutions against temporal convolutions.

    A step is made from the noise of the `receptive_field` steps before and at it, so the same networks draw paths of any
    length, at one cost a step: `stretch`. Generated steps further apart than that are independent.

    Not as in the paper: the loss is any of `core.losses`, with its penalties (theirs is non_saturating without); the form
    with a volatility of its own is the default (their stochastic volatility network, section 5.1, whose returns are
    uncorrelated by construction); convolutions are not padded and no path is dropped for being extreme.
    """

    shown: Tensor

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections validated, with every default filled in."""
        return {"model": validate(ModelOptions, recipe.model, where="model"), "loss": LossOptions.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build it. Raises UserError where windows are shorter than what the discriminator sees."""
        options = ModelOptions(**validate(ModelOptions, recipe.model, where="model"))
        loss = LossOptions(**validate(LossOptions, recipe.loss, where="loss"))
        return cls(spec, options, loss=loss, turns=recipe.train.turns, steps=recipe.train.steps)

    def __init__(self, spec: DataSpec, options: ModelOptions, **rules: Any) -> None:
        self.window, size = spec.shape
        seen = receptive_field(options.levels)
        if self.window < seen:
            fewer = max((n for n in range(1, options.levels) if receptive_field(n) <= self.window), default=None)
            remedy = f"set model.levels={fewer}" if fewer else f"set data.window={seen}"
            raise UserError(
                f"a window of {self.window} steps is shorter than the {seen} that model.levels={options.levels} see: {remedy}"
            )
        generator = Unscaled(path_network(options.form, options.noise, size, options.width, options.levels), size)
        discriminator = Scaled(TemporalConvolution(size, 1, options.width, options.levels), size)
        super().__init__(generator, discriminator, latent=0, **rules)
        self.stretch(self.window)
        # The data's, and not the training's: checkpoints do not hold them.
        shown = torch.tensor(spec.extra.get("shown", [])).reshape(-1, *spec.shape)
        self.register_buffer("shown", shown, persistent=False)

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Learn where each feature lies and how far it spreads: the networks see it centred and in units of its spread."""
        standardise(data, self.generator, self.discriminator)

    def stretch(self, steps: int) -> None:
        """Draw paths of so many steps from now on."""
        self.latent = self.generator.noise_of(steps)  # type: ignore[operator]

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: float = 1.0,
    ) -> Batch:
        """Noise as `code` (count, L); and `real`, windows of the data to show samples of their length beside."""
        codes = super().draw_codes(count, condition=condition, rng=rng, truncation=truncation)
        if len(self.shown) and codes["code"].shape[1] == self.generator.noise_of(self.window):
            codes["real"] = self.shown[chance.integers(0, len(self.shown), count, device=self.device, rng=rng)]
        return codes

    @classmethod
    def spec_to_share(cls, spec: DataSpec) -> DataSpec:
        """Without the windows of the data that samples are shown beside."""
        return replace(spec, extra={key: value for key, value in spec.extra.items() if key != "shown"})
