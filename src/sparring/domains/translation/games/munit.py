"""MUNIT: without pairs, an image keeps its content and takes one of many styles of the other side (Huang et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core import chance
from sparring.core.adversarial import standing
from sparring.core.exportable import Exportable, Noise, Picture
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.core.initialize import INITIALIZERS, initialize
from sparring.core.losses import bind, resolve_loss
from sparring.core.passes import precise
from sparring.domains.translation.games.bicycle import require_single_turns
from sparring.domains.translation.games.cycle import A2B, B2A, require_pictures
from sparring.domains.translation.games.translator import any_size, require_inputs
from sparring.domains.translation.networks import DISCRIMINATORS
from sparring.domains.translation.networks.munit import StyledAutoencoder
from sparring.domains.translation.show import visible
from sparring.nn.building import build_network
from sparring.options import call, resolve, resolve_named, validate
from sparring.recipe import Recipe, Section

GOES_TO = {A2B: "b", B2A: "a"}


class MunitLoss(Section):
    """The recipe's `loss` section: the loss of the discriminators, and what each part weighs (Huang et al. 2018, eq. 5)."""

    name: str = "least_squares"
    options: dict[str, Any] = {}
    adversarial: float = pydantic.Field(1.0, ge=0, description="weight of what a side's discriminator makes of outputs")
    image: float = pydantic.Field(10.0, ge=0, description="λ_x: an image, decoded from its own content and style")
    content: float = pydantic.Field(1.0, ge=0, description="λ_c: the content of an output is that of its input")
    style: float = pydantic.Field(1.0, ge=0, description="λ_s: the style of an output is the one drawn for it")
    cycle: float = pydantic.Field(
        0.0, ge=0, description="an output's content with the input's own style is the input (sec. 5.1)"
    )


class MunitOptions(Section):
    """`model`: both sides' networks are built alike. Their autoencoders and their discriminators start differently."""

    autoencoder: dict[str, Any] = pydantic.Field({}, description="width, down, blocks, style, style_down, hidden")
    discriminator: dict[str, Any] = {"name": "patch", "field": 46, "scales": 3, "norm": "none"}
    initialize: dict[str, Any] = pydantic.Field({"name": "he"}, description="of the autoencoders")
    initialize_discriminator: dict[str, Any] = {"name": "normal"}


class MunitGame(Game):
    """Two autoencoders that agree on contents, and a discriminator of each side (Huang et al. 2018).

    Batches have `source` on side A and `data` on side B; of an image x_a = decode_a(c_a, s_a), the other side is
    decode_b(c_a, s) with a style s drawn from N(0, I), or read off an image of side B. Condition 0 is from A to B, 1 from B to A. shape: (C, H, W) of
    side A.
    """

    def __init__(
        self, autoencoders: tuple[StyledAutoencoder, StyledAutoencoder], discriminators: tuple[nn.Module, nn.Module],
        *, shape: tuple[int, int, int], loss: MunitLoss, paired: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.autoencoders = nn.ModuleDict(dict(zip("ab", autoencoders, strict=True)))
        self.discriminators = nn.ModuleDict(dict(zip("ab", discriminators, strict=True)))
        self.weights, self.paired, self.shape = loss, paired, shape
        self.adversarial = bind(loss.name, loss.options)

    takes_style = True
    """Whether outputs may be given the look of an image, `style` beside `source`."""

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """The sections as the networks and the loss take them."""
        model = validate(MunitOptions, recipe.model, where="model")
        model["autoencoder"] = resolve(StyledAutoencoder, model["autoencoder"], where="model.autoencoder")
        tables: dict[str, Any] = {
            "discriminator": DISCRIMINATORS, "initialize": INITIALIZERS, "initialize_discriminator": INITIALIZERS
        }  # fmt: skip
        for key, table in tables.items():
            model[key] = resolve_named(table, model[key], what=key, where=f"model.{key}") if model[key] else {}
        loss = validate(MunitLoss, recipe.loss, where="loss")
        return {"model": model, "loss": {**loss, "options": resolve_loss(loss["name"], loss["options"])}}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build both sides. Raises UserError, e.g. for data of one side or with label maps."""
        options = MunitOptions(**validate(MunitOptions, recipe.model, where="model"))
        loss = MunitLoss(**validate(MunitLoss, recipe.loss, where="loss"))
        require_single_turns(recipe)
        channels = require_inputs(spec, recipe.name, paired=False)
        require_pictures(spec, recipe.name)
        height, width = spec.shape[1:]

        def side(count: int) -> tuple[StyledAutoencoder, nn.Module]:
            autoencoder: StyledAutoencoder = call(
                StyledAutoencoder, options.autoencoder, count, where="model.autoencoder"
            )
            initialize(autoencoder, options.initialize)
            shape = (count, height, width)
            discriminator = build_network(
                "discriminator", DISCRIMINATORS, options.discriminator, 0, shape,
                initializer=options.initialize_discriminator,
            )  # fmt: skip
            return autoencoder, discriminator

        (auto_a, judge_a), (auto_b, judge_b) = side(channels), side(spec.shape[0])
        paired, shape = bool(spec.extra.get("paired")), (channels, height, width)
        return cls((auto_a, auto_b), (judge_a, judge_b), shape=shape, loss=loss, paired=paired)

    @property
    def conditions(self) -> Sequence[str]:
        """The directions that there are to ask for."""
        return (A2B, B2A)

    @property
    def reads_labels(self) -> bool:
        """What is asked for is no label of the data."""
        return False

    def players(self) -> dict[str, nn.Module]:
        """Both autoencoders, and both discriminators."""
        return {"discriminator": self.discriminators, "generator": self.autoencoders}

    def averaged(self) -> dict[str, nn.Module]:
        """Both autoencoders."""
        return {"generator": self.autoencoders}

    def turns(self, step: int) -> Sequence[Turn]:
        """The discriminators, then the autoencoders on the outputs that these have seen."""
        return (Turn("discriminator", keep=True), Turn("generator", fresh=False))

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """A side of the game."""
        return self.discriminator_loss(batch) if turn.player == "discriminator" else self.generator_loss(batch)

    def play(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Of each side: its `image`, the image's `content` and `style`, a `drawn` style, and the other's image `made` to it."""
        sides: dict[str, dict[str, Tensor]] = {}
        for name, image in (("a", batch["source"]), ("b", batch["data"])):
            content, style = self.autoencoders[name].encode(image)  # type: ignore[operator]
            drawn = chance.normal(batch.count, style.shape[1], device=image.device)
            sides[name] = {"image": image, "content": content, "style": style, "drawn": drawn}
        for name, other in ("ab", "ba"):
            side = sides[name]
            side["made"] = self.autoencoders[name].decode(sides[other]["content"], side["drawn"])  # type: ignore[operator]
        return sides

    def discriminator_loss(self, batch: Batch) -> Losses:
        """Both discriminators' own."""
        sides = batch.memo["sides"] = self.play(batch)
        parts, logits = {}, []
        for name, side in sides.items():
            real, fake = (self.discriminators[name](each) for each in (side["image"], side["made"].detach()))
            parts[f"{name}/adversarial"] = self.adversarial.discriminator(real, fake)
            logits.append((real.detach().float().flatten(), fake.detach().float().flatten()))
        return Losses(parts, standing(*(torch.cat(each) for each in zip(*logits, strict=True))))

    def generator_loss(self, batch: Batch) -> Losses:
        """Σ over sides: adversarial + λ_x|x − x̂| + λ_c|c − ĉ| + λ_s|s − ŝ| (eq. 5), and the cycle where it has a weight."""
        sides = batch.memo.pop("sides", None) or self.play(batch)
        parts: dict[str, Tensor] = {}
        for name, other in ("ab", "ba"):
            side, origin, weights = sides[name], sides[other], self.weights
            own: StyledAutoencoder = self.autoencoders[name]  # type: ignore[assignment]
            content, style = own.encode(side["made"])
            terms = {
                "adversarial": weights.adversarial * self.judged(name, side),
                "image": weights.image * distance(own.decode(side["content"], side["style"]), side["image"]),
                "content": weights.content * distance(content, origin["content"]),
                "style": weights.style * distance(style, side["drawn"]),
            }
            if weights.cycle:
                back = self.autoencoders[other].decode(content, origin["style"])  # type: ignore[operator]
                terms["cycle"] = weights.cycle * distance(back, origin["image"])
            parts |= {f"{name}/{term}": value for term, value in terms.items()}
        return Losses(parts)

    def judged(self, name: str, side: dict[str, Tensor]) -> Tensor:
        """What a side's discriminator makes of its outputs."""
        real = None
        if self.adversarial.relativistic:
            with torch.no_grad():  # the generator cannot move these
                real = self.discriminators[name](side["image"])
        return self.adversarial.generator(real, self.discriminators[name](side["made"]))

    @property
    def stride(self) -> int:
        """What the sides of inputs must be multiples of; others are continued by mirroring."""
        return int(self.autoencoders["a"].stride)  # type: ignore[arg-type]

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """The other side of `given`, in styles drawn from N(0, I), another for every seed.

        given: `style`, where there is one: images (N, C, H, W) of the side that is made, or their styles (N, style), which
        are taken instead, one for each input or one for all. condition: 0 (as where it is None) from A to B, 1 from B to A, one for all. What goes back is the
        `data` of a batch that has both sides, and `source` where that is all there is.
        """
        name = A2B if condition is None else self.conditions[int(condition.flatten()[0])]
        start, goal = ("data", "source") if name == B2A and "data" in given else ("source", "data")
        source, target = given[start], GOES_TO[name]
        goes, comes = self.autoencoders[target], self.autoencoders["a" if target == "b" else "b"]
        style = given.get("style")
        if style is None:
            style = chance.normal(len(source), int(goes.style), device=self.device, rng=rng)  # type: ignore[arg-type]
        elif style.ndim == 4:
            style = goes.style_encoder(style)  # type: ignore[operator]
        style = style.expand(len(source), -1)

        def make(images: Tensor) -> Tensor:
            made: Tensor = goes.decode(comes.content_encoder(images), style)  # type: ignore[operator]
            return made

        made = Batch(data=any_size(source, self.stride, make).float(), source=source, input=visible(source))
        if self.paired and goal in given:
            made["real"] = given[goal]
        return made

    def exportable(self) -> Exportable:
        """The way from A to B, of images and styles."""
        height, width = (max(1, round(side / self.stride)) * self.stride for side in self.shape[1:])
        source = Picture("source", self.shape[0], (height, width), self.stride)
        goes: Any = self.autoencoders["b"]
        return Styled(self.autoencoders["a"].content_encoder, goes.decoder, source, Noise("style", goes.style))  # type: ignore[arg-type]


class Styled(Exportable):
    """A content encoder and the other side's decoder as a function of images (N, C, H, W) and styles (N, style)."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, source: Picture, style: Noise) -> None:
        super().__init__(nn.ModuleDict({"encoder": encoder, "decoder": decoder}), source, style)

    def forward(self, source: Tensor, style: Tensor) -> Tensor:  # type: ignore[override]
        """Images of the other side."""
        parts: Any = self.generator
        made: Tensor = parts["decoder"](parts["encoder"](source), style)
        return made.float()


def distance(one: Tensor, other: Tensor) -> Tensor:
    """E|x − y|, in full precision."""
    return F.l1_loss(precise(one), precise(other))
