"""CTAB-GAN+ (Zhao et al. 2022): rows as squares, drawn for categories and modes, held to what the target makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pydantic
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains.table.columns import Column
from sparring.domains.table.games.ctgan import CTGAN, ModelOptions, TableLoss
from sparring.domains.table.games.foretelling import Foreteller
from sparring.domains.table.games.information import information, moments_of
from sparring.domains.table.games.third import ThirdPlayerGame
from sparring.domains.table.rows import Span, spans_of
from sparring.domains.table.squares import SquareDiscriminator, SquareGenerator
from sparring.options import call, resolve


class CtabOptions(ModelOptions):
    """`model` of CTAB-GAN+."""

    networks: ClassVar[dict[str, type[nn.Module]]] = {
        "generator": SquareGenerator,
        "discriminator": SquareDiscriminator,
    }

    latent: int = pydantic.Field(100, ge=1)
    generator: dict[str, Any] = pydantic.Field({}, description="width, norm")
    discriminator: dict[str, Any] = pydantic.Field({}, description="width, norm")
    classifier: dict[str, Any] = pydantic.Field({}, description="of the target: width, depth, dropout")
    pack: Literal[1] = 1

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """As for CTGAN, and the classifier's options."""
        plain = super().resolve(values)
        return {**plain, "classifier": resolve(Foreteller, plain["classifier"], where="model.classifier")}


class CtabLoss(TableLoss):
    """`loss` of CTAB-GAN+."""

    information: float = pydantic.Field(
        1.0, ge=0, description="weight of the distance of means and deviations of the discriminator's features"
    )
    downstream: float = pydantic.Field(
        1.0, ge=0, description="weight of how badly a model of the target, learnt on data, fits the samples"
    )


class CTABGAN(ThirdPlayerGame, CTGAN):
    """CTGAN's game with what Zhao et al. (2022) add to it.

    Convolutions on rows as squares; rows drawn for modes of numbers too; the information loss; and the downstream loss, by
    a classifier or regressor of the target that learns on data. What is asked for is put into the row, as `CTGAN` has it,
    in place of a cross entropy. The authors' code ends its critic in a ReLU, which stops its gradient wherever it is sure of
    a fake; here it ends in a sum.
    """

    third = "classifier"

    model_options: ClassVar[type[ModelOptions]] = CtabOptions
    loss_options: ClassVar[type[TableLoss]] = CtabLoss

    discriminator: SquareDiscriminator
    classifier: Foreteller | None

    @classmethod
    def asked_spans(cls, columns: list[Column]) -> list[Span]:
        """All columns: those of categories, which users may ask for, first."""
        return sorted(spans_of(columns), key=lambda span: span.column.places)

    def know(self, options: ModelOptions, spec: DataSpec) -> None:
        """Build the model of the target, where there is one and its loss has a weight."""
        assert isinstance(options, CtabOptions) and isinstance(self.options, CtabLoss)
        columns = [Column(**each) for each in spec.extra["columns"]]
        target = next((span for span in spans_of(columns) if span.column.name == spec.extra.get("target")), None)
        self.classifier = None
        if target is not None and self.options.downstream and len(spans_of(columns)) > 1:
            self.classifier = call(Foreteller, options.classifier, spec.shape[0], target, where="model.classifier")

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        if turn.player == "classifier":
            assert self.classifier is not None
            rows = batch["data"]
            return Losses({"target": self.classifier.loss(rows)}, {"fit": self.classifier.accuracy(rows)})
        return super().loss(turn, batch, step)

    def look(self, samples: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The logits, and the features that they are sums of."""
        features = self.discriminator.features(samples, label)
        return self.discriminator.score(features, label), features

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """The information loss and the downstream loss, beside CTGAN's terms."""
        rows, options = batch.memo["rows"], self.options
        assert fake is not None and isinstance(options, CtabLoss)
        super().add_generator_terms(losses, batch, fake)
        if options.information:
            with torch.no_grad():
                _, real = self.look(batch["data"], self.label(batch))
            assert real is not None
            losses["information"] = options.information * information(moments_of(real), moments_of(fake))
        if self.classifier is not None:
            losses["downstream"] = options.downstream * self.classifier.loss(rows)

    def draw_labels(self, count: int, rng: torch.Generator | None = None, condition: Tensor | None = None) -> Tensor:
        """What to ask for (count, K); condition: of categories alone, as users ask for them."""
        if condition is not None:
            condition = pad(condition, (0, len(self.hot) - condition.shape[1]))
        return super().draw_labels(count, rng, condition)
