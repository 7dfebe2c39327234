"""CTGAN (Xu et al. 2019): rows of mixed columns, drawn for a category of one of them, judged several at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn

from sparring.core import chance, processes
from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.exportable import Exportable
from sparring.core.game import Batch, DataSpec, Losses, Turn, Unseen
from sparring.core.passes import precise
from sparring.core.private import Rows
from sparring.domains.table.columns import Column
from sparring.domains.table.conditions import TableLabels
from sparring.domains.table.data import columns_of, log_frequency, spans_of
from sparring.domains.table.networks import RowDiscriminator, RowGenerator
from sparring.errors import UserError
from sparring.options import call, resolve, validate
from sparring.recipe import Recipe, Section

CERTAIN = 1e6  # above any logit
TINY = 1e-20  # below it a uniform number's logarithm would be infinite


class ModelOptions(Section):
    """The recipe's `model` section."""

    latent: int = pydantic.Field(64, ge=1)
    generator: dict[str, Any] = pydantic.Field({}, description="width, depth")
    discriminator: dict[str, Any] = pydantic.Field({}, description="width, depth, dropout")
    pack: int = pydantic.Field(1, ge=1, description="rows that are judged at once (Lin et al. 2018)")
    temperature: float = pydantic.Field(0.2, gt=0, description="of the Gumbel softmax in training")
    hard: bool = pydantic.Field(
        True, description="the discriminator sees one category a column, with the gradient of the soft ones"
    )
    several: float = pydantic.Field(
        0.2, ge=0, le=1, description="share of rows for which more than one column's category is asked for"
    )

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The section validated, the networks' own options filled in. Raises UserError."""
        plain = validate(cls, values, where="model")
        for role, network in (("generator", RowGenerator), ("discriminator", RowDiscriminator)):
            plain[role] = resolve(network, plain[role], where=f"model.{role}")
        return plain


class TableLoss(LossOptions):
    """The recipe's `loss` section."""

    moments: float = pydantic.Field(
        0.0,
        ge=0,
        description="weight of the squared distance of second moments, which say how often two categories meet",
    )


class CTGAN(AdversarialGame):
    """Encoded rows, as `data.TableData` has them.

    Three things are not as in the paper. What is asked for is put into the row, where theirs pulls the generator towards it
    by a cross entropy: so it is obeyed always, and the game is only about what goes with it. Of some rows several columns
    are asked for, so that users can. And samples are drawn for categories as frequent as the data's, where training draws
    the rare ones more often.
    """

    options: TableLoss
    private_labels = True  # `TableDomain.describe_privately` has noise put on them
    asked_of: Tensor
    frequencies: Tensor
    rehearsed: Tensor
    part_of: Tensor
    places: Tensor
    hot: Tensor

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        return {"model": ModelOptions.resolve(recipe.model), "loss": TableLoss.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build it. Raises UserError, e.g. where rows cannot be packed."""
        options = ModelOptions(**validate(ModelOptions, recipe.model, where="model"))
        size = recipe.train.batch_size
        if isinstance(size, int) and size % options.pack:
            raise UserError(
                f"train.batch_size={size}: rows are judged {options.pack} at a time, so choose a multiple of it"
            )
        columns = columns_of(spec)
        (width,) = spec.shape
        count = len(TableLabels(columns).names)
        return cls(
            call(RowGenerator, options.generator, width, options.latent, count, where="model.generator"),
            call(RowDiscriminator, options.discriminator, width, count, options.pack, where="model.discriminator"),
            columns=columns,
            options=options,
            loss=TableLoss(**validate(TableLoss, recipe.loss, where="loss")),
            turns=recipe.train.turns,
            steps=recipe.train.steps,
        )

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        columns: list[Column],
        options: ModelOptions,
        **rules: Any,
    ) -> None:
        labels = TableLabels(columns)
        super().__init__(
            generator, discriminator, latent=options.latent, labels=labels if labels.names else None, **rules
        )
        self.hard = options.hard
        self.pack, self.temperature, self.several = options.pack, options.temperature, options.several
        spans = spans_of(columns)
        categories = [span for span in spans if span.column.kind == "category"]
        self.sizes = [(span.column.places, span.column.size) for span in spans]
        self.parts_of_rows = [size for place, modes in self.sizes for size in (place, modes) if size]
        counts = [torch.tensor(span.column.counts, dtype=torch.float32) for span in categories]
        nothing = torch.zeros(0)
        # All are the data's and not the training's: checkpoints do not hold them.
        buffers = {
            # of each category: its column, how often the data have it, and how often training asks for it
            "asked_of": torch.repeat_interleave(torch.tensor([len(each) for each in counts], dtype=torch.int64)),
            "frequencies": torch.cat([nothing, *(each / each.sum() for each in counts)]),
            "rehearsed": torch.cat([nothing, *map(log_frequency, counts)]),
            # of each number of a row: which part it belongs to, a place or the one-hot of a column
            "part_of": torch.repeat_interleave(torch.tensor(self.parts_of_rows)),
            # where in a row: the places of numbers, and the categories
            "places": torch.tensor([span.start for span in spans if span.column.places], dtype=torch.int64),
            "hot": torch.cat([nothing.long(), *(torch.arange(span.hot.start, span.hot.stop) for span in categories)]),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    @classmethod
    def without_data(cls, recipe: Recipe) -> list[str]:
        """The generator sees no rows, so it has nothing to match moments with, nor what several columns of a row ask for."""
        return ["loss.moments=0", "model.several=0"]

    def require_private(self) -> None:
        """Raise UserError where rows are judged several at once."""
        super().require_private()
        if self.pack > 1:
            raise UserError(f"private.epsilon: model.pack={self.pack} judges rows together: set model.pack=1")

    def own_rows(self, batch: Batch, step: int) -> Rows:
        """A row, and the category that is asked for of it: its own, of a column that is drawn."""
        data = batch["data"]
        own = (self.disturb(data, step),)
        return (*own, self._asked(data, None)) if self.conditional else own

    @property
    def conditions(self) -> tuple[str, ...]:
        """`column=category`, of all columns."""
        return tuple(self.classes)

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """A side of the game, on rows in packs."""
        if isinstance(batch, Unseen):
            return super().loss(turn, batch, step)
        data = batch["data"]
        # What does not fill a pack, at the end of an epoch, is left out.
        count = len(data) - len(data) % self.pack
        if not count:
            raise UserError(f"a batch of {len(data)} rows does not fill a pack of {self.pack}: set model.pack lower")
        inner = Batch(data=self._packed(data[:count]))
        if self.conditional:
            if "condition" not in batch.memo:
                batch.memo["condition"] = self._asked(data, batch.get("asked"))
            inner["label"] = self._packed(batch.memo["condition"][:count])
        inner.memo = batch.memo
        return super().loss(turn, inner, step)

    def sample(self, count: int, label: Tensor | None, rng: torch.Generator | None = None) -> Tensor:
        """Packs of rows (count, pack·D), soft where there are categories, for what is asked of them (count, pack·K)."""
        rows = count * self.pack
        asked = None if label is None else label.unflatten(1, (self.pack, -1)).flatten(0, 1)
        made = self.generator(self.noise(rows, rng), asked)
        noisy = (made + self._gumbel(rows, rng)) / self.temperature
        # A place is a part of its own, whose softmax of one number is then put right.
        parts = [part.softmax(1) for part in noisy.split(self.parts_of_rows, 1)]
        soft = torch.cat(parts, 1)
        if self.hard:
            with torch.no_grad():
                largest = torch.stack([part.amax(1) for part in parts], 1)[:, self.part_of]
                change = (soft == largest).to(soft.dtype) - soft
            soft = soft + change
        soft = soft.index_copy(1, self.places, made[:, self.places].tanh().to(soft.dtype))
        return self._packed(self._obeying(soft, asked))

    def draw(self, batch: Batch) -> Tensor:
        """Packs of rows for those of `batch`; they stay in its memo, for what looks at rows."""
        packs = super().draw(batch)
        batch.memo["rows"] = packs
        return packs

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """How far the rows' second moments are from the data's, over the whole batch."""
        weight = self.options.moments
        rows = batch.memo.pop("rows")
        if weight:
            made, real = (moments(packs.unflatten(1, (self.pack, -1)).flatten(0, 1)) for packs in (rows, batch["data"]))
            losses["moments"] = weight * (processes.mean(made) - processes.mean(real)).square().sum()

    def draw_labels(self, count: int, rng: torch.Generator | None = None, condition: Tensor | None = None) -> Tensor:
        """What to ask for (count, K): `condition`, and where it asks for nothing, a category as often as the data have it."""
        return self._drawn(self.frequencies, count, rng, condition)

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: float = 1.0,
    ) -> Batch:
        """Latents as `code`; beside them `label`, and `gumbel`, the noise that chooses among categories."""
        codes = super().draw_codes(count, condition=condition, rng=rng, truncation=truncation)
        codes["gumbel"] = self._gumbel(count, rng)
        return codes

    def render(self, codes: Batch) -> Batch:
        """Encoded rows as `data` (N, D): places between −1 and 1, and of each column one category."""
        asked = codes.get("label")
        made = self.generator(codes["code"], asked).float()
        # The largest of logits with Gumbel noise is drawn as their softmax says; what is asked for, is the largest for certain.
        noisy = made + codes["gumbel"]
        if asked is not None:
            noisy.index_add_(1, self.hot, asked.to(noisy.dtype), alpha=CERTAIN)
        data = torch.zeros_like(made)
        data[:, self.places] = made[:, self.places].tanh()
        start, chosen = 0, []
        for place, size in self.sizes:
            start += place
            chosen.append(start + noisy[:, start : start + size].argmax(1))
            start += size
        return Batch(data=data.scatter_(1, torch.stack(chosen, 1), 1.0))

    def rehearse(self, count: int, *, rng: torch.Generator | None = None) -> None:
        """Samples for categories as often as training asks for them, which is what batch norm's statistics are of."""
        codes = Batch(code=self.noise(count, rng), gumbel=self._gumbel(count, rng))
        if self.conditional:
            codes["label"] = self._drawn(self.rehearsed, count, rng, None)
        self.render(codes)

    def exportable(self) -> Exportable | None:
        """None: a row means something only to `sparring generate`, which knows the columns."""
        return None

    def _drawn(self, frequencies: Tensor, count: int, rng: torch.Generator | None, condition: Tensor | None) -> Tensor:
        # A column first, each as likely as another.
        categories = chance.choices(frequencies, count, rng)
        drawn = torch.zeros(count, len(frequencies), device=frequencies.device)
        drawn.scatter_(1, categories[:, None], 1.0)
        if condition is None:
            return drawn
        condition = condition.to(drawn)
        return torch.where(condition.any(1, keepdim=True), condition, drawn)

    def _asked(self, data: Tensor, asked: Tensor | None) -> Tensor:
        """What is asked for of each row (N, K): the category that it was chosen by, and now and then those of more columns."""
        own = data[:, self.hot]  # the categories that it has
        columns = int(self.asked_of[-1]) + 1
        device = data.device
        if asked is None:
            chosen = chance.integers(0, columns, len(data), device=device)
        else:
            chosen = self.asked_of[asked]
        # A share that differs from row to row, so that few columns and many are asked for.
        share = chance.uniform(len(data), 1, device=device)
        several = chance.uniform(len(data), 1, device=device) < self.several
        wanted = several & (chance.uniform(len(data), columns, device=device) < share)
        wanted.scatter_(1, chosen[:, None], True)
        return own * wanted[:, self.asked_of]

    def _obeying(self, rows: Tensor, asked: Tensor | None) -> Tensor:
        """Rows whose columns have the categories that are asked for."""
        if asked is None:
            return rows
        columns = int(self.asked_of[-1]) + 1
        of_column = rows.new_zeros(len(rows), columns).index_add_(1, self.asked_of, asked.to(rows.dtype))
        said = of_column[:, self.asked_of]
        return rows.index_copy(1, self.hot, torch.where(said > 0, asked.to(rows.dtype), rows[:, self.hot]))

    def _gumbel(self, count: int, rng: torch.Generator | None) -> Tensor:
        """Gumbel noise (count, D)."""
        size = sum(place + size for place, size in self.sizes)
        uniform = chance.uniform(count, size, device=self.device, rng=rng)
        return -(-(uniform.clamp(min=TINY)).log()).clamp(min=TINY).log()

    def _packed(self, rows: Tensor) -> Tensor:
        return rows.reshape(len(rows) // self.pack, -1)


def moments(rows: Tensor) -> Tensor:
    """E[x xᵀ] of encoded rows (N, D): of two categories how often they meet, of one and itself how often it is there."""
    rows = precise(rows)
    return rows.T @ rows / len(rows)
