"""MedGAN (Armanious et al. 2020): pairs, compared in the discriminator's maps and by content and style in a frozen network's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.game import DataSpec
from sparring.domains.translation.games.paired import PairedGame, PairedLoss, PairedOptions
from sparring.imaging.perceptual import PerceptualNetwork, gram, network_at_hand, perceptual_loss


class MedganLoss(PairedLoss):
    """The recipe's `loss` section: that of games on pairs, and content; `style` is as MedGAN has it.

    The paper's perceptual loss is `matching` and `l1` of one weight: it counts the raw images as the discriminator's
    first map.
    """

    content: float = pydantic.Field(
        0.0, ge=0, description="weight of the mean squared difference from the target in the maps of a frozen network"
    )

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """As `PairedLoss`; the content loss too needs the frozen network."""
        plain = super().resolve(values)
        if plain["content"]:
            plain["perceptual_network"] = network_at_hand(plain["perceptual_network"])
        return plain


class MedganGame(PairedGame):
    """The game on pairs with MedGAN's non-adversarial losses."""

    loss_model = MedganLoss
    weights: MedganLoss

    def complete(self, options: PairedOptions, spec: DataSpec) -> None:
        """The frozen network, where content alone needs it."""
        if self.weights.content and self.perceptual is None:
            shape = (spec.shape[0], spec.shape[1], spec.shape[2])
            self.perceptual = PerceptualNetwork(self.weights.perceptual_network, shape)

    def distances_of_maps(
        self, real: Sequence[Tensor], fake: Sequence[Tensor], shares: Sequence[float]
    ) -> dict[str, Tensor]:
        """Content and style, and what games on pairs compare besides."""
        weights, parts = self.weights, {}
        if weights.perceptual:
            parts["perceptual"] = weights.perceptual * perceptual_loss(real, fake, shares)
        if weights.content:
            parts["content"] = weights.content * content_loss(real, fake)
        if weights.style:
            parts["style"] = weights.style * style_loss(real, fake)
        return parts


def content_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Σᵢ ‖Vᵢ(x) − Vᵢ(x̂)‖²_F / (hᵢ·wᵢ·dᵢ) over the maps Vᵢ of a frozen network (Armanious et al. 2020, content loss), mean over samples.

    real, fake: maps (N, d, h, w) of targets and outputs. Returns a scalar.
    """
    return torch.stack(
        [F.mse_loss(mine.float(), theirs.float()) for theirs, mine in zip(real, fake, strict=True)]
    ).sum()


def style_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Σᵢ ‖Gr(Vᵢ(x)) − Gr(Vᵢ(x̂))‖²_F / (4·dᵢ²) of Gram matrices over h·w·d (Armanious et al. 2020, style loss), mean over samples."""
    terms = [
        (gram(mine) - gram(theirs)).square().sum((1, 2)).mean() / (4 * mine.shape[1] ** 2)
        for theirs, mine in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).sum()
