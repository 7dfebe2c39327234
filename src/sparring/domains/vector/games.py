"""The games that are played on vectors, by the names that recipes use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import pydantic
import torch
from torch import Tensor, nn

from sparring.core import chance
from sparring.core.adversarial import AdversarialGame, Latent, LossOptions
from sparring.core.exportable import Exportable, Input
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.domains.vector.networks import DISCRIMINATORS, GENERATORS
from sparring.errors import UserError
from sparring.nn.building import build_network, resolve_networks
from sparring.options import validate
from sparring.recipe import Recipe, Section

WIDEST_LATENT = 64


class ModelOptions(Section):
    """The recipe's `model` section."""

    latent: int | None = pydantic.Field(
        None, ge=1, description="none: one for each column of the data, at most 64; fewer could not fill its space"
    )
    latent_distribution: Latent = "normal"
    generator: dict[str, Any] = {"name": "mlp"}
    discriminator: dict[str, Any] = {"name": "mlp"}
    initialize: dict[str, Any] = {"name": "he"}
    spectral_norm: list[Literal["generator", "discriminator"]] = []
    conditional: bool | Literal["auto"] = pydantic.Field(
        False, description="samples are drawn for a label, which the data must have; auto: where the data has labels"
    )

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The section validated, with the defaults of the networks that it names filled in. Raises UserError."""
        plain = validate(cls, values, where="model")
        return resolve_networks(plain, {"generator": GENERATORS, "discriminator": DISCRIMINATORS})


class VectorGame(AdversarialGame):
    """A generator and a discriminator of vectors, which play in standardised units.

    Batches come and samples go in the data's own units. In between every column has mean 0, the scale that
    `DataSpec.extra` gives is taken out, and what is left is divided by the root of the number of columns, so that a row
    has a mean square of 1 however long it is: a slope, which is what gradient penalties weigh, tells a sample from its
    neighbours over distances that grow with that root. Columns that are constant in the data are so in every sample.
    """

    mean: Tensor
    unit: Tensor
    shown: Tensor

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks, the loss and its penalties take them."""
        return {"model": ModelOptions.resolve(recipe.model), "loss": LossOptions.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build the networks that `model` names. Raises UserError, e.g. for a conditional game on data without labels."""
        options = ModelOptions(**validate(ModelOptions, recipe.model, where="model"))
        conditional = bool(spec.classes) if options.conditional == "auto" else options.conditional
        if conditional and not spec.classes:
            raise UserError(
                f"recipe {recipe.name!r} draws samples for labels, but the data has none: name their column "
                "with data.label, or choose another recipe"
            )
        (size,) = spec.shape
        latent = options.latent or min(size, WIDEST_LATENT)
        classes = spec.classes if conditional else ()
        counts = spec.extra.get("label_counts") or [1.0] * len(classes)
        game = cls(
            _build("generator", GENERATORS, options, size, latent, len(classes)),
            _build("discriminator", DISCRIMINATORS, options, size, len(classes)),
            latent=latent,
            latent_distribution=options.latent_distribution,
            loss=LossOptions(**validate(LossOptions, recipe.loss, where="loss")),
            turns=recipe.train.turns,
            steps=recipe.train.steps,
            label_weights=dict(zip(classes, counts, strict=True)) if conditional else None,
        )
        game.know(spec)
        return game

    def know(self, spec: DataSpec) -> None:
        """Take over the data's standards. They are the data's and not the training's, so checkpoints do not hold them."""
        (size,) = spec.shape
        mean = torch.tensor(spec.extra.get("mean", [0.0] * size))
        scale = torch.tensor(spec.extra.get("scale", [1.0] * size))
        shown = torch.tensor(spec.extra.get("shown", [])).reshape(-1, size)
        for name, value in (("mean", mean), ("unit", scale * size**0.5), ("shown", shown)):
            self.register_buffer(name, value, persistent=False)

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """A side of the game, in standardised units."""
        inner = Batch({**batch, "data": self.standardise(batch["data"])})
        inner.memo = batch.memo  # what a turn leaves for the next is in standardised units as well
        return super().loss(turn, inner, step)

    def decode(self, code: Tensor, label: Tensor | None) -> Tensor:
        """Samples of codes, in standardised units."""
        return super().decode(code, label) * (self.unit > 0)

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: float = 1.0,
    ) -> Batch:
        """Codes; and `real`, rows of the data to show the samples beside."""
        codes = super().draw_codes(count, condition=condition, rng=rng, truncation=truncation)
        if len(self.shown):
            codes["real"] = self.shown[chance.integers(0, len(self.shown), count, device=self.device, rng=rng)]
        return codes

    def render(self, codes: Batch) -> Batch:
        """Samples as `data` (and `label`), in the data's own units; and `real`."""
        batch = super().render(codes)
        batch["data"] = batch["data"] * self.unit + self.mean
        return batch

    def exportable(self) -> Exportable:
        """The generator, in the data's own units."""
        return InUnits(self.generator, self.mean, self.unit, *self.inputs())

    @classmethod
    def spec_to_share(cls, spec: DataSpec) -> DataSpec:
        """Without the rows of the data that samples are shown beside."""
        return replace(spec, extra={key: value for key, value in spec.extra.items() if key != "shown"})

    def standardise(self, data: Tensor) -> Tensor:
        """Data (N, D) in units of `unit`, with mean 0; constant columns as 0."""
        return (data - self.mean) / torch.where(self.unit > 0, self.unit, torch.inf)


class InUnits(Exportable):
    """A generator of standardised vectors, as a function that gives them in the data's own units."""

    mean: Tensor
    scale: Tensor

    def __init__(self, generator: nn.Module, mean: Tensor, scale: Tensor, *inputs: Input) -> None:
        super().__init__(generator, *inputs)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Vectors (N, D)."""
        return super().forward(latent, label) * self.scale + self.mean


GAMES: dict[str, type[Game]] = {"adversarial": VectorGame}


def _build(role: str, table: Mapping[str, type[nn.Module]], options: ModelOptions, *args: Any) -> nn.Module:
    """A network of the section."""
    initializer, normalised = options.initialize, options.spectral_norm
    return build_network(
        role, table, getattr(options, role), *args, initializer=initializer, spectrally_normalised=normalised
    )
