"""Tables: from the recipe's `data` section to batches of encoded rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pydantic
import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.data.frames import pandas, read_frame
from sparring.domains.table.columns import Column, fit_column
from sparring.errors import UserError, nearest
from sparring.recipe import Section

if TYPE_CHECKING:
    from pandas import DataFrame


class TableOptions(Section):
    """The recipe's `data` section."""

    source: str = pydantic.Field("", description="a .csv, .tsv or .parquet file")
    columns: dict[str, dict[str, Any]] = pydantic.Field({}, description="corrections: {age: {kind: integer}}")
    target: str | None = pydantic.Field(
        None, description="the column that a model trained on samples is to foretell; none: the last with categories"
    )
    max_levels: int = pydantic.Field(256, ge=2, description="of a column; the rarest beyond share one")
    sampling: Literal["log_frequency", "rows"] = pydantic.Field(
        "log_frequency", description="rows of a batch: by a category drawn by the log of its frequency, or as they come"
    )


@dataclass(frozen=True)
class Span:
    """Where a column lies in an encoded row: its place (if it has one) at `start`, then a one-hot of `size`."""

    column: Column
    start: int

    @property
    def hot(self) -> slice:
        """The one-hot."""
        return slice(self.start + self.column.places, self.start + self.column.places + self.column.size)


def spans_of(columns: Sequence[Column]) -> list[Span]:
    """The spans of an encoded row, of those columns that are modelled."""
    spans, start = [], 0
    for column in columns:
        if column.size:
            spans.append(Span(column, start))
            start += column.places + column.size
    return spans


def columns_of(spec: DataSpec) -> list[Column]:
    """The columns that a specification holds."""
    return [Column(**each) for each in spec.extra["columns"]]


def open_table(
    options: TableOptions, columns: list[Column] | None = None, *, progress: Callable[[int, int], None] | None = None
) -> TableData:
    """Read a table; columns: fitted before, to which it must fit. progress: called with columns (done, all). Raises UserError."""
    tick = progress or (lambda done, total: None)
    if not options.source:
        raise UserError("there is no data: name a file with --data")
    frame = read_frame(options.source)
    if columns is None:
        if strange := [name for name in options.columns if name not in frame.columns]:
            raise UserError(f"data.columns names {strange[0]!r}, which {options.source} has not")
        if len(frame) < 2:
            raise UserError(f"{options.source}: holds one row; a distribution needs at least two")
        columns = []
        for number, name in enumerate(frame.columns):
            tick(number, len(frame.columns))
            column = fit_column(frame[name], options.columns.get(name, {}), options.max_levels)
            columns += [] if column is None else [column]
        if not spans_of(columns):
            raise UserError(f"{options.source}: no column varies, so there is nothing to learn")
    if lacking := [each.name for each in columns if each.name not in frame.columns]:
        raise UserError(f"{options.source}: has no column {lacking[0]!r}")
    return TableData(options.source, frame, columns, options.sampling, _target(options, columns))


def _target(options: TableOptions, columns: Sequence[Column]) -> str | None:
    names = [span.column.name for span in spans_of(columns)]
    if options.target is not None and options.target not in names:
        raise UserError(f"data.target={options.target!r} is no column that is modelled{nearest(options.target, names)}")
    categories = [column.name for column in columns if column.kind == "category" and column.size > 1]
    return options.target or (categories[-1] if categories else None)


class TableData:
    """Rows of a table, kept as a code and a place a column, encoded when a batch is asked for.

    spec: shape (D,) of an encoded row; in `extra`, the `columns`, and `target`, the one that models foretell.
    A batch of training has training-by-sampling in it (Xu et al. 2019, section 4.3): for each sample a category column is
    drawn, of it a category by log(1 + count), and of its rows one; `asked` (N,) is the category's number among those of
    all columns. It is done here, where the rows are, and not by the trainer's order, which knows no categories, nor in
    the game, whose checkpoint would have to hold them.
    """

    spec: DataSpec
    fingerprint: str
    broken: list[tuple[str, str]]

    def __init__(
        self, name: str, frame: DataFrame, columns: list[Column], sampling: str = "rows", target: str | None = None
    ) -> None:
        spans = spans_of(columns)
        coded = [span.column.code(frame[span.column.name]) for span in spans]
        self.name, self.columns, self.broken = name, columns, []
        self._codes = torch.from_numpy(np.stack([number for number, _ in coded], 1).astype(np.int16))
        numbers = [n for n, span in enumerate(spans) if span.column.places]
        self._places = torch.from_numpy(
            np.stack([coded[n][1] for n in numbers], 1).astype(np.float32)
            if numbers
            else np.zeros((len(frame), 0), np.float32)
        )
        self._offsets = torch.tensor([span.hot.start for span in spans])
        self._starts = torch.tensor([spans[n].start for n in numbers], dtype=torch.int64)
        width = spans[-1].hot.stop
        self.spec = DataSpec(
            (width,), (), len(frame), {"columns": [each.plain() for each in columns], "target": target}
        )
        categories = [n for n, span in enumerate(spans) if span.column.kind == "category"]
        self._weights = torch.zeros(0)
        if sampling == "log_frequency" and categories:
            self._index(categories, [spans[n].column.size for n in categories])
        hashed = pandas().util.hash_pandas_object(frame, index=False).to_numpy()
        text = repr((list(frame.columns), self.spec.extra["columns"], sampling))
        self.fingerprint = hashlib.blake2b(hashed.tobytes() + text.encode(), digest_size=16).hexdigest()

    def _index(self, categories: list[int], sizes: list[int]) -> None:
        counts = [torch.bincount(self._codes[:, n].long(), minlength=size) for n, size in zip(categories, sizes)]  # noqa: B905
        self._counts = torch.cat(counts)
        self._weights = torch.cat([log_frequency(each) for each in counts]) / len(counts)
        self._rows = torch.cat([self._codes[:, n].argsort(stable=True) for n in categories])
        self._first = self._counts.cumsum(0) - self._counts

    def describe(self, columns: list[Column]) -> None:
        """Take other descriptions of the same columns, whose categories may stand in another order."""
        for number, (old, new) in enumerate(zip(spans_of(self.columns), spans_of(columns), strict=True)):
            if old.column.kind == "category":
                place = {level: index for index, level in enumerate(new.column.levels)}
                order = torch.tensor([place[level] for level in old.column.levels], dtype=self._codes.dtype)
                self._codes[:, number] = order[self._codes[:, number].long()]
        self.columns = columns
        self.spec = replace(self.spec, extra={**self.spec.extra, "columns": [each.plain() for each in columns]})

    def __len__(self) -> int:
        return len(self._codes)

    def to(self, device: torch.device) -> Self:
        """Keep all rows on `device` from now on."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        """Encoded rows, `data` float32 (N, D): of a training also `asked` (N,), and other rows than those at `indices`."""
        device = self._codes.device
        rows, extra = indices.to(device), {}
        if augment and len(self._weights):
            asked = torch.multinomial(self._weights, len(rows), replacement=True)
            among = (torch.rand(len(rows), device=device) * self._counts[asked]).long()
            rows, extra = self._rows[self._first[asked] + among.clamp(max=self._counts[asked] - 1)], {"asked": asked}
        data = torch.zeros(len(rows), *self.spec.shape, device=device)
        data.scatter_(1, self._codes[rows].long() + self._offsets, 1.0)
        data[:, self._starts] = self._places[rows]
        return Batch(data=data, **extra)


def log_frequency(counts: Tensor) -> Tensor:
    """Probabilities of a column's categories in training, in proportion to log(1 + count)."""
    weights = torch.log1p(counts.float())
    return weights / weights.sum()


def decode(data: Tensor, columns: Sequence[Column], start: int = 0) -> DataFrame:
    """Encoded rows as a table of the original columns. start: rows before these. Raises UserError for NaN."""
    if not bool(torch.isfinite(data).all()):
        raise UserError(
            "the samples hold NaN or infinite values: the generator has diverged; use an earlier checkpoint"
        )
    rows, rng = data.detach().cpu(), np.random.default_rng(start)
    where = {span.column.name: span for span in spans_of(columns)}
    made, none = {}, np.zeros(len(rows), np.int64)
    for column in columns:
        span = where.get(column.name)
        number = rows[:, span.hot].numpy().argmax(1) if span else none
        place = rows[:, span.start].double().numpy() if span and column.places else none.astype(float)
        made[column.name] = column.decode(number, place, rng, start)
    return pandas().DataFrame(made)
