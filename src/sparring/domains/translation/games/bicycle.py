"""BicycleGAN: pairs, and a code for what the input leaves open, so that one input has many outputs (Zhu et al. 2017b)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sparring.core import chance
from sparring.core.adversarial import standing
from sparring.core.exportable import Exportable, Noise, Picture
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.core.initialize import initialize
from sparring.core.losses import bind, resolve_loss
from sparring.domains.translation.games.translator import NetworkOptions, any_size, require_inputs
from sparring.domains.translation.networks import DISCRIMINATORS, GENERATORS
from sparring.domains.translation.networks.encoder import CodeEncoder
from sparring.domains.translation.show import visible
from sparring.errors import UserError
from sparring.nn.building import build_network
from sparring.options import call, resolve, validate
from sparring.recipe import Recipe, Section, Turns


class BicycleLoss(Section):
    """The recipe's `loss` section: the loss of both discriminators, and what each part weighs (Zhu et al. 2017b, eq. 9)."""

    name: str = "least_squares"
    options: dict[str, Any] = {}
    adversarial: float = pydantic.Field(1.0, ge=0, description="weight of what each discriminator makes of outputs")
    image: float = pydantic.Field(10.0, ge=0, description="λ: mean |B − G(A, z)| of the code z of B")
    latent: float = pydantic.Field(0.5, ge=0, description="λ of the code: mean |z − E(G(A, z))|")
    kl: float = pydantic.Field(0.01, ge=0, description="λ of the divergence of codes of outputs from N(0, I)")


class BicycleOptions(NetworkOptions):
    """`model`: `generator.code` says how long codes are."""

    generator: dict[str, Any] = {"name": "unet", "code": 8}
    encoder: dict[str, Any] = pydantic.Field({}, description="width, blocks, norm of the encoder of outputs")
    sees_source: bool = pydantic.Field(True, description="discriminators see the input beside what is made from it")


class BicycleGame(Game):
    """cVAE-GAN and cLR-GAN in one (Zhu et al. 2017b): B → z → B̂, and z → B̂ → ẑ.

    generator: (inputs (N, S, H, W), codes (N, code)) → images. encoder: images → mean and log variance of their codes.
    encoded, random: discriminators (images, inputs or None) → logits, of outputs for the codes of targets and for codes
    of the prior; they share no weights (sec. 4). shape: (S, H, W) of inputs that it is trained on.
    """

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        discriminators: tuple[nn.Module, nn.Module],
        *,
        code: int,
        loss: BicycleLoss,
        shape: tuple[int, int, int],
        sees_source: bool = True,
        input_facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.encoder = generator, encoder
        self.discriminators = nn.ModuleDict(dict(zip(("encoded", "random"), discriminators, strict=True)))
        self.code, self.weights, self.sees_source, self.input_facts = code, loss, sees_source, input_facts
        self.shape = shape
        self.adversarial = bind(loss.name, loss.options)

    takes_style = True
    """Whether outputs may be given the look of an image, `style` beside `source`."""

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks and the loss take them."""
        model = BicycleOptions.resolve(recipe.model)
        model["encoder"] = resolve(CodeEncoder, model["encoder"], where="model.encoder")
        loss = validate(BicycleLoss, recipe.loss, where="loss")
        return {"model": model, "loss": {**loss, "options": resolve_loss(loss["name"], loss["options"])}}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build the networks that `model` names. Raises UserError, e.g. for data without pairs or a generator without a code."""
        options = BicycleOptions(**validate(BicycleOptions, recipe.model, where="model"))
        loss = BicycleLoss(**validate(BicycleLoss, recipe.loss, where="loss"))
        require_single_turns(recipe)
        source = require_inputs(spec, recipe.name, paired=True)
        shape = (spec.shape[0], spec.shape[1], spec.shape[2])
        shared: dict[str, Any] = {"initializer": options.initialize, "spectrally_normalised": options.spectral_norm}
        generator = build_network("generator", GENERATORS, options.generator, source, shape, **shared)
        code = int(getattr(generator, "code", 0))
        if not code:
            raise UserError(
                f"recipe {recipe.name!r} needs a generator that takes a code, and model.generator names none: "
                "use model.generator.name=unet with model.generator.code=8, say"
            )
        encoder: nn.Module = call(CodeEncoder, options.encoder, shape, code, where="model.encoder")
        initialize(encoder, options.initialize)
        seen = source if options.sees_source else 0
        one, other = (
            build_network("discriminator", DISCRIMINATORS, options.discriminator, seen, shape, **shared)
            for _ in range(2)
        )
        return cls(
            generator,
            encoder,
            (one, other),
            code=code,
            loss=loss,
            shape=(source, *shape[1:]),
            sees_source=options.sees_source,
            input_facts=spec.extra.get("input"),
        )

    def players(self) -> dict[str, nn.Module]:
        """The generator plays together with the encoder, against both discriminators."""
        return {
            "discriminator": self.discriminators,
            "generator": nn.ModuleDict({"generator": self.generator, "encoder": self.encoder}),
        }

    def averaged(self) -> dict[str, nn.Module]:
        """The generator, and the encoder, which reads the codes of images whose look outputs are to have."""
        return {"generator": self.generator, "encoder": self.encoder}

    def turns(self, step: int) -> Sequence[Turn]:
        """The discriminators, then the generator on the outputs that these have seen."""
        return (Turn("discriminator", keep=True), Turn("generator", fresh=False))

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """A side of the game."""
        return self.discriminator_loss(batch) if turn.player == "discriminator" else self.generator_loss(batch)

    def play(self, batch: Batch) -> dict[str, Tensor]:
        """Codes of both kinds, and the outputs for them: `encoded` of the target's code, `random` of one of the prior."""
        source, target = batch["source"], batch["data"]
        mean, log_variance = (each.float() for each in self.encoder(target))
        inferred = mean + (0.5 * log_variance).exp() * chance.normal_like(mean)
        drawn = chance.normal(batch.count, self.code, device=target.device)
        both = self.generator(torch.cat([source, source]), torch.cat([inferred, drawn]))
        encoded, random = both.chunk(2)
        return {"mean": mean, "log_variance": log_variance, "drawn": drawn, "encoded": encoded, "random": random}

    def discriminator_loss(self, batch: Batch) -> Losses:
        """Each discriminator's own, of the same targets."""
        played = batch.memo["played"] = self.play(batch)
        given = batch["source"] if self.sees_source else None
        parts, logits = {}, []
        for name, discriminator in self.discriminators.items():
            real, fake = discriminator(batch["data"], given), discriminator(played[name].detach(), given)
            parts[name] = self.adversarial.discriminator(real, fake)
            logits.append((real.detach().float(), fake.detach().float()))
        return Losses(parts, standing(*(torch.cat(side) for side in zip(*logits, strict=True))))

    def generator_loss(self, batch: Batch) -> Losses:
        """Σ adversarial + λ|B − G(A, E(B))| + λ_latent|z − E(G(A, z))| + λ_KL KL(E(B) ‖ N(0, I)) (eq. 9).

        The third term moves the generator alone: encoder and generator together would hide the code in the image without
        meaning anything by it (sec. 4).
        """
        played = batch.memo.pop("played", None) or self.play(batch)
        given, weights = batch["source"] if self.sees_source else None, self.weights
        parts = {}
        for name, discriminator in self.discriminators.items():
            real = None
            if self.adversarial.relativistic:
                with torch.no_grad():  # the generator cannot move these
                    real = discriminator(batch["data"], given)
            judged = self.adversarial.generator(real, discriminator(played[name], given))
            parts[name] = weights.adversarial * judged
        parts["image"] = weights.image * F.l1_loss(played["encoded"].float(), batch["data"])
        fixed = {name: value.detach() for name, value in self.encoder.named_parameters()}
        recovered, _ = functional_call(self.encoder, fixed, (played["random"],))
        parts["latent"] = weights.latent * F.l1_loss(recovered.float(), played["drawn"])
        parts["kl"] = weights.kl * divergence(played["mean"], played["log_variance"])
        return Losses(parts)

    @property
    def stride(self) -> int:
        """What the sides of inputs must be multiples of; others are continued by mirroring."""
        return int(getattr(self.generator, "stride", 1))

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """An output of each input of `given`, of a code of its own; another seed gives another one.

        given: `source`, and `code` (N, code) where it is not to be drawn, or `style` (N, C, H, W): images whose mean codes are
        taken, so that the outputs get their look.
        """
        source = given["source"]
        if "code" in given:
            code = given["code"]
        elif "style" in given:
            code = self.encoder(given["style"])[0]
        else:
            code = chance.normal(len(source), self.code, device=self.device, rng=rng)
        data = any_size(source, self.stride, lambda inputs: self.generator(inputs, code))
        made = Batch(data=data.float(), source=source, input=visible(source, self.input_facts))
        if "data" in given:
            made["real"] = given["data"]
        return made

    def exportable(self) -> Exportable:
        """The generator, of inputs and codes."""
        classes = tuple((self.input_facts or {}).get("classes", ()))
        height, width = (max(1, round(side / self.stride)) * self.stride for side in self.shape[1:])
        source = Picture("source", self.shape[0], (height, width), self.stride, classes)
        return Coded(self.generator, source, Noise("code", self.code))


class Coded(Exportable):
    """A generator as a function of inputs (N, S, H, W) and codes (N, code)."""

    def forward(self, source: Tensor, code: Tensor) -> Tensor:  # type: ignore[override]
        """Images (N, C, H, W)."""
        made: Tensor = self.generator(source, code)
        return made.float()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) = ½ Σ (μ² + σ² − log σ² − 1), the mean over samples (Kingma & Welling 2014, appendix B).

    mean, log_variance: (N, L). Returns a scalar.
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()


def require_single_turns(recipe: Recipe) -> None:
    """Raise UserError where a recipe asks for other turns than one of each player."""
    if recipe.train.turns != Turns():
        raise UserError(f"recipe {recipe.name!r} plays its turns once a step each: leave train.turns out")
