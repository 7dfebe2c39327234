"""Progressive growing: the game begins with the smallest images, and larger ones come in one size after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import pydantic
from torch import Tensor, nn

from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains.image.games.adversarial import ImageGame, ModelOptions
from sparring.errors import UserError
from sparring.nn.progressive import Growth
from sparring.recipe import Recipe, Section


class GrowthOptions(Section):
    """The recipe's `model.growth` section: when each size comes in."""

    until: float = pydantic.Field(
        0.5,
        ge=0,
        le=1,
        description="share of the run after which the networks are full-grown; 0: they begin full-grown",
    )
    images: int | None = pydantic.Field(
        None, ge=1, description="real images from one size to the next, in place of `until`"
    )
    fade: float = pydantic.Field(0.5, ge=0, le=1, description="share of a size's time in which it fades in")


class GrowingOptions(ModelOptions):
    """`model` of the growing game."""

    growth: GrowthOptions = GrowthOptions()


@dataclass(frozen=True)
class Plan:
    """When a network has grown how far: the first size stands, and then each of `rises` sizes fades in and stands.

    steps: from one size to the next. fade: the share of these in which it fades in.
    """

    rises: int
    steps: float
    fade: float

    def progress(self, step: int) -> float:
        """How far the networks are at a step, as `Growth.progress` counts: whole numbers stand, others fade."""
        standing = (1 - self.fade) * self.steps
        if self.steps <= 0 or step >= self.rises * self.steps:
            return float(self.rises)
        if step < standing:
            return 0.0
        size, since = divmod(step - standing, self.steps)
        # One step on: at a weight of 0 a size would learn nothing.
        weight = min(1.0, (since + 1) / (self.fade * self.steps)) if self.fade else 1.0
        return min(size + weight, float(self.rises))


class GrowingGame(ImageGame):
    """Progressive growing of GANs (Karras et al. 2018, sec. 2): both networks gain a block for each size, which fades in.

    How far they are is a function of the step. What of a batch is shown is at the size in play, so that losses, penalties
    and augmentations work there; samples are drawn at the full size. A size's weights, and what the optimiser remembers
    of them, rest until it comes in; the authors forget the other sizes' moments then too.
    """

    options_model = GrowingOptions
    plan: Plan

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """The networks must be ones that grow. Raises UserError, e.g. where growth is a share of an unknown length."""
        game = super().from_recipe(recipe, spec)
        rises = len(game.growths[0].sizes) - 1
        game.plan = growth_plan(rises, game.growth_options, recipe)
        if game.plan.steps and recipe.train.shard_optimizer:
            raise UserError(
                "train.shard_optimizer counts the steps of all weights together, but those of a growing network join one "
                "size at a time: leave it out, or set model.growth.until=0"
            )
        return game

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Look whether the networks grow."""
        assert isinstance(options, GrowingOptions)
        self.growth_options = options.growth
        self.growths = [growth_of(role, player) for role, player in self.players().items()]

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """The plain game's, at the size that is in play at this step."""
        progress = self.plan.progress(step)
        for growth in self.growths:
            growth.move_to(progress)
        shown = Batch(batch, data=self.growths[0].shown(batch["data"]))
        shown.memo = batch.memo
        losses = super().loss(turn, shown, step)
        losses.watch["growth"] = self.growths[0].progress.clone()
        return losses

    def draw(self, batch: Batch) -> Tensor:
        """Fakes at the size in play."""
        fakes: Tensor = self.generator(self.noise(batch.count), self.label(batch), grown=False)
        return fakes


def growth_plan(rises: int, options: GrowthOptions, recipe: Recipe) -> Plan:
    """When the sizes after the first come in. Raises UserError where the run's length is needed and not known."""
    train = recipe.train
    if options.images is not None:
        steps = options.images / train.batch_size
    elif not options.until or not rises:
        steps = 0.0
    elif train.steps is None:
        raise UserError(
            "model.growth.until is a share of the run, whose length is not known: give train.steps, or model.growth.images"
        )
    else:
        steps = options.until * train.steps / rises
    return Plan(rises, steps, options.fade)


def growth_of(role: str, network: nn.Module) -> Growth:
    """How far a network has grown. Raises UserError for one that does not grow."""
    growth = getattr(network, "growth", None)
    if not isinstance(growth, Growth):
        raise UserError(f"the game 'growing' needs networks that grow: model.{role}.name=progan")
    return growth
