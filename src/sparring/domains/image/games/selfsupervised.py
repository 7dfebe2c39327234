"""FastGAN's game: the discriminator must also be able to draw what it has seen."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparring.core import chance
from sparring.core.game import Batch, DataSpec, Losses
from sparring.domains.image.games.adversarial import ImageGame, ModelOptions, look_with_features
from sparring.domains.image.networks.fastgan import FastganDiscriminator, quarter
from sparring.errors import UserError
from sparring.metrics.perceptual import Lpips, open_lpips
from sparring.nn.resample import resize


class SelfSupervisedOptions(ModelOptions):
    """`model` of the self-supervised game."""

    reconstruction: Literal["l1", "lpips"] = pydantic.Field("l1", description="how drawn and shown images are compared")
    reconstruction_weight: float = pydantic.Field(1.0, ge=0)


class SelfSupervisedGame(ImageGame):
    """FastGAN (Liu et al. 2021, section 3.2): D minimises also E‖G(f) − T(x)‖ over real images (eq. 2).

    f are D's maps, G small decoders, and T cuts and shrinks what D was shown to what they draw: the whole image, and a
    quarter, which is another one for each image. Images are compared by the mean absolute difference, or by LPIPS of
    VGG16 as the authors do, whose weights must then be at hand.
    """

    options_model = SelfSupervisedOptions

    @classmethod
    def build_discriminator(cls, shape: tuple[int, int, int], options: ModelOptions, classes: int) -> nn.Module:
        """The discriminator. Raises UserError for one that cannot draw."""
        discriminator = super().build_discriminator(shape, options, classes)
        if not isinstance(discriminator, FastganDiscriminator):
            name = options.discriminator["name"]
            raise UserError(
                f"model.discriminator.name: this game needs a discriminator that draws: fastgan, not {name!r}"
            )
        return discriminator

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Take how images are compared. Raises UserError where LPIPS cannot compare them."""
        assert isinstance(options, SelfSupervisedOptions)
        self.reconstruction, self.reconstruction_weight = options.reconstruction, options.reconstruction_weight
        if self.reconstruction == "lpips" and spec.shape[0] not in (1, 3):
            raise UserError("model.reconstruction=lpips compares grey and RGB images; for others say l1")
        # In a list it is no part of the game: it is never saved, and drawing samples does not need it.
        self.lpips: list[Lpips] = []

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Logits, and the maps that the decoders draw from."""
        return look_with_features(self.discriminator, samples, label)

    def add_discriminator_terms(self, losses: Losses, batch: Batch, real: Tensor | None, fake: Tensor | None) -> None:
        """The errors of the two drawings of real images."""
        shown: Tensor = batch.memo["shown"]
        corner = chance.integers(0, 2, len(shown), 2, device=shown.device).bool()
        drawings = self.discriminator.reconstruct(real, corner)  # type: ignore[operator]
        targets = shown, quarter(shown, corner)
        errors = [
            self.difference(drawn, resize(target, (drawn.shape[2], drawn.shape[3])))
            for drawn, target in zip(drawings, targets, strict=True)
        ]
        losses["reconstruction"] = self.reconstruction_weight * torch.stack(errors).sum()

    def difference(self, drawn: Tensor, target: Tensor) -> Tensor:
        """How far drawings are from their targets, in the mean, a scalar; images in [−1, 1]."""
        drawn, target = drawn.float(), target.detach().float()
        if self.reconstruction == "l1":
            return functional.l1_loss(drawn, target)
        if not self.lpips:
            self.lpips.append(open_lpips("vgg", device=self.device))
        with torch.autocast(drawn.device.type, enabled=False):
            return self.lpips[0]((drawn + 1) / 2, (target + 1) / 2).mean()
