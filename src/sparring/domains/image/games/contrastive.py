"""ContraGAN and ReACGAN: the discriminator's embedding of a sample is near that of its label, and far from other classes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import pydantic
from torch import Tensor, nn

from sparring.core.contrastive import CONTRASTS, same_label, unit
from sparring.core.game import Batch, DataSpec, Losses
from sparring.core.initialize import initialize
from sparring.core.regularize import spectral_norm
from sparring.domains.image.games.adversarial import ImageGame, ModelOptions, head, look_with_features
from sparring.errors import UserError
from sparring.nn.condition import embed
from sparring.options import choose, resolve_named


class ContrastiveOptions(ModelOptions):
    """`model` of the contrastive game."""

    conditional: Literal[True] = True
    contrast: dict[str, Any] = pydantic.Field({"name": "2c"}, description="the loss of labels, and its own options")
    contrast_weight: float = pydantic.Field(1.0, ge=0)
    embedding: int = pydantic.Field(128, ge=2, description="length of the embeddings of samples and labels")

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The section validated, with the defaults of the networks and of the loss of labels."""
        plain = super().resolve(values)
        plain["contrast"] = resolve_named(CONTRASTS, plain["contrast"], what="contrast", where="model.contrast")
        return plain


class ContrastiveGame(ImageGame):
    """ContraGAN (Kang & Park 2020) and ReACGAN (Kang et al. 2021), which differ in the loss of labels alone.

    The discriminator's logit does not see the label. Beside it, a projection of the features onto the unit sphere is
    compared with the embedding of the label, and with the other samples of the batch: the discriminator minimises that
    loss on real samples, the generator on its own.
    """

    options_model = ContrastiveOptions

    @classmethod
    def build_discriminator(cls, shape: tuple[int, int, int], options: ModelOptions, classes: int) -> nn.Module:
        """The discriminator does not see the label: its features must tell it."""
        return super().build_discriminator(shape, options, 0)

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Add the projection of features, and the embeddings of labels. Raises UserError for values."""
        assert isinstance(options, ContrastiveOptions) and self.label_table is not None
        if self.label_table.kind == "values":
            raise UserError(
                "a contrastive game tells same labels from others, and continuous values are never the same: "
                "train `cgan` or `acgan`"
            )
        own = dict(options.contrast)
        self.contrast = partial(choose(CONTRASTS, own.pop("name"), what="contrast"), **own)
        self.contrast_weight = options.contrast_weight
        self.projection = head(self.discriminator, options.embedding, options)
        self.proxies = nn.Embedding(len(spec.classes), options.embedding)
        initialize(self.proxies, options.initialize)
        if "discriminator" in options.spectral_norm:
            spectral_norm(self.projection)

    def players(self) -> dict[str, nn.Module]:
        """Projection and label embeddings learn with the discriminator."""
        telling = nn.ModuleList([self.discriminator, self.projection, self.proxies])
        return {"discriminator": telling, "generator": self.generator}

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One pass for both."""
        return look_with_features(self.discriminator, samples)

    def add_discriminator_terms(self, losses: Losses, batch: Batch, real: Tensor | None, fake: Tensor | None) -> None:
        """The labels of real samples."""
        losses["contrast"] = self.contrast_weight * self.contrast_loss(real, batch["label"])

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """The labels of fakes."""
        losses["contrast"] = self.contrast_weight * self.contrast_loss(fake, batch["label"])

    def contrast_loss(self, features: Tensor | None, label: Tensor) -> Tensor:
        """The loss of labels on one side of the batch; features: (N, F)."""
        embeddings = unit(self.projection(features))
        return self.contrast(embeddings, unit(embed(self.proxies, label)), same_label(label))
