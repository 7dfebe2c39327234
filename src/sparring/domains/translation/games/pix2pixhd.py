"""pix2pixHD (Wang et al. 2018): coarse to fine in stages, discriminators at several scales, features of instances."""

from __future__ import annotations

from functools import partial

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.exportable import Exportable
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains.translation.games.paired import PairedGame, PairedOptions
from sparring.domains.translation.games.translator import any_size
from sparring.domains.translation.networks.pix2pixhd import (
    EnhancedGenerator,
    instance_classes,
    instance_means,
    shrink,
    shrink_numbers,
    spread_out,
    stages,
)
from sparring.errors import UserError


class Stages(pydantic.BaseModel):
    """When the enhancers come in, as shares of `train.steps`."""

    model_config = pydantic.ConfigDict(extra="forbid")

    begin: float = pydantic.Field(
        0.5, ge=0, lt=1, description="until here the global generator learns, at half the size for each enhancer"
    )
    settle: float = pydantic.Field(
        0.2, ge=0, le=1, description="of each enhancer's own part: until here it learns, what comes before it rests"
    )


class EnhancedOptions(PairedOptions):
    """`model` of pix2pixHD."""

    stages: Stages = Stages()


class EnhancedGame(PairedGame):
    """The game on pairs in stages (sec. 3.2): the global generator at a part of the size, then each enhancer, then all.

    Stages are a function of the step, so one run plays them all. Before the last of them the discriminators, whose
    scales (sec. 3.2) are what `model.discriminator.scales` says, judge the smaller images, and so do all other terms.

    Where `model.generator.features` is not 0, the generator is told what each instance looks like (sec. 3.4): in
    training by an encoder of the target, averaged over the instance; afterwards by what instances of its class have looked
    like, so that one input has many outputs. Where the data has no instances, all of one class in an image are one.
    """

    generator: EnhancedGenerator
    options_model = EnhancedOptions
    plan: list[tuple[float, int, bool]]

    @classmethod
    def build_generator(cls, source: int, shape: tuple[int, int, int], options: PairedOptions) -> nn.Module:
        """The generator. Raises UserError for one without stages."""
        generator = super().build_generator(source, shape, options)
        if not isinstance(generator, EnhancedGenerator):
            raise UserError(
                f"model.generator.name: this game needs the generator pix2pixhd, not {options.generator['name']!r}"
            )
        return generator

    def complete(self, options: PairedOptions, spec: DataSpec) -> None:
        """Plan the stages. Raises UserError where there are some and nothing says how long the training is."""
        assert isinstance(options, EnhancedOptions)
        self.plan = [*stages(self.generator.enhancers_count, options.stages.begin, options.stages.settle)]
        if len(self.plan) > 1 and self.steps is None:
            raise UserError("the stages of pix2pixHD are shares of the training, whose length train.steps must say")
        left = min(-(-side // 2 ** (self.generator.enhancers_count - self.plan[0][1])) for side in spec.shape[1:])
        if left < (least := int(getattr(self.discriminator, "smallest", 1))):
            raise UserError(
                f"the first stage shows the discriminators images of {left} pixels a side, and they need {least}: say "
                "fewer model.discriminator.scales, a smaller field, or model.stages.begin=0"
            )
        self.generator.level.fill_(self.plan[0][1])

    def stage(self, step: int) -> tuple[int, bool]:
        """At a step: how many enhancers have a part, and whether the last of them learns alone."""
        share = step / self.steps if self.steps else 1.0
        return next((level, alone) for begin, level, alone in reversed(self.plan) if share >= begin)

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """As of all pairs, on images of the stage's size."""
        level, alone = self.stage(step)
        if "seen" not in batch.memo:
            seen = Batch(batch)
            for _ in range(self.generator.enhancers_count - level):
                seen = Batch({name: smaller(name, each) for name, each in seen.items()})
            batch.memo["seen"] = seen
        seen = batch.memo["seen"]
        seen.memo["stage"] = level, alone
        return super().loss(turn, seen, step)

    @torch.no_grad()
    def after_turn(self, turn: Turn, step: int) -> None:
        """Remember what stage the generator is in: samples are drawn from weights alone."""
        super().after_turn(turn, step)
        self.generator.level.fill_(self.stage(step)[0])

    def draw(self, batch: Batch) -> Tensor:
        """Outputs for the inputs of `batch`, whose instances look as the targets' do where there are features."""
        source = self.source_of(batch)
        level, alone = batch.memo["stage"]
        if self.generator.encoder is not None:
            regions, classes = self.regions(source, batch)
            stride = self.generator.encoder.stride
            means, places = instance_means(any_size(batch["data"], stride, self.generator.encoder), regions)
            batch.memo["instances"] = means, instance_classes(classes, places, len(means))
            source = torch.cat([source, spread_out(means, places).to(source.dtype)], dim=1)
        return self.at_level(source, level, alone=alone)

    def at_level(self, source: Tensor, level: int, *, alone: bool = False) -> Tensor:
        """Outputs of inputs, features among them, at the size of a level."""
        stride = self.generator.coarse.stride * 2**level
        return any_size(source, stride, partial(self.generator, level=level, alone=alone))

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """As of all pairs; what instances look like is remembered."""
        losses = super().generator_loss(batch, step)
        if self.generator.memory is not None:
            self.generator.memory.keep(*batch.memo["instances"])
        return losses

    def regions(self, source: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The instance of each place, (N, H, W), and its class; places without a class are one more."""
        count = self.generator.source
        facts = self.input_facts
        if facts is None or facts["kind"] != "labels":  # a picture has no classes: all of it is one instance
            classes = torch.zeros_like(source[:, 0], dtype=torch.int64)
        else:
            maps = source[:, : len(facts["values"])]
            # Where an input was shrunk, a place has the class of most of it.
            classes = torch.where(maps.amax(1) > 0, maps.argmax(1), count)
        if "instance" not in batch:
            return classes, classes
        numbers = batch["instance"][:, 0].long()
        return classes + (count + 1) * numbers, classes

    @property
    def takes_style(self) -> bool:
        """Whether instances may look as those of an image, `style` beside `source`."""
        return bool(self.generator.features)

    style_of_layout = True
    """An image for `style` shows what the input does, at the same places."""

    def answer(self, source: Tensor, given: Batch, rng: torch.Generator | None) -> Tensor:
        """Outputs at full size; instances look as drawn, or as those of images (N, C, H, W) of the same layout, `style`."""
        generator, size = self.generator, source.shape[2:]
        level = int(generator.level)
        numbers = Batch(instance=given["instance"]) if "instance" in given else Batch()
        style = given.get("style")
        for _ in range(generator.enhancers_count - level):
            source = shrink(source)
            numbers = Batch({name: shrink_numbers(each) for name, each in numbers.items()})
            style = None if style is None else shrink(style)
        if generator.encoder is not None and generator.memory is not None:
            regions, classes = self.regions(source, numbers)
            if style is not None:
                means, places = instance_means(any_size(style, generator.encoder.stride, generator.encoder), regions)
            else:
                found, places = instance_means(torch.zeros_like(source[:, :1]), regions)
                means = generator.memory.draw(instance_classes(classes, places, len(found)), rng)
            source = torch.cat([source, spread_out(means, places).to(source.dtype)], dim=1)
        made = self.at_level(source, level)
        # Until the last enhancer has begun, what there is is shown at the size of what is to come.
        return made if made.shape[2:] == size else F.interpolate(made, size=size, mode="bilinear", align_corners=False)

    def exportable(self) -> Exportable | None:
        """The generator; None where it is told what instances look like, which is no input of what leaves the package."""
        return None if self.generator.features else super().exportable()


def smaller(name: str, values: Tensor) -> Tensor:
    """An entry of a batch at half the size."""
    if values.ndim < 4:
        return values
    return shrink_numbers(values) if name == "instance" else shrink(values)
