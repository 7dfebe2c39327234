"""The plain game on images, and what every game on images needs: networks by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import pydantic
from torch import Tensor, nn

from sparring.core.adversarial import AdversarialGame, Latent, LossOptions
from sparring.core.game import DataSpec
from sparring.core.initialize import initialize
from sparring.core.labels import Labels
from sparring.data.augment import light
from sparring.domains.image.networks import DISCRIMINATORS, GENERATORS
from sparring.errors import UserError
from sparring.nn.augmentation import build_augmentation, resolve_augmentation
from sparring.nn.building import build_network, resolve_networks
from sparring.options import validate
from sparring.recipe import Recipe, Section


class NetworkOptions(Section):
    """What the `model` section of every recipe has."""

    latent: int = pydantic.Field(100, ge=1)
    generator: dict[str, Any] = {"name": "dcgan"}
    discriminator: dict[str, Any] = {"name": "dcgan"}
    initialize: dict[str, Any] = {"name": "normal"}
    spectral_norm: list[Literal["generator", "discriminator"]] = []

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The section validated, with the defaults of the networks that it names filled in. Raises UserError."""
        plain = validate(cls, values, where="model")
        return resolve_networks(plain, {"generator": GENERATORS, "discriminator": DISCRIMINATORS})


class ModelOptions(NetworkOptions):
    """`model` of an adversarial game."""

    latent_distribution: Latent = "normal"
    conditional: bool | Literal["auto"] = pydantic.Field(
        False, description="samples are drawn for a label, which the data must have; auto: where the data has labels"
    )


class ImageGame(AdversarialGame):
    """A generator and a discriminator of images."""

    options_model: type[ModelOptions] = ModelOptions

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks, the loss and its penalties take them."""
        loss = LossOptions.resolve(recipe.loss)
        loss["augment"] = resolve_augmentation(loss["augment"])
        return {"model": cls.options_model.resolve(recipe.model), "loss": loss}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build the networks that `model` names. Raises UserError, e.g. for a conditional game on data without labels."""
        options = cls.options_model(**validate(cls.options_model, recipe.model, where="model"))
        if options.conditional == "auto":
            options.conditional = bool(spec.classes)
        if options.conditional and not spec.classes:
            why = spec.extra.get("label_note", "use class sub-folders or a table of labels, or another recipe")
            raise UserError(f"recipe {recipe.name!r} draws samples for labels, but the data has none: {why}")
        classes = len(spec.classes) if options.conditional else 0
        shape = image_shape(spec)
        loss = LossOptions(**validate(LossOptions, recipe.loss, where="loss"))
        game = cls(
            cls.build_generator(shape, options, classes),
            cls.build_discriminator(shape, options, classes),
            latent=options.latent,
            latent_distribution=options.latent_distribution,
            loss=loss,
            turns=recipe.train.turns,
            steps=recipe.train.steps,
            both_sides=build_augmentation(loss.augment, spec.count),
            labels=Labels.of(spec) if options.conditional else None,
            augment=light,
        )
        game.complete(options, spec)
        return game

    @classmethod
    def build_generator(cls, shape: tuple[int, int, int], options: ModelOptions, classes: int) -> nn.Module:
        """The generator, initialised."""
        return build("generator", GENERATORS, options.generator, options, shape, options.latent, classes)

    @classmethod
    def build_discriminator(cls, shape: tuple[int, int, int], options: ModelOptions, classes: int) -> nn.Module:
        """The discriminator, initialised."""
        return build("discriminator", DISCRIMINATORS, options.discriminator, options, shape, classes)

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Add what a game has beside the two networks."""


def head(discriminator: nn.Module, size: int, options: NetworkOptions) -> nn.Module:
    """A linear head on a discriminator's features."""
    linear = nn.Linear(discriminator.feature_count, size)  # type: ignore[arg-type]
    initialize(linear, options.initialize)
    return linear


def look_with_features(discriminator: nn.Module, samples: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits and features in one pass."""
    features = discriminator.features(samples, label)  # type: ignore[operator]
    return discriminator.score(features, label), features  # type: ignore[operator]


def image_shape(spec: DataSpec) -> tuple[int, int, int]:
    """(C, H, W) of image data."""
    channels, height, width = spec.shape
    return channels, height, width


def build(
    role: str, table: Mapping[str, type[nn.Module]], spec: Mapping[str, Any], options: NetworkOptions, *args: Any
) -> nn.Module:
    """A network by name, initialised, spectrally normalised where the recipe says so."""
    return build_network(
        role, table, spec, *args, initializer=options.initialize, spectrally_normalised=options.spectral_norm
    )
