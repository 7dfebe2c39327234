"""Colour for grey photographs: the lightness is given, the generator says the two colours of CIE Lab."""

from __future__ import annotations

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.game import Batch, DataSpec
from sparring.domains.translation.colour import grey_of, lab_of, rgb_of
from sparring.domains.translation.games.paired import PairedLoss, PairedOptions
from sparring.domains.translation.games.restoring import RestoringGame
from sparring.domains.translation.games.translator import any_size
from sparring.errors import UserError

RANGE = 110.0
"""What the generator's ±1 means in units of a and b, which no sRGB colour leaves."""


class ColouringLoss(PairedLoss):
    """`loss` of colouring."""

    chroma: float = pydantic.Field(
        0.0, ge=0, description="weight of the mean absolute difference of a and b, in units of 110"
    )


class ColouringGame(RestoringGame):
    """Photographs (N, 3, H, W) from grey ones (N, 1, H, W) of the same lightness L*.

    generator: grey → (N, 2, H, W) in [-1, 1], a and b in units of `RANGE`. The discriminator sees RGB, which is made
    differentiably of L*, a and b, beside the grey image. Outputs have the lightness of their inputs, as far as sRGB has such a
    colour: what lies outside of its gamut is clipped, in outputs and not in training, where clipping would stop the gradient.
    """

    options_model: type[PairedOptions] = PairedOptions
    loss_model: type[PairedLoss] = ColouringLoss

    @classmethod
    def channels_of_inputs(cls, spec: DataSpec) -> int:
        """One. Raises UserError for data without colour."""
        if spec.shape[0] != 3:
            raise UserError(
                f"colour is learnt from images with colour, and these have {spec.shape[0]} channels: say data.channels=3"
            )
        return 1

    @classmethod
    def build_generator(cls, source: int, shape: tuple[int, int, int], options: PairedOptions) -> nn.Module:
        """The generator of two colours, initialised."""
        return super().build_generator(source, (2, *shape[1:]), options)

    @property
    def input_channels(self) -> int:
        """One: grey."""
        return 1

    def degrade(self, batch: Batch, rng: torch.Generator | None = None) -> Tensor:
        """Grey images of the same lightness, (N, 1, H, W)."""
        return grey_of(batch["data"])

    def draw(self, batch: Batch) -> Tensor:
        """Photographs; their a and b stay in the batch's memo."""
        source = self.source_of(batch)
        colours = self.colours(source)
        batch.memo["colours"] = colours
        return coloured(source, colours)

    def colours(self, source: Tensor) -> Tensor:
        """The a and b of grey images, in units of `RANGE`."""
        made: Tensor = any_size(source, self.stride, self.generator)
        return made

    def make(self, source: Tensor) -> Tensor:
        """Photographs of grey images, in [-1, 1]."""
        return self.finish(source, self.colours(source))

    @staticmethod
    def finish(source: Tensor, made: Tensor) -> Tensor:
        """Photographs of grey images and their colours as `colours` gives them."""
        return coloured(source, made).clamp(-1, 1)

    def distances(self, fake: Tensor, real: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Those of pairs, and that of the colours."""
        parts = super().distances(fake, real, batch)
        colours: Tensor = batch.memo.pop("colours")
        assert isinstance(self.weights, ColouringLoss)
        if self.weights.chroma:
            wanted = lab_of(real)[:, 1:] / RANGE
            parts["chroma"] = self.weights.chroma * F.l1_loss(colours.float(), wanted)
        return parts


def coloured(grey: Tensor, colours: Tensor) -> Tensor:
    """RGB (N, 3, H, W) around [-1, 1] of the lightness of grey images (N, 1, H, W) and of a, b in units of `RANGE`."""
    lightness = lab_of(grey.expand(-1, 3, -1, -1))[:, :1]
    return rgb_of(torch.cat([lightness, colours.float() * RANGE], dim=1))
