"""InfoGAN: part of the latent is a code that can be told from the sample."""

from __future__ import annotations

from collections.abc import Sequence

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparring.core import chance
from sparring.core.codes import truncate_latents
from sparring.core.exportable import Choice, Exportable, Noise
from sparring.core.game import Batch, DataSpec, Losses
from sparring.core.labels import Labels
from sparring.domains.image.games.adversarial import ImageGame, ModelOptions, build, head, look_with_features
from sparring.domains.image.networks import GENERATORS
from sparring.nn.condition import as_vector


class InformationOptions(ModelOptions):
    """`model` of the InfoGAN game; `latent` counts the noise, to which the codes are added."""

    categories: int = pydantic.Field(10, ge=2, description="values of the categorical code")
    continuous: int = pydantic.Field(2, ge=0, description="number of continuous codes, uniform on [-1, 1]")
    categorical_weight: float = pydantic.Field(
        1.0, ge=0, description="λ of the bound on the categorical code's information"
    )
    continuous_weight: float = pydantic.Field(0.1, ge=0, description="λ for the continuous codes")


class InformationGame(ImageGame):
    """InfoGAN (Chen et al. 2016): part of the latent is a code that the discriminator's features must tell again.

    Both players minimise −λ L_I(G, Q) (eq. 6), the variational bound of the mutual information of code and sample. For
    a categorical code it is a cross-entropy, for continuous ones a Gaussian likelihood of unit variance.
    """

    options_model = InformationOptions

    @classmethod
    def build_generator(cls, shape: tuple[int, int, int], options: ModelOptions, classes: int) -> nn.Module:
        """The generator's latent is the noise and the codes."""
        assert isinstance(options, InformationOptions)
        size = options.latent + options.categories + options.continuous
        return build("generator", GENERATORS, options.generator, options, shape, size, classes)

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Add the head Q that tells the code."""
        assert isinstance(options, InformationOptions)
        self.information = options
        self.recogniser = head(self.discriminator, options.categories + options.continuous, options)

    @property
    def conditions(self) -> Sequence[str]:
        """The classes, or, without labels in the data, the categories that the game found by itself."""
        return self.classes or [str(category) for category in range(self.information.categories)]

    @property
    def labels(self) -> Labels | None:
        """The data's labels where the game is conditional; otherwise the categories are asked for like classes."""
        return self.label_table or Labels(tuple(self.conditions))

    def players(self) -> dict[str, nn.Module]:
        """Q learns with the discriminator, whose features it reads."""
        return {"discriminator": nn.ModuleList([self.discriminator, self.recogniser]), "generator": self.generator}

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One pass for both heads."""
        return look_with_features(self.discriminator, samples, label)

    def codes(
        self, count: int, category: Tensor | None = None, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Categories (count,) and continuous codes (count, K), drawn uniformly."""
        if category is None:
            category = chance.integers(0, self.information.categories, count, device=self.device, rng=rng)
        continuous = chance.uniform(count, self.information.continuous, device=self.device, rng=rng) * 2 - 1
        return category, continuous

    def inputs_for(self, noise: Tensor, category: Tensor, continuous: Tensor) -> Tensor:
        """What the generator is given: noise (N, L), then the category one-hot, or as weights (N, K), then the rest."""
        return torch.cat([noise, as_vector(category, self.information.categories), continuous], dim=1)

    def sample_for(
        self, category: Tensor, continuous: Tensor, label: Tensor | None, rng: torch.Generator | None = None
    ) -> Tensor:
        """Samples whose latents hold these codes."""
        return self.decode(self.inputs_for(self.noise(len(category), rng), category, continuous), label)

    def draw(self, batch: Batch) -> Tensor:
        """Fakes, whose codes are remembered for the loss."""
        batch.memo["codes"] = codes = self.codes(batch.count)
        return self.sample_for(*codes, self.label(batch))

    def sample(self, count: int, label: Tensor | None, rng: torch.Generator | None = None) -> Tensor:
        """Samples with random codes."""
        return self.sample_for(*self.codes(count, None, rng), label, rng)

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: float = 1.0,
    ) -> Batch:
        """Noise and codes as one; without labels in the data, `condition` and `label` are the categorical code.

        Truncation is the noise's alone: the codes are what the user steers by.
        """
        drawn = Batch()
        chosen = None if condition is None else condition.to(self.device)
        if self.conditional:
            drawn["label"], chosen = self.draw_labels(count, rng, chosen), None
        category, continuous = self.codes(count, chosen, rng)
        drawn.setdefault("label", category)
        noise = truncate_latents(self.noise(count, rng), truncation, self.latent_distribution)
        drawn["code"] = self.inputs_for(noise, category, continuous)
        return drawn

    def exportable(self) -> Exportable:
        """The generator, of its noise and its codes apart."""
        latent, *labels = self.inputs()
        size = self.information.continuous
        codes = [Choice("category", tuple(str(category) for category in range(self.information.categories)))]
        continuous = [Noise("continuous", size, "uniform")] if size else []
        return OfCodes(self.generator, latent, *codes, *continuous, *labels)

    def information_loss(self, batch: Batch, features: Tensor | None) -> Tensor:
        """−λ L_I of the fakes in the batch's memo, up to a constant."""
        category, continuous = batch.memo["codes"]
        guess = self.recogniser(features).float()
        categories, values = guess.split([self.information.categories, self.information.continuous], dim=1)
        loss = self.information.categorical_weight * functional.cross_entropy(categories, category)
        if self.information.continuous:
            loss = loss + self.information.continuous_weight * 0.5 * (values - continuous).square().sum(1).mean()
        return loss

    def add_discriminator_terms(self, losses: Losses, batch: Batch, real: Tensor | None, fake: Tensor | None) -> None:
        """Q learns to tell the codes."""
        losses["information"] = self.information_loss(batch, fake)

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """The generator learns to show them."""
        losses["information"] = self.information_loss(batch, fake)


class OfCodes(Exportable):
    """The generator as a function of noise (N, L), categories (N,), continuous codes (N, K) and labels (N,)."""

    def forward(  # type: ignore[override]  # a function of more than the plain one
        self, latent: Tensor, category: Tensor, continuous: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """Samples of the codes."""
        (choice,) = (each for each in self.inputs if isinstance(each, Choice) and each.name == "category")
        parts = [latent, functional.one_hot(category, len(choice.names)).float()]
        return super().forward(torch.cat(parts if continuous is None else [*parts, continuous], dim=1), label)
