"""Inpainting: what was behind a hole, by context encoders, partial convolutions or gated convolutions."""

from __future__ import annotations

from typing import Any

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.game import Batch, DataSpec
from sparring.domains.translation.games.paired import PairedLoss, PairedOptions
from sparring.domains.translation.games.restoring import RestoringGame
from sparring.domains.translation.games.translator import any_size
from sparring.domains.translation.holes import draw_masks, require_kinds
from sparring.errors import UserError
from sparring.imaging.show import to_uint8


class InpaintingLoss(PairedLoss):
    """`loss` of inpainting. `l1` and `l2` are of the finished image, whose known pixels are right; these are of what was painted."""

    hole: float = pydantic.Field(0.0, ge=0, description="weight of the mean absolute difference inside the hole")
    known: float = pydantic.Field(0.0, ge=0, description="weight of the mean absolute difference outside of it")
    coarse: float = pydantic.Field(
        0.0, ge=0, description="weight of the mean absolute difference of the first of two stages, everywhere"
    )
    variation: float = pydantic.Field(
        0.0, ge=0, description="weight of the total variation of the finished image in and around the hole"
    )


class InpaintingOptions(PairedOptions):
    """`model` of inpainting."""

    generator: dict[str, Any] = {"name": "gated"}
    discriminator: dict[str, Any] = {"name": "feature_patch"}
    initialize: dict[str, Any] = {"name": "xavier"}
    sees_source: bool = pydantic.Field(True, description="the discriminator sees the mask beside the image")
    masks: dict[str, float] = pydantic.Field(
        {"free": 1.0},
        description="how often holes are free strokes, a rectangle or the centre, where the data brings no masks",
    )


class InpaintingGame(RestoringGame):
    """Images without their holes. Inputs (N, C + 1, H, W): the image, 0 in the hole, and the mask, 1 in the hole.

    generator: inputs → images, of which the hole is used. discriminator: (finished images, masks) → logits.
    """

    options_model: type[PairedOptions] = InpaintingOptions
    loss_model: type[PairedLoss] = InpaintingLoss
    masks: dict[str, float]
    takes_mask = True
    """Files to restore come with a mask of their holes."""

    def complete(self, options: PairedOptions, spec: DataSpec) -> None:
        """Add the kinds of masks."""
        super().complete(options, spec)
        assert isinstance(options, InpaintingOptions)
        require_kinds(options.masks)
        self.masks = options.masks

    @classmethod
    def channels_of_inputs(cls, spec: DataSpec) -> int:
        """The image's and the mask."""
        return spec.shape[0] + 1

    @classmethod
    def build_discriminator(cls, source: int, shape: tuple[int, int, int], options: PairedOptions) -> nn.Module:
        """The discriminator, initialised; of inputs it sees the mask alone."""
        return super().build_discriminator(min(source, 1), shape, options)

    @property
    def input_channels(self) -> int:
        """The image's and the mask."""
        return self.channels + 1

    def degrade(self, batch: Batch, rng: torch.Generator | None = None) -> Tensor:
        """Images with holes and their masks: those of the data, or drawn."""
        images = batch["data"]
        masks = batch.get("mask")
        if masks is None:
            masks = draw_masks(self.masks, len(images), (images.shape[2], images.shape[3]), images.device, rng)
        return with_holes(images, masks)

    def label(self, batch: Batch) -> Tensor | None:
        """The masks, where the discriminator sees them."""
        return self.source_of(batch)[:, -1:] if self.sees_source else None

    def draw(self, batch: Batch) -> Tensor:
        """Finished images; what each stage painted stays in the batch's memo."""
        source = self.source_of(batch)
        painted = self.painted(source)
        batch.memo["painted"] = painted
        return finished(source, painted[-1])

    def make(self, source: Tensor) -> Tensor:
        """Finished images of inputs, (N, C, H, W): known pixels as they were."""
        made: Tensor = any_size(source, self.stride, self.generator)
        return finished(source, made)

    def painted(self, source: Tensor) -> list[Tensor]:
        """What each stage of the generator paints, everywhere."""
        stages = getattr(self.generator, "stages", None)
        if stages is None or any(side % self.stride for side in source.shape[2:]):
            return [any_size(source, self.stride, self.generator)]
        found: list[Tensor] = stages(source)
        return found

    def distances(self, fake: Tensor, real: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Those of pairs, and differences inside and outside of the hole."""
        parts, weights = super().distances(fake, real, batch), self.weights
        assert isinstance(weights, InpaintingLoss)
        painted: list[Tensor] = batch.memo.pop("painted")
        mask = self.source_of(batch)[:, -1:]
        if weights.hole:
            parts["hole"] = weights.hole * mean_within(mask, (painted[-1] - real).abs())
        if weights.known:
            parts["known"] = weights.known * mean_within(1 - mask, (painted[-1] - real).abs())
        if weights.coarse and len(painted) > 1:
            parts["coarse"] = weights.coarse * F.l1_loss(painted[0], real)
        if weights.variation:
            parts["variation"] = weights.variation * total_variation(fake, mask)
        return parts

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Finished images of the inputs of `given`, or of its images `data` with holes where `mask` is, or where they are drawn.

        Raises UserError for inputs without a mask.
        """
        if "source" in given and given["source"].shape[1] != self.input_channels:
            raise UserError(
                f"inpainting takes {self.input_channels} channels, an image and its mask, and these inputs have "
                f"{given['source'].shape[1]}: give a mask of what is to be painted"
            )
        made = super().translate(given, condition=condition, rng=rng)
        made["data"] = made["data"].clamp(-1, 1)
        made["input"] = holes_shown(made["source"])
        return made

    @staticmethod
    def finish(source: Tensor, made: Tensor) -> Tensor:
        """Finished images of inputs and what was painted."""
        return finished(source, made).clamp(-1, 1)


def with_holes(images: Tensor, masks: Tensor) -> Tensor:
    """Images (N, C, H, W), 0 where masks (N, 1, H, W) are 1, and the masks: (N, C + 1, H, W)."""
    masks = (masks > 0.5).to(images.dtype)
    return torch.cat([images * (1 - masks), masks], dim=1)


def finished(source: Tensor, painted: Tensor) -> Tensor:
    """The known pixels of inputs (N, C + 1, H, W) and, in their holes, what was painted (N, C, H, W)."""
    return torch.where(source[:, -1:] > 0.5, painted, source[:, :-1].to(painted.dtype))


def holes_shown(source: Tensor) -> Tensor:
    """Inputs as pictures for a sheet, uint8, their holes white."""
    return to_uint8(torch.where(source[:, -1:] > 0.5, 1.0, source[:, :-1].float()))


def mean_within(mask: Tensor, values: Tensor) -> Tensor:
    """The mean of values (N, C, H, W) over the places where a mask (N, 1, H, W) is 1; 0 where it is so nowhere."""
    return (values.float() * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1)


def total_variation(images: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in the hole and the pixel around it (Liu et al. 2018, eq. 6).

    images: (N, C, H, W). mask: (N, 1, H, W), 1 in the hole.
    """
    around = F.max_pool2d(mask, 3, 1, 1)
    across = mean_within(around[..., 1:] * around[..., :-1], (images[..., 1:] - images[..., :-1]).abs())
    down = mean_within(around[..., 1:, :] * around[..., :-1, :], (images[..., 1:, :] - images[..., :-1, :]).abs())
    return across + down
