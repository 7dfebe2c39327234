"""The game of many kinds: one generator for every way from one of them to another (StarGAN)."""

from __future__ import annotations

from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core import chance
from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.exportable import Choice, Exportable
from sparring.core.game import Batch, DataSpec, Game, Losses
from sparring.core.initialize import initialize
from sparring.core.labels import Labels
from sparring.core.passes import precise
from sparring.domains.translation.games.cycle import build, picture
from sparring.domains.translation.games.translator import NetworkOptions, any_size
from sparring.domains.translation.networks import DISCRIMINATORS, GENERATORS
from sparring.domains.translation.show import visible
from sparring.errors import UserError
from sparring.nn.condition import append_label
from sparring.options import validate
from sparring.recipe import Recipe


class StarOptions(NetworkOptions):
    """`model` of the game of many kinds."""

    generator: dict[str, Any] = {"name": "star"}
    discriminator: dict[str, Any] = {"name": "star"}


class StarLoss(LossOptions):
    """`loss` of the game of many kinds."""

    adversarial: float = pydantic.Field(1.0, gt=0, description="weight of the adversarial loss")
    classify: float = pydantic.Field(1.0, gt=0, description="λ_cls: weight of what kind an image is told to be")
    cycle: float = pydantic.Field(10.0, ge=0, description="λ_rec: weight of the way there and back")


class StarGame(AdversarialGame):
    """StarGAN (Choi et al. 2018): the generator is told which kind to make of an image, the discriminator tells the kind.

    Minimised (eqs. 5 and 6), c being a kind drawn as often as the data has it and c' the image's own:

        D:  L_adv + classify · E[−log D_cls(c' | x)]
        G:  adversarial · L_adv + classify · E[−log D_cls(c | G(x, c))] + cycle · E‖x − G(G(x, c), c')‖₁

    Batches have `data` and `label`. The kind is read off the discriminator's last maps by a layer that sees them whole.
    """

    weights: StarLoss
    classifier: nn.Module
    shape: tuple[int, int, int]

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks, the loss and its penalties take them."""
        return {"model": StarOptions.resolve(recipe.model), "loss": StarLoss.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build the networks that `model` names. Raises UserError for data that is not of several kinds."""
        options = StarOptions(**validate(StarOptions, recipe.model, where="model"))
        loss = StarLoss(**validate(StarLoss, recipe.loss, where="loss"))
        labels = Labels.of(spec)
        if labels is None or len(labels.names) < 2:
            raise UserError(
                f"recipe {recipe.name!r} translates between kinds of images: give a folder with a folder for each kind, and "
                "data.layout=single"
            )
        shape = (spec.shape[0], spec.shape[1], spec.shape[2])
        game = cls(
            build("generator", GENERATORS, options, shape[0] + len(labels.names), shape),
            build("discriminator", DISCRIMINATORS, options, 0, shape),
            latent=1, loss=loss, turns=recipe.train.turns, steps=recipe.train.steps, labels=labels,
        )  # fmt: skip
        game.weights, game.shape = loss, shape
        game.classifier = whole_map_classifier(game.discriminator, shape, len(labels.names))
        initialize(game.classifier, options.initialize)
        return game

    def players(self) -> dict[str, nn.Module]:
        """The classifier learns with the discriminator, whose maps it reads."""
        return {
            "discriminator": nn.ModuleList([self.discriminator, self.classifier]),
            "generator": self.generator,
        }

    def label(self, batch: Batch) -> Tensor | None:
        """None: the discriminator tells the kind, it is not told."""
        return None

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One pass for both heads: the logits of patches, and those of kinds (N, K)."""
        logits, maps = self.discriminator.look(samples)  # type: ignore[operator]
        return logits, self.classifier(maps[-1][-1])

    def make(self, source: Tensor, kind: Tensor) -> Tensor:
        """Images (N, C, H, W) of any size as images of the kinds (N,)."""

        def generate(images: Tensor) -> Tensor:
            made: Tensor = self.generator(append_label(images, kind, len(self.classes)))
            return made

        return any_size(source, int(getattr(self.generator, "stride", 1)), generate)

    def draw(self, batch: Batch) -> Tensor:
        """The images of `batch` as other kinds, which are remembered for the loss."""
        batch.memo["wanted"] = wanted = chance.choices(self.label_weights, batch.count)
        return self.make(batch["data"], wanted)

    def add_discriminator_terms(self, losses: Losses, batch: Batch, real: Tensor | None, fake: Tensor | None) -> None:
        """Eq. 2: of real images."""
        assert real is not None
        losses["classify"] = self.weights.classify * F.cross_entropy(precise(real), batch["label"])
        losses.watch["classified"] = (real.argmax(1) == batch["label"]).float().mean()

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """Eq. 3: of translated ones."""
        assert fake is not None
        wanted = batch.memo["wanted"]
        losses["classify"] = self.weights.classify * F.cross_entropy(precise(fake), wanted)
        losses.watch["classified"] = (fake.argmax(1) == wanted).float().mean()

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """The adversarial loss, that of the kind, and the way back."""
        fake = batch.memo.pop("fake", None)
        fake = self.draw(batch) if fake is None else fake
        batch.memo["fake"] = fake
        losses = super().generator_loss(batch, step)
        losses["adversarial"] = self.weights.adversarial * losses["adversarial"]
        if self.weights.cycle:
            back = precise(self.make(fake, batch["label"]))
            losses["cycle"] = self.weights.cycle * F.l1_loss(back, batch["data"])
        return losses

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """The images of `given` as other kinds, which are their `label`.

        given: `source`, and `label` beside it, the kind to make of each, where that is known; or `data` as the training data
        has it. condition: the kind to make of each. Where nothing says it, one kind follows on the other.
        """
        source = given["source"] if "source" in given else given["data"]
        if condition is None and "source" in given:
            condition = given.get("label")
        if condition is None:
            condition = torch.arange(len(source), device=source.device) % len(self.classes)
        made = Batch(data=self.make(source, condition.to(source.device)).float(), source=source, input=visible(source))
        made["label"] = condition
        return made

    def exportable(self) -> Exportable:
        """The generator, of an image and the kind that it is to become."""
        return KindFunction(self.generator, picture(self.generator, self.shape), Choice("label", tuple(self.classes)))

    generate = Game.generate
    draw_codes = Game.draw_codes


class KindFunction(Exportable):
    """The generator as a function of images (N, C, H, W) and the kinds to make of them (N,)."""

    def forward(self, source: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]
        """Images of those kinds."""
        kinds = next(len(each.names) for each in self.inputs if isinstance(each, Choice))
        made: Tensor = self.generator(append_label(source, label, kinds))
        return made.float()


def whole_map_classifier(discriminator: nn.Module, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """D_cls (table 5): logits (N, classes) of the last maps of a discriminator of images of `shape`, by one convolution over all.

    Raises UserError for a discriminator that does not give its maps.
    """
    if not hasattr(discriminator, "look"):
        raise UserError("model.discriminator.name: kinds are read off a discriminator's maps: star or patch")
    first = next(discriminator.parameters())
    training = discriminator.training
    with torch.no_grad():
        last = discriminator.eval().look(torch.zeros(1, *shape, device=first.device))[1][-1][-1]  # type: ignore[operator]
    discriminator.train(training)
    kernel = (last.shape[2], last.shape[3])
    return nn.Sequential(nn.Conv2d(last.shape[1], classes, kernel, bias=False), nn.Flatten())
