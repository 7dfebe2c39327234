"""SPADE, GauGAN (Park et al. 2019): a label map modulates every layer, and a code says in which style."""

from __future__ import annotations

from functools import partial

import pydantic
import torch
from torch import Tensor, nn

from sparring.core import chance
from sparring.core.exportable import Exportable, Noise
from sparring.core.game import Batch
from sparring.domains.translation.games.bicycle import Coded, divergence
from sparring.domains.translation.games.paired import PairedGame, PairedLoss, PairedOptions
from sparring.domains.translation.games.translator import any_size
from sparring.domains.translation.networks.spade import SpadeGenerator
from sparring.errors import UserError


class SpadeLoss(PairedLoss):
    """The recipe's `loss` section."""

    kl: float = pydantic.Field(
        0.05, ge=0, description="weight of the divergence of styles from N(0, I), where the generator takes a code"
    )


class SpadeGame(PairedGame):
    """The game on pairs, whose generator may take a style: of the target in training, drawn or lent afterwards.

    Where `model.generator.code` is not 0, generator and encoder are a variational autoencoder given the label map
    (sec. 3, "Multi-modal synthesis"; Kingma & Welling 2014): the code is drawn from the encoder's normal distribution of
    the target's style, which the loss holds near N(0, I).
    """

    generator: SpadeGenerator
    loss_model = SpadeLoss
    weights: SpadeLoss

    @classmethod
    def build_generator(cls, source: int, shape: tuple[int, int, int], options: PairedOptions) -> nn.Module:
        """The generator. Raises UserError for one that is not modulated."""
        generator = super().build_generator(source, shape, options)
        if not isinstance(generator, SpadeGenerator):
            raise UserError(
                f"model.generator.name: this game needs the generator spade, not {options.generator['name']!r}"
            )
        return generator

    @property
    def takes_style(self) -> bool:
        """Whether outputs may be given the look of an image, `style` beside `source`."""
        return bool(self.generator.code)

    def draw(self, batch: Batch) -> Tensor:
        """Outputs for the inputs of `batch`, in the style of its targets where there are styles."""
        source = self.source_of(batch)
        if not self.generator.code:
            return self.make(source)
        mean, log_variance = batch.memo["style"] = self.generator.encode(batch["data"])
        return self.in_style(source, mean + (0.5 * log_variance).exp() * chance.normal_like(mean))

    def in_style(self, source: Tensor, code: Tensor) -> Tensor:
        """Outputs of inputs, in the styles of codes (N, code)."""
        return any_size(source, self.stride, partial(self.generator, code=code))

    def distances(self, fake: Tensor, real: Tensor, batch: Batch) -> dict[str, Tensor]:
        """As of all pairs, and of the styles from N(0, I)."""
        parts = super().distances(fake, real, batch)
        if self.generator.code and self.weights.kl:
            parts["kl"] = self.weights.kl * divergence(*batch.memo["style"])
        return parts

    def answer(self, source: Tensor, given: Batch, rng: torch.Generator | None) -> Tensor:
        """Outputs of styles that are drawn, unless `given` has a `code` (N, code), or images (N, C, H, W) as `style`."""
        if not self.generator.code:
            return self.make(source)
        if "code" in given:
            code = given["code"]
        elif "style" in given:
            code, _ = self.generator.encode(given["style"])
        else:
            code = chance.normal(len(source), self.generator.code, device=self.device, rng=rng)
        return self.in_style(source, code)

    def exportable(self) -> Exportable | None:
        """The generator, of label maps, and of codes where there are styles."""
        plain = super().exportable()
        if plain is None or not self.generator.code:
            return plain
        return Coded(self.generator, *plain.inputs, Noise("code", self.generator.code))
