"""FastGAN's game: the discriminator must also be able to draw what it has seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparring.core import chance
from sparring.core.game import Batch, DataSpec, Losses
from sparring.domains.image.games.adversarial import ImageGame, ModelOptions, look_with_features
from sparring.domains.image.networks.fastgan import FastganDiscriminator, quarter
from sparring.errors import UserError
from sparring.metrics.perceptual import TOWERS, Lpips, open_lpips
from sparring.metrics.weights import Unavailable
from sparring.nn.resample import resize


class SelfSupervisedOptions(ModelOptions):
    """`model` of the self-supervised game."""

    reconstruction: Literal["l1", "lpips", "auto"] = pydantic.Field(
        "l1", description="how drawn and shown images are compared; auto: by LPIPS where its weights are at hand"
    )
    reconstruction_weight: float = pydantic.Field(1.0, ge=0)


class SelfSupervisedGame(ImageGame):
    """FastGAN (Liu et al. 2021, section 3.2): D minimises also E‖G(f) − T(x)‖ over real images (eq. 2).

    f are D's maps, G small decoders, and T cuts and shrinks what D was shown to what they draw: the whole image, and a
    quarter, which is another one for each image. Images are compared by the mean absolute difference, or by LPIPS of
    VGG16 as the authors do. Which of them it is, is decided before the first step for the whole training, and the
    name of the loss says it: `reconstruction_l1`, `reconstruction_lpips`.
    """

    options_model = SelfSupervisedOptions
    perceptual: Tensor

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
        channels, *size = spec.shape
        smallest = 2 * TOWERS["vgg"].smallest  # for the quarter
        self.fit_for_lpips = channels in (1, 3) and min(size) >= smallest
        if self.reconstruction == "lpips" and not self.fit_for_lpips:
            raise UserError(
                f"model.reconstruction=lpips compares grey and RGB images of at least {smallest} pixels a side; "
                "for others say l1"
            )
        self.register_buffer("perceptual", torch.tensor(False))
        # In a list it is no part of the game: it is never saved, and drawing samples does not need it.
        self.lpips: list[Lpips] = []

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Decide how images are compared. Raises UserError where LPIPS is asked for and its weights are not here."""
        super().prepare(data, progress)
        if self.reconstruction == "l1" or not self.fit_for_lpips:
            return
        try:
            self.open_lpips()
        except Unavailable:
            if self.reconstruction == "lpips":
                raise
        self.perceptual.fill_(bool(self.lpips))

    def open_lpips(self) -> Lpips:
        """The network that compares, opened at its first use. Raises Unavailable where its weights are not here."""
        if not self.lpips:
            self.lpips.append(open_lpips("vgg", device=self.device))
        return self.lpips[0].to(self.device)

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Logits, and the maps that the decoders draw from."""
        return look_with_features(self.discriminator, samples, label)

    def add_discriminator_terms(self, losses: Losses, batch: Batch, real: Tensor | None, fake: Tensor | None) -> None:
        """The errors of the two drawings of real images."""
        shown: Tensor = batch.memo["shown"]
        corner = chance.integers(0, 2, len(shown), 2, device=shown.device).bool()
        drawings = self.discriminator.reconstruct(real, corner)  # type: ignore[operator]
        targets = shown, quarter(shown, corner)
        perceptual = bool(self.perceptual)
        errors = [
            self.difference(drawn, resize(target, (drawn.shape[2], drawn.shape[3])), perceptual)
            for drawn, target in zip(drawings, targets, strict=True)
        ]
        name = "reconstruction_lpips" if perceptual else "reconstruction_l1"
        losses[name] = self.reconstruction_weight * torch.stack(errors).sum()

    def difference(self, drawn: Tensor, target: Tensor, perceptual: bool) -> Tensor:
        """How far drawings are from their targets, in the mean, a scalar; images in [−1, 1]."""
        drawn, target = drawn.float(), target.detach().float()
        if not perceptual:
            return functional.l1_loss(drawn, target)
        with torch.autocast(drawn.device.type, enabled=False):
            return self.open_lpips()((drawn + 1) / 2, (target + 1) / 2).mean()
