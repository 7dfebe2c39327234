"""ACGAN: the discriminator also names the class."""

from __future__ import annotations

from typing import Literal

import pydantic
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

    D and G both maximise L_C = E[log P(C=c | x)] over real and fake samples; D maximises and G minimises L_S.
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
        self.classifier = head(self.discriminator, len(spec.classes), options)

    def players(self) -> dict[str, nn.Module]:
        """The head learns with the discriminator."""
        return {"discriminator": nn.ModuleList([self.discriminator, self.classifier]), "generator": self.generator}

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One pass for both heads."""
        return look_with_features(self.discriminator, samples)

    def add_discriminator_terms(self, losses: Losses, batch: Batch, real: Tensor | None, fake: Tensor | None) -> None:
        """The classes of real and of fake samples, which were drawn for the same labels."""
        label = batch["label"]
        real_classes, fake_classes = self.classifier(real).float(), self.classifier(fake).float()
        log_likelihood = functional.cross_entropy(real_classes, label) + functional.cross_entropy(fake_classes, label)
        losses["class"] = self.classifier_weight * log_likelihood
        losses.watch["class_accuracy"] = (real_classes.argmax(1) == label).float().mean()

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """The class of the fakes."""
        losses["class"] = self.classifier_weight * functional.cross_entropy(
            self.classifier(fake).float(), batch["label"]
        )
