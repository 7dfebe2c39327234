"""The game of one direction that keeps what was where: each patch of an output must tell the patch it was made from (CUT)."""

from __future__ import annotations

import itertools
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core import chance
from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.exportable import Exportable
from sparring.core.game import Batch, DataSpec, Game, Losses
from sparring.core.initialize import initialize
from sparring.core.passes import precise
from sparring.domains.translation.games.cycle import build, picture_function
from sparring.domains.translation.games.translator import NetworkOptions, any_size, require_inputs
from sparring.domains.translation.networks import DISCRIMINATORS, GENERATORS
from sparring.domains.translation.networks.resnet import ResnetGenerator
from sparring.domains.translation.show import visible
from sparring.errors import UserError
from sparring.options import validate
from sparring.recipe import Recipe

LATE = 4
"""Besides the first residual block, the number of the one whose maps are compared (Park et al. 2020, section 3.3)."""


class ContrastiveOptions(NetworkOptions):
    """`model` of the contrastive game."""

    generator: dict[str, Any] = {"name": "resnet"}
    discriminator: dict[str, Any] = {"name": "patch", "norm": "instance"}
    heads: int = pydantic.Field(256, ge=1, description="features of a patch, and width of the layer before them")


class ContrastiveLoss(LossOptions):
    """`loss` of the contrastive game."""

    adversarial: float = pydantic.Field(1.0, gt=0, description="weight of the adversarial loss")
    contrast: float = pydantic.Field(1.0, gt=0, description="λ_X: weight of the contrast of output and input")
    identity: float = pydantic.Field(
        1.0,
        ge=0,
        description="λ_Y: weight of the contrast of what is made of an image of the outputs' own kind and that image",
    )
    temperature: float = pydantic.Field(0.07, gt=0, description="τ of the contrast")
    patches: int = pydantic.Field(256, ge=2, description="places of each map that are compared with each other")
    flip: bool = pydantic.Field(
        False,
        description="the generator sees half of the inputs mirrored, and its outputs must be mirrored too (FastCUT)",
    )


class ContrastiveGame(AdversarialGame):
    """CUT and FastCUT (Park et al. 2020): one direction, no pairs, and no way back.

    The generator and the heads minimise (eq. 5)

        adversarial · L_GAN(G, D) + contrast · PatchNCE(G, H, X) + identity · PatchNCE(G, H, Y),

    where PatchNCE compares maps of the generator's own encoder, of the output and of its input, place by place. The heads
    have the optimiser of the generator: what Adam does to each weight is what two optimisers of equal settings do.
    """

    weights: ContrastiveLoss
    paired = False

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks, the loss and its penalties take them."""
        return {"model": ContrastiveOptions.resolve(recipe.model), "loss": ContrastiveLoss.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build the networks that `model` names, and a head for each of the maps. Raises UserError."""
        options = ContrastiveOptions(**validate(ContrastiveOptions, recipe.model, where="model"))
        loss = ContrastiveLoss(**validate(ContrastiveLoss, recipe.loss, where="loss"))
        source, shape = require_inputs(spec, recipe.name, paired=False), tuple(spec.shape)
        if source != shape[0]:
            raise UserError(
                f"recipe {recipe.name!r} compares outputs with inputs by one encoder, and these have {shape[0]} and {source} "
                "channels: say data.channels and data.input_channels alike"
            )
        game = cls(
            build("generator", GENERATORS, options, source, shape),
            build("discriminator", DISCRIMINATORS, options, 0, shape),
            latent=1, loss=loss, turns=recipe.train.turns, steps=recipe.train.steps,
        )  # fmt: skip
        game.weights, game.paired = loss, bool(spec.extra.get("paired"))
        game.input_facts, game.shape = spec.extra.get("input"), (shape[0], shape[1], shape[2])
        game.heads = nn.ModuleList(PatchHead(channels, options.heads) for channels in map_channels(game.generator))
        initialize(game.heads, options.initialize)
        return game

    heads: nn.ModuleList
    input_facts: dict[str, Any] | None
    shape: tuple[int, int, int]

    def players(self) -> dict[str, nn.Module]:
        """The heads move with the generator."""
        return {"discriminator": self.discriminator, "generator": nn.ModuleList([self.generator, self.heads])}

    def averaged(self) -> dict[str, nn.Module]:
        """The generator: the heads have no part in what it makes."""
        return {"generator": self.generator}

    def make(self, source: Tensor) -> Tensor:
        """Outputs of inputs (N, C, H, W) of any size."""
        return any_size(source, int(getattr(self.generator, "stride", 1)), self.generator)

    def draw(self, batch: Batch) -> Tensor:
        """Outputs for the inputs of `batch`, mirrored where the game mirrors."""
        return self.make(mirrored(batch["source"], self.turned(batch)))

    def turned(self, batch: Batch) -> Tensor | None:
        """Which samples the generator sees mirrored, (N,), drawn once a batch; None where it never does."""
        if not self.weights.flip:
            return None
        if "turned" not in batch.memo:
            batch.memo["turned"] = chance.uniform(batch.count, device=batch["source"].device) < 0.5
        chosen: Tensor = batch.memo["turned"]
        return chosen

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """The adversarial loss, and the contrast of both sides."""
        fake = batch.memo.pop("fake", None)
        fake = self.draw(batch) if fake is None else fake
        batch.memo["fake"] = fake
        losses = super().generator_loss(batch, step)
        losses["adversarial"] = self.weights.adversarial * losses["adversarial"]
        losses["contrast"] = self.weights.contrast * self.contrast(fake, batch["source"], self.turned(batch))
        if self.weights.identity:
            target = batch["data"]
            losses["identity"] = self.weights.identity * self.contrast(self.make(target), target)
        return losses

    def contrast(self, made: Tensor, source: Tensor, turned: Tensor | None = None) -> Tensor:
        """PatchNCE (eq. 4) of outputs and their inputs, the mean over maps and places, a scalar.

        turned: (N,), outputs whose maps are mirrored before they are compared. What they are compared with stands still.
        """
        with torch.no_grad():
            keys = encoder_maps(self.generator, source)
        terms = []
        for head, ours, theirs in zip(self.heads, encoder_maps(self.generator, made), keys, strict=True):
            places = choose_places(theirs, self.weights.patches)
            query, key = (head(taken(each, places)) for each in (mirrored(ours, turned), theirs))
            terms.append(patch_nce(query, key, self.weights.temperature))
        return torch.stack(terms).mean()

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Outputs of the inputs of `given`."""
        source = given["source"]
        made = Batch(data=self.make(source).float(), source=source, input=visible(source, self.input_facts))
        if self.paired and "data" in given:
            made["real"] = given["data"]
        return made

    def exportable(self) -> Exportable:
        """The generator."""
        return picture_function(self.generator, self.shape)

    generate = Game.generate
    draw_codes = Game.draw_codes


class PatchHead(nn.Module):
    """H_l (section 3.3): features of places (N, P, C) → (N, P, F) of length 1, by two layers."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, features), nn.ReLU(), nn.Linear(features, features))

    def forward(self, places: Tensor) -> Tensor:
        return F.normalize(precise(self.layers(places)), dim=-1)


def patch_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Eq. 4 of Park et al. 2020, with eq. 3: E[−log(exp(q·k⁺/τ) / Σ exp(q·k/τ))], the sum over all places of one image.

    query, key: (N, P, F) of length 1; a place's partner is the place of the same number, and keys do not move.
    """
    alike = query @ key.detach().transpose(1, 2) / temperature
    partners = torch.arange(alike.shape[1], device=alike.device).expand(len(alike), -1)
    return F.cross_entropy(alike.flatten(0, 1), partners.flatten())


def encoder_maps(generator: nn.Module, images: Tensor) -> list[Tensor]:
    """The maps that are compared (section 3.3): the pixels, after each halving convolution, after two residual blocks.

    Raises UserError for a generator that has no such encoder.
    """
    if not isinstance(generator, ResnetGenerator):
        raise UserError("model.generator.name: the contrast compares maps of a generator named resnet")
    maps, x = [images], images
    for layer in generator.encoder:
        x = layer(x)
        if isinstance(layer, nn.Conv2d) and layer.stride[0] > 1:
            maps.append(x)
    for number, block in enumerate(itertools.islice(generator.blocks, LATE + 1)):
        x = block(x)
        if number in (0, min(LATE, len(generator.blocks) - 1)):
            maps.append(x)
    return maps


def map_channels(generator: nn.Module) -> list[int]:
    """The channels of `encoder_maps`."""
    first = next(generator.parameters())
    training = generator.training
    with torch.no_grad():
        channels = first.shape[1]
        maps = encoder_maps(generator.eval(), torch.zeros(1, channels, 64, 64, device=first.device))
    generator.train(training)
    return [each.shape[1] for each in maps]


def choose_places(maps: Tensor, count: int) -> Tensor:
    """Different random places of maps (N, C, H, W), (N, P) with P at most `count`, as numbers row by row."""
    places = maps.shape[2] * maps.shape[3]
    return chance.uniform(len(maps), places, device=maps.device).topk(min(count, places), dim=1).indices


def taken(maps: Tensor, places: Tensor) -> Tensor:
    """The features of maps (N, C, H, W) at places (N, P): (N, P, C)."""
    flat = maps.flatten(2)
    return flat.gather(2, places[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)


def mirrored(images: Tensor, turned: Tensor | None) -> Tensor:
    """Images or maps (N, C, H, W), those that are `turned` (N,) with left and right exchanged."""
    return images if turned is None else torch.where(turned[:, None, None, None], images.flip(-1), images)
