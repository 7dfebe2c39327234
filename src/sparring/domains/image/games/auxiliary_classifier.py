"""ACGAN: the discriminator also tells the label."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparring.core.game import Batch, DataSpec, Losses
from sparring.domains.image.games.adversarial import ImageGame, ModelOptions, head, look_with_features


class AuxiliaryClassifierOptions(ModelOptions):
    """`model` of the auxiliary-classifier game."""

    conditional: Literal[True] = True
    classifier_weight: float = pydantic.Field(1.0, ge=0)


class AuxiliaryClassifierGame(ImageGame):
    """ACGAN (Odena et al. 2017): the discriminator also names the class, and both players want it named right.

    D and G both maximise L_C = E[log P(C=c | x)] over real and fake samples; D maximises and G minimises L_S. Attributes
    and values are told in the same way, by the likelihood that fits them.
    """

    options_model = AuxiliaryClassifierOptions

    @classmethod
    def build_discriminator(cls, shape: tuple[int, int, int], options: ModelOptions, classes: int) -> nn.Module:
        """The discriminator does not see the label: it must tell it."""
        return super().build_discriminator(shape, options, 0)

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Add the classifier head."""
        assert isinstance(options, AuxiliaryClassifierOptions)
        self.classifier_weight = options.classifier_weight
        assert self.label_table is not None  # `conditional` is always true
        self.kind = self.label_table.kind
        self.classifier = head(self.discriminator, len(spec.classes), options)

    def players(self) -> dict[str, nn.Module]:
        """The head learns with the discriminator."""
        return {"discriminator": nn.ModuleList([self.discriminator, self.classifier]), "generator": self.generator}

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One pass for both heads."""
        return look_with_features(self.discriminator, samples)

    def add_discriminator_terms(self, losses: Losses, batch: Batch, real: Tensor | None, fake: Tensor | None) -> None:
        """The labels of real and of fake samples, which were drawn for the same ones."""
        label = batch["label"]
        told_real, told_fake = self.classifier(real).float(), self.classifier(fake).float()
        losses["class"] = self.classifier_weight * (
            self.label_loss(told_real, label) + self.label_loss(told_fake, label)
        )
        losses.watch |= self.label_figures(told_real, label)

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """The label of the fakes."""
        losses["class"] = self.classifier_weight * self.label_loss(self.classifier(fake).float(), batch["label"])

    def label_loss(self, told: Tensor, label: Tensor) -> Tensor:
        """−log P(label | x) up to a constant, the mean over the batch.

        told: (N, K). label: classes (N,) or their shares (N, K): cross-entropy. Attributes (N, K): the mean of K binary
        cross-entropies. Values (N, K): half the mean square error, a Gaussian of unit variance.
        """
        if self.kind == "attributes":
            return functional.binary_cross_entropy_with_logits(told, label)
        if self.kind == "values":
            return 0.5 * functional.mse_loss(told, label)
        return functional.cross_entropy(told, label)

    @torch.no_grad()
    def label_figures(self, told: Tensor, label: Tensor) -> dict[str, Tensor]:
        """How well real samples' labels are told: the share of classes or attributes, or of the values' variance."""
        if self.kind == "attributes":
            return {"attribute_accuracy": ((told > 0) == (label > 0.5)).float().mean()}
        if self.kind == "values":
            # Values have variance 1 over the data, so this is R² up to the batch's luck.
            return {"value_r2": 1 - functional.mse_loss(told, label)}
        number = label.argmax(1) if label.is_floating_point() else label
        return {"class_accuracy": (told.argmax(1) == number).float().mean()}
