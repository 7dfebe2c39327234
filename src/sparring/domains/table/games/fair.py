"""Fair tables: FairGAN (Xu et al. 2018) and TabFairGAN (Rajabi & Garibay 2022), which play fair in their last phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic
import torch
from torch import Tensor, nn

from sparring.core import processes
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.core.passes import precise
from sparring.domains.table.conditions import said
from sparring.domains.table.data import columns_of
from sparring.domains.table.games.ctgan import CTGAN, ModelOptions, TableLoss
from sparring.domains.table.games.third import ThirdPlayerGame
from sparring.domains.table.rows import Span, spans_of
from sparring.errors import UserError, nearest
from sparring.nn.layers import require_positive
from sparring.nn.mlp import MLP
from sparring.options import call, resolve

FEW = 1e-6  # rows of a group, below which a batch has none


class FairOptions(ModelOptions):
    """`model` of the fair games."""

    second: dict[str, Any] = pydantic.Field({}, description="the second discriminator: width, depth")
    desired: str | None = pydantic.Field(
        None, description="the category of data.target that is a favour; none: the rarest, if there are two"
    )
    fair_from: int | None = pydantic.Field(
        None, ge=0, description="the step from which the game is fair; none: half of train.steps"
    )

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """As for CTGAN, and the second discriminator's options."""
        plain = super().resolve(values)
        return {**plain, "second": resolve(SecondDiscriminator, plain["second"], where="model.second")}


class FairLoss(TableLoss):
    """`loss` of the fair games."""

    parity: float = pydantic.Field(
        0.0,
        ge=0,
        description="weight of the difference between groups in how often samples have the favour (TabFairGAN)",
    )
    second: float = pydantic.Field(
        0.0,
        ge=0,
        description="weight of what a second discriminator tells of the group from the rest of a row (FairGAN)",
    )


class SecondDiscriminator(nn.Module):
    """Rows (N, size) whose protected column is hidden → logits of its groups (N, groups)."""

    def __init__(self, size: int, hidden: slice, *, width: int = 256, depth: int = 2) -> None:
        super().__init__()
        require_positive(width=width, depth=depth)
        self.hidden = hidden
        groups = hidden.stop - hidden.start
        self.body = MLP(size - groups, [width] * depth)
        self.out = nn.Linear(width, groups)

    def forward(self, rows: Tensor) -> Tensor:
        return self.out(self.body(torch.cat([rows[:, : self.hidden.start], rows[:, self.hidden.stop :]], 1)))


class FairGAN(ThirdPlayerGame, CTGAN):
    """CTGAN's game, and from step `model.fair_from` on one or both of two terms on the samples.

    parity (TabFairGAN): how far apart groups are in the share of their rows that has the favour.
    second (FairGAN): a second discriminator learns to tell the group from the rest of a sample, and the generator wants it to be
    mistaken, so that the rest says nothing of the group. The paper's generator lowers E[log p(group)], whose slope fades where
    the group is told for certain, and grows where nothing is left to hide; this one raises E[log(1 − p(group))].

    The column protected and the target are not asked for together: such rows would be as unfair as the data, and samples,
    which are asked for one column, would make up for them.
    """

    third = "second"

    model_options: ClassVar[type[ModelOptions]] = FairOptions
    loss_options: ClassVar[type[TableLoss]] = FairLoss

    protected: Span
    target: Span
    second: SecondDiscriminator | None

    def know(self, options: ModelOptions, spec: DataSpec) -> None:
        """Find the columns and the favour. Raises UserError where they are not said."""
        assert isinstance(options, FairOptions) and isinstance(self.options, FairLoss)
        spans = {span.column.name: span for span in spans_of(columns_of(spec))}
        if spec.extra.get("protected") not in spans:
            raise UserError("a fair game protects a column: name it with --set data.protected=COLUMN, e.g. sex")
        self.protected = spans[spec.extra["protected"]]
        if self.protected.column.size < 2:
            raise UserError(f"data.protected={self.protected.column.name!r}: all rows are of one group")
        if spec.extra.get("target") not in spans or spans[spec.extra["target"]].column.kind != "category":
            raise UserError("a fair game needs a target of categories: name it with --set data.target=COLUMN")
        self.target = spans[spec.extra["target"]]
        self.favour = self.target.hot.start + _favour(self.target, options.desired)
        if options.fair_from is None and not self.steps:
            raise UserError("the length of the run is not known: say from which step it is fair, model.fair_from")
        self.fair_from = (self.steps or 0) // 2 if options.fair_from is None else options.fair_from
        self.second = None
        if self.options.second:
            self.second = call(
                SecondDiscriminator, options.second, spec.shape[0], self.protected.hot, where="model.second"
            )
        columns = [span.column.name for span in self.asked_spans(columns_of(spec))]
        self.apart = columns.index(self.protected.column.name), columns.index(self.target.column.name)

    def third_plays(self, step: int) -> bool:
        """In the last phase alone."""
        return super().third_plays(step) and step >= self.fair_from

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        batch.memo["fair"] = step >= self.fair_from
        if turn.player == "second":
            assert self.second is not None
            rows = batch.memo["fake"] if "fake" in batch.memo else self.sample_for(batch)
            rows = self._unpacked(rows).detach()
            told, group = self.second(rows), rows[:, self.protected.hot]
            found = (told.argmax(1) == group.argmax(1)).float().mean()
            return Losses({"group": -(group * told.log_softmax(1)).sum(1).mean()}, {"told": processes.mean(found)})
        return super().loss(turn, batch, step)

    def sample_for(self, batch: Batch) -> Tensor:
        """Samples for what is asked of the rows of `batch`, without a graph."""
        with torch.no_grad():
            count = len(batch["data"]) - len(batch["data"]) % self.pack
            return self.sample(count // self.pack, self._packed(batch.memo["condition"][:count]))

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """The terms of fairness, beside CTGAN's."""
        rows, options = self._unpacked(batch.memo["rows"]), self.options
        assert isinstance(options, FairLoss)
        super().add_generator_terms(losses, batch, fake)
        gap = parity(rows[:, self.favour], rows[:, self.protected.hot])
        losses.watch["parity"] = gap.detach()
        if batch.memo["fair"] and options.parity:
            losses["parity"] = options.parity * gap
        if batch.memo["fair"] and self.second is not None:
            losses["second"] = options.second * mistaken(self.second(rows), rows[:, self.protected.hot].argmax(1))

    def moment_gap(self, made: Tensor, real: Tensor, at: Tensor | slice, batch: Batch) -> Tensor:
        """As `CTGAN` has it; of a fair game without what the group is to have no part in, which the data would bring back."""
        gap = super().moment_gap(made, real, at, batch)
        if not batch.memo["fair"]:
            return gap
        options = self.options
        assert isinstance(options, FairLoss)
        group, target = (self._within(span, at) for span in (self.protected, self.target))
        if options.second:
            return gap.where(group[:, None] == group, 0)
        return gap.where(~(group[:, None] & target | target[:, None] & group), 0) if options.parity else gap

    def _within(self, span: Span, at: Tensor | slice) -> Tensor:
        """Which of the numbers `at` of rows are of a column's one-hot, bool (D,)."""
        within = torch.zeros(self.one_hots.size, dtype=torch.bool, device=self.device)
        within[span.hot] = True
        return within[at]

    def _asked(self, data: Tensor, asked: Tensor | None) -> Tensor:
        """As `CTGAN` asks, and of rows that are asked for both columns not for the target."""
        wanted = super()._asked(data, asked)
        protected, target = (wanted * (self.asked_of == column) for column in self.apart)
        both = protected.any(1, keepdim=True) & target.any(1, keepdim=True)
        # The category that the row was drawn by stays: training by sampling rests on it.
        by_target = torch.zeros_like(both) if asked is None else (self.asked_of[asked] == self.apart[1])[:, None]
        return wanted - torch.where(both, torch.where(by_target, protected, target), 0.0)

    def _unpacked(self, packs: Tensor) -> Tensor:
        return packs.unflatten(1, (self.pack, -1)).flatten(0, 1)


def parity(favoured: Tensor, groups: Tensor) -> Tensor:
    """The demographic parity difference: the largest share of a group that is favoured, less the smallest; a scalar, 0 to 1.

    favoured: (N,), how much each row has the favour, 0 to 1. groups: (N, K), how much it belongs to each group. Shares are sums
    over sums, over the whole batch (Rajabi & Garibay 2022, eq. 7, whose code divides by the size of the batch once more).
    Groups that no row belongs to do not count.
    """
    favoured, groups = precise(favoured), precise(groups)
    sums = processes.mean(torch.stack([favoured @ groups / len(groups), groups.mean(0)]))
    there = sums[1] > FEW
    shares = sums[0, there] / sums[1, there]
    return shares.max() - shares.min() if len(shares) else sums.sum() * 0


def mistaken(told: Tensor, group: Tensor) -> Tensor:
    """−E[log(1 − p(group))]: 0 where each row is taken for one of another group. told: logits (N, K); group: numbers (N,)."""
    shares = precise(told).log_softmax(1)
    others = shares.scatter(1, group[:, None], -torch.inf)
    return -others.logsumexp(1).mean()


def _favour(target: Span, desired: str | None) -> int:
    """The number of the category that is a favour. Raises UserError."""
    levels = [said(level) for level in target.column.levels]
    if desired is None:
        if len(levels) > 2:
            raise UserError(
                f"which category of {target.column.name!r} is a favour? Say --set \"model.desired='{levels[0]}'\"; "
                f"it has {', '.join(levels[:20])}"
            )
        return len(levels) - 1  # the rarest is the last
    if desired not in levels:
        raise UserError(
            f"model.desired={desired!r} is no category of {target.column.name!r}{nearest(desired, levels)}; it has {', '.join(levels[:20])}"
        )
    return levels.index(desired)
