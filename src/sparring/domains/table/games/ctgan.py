"""CTGAN (Xu et al. 2019): rows of mixed columns, drawn for a category of one of them, judged several at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.autograd import Function

from sparring.core import chance, processes
from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.exportable import Exportable
from sparring.core.game import Batch, DataSpec, Losses, Turn, Unseen
from sparring.core.passes import precise
from sparring.core.private import Rows
from sparring.domains.table.columns import Column
from sparring.domains.table.conditions import TableLabels
from sparring.domains.table.data import columns_of, log_frequency
from sparring.domains.table.networks import RowDiscriminator, RowGenerator
from sparring.domains.table.rows import OneHots, Span, spans_of
from sparring.errors import UserError
from sparring.options import call, resolve, validate
from sparring.recipe import Recipe, Section

WIDE = 4096  # numbers of a row whose moments are compared in a step: a square of them is 64 MiB
TINY = 1e-20  # below it a uniform number's logarithm would be infinite


class ModelOptions(Section):
    """The recipe's `model` section. networks: what the two roles are built from."""

    networks: ClassVar[dict[str, type[nn.Module]]] = {"generator": RowGenerator, "discriminator": RowDiscriminator}

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
        for role, network in cls.networks.items():
            plain[role] = resolve(network, plain[role], where=f"model.{role}")
        return plain


class TableLoss(LossOptions):
    """The recipe's `loss` section."""

    moments: float = pydantic.Field(
        0.0,
        ge=0,
        description="weight of the squared distance of second moments, which say how often two categories meet",
    )
    marginals: float = pydantic.Field(
        0.0,
        ge=0,
        description="weight of the squared distance from how often the data have each category and mode, which needs data.sampling=rows",
    )


class CTGAN(AdversarialGame):
    """Encoded rows, as `data.TableData` has them.

    Three things are not as in the paper. What is asked for is put into the row, where theirs pulls the generator towards it
    by a cross entropy: so it is obeyed always, and the game is only about what goes with it. Of some rows several columns
    are asked for, so that users can. And samples are drawn for categories as frequent as the data's; in training too, unless
    `data.sampling` has the rare ones drawn more often.
    """

    model_options: ClassVar[type[ModelOptions]] = ModelOptions
    loss_options: ClassVar[type[TableLoss]] = TableLoss

    options: TableLoss
    private_labels = True  # `TableDomain.describe_privately` has noise put on them
    asked_of: Tensor
    frequencies: Tensor
    rehearsed: Tensor
    shares: Tensor
    hot: Tensor

    @classmethod
    def resolve(cls, recipe: Recipe) -> dict[str, dict[str, Any]]:
        return {"model": cls.model_options.resolve(recipe.model), "loss": cls.loss_options.resolve(recipe.loss)}

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Self:
        """Build it. Raises UserError, e.g. where rows cannot be packed."""
        options = cls.model_options(**validate(cls.model_options, recipe.model, where="model"))
        size = recipe.train.batch_size
        if isinstance(size, int) and size % options.pack:
            raise UserError(
                f"train.batch_size={size}: rows are judged {options.pack} at a time, so choose a multiple of it"
            )
        loss = cls.loss_options(**validate(cls.loss_options, recipe.loss, where="loss"))
        if loss.marginals and recipe.data.get("sampling") != "rows":
            raise UserError(
                "loss.marginals: rows that are drawn by their categories have the rare ones too often: set data.sampling=rows"
            )
        columns = columns_of(spec)
        (width,) = spec.shape
        asked = cls.asked_spans(columns)
        if recipe.data.get("sampling") == "modes" and len(asked) < len(spans_of(columns)):
            raise UserError(
                "data.sampling=modes: this game is not asked for modes of numbers; say log_frequency, or rows"
            )
        asked_of = asked_columns(asked)
        networks = options.networks
        game = cls(
            call(networks["generator"], options.generator, width, options.latent, len(asked_of), where="model.generator"),
            call(
                networks["discriminator"], options.discriminator, width, asked_of, options.pack,
                where="model.discriminator",
            ),
            columns=columns,
            options=options,
            rare_often=recipe.data.get("sampling") != "rows",
            loss=loss,
            turns=recipe.train.turns,
            steps=recipe.train.steps,
        )  # fmt: skip
        game.know(options, spec)
        return game

    @classmethod
    def asked_spans(cls, columns: list[Column]) -> list[Span]:
        """The columns whose categories, or modes, rows are drawn for, in the order in which these are numbered."""
        return [span for span in spans_of(columns) if span.column.kind == "category"]

    def know(self, options: ModelOptions, spec: DataSpec) -> None:
        """Take over what a subclass must know of the data besides. Raises UserError."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        columns: list[Column],
        options: ModelOptions,
        rare_often: bool = True,
        **rules: Any,
    ) -> None:
        """rare_often: training asks for categories by the logarithm of their frequency, and not as often as the data have them."""
        labels = TableLabels(columns)
        super().__init__(
            generator, discriminator, latent=options.latent, labels=labels if labels.names else None, **rules
        )
        asked = self.asked_spans(columns)
        self.conditional = bool(asked)
        self.hard = options.hard
        self.pack, self.temperature, self.several = options.pack, options.temperature, options.several
        spans = spans_of(columns)
        self.one_hots = OneHots(spans, asked)
        counts = [torch.tensor(span.column.counts, dtype=torch.float32) for span in asked]
        nothing = torch.zeros(0)
        # All are the data's and not the training's: checkpoints do not hold them.
        buffers = {
            # of each category (or mode) that is asked for: its column, how often the data have it, and how often training asks for it
            "asked_of": asked_columns(asked),
            "frequencies": torch.cat([nothing, *(each / each.sum() for each in counts)]),
            "rehearsed": torch.cat(
                [nothing, *(log_frequency(each) if rare_often else each / each.sum() for each in counts)]
            ),
            # how often the data have each category and mode, in a row's order; of places nothing is said
            "shares": torch.cat(
                [
                    torch.tensor(
                        [0.0] * span.column.places
                        + [each / max(1, sum(span.column.counts)) for each in span.column.counts]
                    )
                    for span in spans
                ]
            ),
            # where in a row: what is asked for
            "hot": torch.cat([nothing.long(), *(torch.arange(span.hot.start, span.hot.stop) for span in asked)]),
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
        noise = gumbel(chance.uniform(rows, len(self.one_hots.order), device=self.device, rng=rng))
        return self._packed(self.one_hots.soft(made, noise, asked, self.temperature, self.hard))

    def draw(self, batch: Batch) -> Tensor:
        """Packs of rows for those of `batch`; they stay in its memo, for what looks at rows."""
        packs = super().draw(batch)
        batch.memo["rows"] = packs
        return packs

    def add_generator_terms(self, losses: Losses, batch: Batch, fake: Tensor | None) -> None:
        """How far the rows' second moments are from the data's, and the first from what is known of them, over the whole batch."""
        options = self.options
        made = batch.memo.pop("rows").unflatten(1, (self.pack, -1)).flatten(0, 1)
        if options.moments:
            real = batch["data"].unflatten(1, (self.pack, -1)).flatten(0, 1)
            at = self._places(made.shape[1], made.device)
            gap = self.moment_gap(made[:, at], real[:, at], at, batch)
            losses["moments"] = options.moments * (made.shape[1] / len(gap)) ** 2 * gap.square().sum()
        if options.marginals:
            order = self.one_hots.order
            gap = (processes.mean(precise(made).mean(0)) - self.shares).index_select(0, order)
            losses["marginals"] = options.marginals * gap.square().sum()

    def _places(self, size: int, device: torch.device) -> Tensor | slice:
        """The numbers of a row of `size` whose moments a step compares: all, or of many `WIDE`, others in every step."""
        return slice(None) if size <= WIDE else chance.uniform(size, device=device).topk(WIDE).indices

    def moment_gap(self, made: Tensor, real: Tensor, at: Tensor | slice, batch: Batch) -> Tensor:
        """How far apart second moments of both sides are, over the whole batch, (D, D). made, real: (N, D), the numbers `at` of rows."""
        return processes.mean(moments(made)) - processes.mean(moments(real))

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
        """Latents as `code`; beside them `label`, and `chance`, the uniform number that chooses the category of each column."""
        codes = super().draw_codes(count, condition=condition, rng=rng, truncation=truncation)
        codes["chance"] = self._chance(count, rng)
        return codes

    def render(self, codes: Batch) -> Batch:
        """Encoded rows as `data` (N, D), places between −1 and 1 and of each column one category; and as `numbers` (N, P) which."""
        asked = codes.get("label")
        made = self.generator(codes["code"], asked).float()
        data, numbers = self.one_hots.drawn(made, codes["chance"], asked)
        return Batch(data=data, numbers=numbers)

    def rehearse(self, count: int, *, rng: torch.Generator | None = None) -> None:
        """Samples for categories as often as training asks for them, which is what batch norm's statistics are of."""
        codes = Batch(code=self.noise(count, rng), chance=self._chance(count, rng))
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
        own = data.index_select(1, self.hot)  # the categories that it has
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
        return own * wanted.index_select(1, self.asked_of)

    def _chance(self, count: int, rng: torch.Generator | None) -> Tensor:
        """Uniform numbers (count, columns)."""
        return chance.uniform(count, len(self.one_hots.starts), device=self.device, rng=rng)

    def _packed(self, rows: Tensor) -> Tensor:
        return rows.reshape(len(rows) // self.pack, -1)


def gumbel(uniform: Tensor) -> Tensor:
    """Gumbel noise of uniform numbers, −log(−log u)."""
    return uniform.clamp_(min=TINY).log_().neg_().clamp_(min=TINY).log_().neg_()


def asked_columns(asked: Sequence[Span]) -> Tensor:
    """Of each category (or mode) that can be asked for, the number of its column among those that can, int64 (K,)."""
    return torch.repeat_interleave(torch.tensor([span.column.size for span in asked], dtype=torch.int64))


def moments(rows: Tensor) -> Tensor:
    """E[x xᵀ] of encoded rows (N, D): of two categories how often they meet, of one and itself how often it is there."""
    found: Tensor = _Moments.apply(precise(rows))
    return found


class _Moments(Function):
    """XᵀX / N, whose gradient by X is X(G + Gᵀ) / N: one product, where that of a product of two would be two."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return rows.T @ rows / len(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        return rows @ ((gradient + gradient.T) / len(rows))
