"""The game on pairs: the discriminator sees an input and what is said to belong to it (pix2pix, and all that follow it)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.exportable import Exportable, ImageFunction, Picture
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.domains.translation.games.translator import NetworkOptions, any_size, require_inputs
from sparring.domains.translation.networks import DISCRIMINATORS, GENERATORS
from sparring.domains.translation.networks.unet import Noise
from sparring.domains.translation.show import visible
from sparring.imaging.perceptual import NetworkName, PerceptualNetwork, network_at_hand, perceptual_loss, style_loss
from sparring.nn.building import build_network
from sparring.options import validate
from sparring.recipe import Recipe


class PairedLoss(LossOptions):
    """The recipe's `loss` section of games on pairs: what the generator minimises, and how much each part counts."""

    adversarial: float = pydantic.Field(1.0, ge=0, description="weight; 0: the generator learns from the pairs alone")
    l1: float = pydantic.Field(0.0, ge=0, description="weight of the mean absolute difference from the target")
    l2: float = pydantic.Field(0.0, ge=0, description="weight of the mean squared difference from the target")
    matching: float = pydantic.Field(
        0.0, ge=0, description="weight of the difference of the discriminator's maps of target and output (pix2pixHD)"
    )
    perceptual: float = pydantic.Field(
        0.0, ge=0, description="weight of the difference from the target in the maps of a frozen network"
    )
    style: float = pydantic.Field(
        0.0, ge=0, description="weight of the difference in which maps of that network go together (Gram matrices)"
    )
    perceptual_network: NetworkName = pydantic.Field(
        "auto", description="vgg19, vgg16, or own: learnt from the data before the first step; auto: the first at hand"
    )
    pretrain_steps: int = pydantic.Field(
        0, ge=0, description="first steps in which the generator learns from the pairs alone"
    )

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """As `LossOptions`, and the network of the perceptual loss by its name, where it has a part."""
        plain = super().resolve(values)
        if plain["perceptual"] or plain["style"]:
            plain["perceptual_network"] = network_at_hand(plain["perceptual_network"])
        return plain


class PairedOptions(NetworkOptions):
    """`model` of a game on pairs."""

    sees_source: bool = pydantic.Field(True, description="the discriminator sees the input beside what is made from it")


class PairedGame(AdversarialGame):
    """Conditional adversarial game on pairs (Isola et al. 2017): the condition of both networks is an image.

    generator: inputs (N, S, H, W) → images. discriminator: (images, inputs or None) → logits, with `look` for its maps.
    """

    options_model: type[PairedOptions] = PairedOptions
    loss_model: type[PairedLoss] = PairedLoss
    scale = 1
    """How many times as large as its input an output is."""

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks, the loss and its penalties take them."""
        return {"model": cls.options_model.resolve(recipe.model), "loss": cls.loss_model.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build the networks that `model` names. Raises UserError, e.g. for data without pairs."""
        options = cls.options_model(**validate(cls.options_model, recipe.model, where="model"))
        loss = cls.loss_model(**validate(cls.loss_model, recipe.loss, where="loss"))
        source = cls.source_channels(spec, recipe)
        shape = (spec.shape[0], spec.shape[1], spec.shape[2])
        game = cls(
            cls.build_generator(source, shape, options),
            cls.build_discriminator(source if options.sees_source else 0, shape, options),
            latent=1,
            loss=loss,
            turns=recipe.train.turns,
            steps=recipe.train.steps,
        )
        game.weights, game.sees_source, game.input_facts = loss, options.sees_source, spec.extra.get("input")
        game.perceptual = PerceptualNetwork(loss.perceptual_network, shape) if loss.perceptual or loss.style else None
        game.source_count, game.shape = source, shape
        game.complete(options, spec)
        return game

    weights: PairedLoss
    perceptual: PerceptualNetwork | None
    """In whose maps outputs are compared with their targets; no player's."""
    sees_source: bool
    source_count: int
    """The channels of inputs."""
    shape: tuple[int, int, int]
    """(C, H, W) of the targets that were trained on."""
    input_facts: dict[str, Any] | None
    """What `spec.extra` says of the inputs."""

    @classmethod
    def source_channels(cls, spec: DataSpec, recipe: Recipe) -> int:
        """The channels of the inputs. Raises UserError for data that has none."""
        return require_inputs(spec, recipe.name, paired=True)

    @classmethod
    def build_generator(cls, source: int, shape: tuple[int, int, int], options: PairedOptions) -> nn.Module:
        """The generator, initialised."""
        return cls.build("generator", GENERATORS, options, source, shape)

    @classmethod
    def build_discriminator(cls, source: int, shape: tuple[int, int, int], options: PairedOptions) -> nn.Module:
        """The discriminator, initialised; source: channels of the inputs that it sees, or 0."""
        return cls.build("discriminator", DISCRIMINATORS, options, source, shape)

    @staticmethod
    def build(role: str, table: Mapping[str, type[nn.Module]], options: NetworkOptions, *args: Any) -> nn.Module:
        """A network of the section."""
        return build_network(
            role,
            table,
            getattr(options, role),
            *args,
            initializer=options.initialize,
            spectrally_normalised=options.spectral_norm,
        )

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Give the network of the perceptual loss its weights."""
        if self.perceptual is not None:
            self.perceptual.prepare(data, progress)

    def complete(self, options: PairedOptions, spec: DataSpec) -> None:
        """Add what a game has beside the two networks."""

    @property
    def stride(self) -> int:
        """What the sides of inputs must be multiples of; others are continued by mirroring."""
        return int(getattr(self.generator, "stride", 1))

    def source_of(self, batch: Batch, rng: torch.Generator | None = None) -> Tensor:
        """What outputs are made from, (N, S, H, W); a game that makes its own inputs makes them here, once a batch."""
        return batch["source"]

    def turns(self, step: int) -> Sequence[Turn]:
        """The plain game's; the generator's alone while it learns from the pairs alone."""
        if not self.plays(step):
            return (Turn("generator"),)
        return super().turns(step)

    def plays(self, step: int) -> bool:
        """Whether the discriminator has a part in this step."""
        return bool(self.weights.adversarial or self.weights.matching) and step >= self.weights.pretrain_steps

    def label(self, batch: Batch) -> Tensor | None:
        """What the discriminator sees beside a sample."""
        return self.source_of(batch) if self.sees_source else None

    def draw(self, batch: Batch) -> Tensor:
        """Outputs for the inputs of `batch`."""
        return self.make(self.source_of(batch))

    def make(self, source: Tensor) -> Tensor:
        """Outputs of inputs, (N, C, H, W)."""
        made: Tensor = any_size(source, self.stride, self.generator, scale=self.scale)
        return made

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """Adversarial loss, and how far outputs are from their targets."""
        fake = batch.memo.pop("fake", None)
        if fake is None:
            fake = self.draw(batch)
        parts: dict[str, Tensor] = {}
        if self.plays(step):
            parts |= self.judged(fake, batch, step)
        return Losses({**parts, **self.distances(fake, batch["data"], batch)})

    def judged(self, fake: Tensor, batch: Batch, step: int) -> dict[str, Tensor]:
        """What the discriminator makes of outputs, and of their targets where it compares."""
        label, weights = self.label(batch), self.weights
        real_logits, parts = None, {}
        if weights.matching or self.adversarial.relativistic:
            with torch.no_grad():  # the generator cannot move these
                real_logits, real_maps = self.discriminator.look(self.disturb(batch["data"], step), label)  # type: ignore[operator]
        fake_logits, fake_maps = self.discriminator.look(self.disturb(fake, step), label)  # type: ignore[operator]
        if weights.adversarial:
            parts["adversarial"] = weights.adversarial * self.adversarial.generator(
                real_logits if self.adversarial.relativistic else None, fake_logits
            )
        if weights.matching:
            parts["matching"] = weights.matching * feature_matching(real_maps, fake_maps)
        return parts

    def distances(self, fake: Tensor, real: Tensor, batch: Batch) -> dict[str, Tensor]:
        """How far outputs are from their targets, weighted."""
        parts = {}
        if self.weights.l1:
            parts["l1"] = self.weights.l1 * F.l1_loss(fake, real)
        if self.weights.l2:
            parts["l2"] = self.weights.l2 * F.mse_loss(fake, real)
        if self.perceptual is not None:
            with torch.no_grad():
                wanted = self.perceptual(real)
            parts |= self.distances_of_maps(wanted, self.perceptual(fake), self.perceptual.shares)
        return parts

    def distances_of_maps(
        self, real: Sequence[Tensor], fake: Sequence[Tensor], shares: Sequence[float]
    ) -> dict[str, Tensor]:
        """How far the frozen network's maps of outputs are from those of their targets, weighted."""
        parts = {}
        if self.weights.perceptual:
            parts["perceptual"] = self.weights.perceptual * perceptual_loss(real, fake, shares)
        if self.weights.style:
            parts["style"] = self.weights.style * style_loss(real, fake)
        return parts

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Outputs of the inputs of `given`, with their `real` partners where these are there."""
        source = given["source"] if "source" in given else self.source_of(given, rng)
        data = self.answer(source, given, rng)
        made = Batch(data=data.float(), source=source, input=visible(source, self.input_facts))
        if "data" in given and self.pairs:
            made["real"] = given["data"]
        return made

    def answer(self, source: Tensor, given: Batch, rng: torch.Generator | None) -> Tensor:
        """Outputs (N, C, H, W) of inputs, as `translate` gives them; a game with more than one answer draws one."""
        return self.make(source)

    def exportable(self) -> Exportable | None:
        """The generator as a function of inputs whose sides are multiples of `stride`; from here on it is without noise."""
        for each in self.generator.modules():
            if isinstance(each, Noise):
                each.always = False
        facts, stride, scale = self.input_facts or {}, self.stride, self.scale
        height, width = (max(1, round(side / scale / stride)) * stride for side in self.shape[1:])
        source = Picture(
            "source", self.source_count, (height, width), stride, tuple(facts.get("classes", ())),
            hole=getattr(self, "takes_mask", False),
        )  # fmt: skip
        return ImageFunction(self.generator, source, self.finish)

    finish: Callable[[Tensor, Tensor], Tensor] | None = None
    """(Inputs, what the generator makes of them) → outputs; None: these are they. For what leaves the package."""

    pairs = True
    """Whether `data` of a batch is what its `source` should become."""

    generate = Game.generate
    draw_codes = Game.draw_codes


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of the maps of real and fake samples: Σ over layers, mean over scales (Wang et al. 2018, eq. 4).

    real, fake: for each scale the maps after each layer. Returns a scalar.
    """
    scales = [
        torch.stack(
            [F.l1_loss(mine.float(), theirs.detach().float()) for theirs, mine in zip(one, other, strict=True)]
        ).sum()
        for one, other in zip(real, fake, strict=True)
    ]
    return torch.stack(scales).mean()


__all__ = ["PairedGame", "PairedLoss", "PairedOptions", "feature_matching"]
