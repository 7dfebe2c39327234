"""The game of two directions: from each side to the other, and back to where it began (CycleGAN)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.exportable import Exportable, ImageFunction, Picture
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.core.passes import precise
from sparring.core.replay import Replay
from sparring.core.schedules import balanced_counts, turn_counts
from sparring.domains.translation.games.translator import NetworkOptions, any_size, require_inputs
from sparring.domains.translation.networks import DISCRIMINATORS, GENERATORS
from sparring.domains.translation.show import visible
from sparring.errors import UserError
from sparring.nn.building import build_network
from sparring.options import validate
from sparring.recipe import Recipe, Turns

A2B, B2A = "a2b", "b2a"


class CycleOptions(NetworkOptions):
    """`model` of the game of two directions: both directions' networks are built alike."""

    generator: dict[str, Any] = {"name": "resnet"}
    discriminator: dict[str, Any] = {"name": "patch", "norm": "instance"}


class CycleLoss(LossOptions):
    """`loss` of the game of two directions."""

    adversarial: float = pydantic.Field(1.0, gt=0, description="weight of the adversarial loss of each direction")
    cycle: float = pydantic.Field(10.0, ge=0, description="λ: weight of the way there and back")
    identity: float = pydantic.Field(
        0.0, ge=0, description="weight of how far a generator changes what is on its own side already"
    )
    replay: int = pydantic.Field(
        50, ge=0, description="earlier outputs that the discriminator is shown again; 0: only fresh ones"
    )


class Direction(AdversarialGame):
    """One direction: a generator of one side from the other, and the discriminator of what it makes, which sees no input.

    Batches are the direction's own: `source` is what it starts from, `data` what there is where it goes.
    """

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, shape: tuple[int, ...],
        *, loss: CycleLoss, turns: Turns, steps: int | None,
    ) -> None:  # fmt: skip
        super().__init__(generator, discriminator, latent=1, loss=loss, turns=turns, steps=steps)
        self.replay = Replay(loss.replay, shape)

    def make(self, source: Tensor) -> Tensor:
        """The other side of inputs (N, S, H, W) of any size."""
        return any_size(source, int(getattr(self.generator, "stride", 1)), self.generator)

    def draw(self, batch: Batch) -> Tensor:
        """What the generator has just made of the batch, earlier outputs among it."""
        made = batch.memo["made"] if "made" in batch.memo else self.make(batch["source"])
        return self.replay(made)

    def draw_unseen(self, batch: Batch) -> Tensor:
        """Outputs for the batch, which leave no trace."""
        with torch.no_grad():
            return self.make(batch["source"])

    generate = Game.generate
    draw_codes = Game.draw_codes
    exportable = Game.exportable


class CycleGame(Game):
    """CycleGAN (Zhu et al. 2017): two generators that undo each other, each with a discriminator of its side. No pairs.

    Minimised by both generators (eq. 3, with the identity of section 5.2): for G: A → B, and likewise for F: B → A,

        adversarial · L_GAN(G, D_B) + cycle · E‖F(G(a)) − a‖₁ + identity · E‖G(b) − b‖₁.

    The generators move first, and what they made of the batch is what the discriminators see, so that a step costs one
    pass for it. Batches have `source` on side A and `data` on side B. Condition 0 is from A to B, 1 from B to A.
    """

    def __init__(self, a2b: Direction, b2a: Direction, *, loss: CycleLoss, turns: Turns, steps: int | None) -> None:
        super().__init__()
        self.a2b, self.b2a = a2b, b2a
        self.weights, self.schedule, self.steps = loss, turns, steps

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks, the loss and its penalties take them."""
        return {"model": CycleOptions.resolve(recipe.model), "loss": CycleLoss.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build both directions. Raises UserError, e.g. for data of one side or with label maps."""
        options = CycleOptions(**validate(CycleOptions, recipe.model, where="model"))
        loss = CycleLoss(**validate(CycleLoss, recipe.loss, where="loss"))
        channels = require_inputs(spec, recipe.name, paired=False)
        require_pictures(spec, recipe.name)
        height, width = spec.shape[1:]
        side_a, side_b = (channels, height, width), (spec.shape[0], height, width)
        if loss.identity and side_a != side_b:
            raise UserError(
                f"loss.identity compares what goes in with what comes out, and the sides have {channels} and {spec.shape[0]} "
                "channels: say loss.identity=0, or data.channels and data.input_channels alike"
            )
        turns, steps = recipe.train.turns, recipe.train.steps

        def direction(source: tuple[int, int, int], target: tuple[int, int, int]) -> Direction:
            generator = build("generator", GENERATORS, options, source[0], target)
            discriminator = build("discriminator", DISCRIMINATORS, options, 0, target)
            return Direction(generator, discriminator, target, loss=loss, turns=turns, steps=steps)

        game = cls(direction(side_a, side_b), direction(side_b, side_a), loss=loss, turns=turns, steps=steps)
        game.paired, game.shape = bool(spec.extra.get("paired")), side_a
        return game

    @property
    def directions(self) -> dict[str, Direction]:
        """Both, by name."""
        return {A2B: self.a2b, B2A: self.b2a}

    @property
    def conditions(self) -> Sequence[str]:
        """The directions that there are to ask for."""
        return (A2B, B2A)

    @property
    def reads_labels(self) -> bool:
        """What is asked for is no label of the data."""
        return False

    def players(self) -> dict[str, nn.Module]:
        """Both generators, and both discriminators."""
        return {
            "generator": nn.ModuleDict({name: each.generator for name, each in self.directions.items()}),
            "discriminator": nn.ModuleDict({name: each.discriminator for name, each in self.directions.items()}),
        }

    def turns(self, step: int) -> Sequence[Turn]:
        """The generators', then the discriminators' on the same batch; further ones on new batches."""
        if self.schedule.balance:
            critics, generators = balanced_counts(float((self.a2b.accuracy + self.b2a.accuracy) / 2))
        else:
            critics, generators = turn_counts(self.schedule, step, self.steps)
        return (
            *(Turn("generator") for _ in range(generators)),
            Turn("discriminator", fresh=False),
            *(Turn("discriminator") for _ in range(critics - 1)),
        )

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """The generators' or the discriminators' side of the game, of both directions."""
        a, b = batch["source"], batch["data"]
        own = {A2B: Batch(source=a, data=b), B2A: Batch(source=b, data=a)}
        if turn.player == "generator":
            made = {name: self.directions[name].make(each["source"]) for name, each in own.items()}
            batch.memo["made"] = {name: each.detach() for name, each in made.items()}
            return beside({name: self.generator_loss(name, own[name], made[name], step) for name in own})
        for name, each in batch.memo.pop("made", {}).items():
            own[name].memo["made"] = each
        losses = {name: each.discriminator_loss(own[name], step, False) for name, each in self.directions.items()}
        return beside(losses)

    def generator_loss(self, name: str, batch: Batch, made: Tensor, step: int) -> Losses:
        """What a direction adds to the generators' loss. made: of the `source` of `batch`, with its graph."""
        direction, weights = self.directions[name], self.weights
        source, target = batch["source"], batch["data"]
        batch.memo["fake"] = made
        losses = direction.generator_loss(batch, step)
        losses["adversarial"] = weights.adversarial * losses["adversarial"]
        if weights.cycle:
            losses["cycle"] = weights.cycle * F.l1_loss(precise(self.back(name).make(made)), source)
        if weights.identity:
            losses["identity"] = weights.identity * F.l1_loss(precise(direction.make(target)), target)
        return losses

    def back(self, name: str) -> Direction:
        """The direction that leads back."""
        return self.b2a if name == A2B else self.a2b

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """The other side of `given`, and `cycled`: what becomes of that on the way back, in units and shape of `source`.

        condition: 0 (as where it is None) from A to B, 1 from B to A, one for all. What goes back is the `data` of a batch
        that has both sides, and `source` where that is all there is.
        """
        name = A2B if condition is None else self.conditions[int(condition.flatten()[0])]
        start, goal = ("data", "source") if name == B2A and "data" in given else ("source", "data")
        source = given[start]
        made = self.directions[name].make(source)
        cycled = self.back(name).make(made)
        translated = Batch(data=made.float(), source=source, input=visible(source), cycled=cycled.float())
        if self.paired and goal in given:
            translated["real"] = given[goal]
        return translated

    def exportable(self) -> Exportable:
        """The way from A to B."""
        return picture_function(self.a2b.generator, self.shape)

    paired = False
    """Whether the data has pairs after all: then it is known what should have come of an input."""
    shape: tuple[int, int, int]
    """Of what side A is trained on."""


def beside(losses: Mapping[str, Losses]) -> Losses:
    """The parts and figures of several, each under the name of its own before a slash."""
    parts = {f"{name}/{key}": value for name, each in losses.items() for key, value in each.items()}
    return Losses(parts, {f"{name}/{key}": value for name, each in losses.items() for key, value in each.watch.items()})


def picture_function(generator: nn.Module, shape: tuple[int, int, int]) -> Exportable:
    """A generator as a function of images alone. shape: (C, H, W) of those that it was trained on."""
    return ImageFunction(generator, picture(generator, shape))


def picture(generator: nn.Module, shape: tuple[int, int, int]) -> Picture:
    """What a generator is given, of the size nearest to that of `shape` which it can take as it is."""
    stride = int(getattr(generator, "stride", 1))
    height, width = (max(1, round(side / stride)) * stride for side in shape[1:])
    return Picture("source", shape[0], (height, width), stride)


def build(role: str, table: Mapping[str, type[nn.Module]], options: NetworkOptions, *args: Any) -> nn.Module:
    """A network of a `model` section, initialised. Raises UserError."""
    return build_network(
        role, table, getattr(options, role), *args,
        initializer=options.initialize, spectrally_normalised=options.spectral_norm,
    )  # fmt: skip


def require_pictures(spec: DataSpec, recipe: str) -> None:
    """Raise UserError where the inputs are label maps, which no generator of pictures can make."""
    if spec.extra["input"]["kind"] != "image":
        raise UserError(
            f"recipe {recipe!r} translates pictures both ways, and the inputs are label maps: say --set data.input=image"
        )
