"""The game of style-based generators: mixed styles, regularised path lengths, and codes to steer by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, cast

import pydantic
import torch
from torch import Tensor, nn

from sparring.core import chance, processes
from sparring.core.codes import Truncation, pull_to_mean
from sparring.core.compiled import eager
from sparring.core.exportable import Exportable, Input
from sparring.core.game import Batch, DataSpec, Losses
from sparring.core.passes import part_size, spaced
from sparring.core.second_order import SecondOrder
from sparring.domains.image.games.adversarial import ImageGame, ModelOptions
from sparring.errors import UserError
from sparring.recipe import Section


class Styled(Protocol):
    """A generator with styles: a code for each of its `layers`."""

    layers: int
    mapping: Callable[..., Tensor]
    """Latent (N, L), label (N,) or (N, K) → codes (N, W)."""
    synthesis: Callable[..., Tensor]
    """Codes (N, layers, W), noise `random` or `constant` → images (N, C, H, W)."""

    @property
    def mean_code(self) -> Tensor:
        """Where codes lie on average, (W,)."""


class PathLength(Section):
    """Path-length regularisation (Karras et al. 2020, sec. 3.2): all steps in code space shall move images equally far."""

    weight: float = pydantic.Field(2.0, ge=0, description="0: none")
    every: int = pydantic.Field(4, ge=1, description="steps between plays; each is weighted as many times")
    share: float = pydantic.Field(0.5, gt=0, le=1, description="of the batch")
    decay: float = pydantic.Field(0.01, gt=0, le=1, description="share of a new length in their moving average")


class StyledOptions(ModelOptions):
    """`model` of a style-based game."""

    style_mixing: float = pydantic.Field(0.9, ge=0, le=1, description="probability that a sample has two latents")
    path_length: PathLength = PathLength()


class StyledGame(ImageGame):
    """StyleGAN2 (Karras et al. 2020): codes of a mapping network, one for each layer of a synthesis network.

    The generator is `Styled`. In training a sample may have two codes, the coarse layers' and the fine layers', and noise inputs
    are drawn; samples that are asked for have one code each and constant noise.

    path_mean: the moving average of path lengths, which each length is drawn to.
    """

    options_model = StyledOptions
    path_mean: Tensor

    def complete(self, options: ModelOptions, spec: DataSpec) -> None:
        """Take over the options of styles. Raises UserError for a generator without styles."""
        assert isinstance(options, StyledOptions)
        if not all(hasattr(self.generator, part) for part in ("mapping", "synthesis", "layers", "mean_code")):
            name = options.generator.get("name")
            raise UserError(
                f"model.generator: {name!r} has no styles for the game `styled`; take one that has: stylegan2, stylegan3"
            )
        self.mixing, self.path = options.style_mixing, options.path_length
        self.register_buffer("path_mean", torch.zeros(()))

    @property
    def styled(self) -> Styled:
        """The generator."""
        return cast(Styled, self.generator)

    def generator_loss(self, batch: Batch, step: int) -> Losses:
        """The adversarial loss, and the path lengths where it is their turn."""
        losses = super().generator_loss(batch, step)
        if self.path.weight and step % self.path.every == 0:
            lengths = self.path_lengths(batch)
            mean = self.path_mean.lerp(processes.mean(lengths.mean()), self.path.decay)
            self.path_mean.copy_(mean.detach())
            losses["path_length"] = self.path.weight * self.path.every * (lengths - mean).square().mean()
            losses.watch["path_length"] = lengths.detach().mean()
        return losses

    def path_lengths(self, batch: Batch) -> Tensor:
        """‖Jᵀy‖ for new samples, as many as the share says, (n,): J the images' derivatives by the codes, y ~ N(0, I) / √(H·W).

        As in the authors' code the square is the mean over layers, each with its own code. In float32: half precision loses
        second derivatives.
        """
        label, count = self.label(batch), part_size(batch.count, self.path.share)
        with torch.autocast(self.device.type, enabled=False):
            with eager(), SecondOrder() as order:
                codes = self.draw_styles(count, None if label is None else spaced(label, count))
                images = self.styled.synthesis(codes, "random")
                direction = chance.normal_like(images) / math.sqrt(images[0, 0].numel())
                along = (images * direction).sum(dim=(1, 2, 3))
            slopes = order.gradient(along, codes)
            # The root's slope at 0 is infinite.
            return (slopes.square().sum(dim=2).mean(dim=1) + 1e-12).sqrt()

    def draw_styles(self, count: int, label: Tensor | None, rng: torch.Generator | None = None) -> Tensor:
        """Codes as training wants them, (count, layers, W): mixed from two latents (Karras et al. 2019, sec. 3.1).

        A sample's first latent steers its layers up to a random one, and the second one those from there on.
        """
        codes = self.spread(self.styled.mapping(self.noise(count, rng), label))
        if not self.mixing:
            return codes
        others = self.spread(self.styled.mapping(self.noise(count, rng), label))
        layers = codes.shape[1]
        crossing = chance.integers(1, layers, count, device=codes.device, rng=rng)
        mixed = chance.uniform(count, device=codes.device, rng=rng) < self.mixing
        until = torch.where(mixed, crossing, layers)
        return torch.where((torch.arange(layers, device=codes.device) < until[:, None])[..., None], codes, others)

    def spread(self, codes: Tensor) -> Tensor:
        """The same code for each layer: (N, W) → (N, layers, W)."""
        return codes[:, None].expand(-1, self.styled.layers, -1)

    def sample(self, count: int, label: Tensor | None, rng: torch.Generator | None = None) -> Tensor:
        """Samples as training wants them: mixed styles, drawn noise."""
        return self.styled.synthesis(self.draw_styles(count, label, rng), "random")

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: Truncation = 1.0,
        layers: int | None = None,
    ) -> Batch:
        """Codes (count, layers, W) as `code`, and their `label` where the game is conditional.

        truncation: ψ, one number, or one for each layer: codes are pulled towards the mean code; in the first `layers`
        layers alone where that is given. Raises UserError where there are not as many numbers as layers.
        """
        drawn = super().draw_codes(count, condition=condition, rng=rng)
        codes = self.spread(self.styled.mapping(drawn["code"], self.label(drawn)))
        return Batch({**drawn, "code": pull_to_mean(codes, self.styled.mean_code, truncation, layers)})

    def render(self, codes: Batch) -> Batch:
        """The samples of codes, with the constant noise, as `data`."""
        images = self.styled.synthesis(codes["code"], "constant").float()
        return Batch({"data": images, **{name: value for name, value in codes.items() if name != "code"}})

    def exportable(self) -> Exportable:
        """The generator, with one code for all layers."""
        return OfStyles(self.styled, *self.inputs())


class OfStyles(Exportable):
    """A generator with styles as a function of latents (N, L) and labels; `generator` is its synthesis."""

    def __init__(self, styled: Styled, *inputs: Input) -> None:
        super().__init__(cast(nn.Module, styled.synthesis), *inputs)
        self.mapping, self.layers = styled.mapping, styled.layers

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Samples of the latents, with the constant noise."""
        codes = self.mapping(latent, label)
        return self.generator(codes[:, None].expand(-1, self.layers, -1), "constant").float()
