"""Super-resolution: SRGAN (Ledig et al. 2017), ESRGAN (Wang et al. 2018), and their generators trained for PSNR alone."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Literal

import pydantic
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sparring.core.exportable import Exportable
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains.translation.games.paired import PairedLoss, PairedOptions
from sparring.domains.translation.games.restoring import RestoringGame
from sparring.domains.translation.games.translator import any_size
from sparring.domains.translation.networks import GENERATORS
from sparring.domains.translation.networks.enlarging import bicubic
from sparring.domains.translation.shrinking import Degradation, cut_to_multiple, degrade_realistically, shrink
from sparring.errors import UserError
from sparring.nn.building import build_network

ENLARGING = ("srresnet", "rrdb")


class SuperResolutionLoss(PairedLoss):
    """`loss` of super-resolution."""

    pretrain_with: Literal["l1", "l2"] = pydantic.Field(
        "l1", description="the one difference that the generator minimises in the first `pretrain_steps`"
    )


class SuperResolutionOptions(PairedOptions):
    """`model` of super-resolution."""

    generator: dict[str, object] = {"name": "srresnet"}
    discriminator: dict[str, object] = {"name": "vgg"}
    sees_source: bool = pydantic.Field(
        False, description="the discriminator sees the input, enlarged, beside what is made from it"
    )
    scale: Literal[2, 3, 4, 8] = pydantic.Field(4, description="how many times as large an output is")
    degradation: Degradation = pydantic.Field(
        "bicubic", description="how inputs are made; realistic: with blur, noise and JPEG in random order"
    )
    interpolation: float = pydantic.Field(
        1.0, ge=0, le=1,
        description="outputs are made with this share of the final weights, and the rest of those from before the adversarial "
        "steps (ESRGAN, sec. 3.4)",
    )  # fmt: skip


class SuperResolutionGame(RestoringGame):
    """Large images from small ones, which are made from the large ones of the data.

    generator: (N, C, h, w) → (N, C, scale·h, scale·w). The weights that it had after `loss.pretrain_steps` are kept beside
    it, as `pretrained`.
    """

    options_model: type[PairedOptions] = SuperResolutionOptions
    loss_model: type[PairedLoss] = SuperResolutionLoss
    degradation: Degradation
    interpolation: float
    pretrained: KeptWeights | None

    @classmethod
    def build_generator(cls, source: int, shape: tuple[int, int, int], options: PairedOptions) -> nn.Module:
        """The generator, initialised. Raises UserError for a size that is no multiple of the scale."""
        assert isinstance(options, SuperResolutionOptions)
        name, scale = options.generator.get("name"), options.scale
        if name in GENERATORS and name not in ENLARGING:
            raise UserError(f"model.generator.name: {name!r} does not enlarge; there are {', '.join(ENLARGING)}")
        if any(side % scale for side in shape[1:]):
            raise UserError(
                f"data.size: {shape[1]}×{shape[2]} pixels are no multiples of model.scale={scale}: say a size that is"
            )
        return build_network(
            "generator", GENERATORS, options.generator, source, shape, scale,
            initializer=options.initialize, spectrally_normalised=options.spectral_norm,
        )  # fmt: skip

    def complete(self, options: PairedOptions, spec: DataSpec) -> None:
        """Add the scale, and room for the weights of the first phase."""
        super().complete(options, spec)
        assert isinstance(options, SuperResolutionOptions)
        self.scale, self.degradation, self.interpolation = options.scale, options.degradation, options.interpolation
        self.pretrained = None
        if self.weights.pretrain_steps and (self.weights.adversarial or self.weights.matching):
            self.pretrained = KeptWeights(self.generator)

    @classmethod
    def channels_of_inputs(cls, spec: DataSpec) -> int:
        """As many as the images have."""
        return spec.shape[0]

    @property
    def input_channels(self) -> int:
        """As many as the images have."""
        return self.channels

    def degrade(self, batch: Batch, rng: torch.Generator | None = None) -> Tensor:
        """Small images (N, C, H/scale, W/scale), of values that a file may have."""
        images = cut_to_multiple(batch["data"].float(), self.scale)
        if self.degradation == "bicubic":
            return shrink(images, self.scale)
        return degrade_realistically(images, self.scale, rng)

    def label(self, batch: Batch) -> Tensor | None:
        """The enlarged input, where the discriminator sees it."""
        return bicubic(self.source_of(batch), self.scale) if self.sees_source else None

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """At first one difference alone; then all parts of the loss."""
        if step >= self.weights.pretrain_steps:
            return super().generator_loss(batch, step)
        assert isinstance(self.weights, SuperResolutionLoss)
        distance = F.l1_loss if self.weights.pretrain_with == "l1" else F.mse_loss
        return Losses({self.weights.pretrain_with: distance(self.draw(batch), batch["data"])})

    def averaged(self) -> dict[str, nn.Module]:
        """The generator, and the weights that it had."""
        kept: dict[str, nn.Module] = {} if self.pretrained is None else {"pretrained": self.pretrained}
        return {**super().averaged(), **kept}

    @torch.no_grad()
    def after_turn(self, turn: Turn, step: int) -> None:
        """Keep the weights of the first phase at its end."""
        super().after_turn(turn, step)
        if self.pretrained is not None and step == self.weights.pretrain_steps - 1 and turn.player == "generator":
            self.pretrained.take(self.generator)

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Large images of the inputs of `given`, made with the weights in between that `model.interpolation` names."""
        made = super().translate(given, condition=condition, rng=rng)
        made["data"] = made["data"].clamp(-1, 1)
        if "real" in made:
            made["real"] = cut_to_multiple(made["real"], self.scale)
        return made

    def exportable(self) -> Exportable | None:
        """The generator with the weights that `translate` makes of those of both phases."""
        function = super().exportable()
        if function is not None and self.pretrained is not None and self.interpolation != 1 and self.pretrained.taken:
            function.generator = deepcopy(self.generator)
            function.generator.load_state_dict(
                interpolated(self.pretrained.weights(), self.generator, self.interpolation)
            )
        return function

    @staticmethod
    def finish(source: Tensor, made: Tensor) -> Tensor:
        """Outputs within [-1, 1]."""
        return made.clamp(-1, 1)

    def make(self, source: Tensor) -> Tensor:
        """Outputs of inputs, (N, C, scale·H, scale·W)."""
        if self.training or self.pretrained is None or self.interpolation == 1 or not self.pretrained.taken:
            return super().make(source)
        weights = interpolated(self.pretrained.weights(), self.generator, self.interpolation)
        made: Tensor = any_size(
            source, self.stride, lambda x: functional_call(self.generator, weights, (x,)), scale=self.scale
        )
        return made


class KeptWeights(nn.Module):
    """The weights of a network as they were once, as buffers: an average over time leaves them as they are."""

    taken: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.names = [*network.state_dict()]
        for number, value in enumerate(network.state_dict().values()):
            self.register_buffer(f"weight{number}", value.clone())
        # Whether these are the network's of that time, and not those it was built with.
        self.register_buffer("taken", torch.tensor(False))

    def weights(self) -> dict[str, Tensor]:
        """By the names that they have in the network."""
        return {name: self.get_buffer(f"weight{number}") for number, name in enumerate(self.names)}

    def take(self, network: nn.Module) -> None:
        """Keep what the weights are now."""
        now = network.state_dict()
        for name, value in self.weights().items():
            value.copy_(now[name])
        self.taken.fill_(True)


def interpolated(first: Mapping[str, Tensor], last: nn.Module, share: float) -> dict[str, Tensor]:
    """θ = (1 − α) θ_first + α θ_last for all weights of a network (Wang et al. 2018, eq. 4). share: α."""
    return {
        name: torch.lerp(first[name].to(value), value, share) if value.is_floating_point() else value
        for name, value in last.state_dict().items()
    }
