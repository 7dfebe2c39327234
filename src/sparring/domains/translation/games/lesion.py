"""Lesions that are put into images, and taken out of them, within a region that a mask says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pydantic
import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core import chance
from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.game import Batch, DataSpec, Game, Losses
from sparring.core.labels import Labels
from sparring.domains.translation.games.translator import NetworkOptions, any_size
from sparring.domains.translation.networks import DISCRIMINATORS, GENERATORS
from sparring.domains.translation.networks.lesion import plane
from sparring.domains.translation.show import visible
from sparring.errors import UserError
from sparring.nn.building import build_network
from sparring.options import validate
from sparring.recipe import Recipe

KINDS = ("add", "remove")
"""What may be asked for: a lesion in the region, or the tissue that would be there without one."""


class LesionLoss(LossOptions):
    """The recipe's `loss` section."""

    reconstruction: float = pydantic.Field(
        10.0, ge=0, description="weight of the mean absolute difference in regions whose content is known"
    )
    kl: float = pydantic.Field(0.01, ge=0, description="weight of the divergence of codes of lesions from N(0, I)")


class LesionOptions(NetworkOptions):
    """`model` of the lesion game."""

    generator: dict[str, Any] = {"name": "lesion"}
    discriminator: dict[str, Any] = {"name": "region"}
    feather: int = pydantic.Field(
        3, ge=1, description="pixels beyond the mask over which what is painted goes over into the image"
    )


class LesionGame(AdversarialGame):
    """Lesions from images with lesions, their masks, and images without; nothing is paired.

    A region is cut out of an image and painted anew from what is around it and a code (as Mirsky et al. 2019 put and
    remove nodules; their networks are paired with their own cuts alone). Four things are painted in a step:

        a lesion in a healthy image, in a region that a lesion has elsewhere        judged beside real lesions
        tissue where a lesion is                                                    judged beside healthy images
        each lesion from its own code, q(z|x) of a variational autoencoder          reconstruction · E|x − x̂| + kl · KL(q‖N(0, I))
        tissue of healthy images in such a region                                   reconstruction · E|x − x̂|

    The discriminator sees region and kind beside an image. What is painted is laid over the image by a feathered mask:
    1 in the mask, falling to 0 over `feather` pixels beyond it. Everything else stays what it was, bit for bit.
    Batches have `data` (with lesions), `mask` (theirs) and `source` (without).
    """

    loss_model = LesionLoss
    weights: LesionLoss
    feather: int
    takes_mask = True

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks, the loss and its penalties take them."""
        return {"model": LesionOptions.resolve(recipe.model), "loss": LesionLoss.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build the networks that `model` names. Raises UserError for data without masks or without healthy images."""
        options = LesionOptions(**validate(LesionOptions, recipe.model, where="model"))
        loss = LesionLoss(**validate(LesionLoss, recipe.loss, where="loss"))
        shape = (spec.shape[0], spec.shape[1], spec.shape[2])
        found = spec.extra.get("input")
        if not found or found["kind"] != "image" or found["channels"] != shape[0] or "mask" not in spec.extra["roles"]:
            raise UserError(
                f"recipe {recipe.name!r} learns from images with lesions, masks of these, and images without: give a folder "
                "of three, data.layout=sides, data.sides=[HEALTHY, LESIONS] and data.mask=MASKS, whose files are named as the lesions'"
            )
        windows = spec.extra.get("windows", {})
        if windows.get("input") != windows.get("output"):
            raise UserError(
                f"recipe {recipe.name!r} paints one kind of scan into the other, and each has a window of its own "
                f"({windows.get('input')} and {windows.get('output')}): say data.window=[LOW, HIGH] for both"
            )
        shared = {"initializer": options.initialize, "spectrally_normalised": options.spectral_norm}
        game = cls(
            build_network("generator", GENERATORS, options.generator, shape[0], shape, **shared),  # type: ignore[arg-type]
            build_network("discriminator", DISCRIMINATORS, options.discriminator, 2, shape, **shared),  # type: ignore[arg-type]
            latent=int(options.generator.get("code", 8)),
            loss=loss,
            turns=recipe.train.turns,
            steps=recipe.train.steps,
        )
        game.weights, game.feather, game.channels = loss, options.feather, shape[0]
        return game

    channels: int

    @property
    def input_channels(self) -> int:
        """Of what files are read as: an image without its region, and the region."""
        return self.channels + 1

    @property
    def conditions(self) -> Sequence[str]:
        """What may be asked for."""
        return KINDS

    @property
    def labels(self) -> Labels:
        """What may be asked for; the data's own labels have no part."""
        return Labels(KINDS)

    @property
    def reads_labels(self) -> bool:
        """It does not."""
        return False

    @property
    def stride(self) -> int:
        """What the sides of images must be multiples of; others are continued by mirroring."""
        return int(self.generator.stride)  # type: ignore[arg-type]

    def discriminator_loss(self, batch: Batch, step: int, keep_fakes: bool) -> Losses:
        """Real lesions and healthy images, beside lesions that were put in and places where they were taken out."""
        return super().discriminator_loss(both_ways(batch), step, keep_fakes)

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """What the discriminator says, and how well lesions and tissue that are known come back."""
        ways = both_ways(batch)
        losses = super().generator_loss(ways, step)
        mean, variance = self.generator.encode(ways["data"], self.region(ways["mask"]))  # type: ignore[operator]
        code = mean + (0.5 * variance).exp() * chance.normal_like(mean)
        lesions = (ways["kind"] == 1)[:, None]
        # Tissue needs no code of its own: what is around it says nearly all.
        again = self.paint(ways["data"], ways["mask"], ways["kind"], torch.where(lesions, code, self.noise(ways.count)))
        cover = feathered(ways["mask"], self.feather)
        missed = ((again - ways["data"]).abs() * cover).mean(1).sum((1, 2)) / cover.sum((1, 2, 3)).clamp(min=1)
        number = batch.count
        losses["lesion"] = self.weights.reconstruction * missed[:number].mean()
        losses["tissue"] = self.weights.reconstruction * missed[number:].mean()
        if self.weights.kl:
            losses["kl"] = self.weights.kl * divergence(mean[:number], variance[:number])
        return losses

    def label(self, batch: Batch) -> Tensor:
        """What the discriminator sees beside images: their region, and what is said to be in it."""
        region = self.region(batch["mask"])
        return torch.cat([region, plane(batch["kind"], region)], dim=1)

    def draw(self, batch: Batch) -> Tensor:
        """The other images of `batch`, with what its own have in their regions."""
        return self.paint(batch["other"], batch["mask"], batch["kind"], self.noise(batch.count))

    def region(self, mask: Tensor) -> Tensor:
        """Everywhere that is painted, (N, 1, H, W): 1 there, 0 elsewhere."""
        return (feathered(mask, self.feather) > 0).to(mask.dtype)

    def paint(self, images: Tensor, mask: Tensor, kind: Tensor, code: Tensor) -> Tensor:
        """Images (N, C, H, W) of any size with their region painted anew; kind (N,): 1 a lesion, 0 tissue. code (N, L)."""
        cover = feathered(mask, self.feather)
        region = (cover > 0).to(images.dtype)

        def painted(whole: Tensor) -> Tensor:
            made: Tensor = self.generator(whole[:, :-1], whole[:, -1:], kind, code)
            return made

        made = any_size(torch.cat([images * (1 - region), region], dim=1), self.stride, painted)
        return torch.where(cover > 0, images * (1 - cover) + made.to(images.dtype) * cover, images)

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Images with a lesion in their mask, or without what is there.

        given: `source` (N, C, H, W) and `mask` (N, 1, H, W), or `source` (N, C + 1, H, W) with the mask as its last channel.
        Of a batch of data (`data` is there too) lesions are put into `source` and taken out of `data`. condition: numbers
        (N,) into `KINDS`; None puts lesions in. Raises UserError for images without a mask.
        """
        source = given["source"]
        if source.shape[1] == self.input_channels:
            source, mask = source[:, :-1], source[:, -1:]
        elif "mask" in given:
            mask = given["mask"]
        else:
            raise UserError("a lesion is put, or taken out, where a mask says: give one beside each image")
        removes = torch.zeros(len(source), device=source.device) if condition is None else condition.float()
        if "data" in given:
            source = torch.where(removes[:, None, None, None] == 1, given["data"], source)
        code = self.noise(len(source), rng)
        made = Batch(data=self.paint(source, mask, 1 - removes, code).float(), source=source, input=visible(source))
        made["mask"] = mask
        return made

    def exportable(self) -> None:
        """Nothing: what is painted is laid over the image outside of the network."""
        return

    generate = Game.generate
    draw_codes = Game.draw_codes


def both_ways(batch: Batch) -> Batch:
    """Lesions and healthy images in one batch of twice the count, for the same turns.

    data: real ones; kind: 1 with a lesion, 0 without; other: images of the other kind; mask: the lesions' for both.
    """
    lesion, healthy, mask = batch["data"], batch["source"], batch["mask"]
    kind = torch.ones(len(lesion), device=lesion.device)
    ways = Batch(
        data=torch.cat([lesion, healthy]),
        other=torch.cat([healthy, lesion]),
        mask=torch.cat([mask, mask]),
        kind=torch.cat([kind, 1 - kind]),
    )
    ways.memo = batch.memo
    return ways


def feathered(mask: Tensor, pixels: int) -> Tensor:
    """A mask (N, 1, H, W) of 0 and 1, falling from 1 in it to 0 at `pixels` beyond it, smoothly; exactly 0 farther away.

    Twice the mean over a square of 2·pixels + 1, at most 1: half of such a square lies in the mask at its (straight) edge.
    """
    size = 2 * pixels + 1
    blurred = F.avg_pool2d(mask, size, 1, pixels)
    return torch.maximum(mask, (2 * blurred).clamp(max=1))


def divergence(mean: Tensor, variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) = ½ Σ (σ² + μ² − 1 − log σ²), mean over samples (Kingma & Welling 2014, app. B).

    mean, variance: (N, L), the second as its logarithm.
    """
    return 0.5 * (variance.exp() + mean.square() - 1 - variance).sum(1).mean()


__all__ = ["KINDS", "LesionGame", "LesionLoss", "LesionOptions", "both_ways", "divergence", "feathered"]
