"""TableGAN (Park et al. 2018): rows as square images, one pixel a column, and how much is given away of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn

from sparring.core.adversarial import LossOptions
from sparring.core.exportable import Exportable
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains.table.columns import Column
from sparring.domains.table.data import columns_of
from sparring.domains.table.games.information import Running, information, moments_of
from sparring.domains.table.games.third import ThirdPlayerGame
from sparring.domains.table.rows import Span, spans_of, values_of
from sparring.domains.table.squares import SquareDiscriminator, SquareGenerator
from sparring.options import call, resolve, validate
from sparring.recipe import Recipe, Section

ROLES = {"generator": SquareGenerator, "discriminator": SquareDiscriminator, "classifier": SquareDiscriminator}


class TableganOptions(Section):
    """The recipe's `model` section."""

    latent: int = pydantic.Field(100, ge=1)
    generator: dict[str, Any] = pydantic.Field({}, description="width, norm")
    discriminator: dict[str, Any] = pydantic.Field({}, description="width, norm")
    classifier: dict[str, Any] = pydantic.Field({}, description="of the target: width, norm")
    hard: bool = pydantic.Field(
        True, description="the discriminator sees whole categories, with the gradient of what lies between them"
    )

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The section validated, the networks' own options filled in. Raises UserError."""
        plain = validate(cls, values, where="model")
        return {**plain, **{role: resolve(each, plain[role], where=f"model.{role}") for role, each in ROLES.items()}}


class TableganLoss(LossOptions):
    """The recipe's `loss` section."""

    information: float = pydantic.Field(1.0, ge=0, description="weight of the information loss")
    mean_margin: float = pydantic.Field(
        0.0,
        ge=0,
        description="how far means of features may be from the data's: more is more private, and less like the data",
    )
    spread_margin: float = pydantic.Field(0.0, ge=0, description="the same of their deviations")
    smoothing: float = pydantic.Field(0.99, ge=0, lt=1, description="of the running means of features")
    classification: float = pydantic.Field(
        1.0, ge=0, description="weight of how badly a classifier of the target, learnt on data, fits the samples"
    )


class Line:
    """Encoded rows ↔ one number a column, in [−1, 1], as the paper has them; columns with missing numbers have one more.

    Numbers lie where they do between the lowest and the highest; categories at equal distances, the most frequent first.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.spans = spans_of(columns)
        self.places = []
        size = 0
        for span in self.spans:
            self.places.append(size)
            size += 1 + self.has_missing(span)
        self.size = size
        self.width = self.spans[-1].hot.stop

    @staticmethod
    def has_missing(span: Span) -> bool:
        """Whether a column has a second number, 1 where the first is missing and −1 where it is there."""
        return bool(span.column.places and span.column.missing)

    def of(self, rows: Tensor) -> Tensor:
        """Encoded rows (N, D) → (N, size)."""
        parts: list[Tensor] = []
        for span in self.spans:
            column = span.column
            if not column.places:
                parts.append(2 * rows[:, span.hot].argmax(1) / max(1, column.size - 1) - 1)
                continue
            value, here = values_of(rows, span)
            where = 2 * (value - column.low) / ((column.high - column.low) or 1.0) - 1
            parts.append(torch.where(here, where, 0.0).float())
            if self.has_missing(span):
                parts.append(1 - 2 * here.float())
        return torch.stack(parts, 1)

    def whole(self, line: Tensor) -> Tensor:
        """Numbers (N, size) with categories, and whether numbers are missing, moved to the nearest that there is."""
        moved = line.clone()
        for span, place in zip(self.spans, self.places, strict=True):
            if not span.column.places:
                moved[:, place] = self.level(line, span, place) * (2 / max(1, span.column.size - 1)) - 1
            elif self.has_missing(span):
                moved[:, place + 1] = torch.where(line[:, place + 1] > 0, 1.0, -1.0)
        return moved

    def level(self, line: Tensor, span: Span, place: int) -> Tensor:
        """The number of the nearest category, (N,)."""
        return ((line[:, place] + 1) * (max(1, span.column.size - 1) / 2)).round().long().clamp(0, span.column.size - 1)

    def back(self, line: Tensor) -> Tensor:
        """Numbers (N, size) → encoded rows (N, D), float32."""
        rows = torch.zeros(len(line), self.width, device=line.device)
        for span, place in zip(self.spans, self.places, strict=True):
            column = span.column
            if not column.places:
                rows[torch.arange(len(line)), span.hot.start + self.level(line, span, place)] = 1
                continue
            value = column.low + (line[:, place].double().cpu() + 1) / 2 * (column.high - column.low)
            # Rounded before it is coded: values that come often on their own are modes that must be met exactly.
            value = column.unit * torch.round(value / column.unit, decimals=column.decimals)
            if self.has_missing(span):
                value = torch.where(line[:, place + 1].cpu() > 0, torch.nan, value)
            number, inside = column.code_numbers(value.numpy())
            rows[torch.arange(len(line)), span.hot.start + torch.from_numpy(number).to(line.device)] = 1
            rows[:, span.start] = torch.from_numpy(inside).to(rows)
        return rows


class TargetClassifier(nn.Module):
    """Lines (N, size) whose number at `place` is taken away → logits of `levels` categories, or the number (N, 1) itself."""

    def __init__(self, body: SquareDiscriminator, place: int, levels: int) -> None:
        super().__init__()
        self.body, self.place, self.levels = body, place, levels
        self.out = nn.Linear(body.feature_count, max(1, levels))

    def loss(self, line: Tensor) -> Tensor:
        """How far the column is from what is foretold (section 4.3, classification loss): an L1 distance, or the cross entropy.

        A place between two categories is a share of each, so that the loss moves samples towards either.
        """
        told, place = self(line), line[:, self.place]
        if not self.levels:
            return (told.squeeze(1) - place).abs().mean()
        steps = (place + 1) * (max(1, self.levels - 1) / 2)
        shares = torch.relu(1 - (steps[:, None] - torch.arange(self.levels, device=line.device)).abs())
        return -(shares * told.log_softmax(1)).sum(1).mean()

    def forward(self, line: Tensor) -> Tensor:
        others = line.clone()
        others[:, self.place] = 0
        return self.out(self.body.features(others))


class TableGAN(ThirdPlayerGame):
    """DCGAN's game on rows laid out as squares, a classifier of the target, and the information loss.

    Batches come and samples go as encoded rows; the networks see one number a column (`Line`). Margins of the information loss
    are the paper's knob of privacy. It is not asked for anything: the paper's samples have no conditions. What differs from
    the paper: the gradient of the information loss is that of the batch at full strength, and not a hundredth of it, as
    that of a running mean would be; categories are whole to the discriminator (`model.hard`); and its norm is of layers, so
    that it judges rows one by one.
    """

    third = "classifier"

    options: TableganLoss
    discriminator: SquareDiscriminator
    classifier: TargetClassifier | None

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        return {"model": TableganOptions.resolve(recipe.model), "loss": TableganLoss.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build it. Raises UserError."""
        options = TableganOptions(**validate(TableganOptions, recipe.model, where="model"))
        loss = TableganLoss(**validate(TableganLoss, recipe.loss, where="loss"))
        line = Line(columns_of(spec))
        classifier = None
        names = [span.column.name for span in line.spans]
        target = spec.extra.get("target")
        if target in names and loss.classification and line.size > 1:
            number = names.index(target)
            column = line.spans[number].column
            classifier = TargetClassifier(
                call(SquareDiscriminator, options.classifier, line.size, None, 1, where="model.classifier"),
                line.places[number],
                0 if column.places else column.size,
            )
        return cls(
            call(SquareGenerator, options.generator, line.size, options.latent, 0, where="model.generator"),
            call(SquareDiscriminator, options.discriminator, line.size, None, 1, where="model.discriminator"),
            line=line,
            classifier=classifier,
            hard=options.hard,
            latent=options.latent,
            latent_distribution="uniform",
            loss=loss,
            turns=recipe.train.turns,
            steps=recipe.train.steps,
        )

    def __init__(
        self,
        generator: nn.Module,
        discriminator: SquareDiscriminator,
        *,
        line: Line,
        classifier: TargetClassifier | None,
        hard: bool,
        **rules: Any,
    ) -> None:
        super().__init__(generator, discriminator, **rules)
        self.line, self.classifier, self.hard = line, classifier, hard
        shape = (2, discriminator.feature_count)
        self.of_real, self.of_fake = (Running(*shape, share=self.options.smoothing) for _ in range(2))

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """A side of the game, or the classifier's, on one number a column."""
        if "line" not in batch.memo:
            batch.memo["line"] = self.line.of(batch["data"])
        inner = Batch(data=batch.memo["line"])
        inner.memo = batch.memo
        if turn.player == "classifier":
            assert self.classifier is not None
            return Losses({"target": self.classifier.loss(inner["data"])})
        return super().loss(turn, inner, step)

    def sample(self, count: int, label: Tensor | None, rng: torch.Generator | None = None) -> Tensor:
        """Lines (count, size) as the discriminator sees them."""
        made = self.decode(self.noise(count, rng), label)
        return made + (self.line.whole(made) - made).detach() if self.hard else made

    def draw(self, batch: Batch) -> Tensor:
        """Fakes for `batch`; they stay in its memo, for the classifier."""
        made = super().draw(batch)
        batch.memo["made"] = made
        return made

    def decode(self, code: Tensor, label: Tensor | None) -> Tensor:
        """Lines (N, size) of codes, in [−1, 1]."""
        return self.generator(code, label).tanh()

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The logits, and the features that they are sums of."""
        features = self.discriminator.features(samples, label)
        return self.discriminator.score(features, label), features

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """The information loss and the classification loss."""
        made, options = batch.memo.pop("made"), self.options
        if options.information:
            with torch.no_grad():
                _, real = self.look(batch["data"], None)
            assert real is not None and fake is not None
            margins = (options.mean_margin, options.spread_margin)
            sides = self.of_real(moments_of(real)), self.of_fake(moments_of(fake))
            losses["information"] = options.information * information(*sides, margins)
        if self.classifier is not None:
            losses["classification"] = options.classification * self.classifier.loss(made)

    def render(self, codes: Batch) -> Batch:
        """Encoded rows as `data` (N, D)."""
        return Batch(data=self.line.back(self.decode(codes["code"], None).float()))

    def exportable(self) -> Exportable | None:
        """None: a row means something only to `sparring generate`, which knows the columns."""
        return None
