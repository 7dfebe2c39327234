"""The games that are played on images.

Plain ones are `core.adversarial` with networks for images; the others add a third interest to the two players'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparring.core.adversarial import AdversarialGame, Latent, LossOptions
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.core.initialize import initialize
from sparring.core.losses import bind
from sparring.core.options import call, choose, validate
from sparring.core.regularize import spectral_norm
from sparring.data.augment import light
from sparring.domains.image.networks import DISCRIMINATORS, GENERATORS
from sparring.errors import UserError
from sparring.nn.mlp import VectorDiscriminator
from sparring.recipe import Recipe, Section


class NetworkOptions(Section):
    """What the `model` section of every recipe has."""

    latent: int = pydantic.Field(100, ge=1)
    generator: dict[str, Any] = {"name": "dcgan"}
    discriminator: dict[str, Any] = {"name": "dcgan"}
    initialize: dict[str, Any] = {"name": "normal"}
    spectral_norm: list[Literal["generator", "discriminator"]] = []


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
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build the networks that `model` names. Raises UserError, e.g. for a conditional game on data without labels."""
        options = cls.options_model(**validate(cls.options_model, recipe.model, where="model"))
        if options.conditional == "auto":
            options.conditional = bool(spec.classes)
        if options.conditional and not spec.classes:
            raise UserError(
                f"recipe {recipe.name!r} draws samples for labels, but the data has none: use class sub-folders or a CSV, or another recipe"
            )
        classes = len(spec.classes) if options.conditional else 0
        shape = image_shape(spec)
        game = cls(
            cls.build_generator(shape, options, classes),
            cls.build_discriminator(shape, options, classes),
            latent=options.latent,
            latent_distribution=options.latent_distribution,
            loss=LossOptions(**validate(LossOptions, recipe.loss, where="loss")),
            turns=recipe.train.turns,
            steps=recipe.train.steps,
            label_weights=label_weights(spec) if options.conditional else None,
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


class AuxiliaryClassifierOptions(ModelOptions):
    """`model` of the auxiliary-classifier game."""

    conditional: Literal[True] = True
    classifier_weight: float = pydantic.Field(1.0, ge=0)


class AuxiliaryClassifierGame(ImageGame):
    """ACGAN (Odena et al. 2017): the discriminator also names the class, and both players want it named right.

    D and G both maximise L_C = E[log P(C=c | x)] over real and fake samples; D maximises and G minimises L_S.
    """

    options_model = AuxiliaryClassifierOptions

    @classmethod
    def build_discriminator(cls, shape: tuple[int, int, int], options: ModelOptions, classes: int) -> nn.Module:
        """The discriminator does not see the label: it must tell it."""
        return super().build_discriminator(shape, options, 0)

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Add the classifier head."""
        assert isinstance(options, AuxiliaryClassifierOptions)
        self.classifier_weight = options.classifier_weight
        self.classifier = head(self.discriminator, len(spec.classes), options)

    def players(self) -> dict[str, nn.Module]:
        """The head learns with the discriminator."""
        return {"discriminator": nn.ModuleList([self.discriminator, self.classifier]), "generator": self.generator}

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One pass for both heads."""
        return look_with_features(self.discriminator, samples)

    def add_discriminator_terms(self, losses: Losses, batch: Batch, real: Tensor | None, fake: Tensor | None) -> None:
        """The classes of real and of fake samples, which were drawn for the same labels."""
        label = batch["label"]
        real_classes, fake_classes = self.classifier(real).float(), self.classifier(fake).float()
        log_likelihood = functional.cross_entropy(real_classes, label) + functional.cross_entropy(fake_classes, label)
        losses["class"] = self.classifier_weight * log_likelihood
        losses.watch["class_accuracy"] = (real_classes.argmax(1) == label).float().mean()

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """The class of the fakes."""
        losses["class"] = self.classifier_weight * functional.cross_entropy(
            self.classifier(fake).float(), batch["label"]
        )


class InformationOptions(ModelOptions):
    """`model` of the InfoGAN game; `latent` counts the noise, to which the codes are added."""

    categories: int = pydantic.Field(10, ge=2, description="values of the categorical code")
    continuous: int = pydantic.Field(2, ge=0, description="number of continuous codes, uniform on [-1, 1]")
    categorical_weight: float = pydantic.Field(
        1.0, ge=0, description="λ of the bound on the categorical code's information"
    )
    continuous_weight: float = pydantic.Field(0.1, ge=0, description="λ for the continuous codes")


class InformationGame(ImageGame):
    """InfoGAN (Chen et al. 2016): part of the latent is a code that the discriminator's features must tell again.

    Both players minimise −λ L_I(G, Q) (eq. 6), the variational bound of the mutual information of code and sample. For
    a categorical code it is a cross-entropy, for continuous ones a Gaussian likelihood of unit variance.
    """

    options_model = InformationOptions

    @classmethod
    def build_generator(cls, shape: tuple[int, int, int], options: ModelOptions, classes: int) -> nn.Module:
        """The generator's latent is the noise and the codes."""
        assert isinstance(options, InformationOptions)
        size = options.latent + options.categories + options.continuous
        return build("generator", GENERATORS, options.generator, options, shape, size, classes)

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Add the head Q that tells the code."""
        assert isinstance(options, InformationOptions)
        self.information = options
        self.recogniser = head(self.discriminator, options.categories + options.continuous, options)

    @property
    def conditions(self) -> Sequence[str]:
        """The classes, or, without labels in the data, the categories that the game found by itself."""
        return self.classes or [str(category) for category in range(self.information.categories)]

    def players(self) -> dict[str, nn.Module]:
        """Q learns with the discriminator, whose features it reads."""
        return {"discriminator": nn.ModuleList([self.discriminator, self.recogniser]), "generator": self.generator}

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One pass for both heads."""
        return look_with_features(self.discriminator, samples, label)

    def codes(
        self, count: int, category: Tensor | None = None, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Categories (count,) and continuous codes (count, K), drawn uniformly."""
        if category is None:
            category = torch.randint(self.information.categories, (count,), device=self.device, generator=rng)
        continuous = torch.rand(count, self.information.continuous, device=self.device, generator=rng) * 2 - 1
        return category, continuous

    def sample_for(
        self, category: Tensor, continuous: Tensor, label: Tensor | None, rng: torch.Generator | None = None
    ) -> Tensor:
        """Samples whose latents hold these codes."""
        code = functional.one_hot(category, self.information.categories).float()
        return self.generator(torch.cat([self.noise(len(category), rng), code, continuous], dim=1), label)

    def draw(self, batch: Batch) -> Tensor:
        """Fakes, whose codes are remembered for the loss."""
        batch.memo["codes"] = codes = self.codes(batch.count)
        return self.sample_for(*codes, self.label(batch))

    def sample(self, count: int, label: Tensor | None, rng: torch.Generator | None = None) -> Tensor:
        """Samples with random codes."""
        return self.sample_for(*self.codes(count, None, rng), label, rng)

    def generate(self, count: int, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Samples as `data`; without labels in the data, `condition` and the result's `label` are the categorical code."""
        if self.conditional:
            return super().generate(count, condition=condition, rng=rng)
        category, continuous = self.codes(count, None if condition is None else condition.to(self.device), rng)
        return Batch(data=self.sample_for(category, continuous, None, rng).float(), label=category)

    def information_loss(self, batch: Batch, features: Tensor | None) -> Tensor:
        """−λ L_I of the fakes in the batch's memo, up to a constant."""
        category, continuous = batch.memo["codes"]
        guess = self.recogniser(features).float()
        categories, values = guess.split([self.information.categories, self.information.continuous], dim=1)
        loss = self.information.categorical_weight * functional.cross_entropy(categories, category)
        if self.information.continuous:
            loss = loss + self.information.continuous_weight * 0.5 * (values - continuous).square().sum(1).mean()
        return loss

    def add_discriminator_terms(self, losses: Losses, batch: Batch, real: Tensor | None, fake: Tensor | None) -> None:
        """Q learns to tell the codes."""
        losses["information"] = self.information_loss(batch, fake)

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """The generator learns to show them."""
        losses["information"] = self.information_loss(batch, fake)


class CodeLoss(Section):
    """The recipe's `loss` section for a game of codes: the loss alone."""

    name: str = "non_saturating"
    options: dict[str, Any] = {}


class AutoencoderOptions(NetworkOptions):
    """`model` of the adversarial autoencoder: `discriminator` is the encoder's body, `codes` judges the codes."""

    latent: int = pydantic.Field(16, ge=1)
    codes: dict[str, Any] = {}


class AdversarialAutoencoder(Game):
    """Adversarial autoencoder (Makhzani et al. 2015): the codes of an autoencoder are drawn to a prior by a game.

    Three turns a step: encoder and decoder minimise the reconstruction error; the discriminator tells codes from draws
    of the prior N(0, I); the encoder makes its codes pass for such draws. Samples are decoded draws of the prior.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, discriminator: nn.Module, *, latent: int, loss: CodeLoss
    ) -> None:
        super().__init__()
        self.encoder, self.generator, self.discriminator = encoder, decoder, discriminator
        self.latent = latent
        self.adversarial = bind(loss.name, loss.options)

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """The encoder is the body of the image discriminator that `model.discriminator` names, with a linear head."""
        options = AutoencoderOptions(**validate(AutoencoderOptions, recipe.model, where="model"))
        shape = image_shape(spec)
        body = build("discriminator", DISCRIMINATORS, options.discriminator, options, shape, 0)
        discriminator = call(VectorDiscriminator, options.codes, options.latent, 0, where="model.codes")
        initialize(discriminator, options.initialize)
        return cls(
            Encoder(body, head(body, options.latent, options)),
            build("generator", GENERATORS, options.generator, options, shape, options.latent, 0),
            discriminator,
            latent=options.latent,
            loss=CodeLoss(**validate(CodeLoss, recipe.loss, where="loss")),
        )

    def players(self) -> dict[str, nn.Module]:
        """The encoder plays twice: with the decoder, and against the discriminator."""
        return {
            "autoencoder": nn.ModuleList([self.encoder, self.generator]),
            "discriminator": self.discriminator,
            "encoder": self.encoder,
        }

    def averaged(self) -> dict[str, nn.Module]:
        """The decoder is the generator."""
        return {"generator": self.generator}

    def turns(self, step: int) -> Sequence[Turn]:
        """Reconstruction phase, then the two turns of the regularisation phase, on one batch (section 2)."""
        return (Turn("autoencoder"), Turn("discriminator", fresh=False), Turn("encoder", fresh=False))

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """Mean squared error, or a side of the game of codes."""
        data = batch["data"]
        if turn.player == "autoencoder":
            return Losses({"reconstruction": functional.mse_loss(self.generator(self.encoder(data)).float(), data)})
        if turn.player == "discriminator":
            with torch.no_grad():
                codes = self.encoder(data).float()
            prior, fake = self.discriminator(torch.randn_like(codes)), self.discriminator(codes)
            middle = (prior.mean() + fake.mean()) / 2
            accuracy = ((prior > middle).float().mean() + (fake <= middle).float().mean()) / 2
            watch = {"real_logit": prior.mean(), "fake_logit": fake.mean(), "accuracy": accuracy}
            return Losses({"adversarial": self.adversarial.discriminator(prior, fake)}, watch)
        prior = None
        codes = self.encoder(data).float()
        if self.adversarial.relativistic:
            with torch.no_grad():
                prior = self.discriminator(torch.randn_like(codes))
        return Losses({"adversarial": self.adversarial.generator(prior, self.discriminator(codes))})

    def generate(self, count: int, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Decoded draws of the prior."""
        return Batch(data=self.generator(torch.randn(count, self.latent, device=self.device, generator=rng)).float())


class Encoder(nn.Module):
    """A discriminator's body with a linear head: image (N, C, H, W) → code (N, L)."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head
        body.head = nn.Identity()  # the one for logits, which would never learn

    def forward(self, images: Tensor) -> Tensor:
        """The code."""
        return self.head(self.body.features(images))  # type: ignore[operator]


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


def label_weights(spec: DataSpec) -> dict[str, float]:
    """How often the data has each class."""
    return dict(zip(spec.classes, spec.extra.get("label_counts") or [1.0] * len(spec.classes), strict=True))


def build(
    role: str, table: Mapping[str, type[nn.Module]], spec: Mapping[str, Any], options: NetworkOptions, *args: Any
) -> nn.Module:
    """A network by name, initialised, spectrally normalised where the recipe says so."""
    own = dict(spec)
    name = own.pop("name", None)
    if name is None:
        raise UserError(f"model.{role}.name is missing; there are {', '.join(table)}")
    network: nn.Module = call(choose(table, name, what=role), own, *args, where=f"model.{role}")
    initialize(network, options.initialize)
    return spectral_norm(network) if role in options.spectral_norm else network


GAMES: dict[str, type[Game]] = {
    "adversarial": ImageGame,
    "auxiliary_classifier": AuxiliaryClassifierGame,
    "information": InformationGame,
    "adversarial_autoencoder": AdversarialAutoencoder,
}
