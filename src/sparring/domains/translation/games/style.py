"""Style transfer: photographs as one artist, or one hand, would have made them, learnt from a folder of works (Sanakoyeu et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core import processes
from sparring.core.adversarial import standing
from sparring.core.exportable import Exportable
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.core.losses import bind, resolve_loss
from sparring.core.passes import precise
from sparring.domains.translation.games.bicycle import require_single_turns
from sparring.domains.translation.games.cycle import picture_function, require_pictures
from sparring.domains.translation.games.translator import NetworkOptions, any_size, require_inputs
from sparring.domains.translation.networks import DISCRIMINATORS, GENERATORS
from sparring.domains.translation.show import visible
from sparring.errors import UserError
from sparring.nn.building import build_network
from sparring.options import validate
from sparring.recipe import Recipe, Section

PACE = 0.05
"""Of the smoothed success of the discriminator, by which turns are dealt (Sanakoyeu et al. 2018, their code)."""


class StyleLoss(Section):
    """The recipe's `loss` section. The weights are for means over pixels, places and depths."""

    name: str = "non_saturating"
    options: dict[str, Any] = {}
    adversarial: float = pydantic.Field(1.0, gt=0, description="weight of what the discriminator makes of outputs")
    content: float = pydantic.Field(
        100.0, ge=0, description="weight of |E(x) − E(G(x))|, E being the generator's own encoder"
    )
    image: float = pydantic.Field(
        100.0, ge=0, description="weight of (T(x) − T(G(x)))², T being means over `pool` pixels"
    )
    pool: int = pydantic.Field(10, ge=1, description="pixels a side that T takes the mean of")
    photographs: float = pydantic.Field(
        1.0, ge=0, description="weight of inputs as further fakes, so that the discriminator looks for the style"
    )
    success: float | None = pydantic.Field(
        None,
        gt=0,
        lt=1,
        description="a step is the generator's where the discriminator is right so often, else the discriminator's; none: both's",
    )


class StyleOptions(NetworkOptions):
    """`model`: the generator has an encoder, as `styler` and `resnet` do."""

    generator: dict[str, Any] = {"name": "styler"}
    discriminator: dict[str, Any] = {"name": "deep"}


class StyleGame(Game):
    """A generator whose outputs pass for works in a style, and whose content, as its own encoder sees it, is the input's.

    The encoder learns with the generator, so it leaves out of contents what the style does not keep: the style-aware
    content loss (Sanakoyeu et al. 2018, sec. 3.2). Batches have photographs as `source` and works as `data`; nothing
    belongs together. shape: (C, H, W) of both.
    """

    success: Tensor

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        shape: tuple[int, int, int],
        loss: StyleLoss,
        paired: bool = False,
    ) -> None:
        super().__init__()
        self.generator, self.discriminator, self.weights, self.paired = generator, discriminator, loss, paired
        self.shape = shape
        self.adversarial = bind(loss.name, loss.options)
        self.register_buffer("success", torch.tensor(loss.success or 0.0))

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks and the loss take them."""
        loss = validate(StyleLoss, recipe.loss, where="loss")
        loss["options"] = resolve_loss(loss["name"], loss["options"])
        return {"model": StyleOptions.resolve(recipe.model), "loss": loss}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build the networks that `model` names. Raises UserError, e.g. for sides of different channels."""
        options = StyleOptions(**validate(StyleOptions, recipe.model, where="model"))
        loss = StyleLoss(**validate(StyleLoss, recipe.loss, where="loss"))
        require_single_turns(recipe)
        source = require_inputs(spec, recipe.name, paired=False)
        require_pictures(spec, recipe.name)
        shape = (spec.shape[0], spec.shape[1], spec.shape[2])
        if source != shape[0]:
            raise UserError(
                f"recipe {recipe.name!r} compares outputs with inputs, which have {shape[0]} and {source} channels: say "
                "--set data.channels=3 --set data.input_channels=3, or 1 and 1"
            )
        if loss.image and loss.pool > min(shape[1:]):
            raise UserError(f"loss.pool: means over {loss.pool} pixels do not fit into {shape[1]}×{shape[2]}")
        shared: dict[str, Any] = {"initializer": options.initialize, "spectrally_normalised": options.spectral_norm}
        generator = build_network("generator", GENERATORS, options.generator, source, shape, **shared)
        if not all(hasattr(generator, part) for part in ("encoder", "blocks", "decoder")):
            raise UserError(
                f"recipe {recipe.name!r} compares contents by the generator's encoder, and {options.generator['name']!r} has none: "
                "use model.generator.name=styler or resnet"
            )
        discriminator = build_network("discriminator", DISCRIMINATORS, options.discriminator, 0, shape, **shared)
        return cls(generator, discriminator, shape=shape, loss=loss, paired=bool(spec.extra.get("paired")))

    def players(self) -> dict[str, nn.Module]:
        """The two of them."""
        return {"discriminator": self.discriminator, "generator": self.generator}

    def turns(self, step: int) -> Sequence[Turn]:
        """Both players', or the one's that is behind where `loss.success` says when that is."""
        if self.weights.success is None:
            return (Turn("discriminator", keep=True), Turn("generator", fresh=False))
        return (Turn("generator" if self.success.item() >= self.weights.success else "discriminator"),)

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """A side of the game."""
        return (
            self.discriminator_loss(batch, turn.keep) if turn.player == "discriminator" else self.generator_loss(batch)
        )

    def play(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The contents of the inputs, and what becomes of them."""
        content = self.generator.encoder(batch["source"])  # type: ignore[operator]
        return content, self.generator.decoder(self.generator.blocks(content))  # type: ignore[operator]

    def discriminator_loss(self, batch: Batch, keep: bool) -> Losses:
        """Works are real; outputs, and photographs as they are, are not (sec. 3.1, and the released code)."""
        with torch.set_grad_enabled(keep):
            played = self.play(batch)
        if keep:
            batch.memo["played"] = played
        real, fake = self.discriminator(batch["data"]), self.discriminator(played[1].detach())
        parts = {"adversarial": self.adversarial.discriminator(real, fake)}
        seen = [fake]
        if self.weights.photographs:
            seen.append(self.discriminator(batch["source"]))
            # Real logits without their graph: their share of the gradient is in the line above already.
            judged = self.adversarial.discriminator(real.detach(), seen[-1])
            parts["photographs"] = self.weights.photographs * judged
        watch = standing(real.detach().float(), fake.detach().float())
        boundary = self.adversarial.boundary or 0.0
        right = torch.stack([(real > boundary).float().mean(), *((each < boundary).float().mean() for each in seen)])
        self.follow(right.mean())
        return Losses(parts, {**watch, "success": self.success.clone()})

    def generator_loss(self, batch: Batch) -> Losses:
        """L_adv + λ_c E|E(x) − E(G(x))| + λ_T E[(T(x) − T(G(x)))²] (Sanakoyeu et al. 2018, eq. 8; eq. 3's square is released as |·|)."""
        content, made = batch.memo.pop("played", None) or self.play(batch)
        real = None
        if self.adversarial.relativistic:
            with torch.no_grad():  # the generator cannot move these
                real = self.discriminator(batch["data"])
        fake = self.discriminator(made)
        parts = {"adversarial": self.weights.adversarial * self.adversarial.generator(real, fake)}
        if self.weights.content:
            again = self.generator.encoder(made)  # type: ignore[operator]
            parts["content"] = self.weights.content * F.l1_loss(precise(again), precise(content))
        if self.weights.image:
            ours, theirs = (F.avg_pool2d(precise(each), self.weights.pool, 1) for each in (made, batch["source"]))
            parts["image"] = self.weights.image * F.mse_loss(ours, theirs)
        self.follow((fake < (self.adversarial.boundary or 0.0)).float().mean())
        return Losses(parts)

    @torch.no_grad()
    def follow(self, right: Tensor) -> None:
        """Take in how often the discriminator was right just now."""
        self.success.lerp_(processes.mean(right.detach()), PACE)

    @property
    def stride(self) -> int:
        """What the sides of inputs must be multiples of; others are continued by mirroring."""
        return int(getattr(self.generator, "stride", 1))

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Photographs of any size, in the style."""
        source = given["source"]
        data = any_size(source, self.stride, self.generator)
        made = Batch(data=data.float(), source=source, input=visible(source))
        if self.paired and "data" in given:
            made["real"] = given["data"]
        return made

    def exportable(self) -> Exportable:
        """The generator, of images."""
        return picture_function(self.generator, self.shape)
