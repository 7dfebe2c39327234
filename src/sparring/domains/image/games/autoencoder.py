"""The adversarial autoencoder: a game of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparring.core import chance
from sparring.core.adversarial import standing
from sparring.core.codes import truncate_latents
from sparring.core.exportable import Exportable, Noise
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.core.initialize import initialize
from sparring.core.losses import bind, resolve_loss
from sparring.core.regularize import spectral_norm
from sparring.domains.image.games.adversarial import NetworkOptions, build, head, image_shape
from sparring.domains.image.networks import DISCRIMINATORS, GENERATORS
from sparring.domains.image.networks.autoencoder import Encoder
from sparring.errors import UserError
from sparring.nn.mlp import VectorDiscriminator
from sparring.options import call, resolve, validate
from sparring.recipe import Recipe, Section, Turns


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
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks and the loss take them."""
        model = AutoencoderOptions.resolve(recipe.model)
        model["codes"] = resolve(VectorDiscriminator, model["codes"], where="model.codes")
        loss = validate(CodeLoss, recipe.loss, where="loss")
        return {"model": model, "loss": {**loss, "options": resolve_loss(loss["name"], loss["options"])}}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """The encoder is the body of the image discriminator that `model.discriminator` names, with a linear head."""
        options = AutoencoderOptions(**validate(AutoencoderOptions, recipe.model, where="model"))
        if recipe.train.turns != Turns():
            raise UserError(f"recipe {recipe.name!r} plays its three turns once a step each: leave train.turns out")
        shape = image_shape(spec)
        # `spectral_norm: [discriminator]` means the player of that name, which judges codes, not the encoder's body.
        plain = options.model_copy(update={"spectral_norm": []})
        body = build("discriminator", DISCRIMINATORS, options.discriminator, plain, shape, 0)
        discriminator = call(VectorDiscriminator, options.codes, options.latent, 0, where="model.codes")
        initialize(discriminator, options.initialize)
        if "discriminator" in options.spectral_norm:
            spectral_norm(discriminator)
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
            prior, fake = self.discriminator(chance.normal_like(codes)), self.discriminator(codes)
            watch = standing(prior.detach().float(), fake.detach().float())
            return Losses({"adversarial": self.adversarial.discriminator(prior, fake)}, watch)
        prior = None
        codes = self.encoder(data).float()
        if self.adversarial.relativistic:
            with torch.no_grad():
                prior = self.discriminator(chance.normal_like(codes))
        return Losses({"adversarial": self.adversarial.generator(prior, self.discriminator(codes))})

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: float = 1.0,
    ) -> Batch:
        """Draws of the prior."""
        prior = chance.normal(count, self.latent, device=self.device, rng=rng)
        return Batch(code=truncate_latents(prior, truncation, "normal"))

    def render(self, codes: Batch) -> Batch:
        """Codes, decoded."""
        return Batch(data=self.generator(codes["code"]).float())

    def exportable(self) -> Exportable:
        """The decoder, of draws of the prior."""
        return Exportable(self.generator, Noise("latent", self.latent))
