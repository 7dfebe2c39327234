"""QuantGAN (Wiese, Knobloch, Korn & Kretschmer 2020): returns by temporal convolutional networks, in paths of any length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import pydantic
import torch
from torch import Tensor

from sparring.core import processes
from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.game import Batch, DataSpec, Losses
from sparring.domains.series.games.path_game import PathGame
from sparring.domains.series.games.series_game import require_one_length
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


class QuantLoss(LossOptions):
    """The recipe's `loss` section."""

    memory: float = pydantic.Field(
        0.0,
        ge=0,
        description="weight of the squared distance of autocovariances: of values, of sizes, of values with later sizes",
    )


LAGS = 64  # of the autocovariances, at most


class QuantGAN(PathGame, AdversarialGame):
    """Temporal convolutions against temporal convolutions.

    A step is made from the noise of the `receptive_field` steps before and at it, so the same networks draw paths of any
    length, at one cost a step: `stretch`. Generated steps further apart than that are independent.

    Not as in the paper: the loss is any of `core.losses`, with its penalties (theirs is non_saturating without); the
    generator may be pulled towards the data's autocovariances besides (`loss.memory`); the discriminator sees sizes |x|
    beside values; the form with a volatility of its own is the default (their stochastic volatility network, section 5.1);
    convolutions are not padded and no path is dropped for being extreme.
    """

    options: QuantLoss
    generator: Unscaled
    remembered: Tensor

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections validated, with every default filled in."""
        return {"model": validate(ModelOptions, recipe.model, where="model"), "loss": QuantLoss.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build it. Raises UserError where windows are shorter than what the discriminator sees."""
        options = ModelOptions(**validate(ModelOptions, recipe.model, where="model"))
        loss = QuantLoss(**validate(QuantLoss, recipe.loss, where="loss"))
        return cls(spec, options, loss=loss, turns=recipe.train.turns, steps=recipe.train.steps)

    def __init__(self, spec: DataSpec, options: ModelOptions, **rules: Any) -> None:
        require_one_length(spec.extra, type(self).__name__)
        self.window, size = spec.shape
        seen = receptive_field(options.levels)
        if self.window < seen:
            fewer = max((n for n in range(1, options.levels) if receptive_field(n) <= self.window), default=None)
            remedy = f"set model.levels={fewer}" if fewer else f"set data.window={seen}"
            raise UserError(
                f"a window of {self.window} steps is shorter than the {seen} that model.levels={options.levels} see: {remedy}"
            )
        generator = Unscaled(path_network(options.form, options.noise, size, options.width, options.levels), size)
        discriminator = Scaled(TemporalConvolution(2 * size, 1, options.width, options.levels), size)
        super().__init__(generator, discriminator, latent=0, **rules)
        self.stretch(self.window)
        # Of the training's data: a resumed training has it from its checkpoint.
        lags = min(LAGS, self.window - 1)
        self.register_buffer("remembered", torch.zeros(3, lags + 1, size))
        self.keep_shown(spec)

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Learn where each feature lies, how far it spreads, and its autocovariances in units of that."""
        standardise(data, self.generator, self.discriminator)
        every = data.batch(torch.arange(len(data)), augment=False)["data"]
        self.remembered.copy_(self.memory_of(every))

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """The adversarial loss, and the distance of the fakes' autocovariances from the data's."""
        fake = batch.memo.get("fake")
        if fake is None:
            fake = batch.memo["fake"] = self.draw(batch)
        losses = super().generator_loss(batch, step)
        if self.options.memory:
            distance = (processes.mean(self.memory_of(fake)) - self.remembered).square().sum()
            losses["memory"] = self.options.memory * distance
        return losses

    def memory_of(self, data: Tensor) -> Tensor:
        """Autocovariances (3, lags + 1, F) of windows (N, T, F), lag 0 first: of values, of sizes, of values with later sizes.

        In units of the spread; sizes are |x| less √(2/π), their mean where values are Gaussian.
        """
        values = (data - self.generator.centre) / self.generator.spread
        sizes = values.abs() - (2 / torch.pi) ** 0.5
        steps = values.shape[1]
        pairs = ((values, values), (sizes, sizes), (values, sizes))
        return torch.stack([
            torch.stack([(now[:, : steps - lag] * later[:, lag:]).mean((0, 1)) for lag in range(self.remembered.shape[1])])
            for now, later in pairs
        ])  # fmt: skip
