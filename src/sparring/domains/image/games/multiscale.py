"""Games in which images of all sizes are judged at once: the samples that are played on are packed pyramids."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.core.adversarial import standing
from sparring.core.both_sides import BothSides, PseudoAugmentation
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains.image.games.adversarial import ImageGame, ModelOptions
from sparring.domains.image.networks.lapgan import LapganDiscriminator, LapganGenerator
from sparring.domains.image.networks.msg import MsgDiscriminator, MsgGenerator
from sparring.errors import UserError
from sparring.nn.pyramid import Packing


class MultiscaleGame(ImageGame):
    """MSG-GAN (Karnewar & Wang 2020): the discriminator sees all sizes of a sample that the generator shows of it.

    Real samples are pyramids of averages. The penalties that look between or around samples hold the gradient by each
    size's image on its own (their sec. 3), and move all sizes of a sample alike.
    """

    networks: tuple[type[nn.Module], type[nn.Module]] = (MsgGenerator, MsgDiscriminator)
    named = "msg"

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Look whether the networks play with pyramids. Raises UserError, also for an augmentation of images."""
        if not all(map(isinstance, (self.generator, self.discriminator), self.networks)):
            raise UserError(
                f"this game plays with images of all sizes: it needs model.generator.name={self.named} and "
                f"model.discriminator.name={self.named}"
            )
        self.packing: Packing = self.discriminator.packing  # type: ignore[assignment]
        if self.generator.packing.sizes != self.packing.sizes:  # type: ignore[union-attr]
            raise UserError(
                "model.generator.smallest and model.discriminator.smallest must agree: both networks play with the same sizes"
            )
        if type(self.both_sides) not in (BothSides, PseudoAugmentation):
            raise UserError(
                f"loss.augment.name={self.options.augment['name']} changes images of one size, and this game plays with all "
                "sizes at once: use apa or none, or another recipe"
            )
        self.augment = None  # the consistency penalty, which is of one size too, says that it misses it
        self.parts = tuple(self.packing.lengths)

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """The plain game's, on packed pyramids."""
        packed = Batch(batch, data=self.packing.of(batch["data"]))
        packed.memo = batch.memo
        return super().loss(turn, packed, step)

    def draw(self, batch: Batch) -> Tensor:
        """Fakes of all sizes, packed."""
        fakes: Tensor = self.generator(self.noise(batch.count), self.label(batch), pyramid=True)
        return fakes


class LaplacianGame(MultiscaleGame):
    """LAPGAN (Denton et al. 2015): the pairs of networks of all sizes, each on its own, side by side.

    A size's generator adds detail to real images, enlarged from the size before, and its discriminator tells the result
    from real images of its size (algorithm 1). No pair's loss moves another, so that the mean of their losses is each
    pair's own game. Samples are made from coarse to fine.
    """

    networks = (LapganGenerator, LapganDiscriminator)
    named = "lapgan"

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """The latent is that of all networks together."""
        super().complete(options, spec)
        self.latent = self.generator.latent_size  # type: ignore[assignment]

    def draw(self, batch: Batch) -> Tensor:
        """Fakes of each size, made of the real images of the size before, packed."""
        fakes: Tensor = self.generator(self.noise(batch.count), self.label(batch), real=batch["data"])
        return fakes

    @torch.no_grad()
    def watch(self, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        """How each pair stands, too."""
        figures = super().watch(real_logits, fake_logits)
        for index, (height, width) in enumerate(self.packing.sizes):
            own = standing(real_logits[:, index].float(), fake_logits[:, index].float())
            figures[f"accuracy_{height}x{width}"] = own["accuracy"]
        return figures
