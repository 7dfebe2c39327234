"""Tables: from the recipe's `data` section to batches of encoded rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pydantic
import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.data.frames import pandas, read_frame
from sparring.domains.table.columns import Column, fit_column
from sparring.domains.table.constraints import Constraints, Plan, fit_plan
from sparring.domains.table.metadata import read_metadata
from sparring.domains.table.rows import OneHots, spans_of
from sparring.errors import UserError, nearest
from sparring.recipe import Section

if TYPE_CHECKING:
    from pandas import DataFrame


class TableOptions(Section):
    """The recipe's `data` section."""

    source: str = pydantic.Field("", description="a .csv, .tsv, .parquet or .xlsx file, or the URL of a database")
    query: str | None = pydantic.Field(
        None, description="of a database: a SELECT, in place of a table named in the URL"
    )
    columns: dict[str, dict[str, Any]] = pydantic.Field({}, description="corrections: {age: {kind: integer}}")
    metadata: str | None = pydantic.Field(
        None, description="a JSON file that says what columns are; `columns` say more"
    )
    target: str | None = pydantic.Field(
        None, description="the column that a model trained on samples is to foretell; none: the last with categories"
    )
    max_levels: int = pydantic.Field(256, ge=2, description="of a column; the rarest beyond share one")
    constraints: Constraints = pydantic.Field(Constraints(), description="what holds in every row, see docs/tables.md")
    log_tails: bool = pydantic.Field(
        False, description="modes of numbers with a long tail are of their logarithm; columns.NAME.log says it of one"
    )
    protected: str | None = pydantic.Field(
        None, description="the column of categories between which samples, and models trained on them, are to be fair"
    )
    sampling: Literal["log_frequency", "modes", "rows"] = pydantic.Field(
        "log_frequency",
        description="rows of a batch: by a category drawn by the log of its frequency; modes: or by a mode of numbers; rows: as they come",
    )


def columns_of(spec: DataSpec) -> list[Column]:
    """The columns that a specification holds."""
    return [Column(**each) for each in spec.extra["columns"]]


def plan_of(spec: DataSpec) -> Plan | None:
    """How constraints are kept, where a specification has some."""
    return Plan.read(spec.extra.get("plan"))


def open_table(
    options: TableOptions,
    columns: list[Column] | None = None,
    plan: Plan | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> TableData:
    """Read a table; columns, plan: fitted before, to which it must fit. progress: called with columns (done, all). Raises UserError."""
    tick = progress or (lambda done, total: None)
    if not options.source:
        raise UserError("there is no data: name a file with --data")
    frame = read_frame(options.source, options.query)
    if columns is None:
        if len(frame) < 2:
            raise UserError(f"{options.source}: holds one row; a distribution needs at least two")
        known = column_options(options, frame.columns.tolist())
        columns = _fit(frame, known, options, tick)
        plan = fit_plan(options.constraints, frame, columns)
        if plan is not None:
            shown = {column.name: column for column in columns}
            frame = plan.forward(frame)
            own = {joint.name: {"kind": "category"} for joint in plan.joints}
            own |= {each.name: {"kind": "number"} for each in plan.differences}
            fitted = {each.name: each for each in _fit(frame[[*own]], own, options, tick)}
            columns = [fitted.get(name) or shown[name] for name in frame.columns]
        if not spans_of(columns):
            raise UserError(f"{options.source}: no column varies, so there is nothing to learn")
    else:
        needed = [each.name for each in (columns if plan is None else plan.shown)]
        if lacking := [name for name in needed if name not in frame.columns]:
            raise UserError(f"{options.source}: has no column {lacking[0]!r}")
        frame = frame if plan is None else plan.forward(frame)
    target = _target(options, columns if plan is None else plan.shown)
    protected = _protected(options, columns, target)
    return TableData(options.source, frame, columns, options.sampling, target, protected, plan)


def _fit(
    frame: DataFrame, known: Mapping[str, Mapping[str, Any]], options: TableOptions, tick: Callable[[int, int], None]
) -> list[Column]:
    columns = []
    for number, name in enumerate(frame.columns):
        tick(number, len(frame.columns))
        column = fit_column(frame[name], known.get(name, {}), options.max_levels, log_tails=options.log_tails)
        columns += [] if column is None else [column]
    return columns


def column_options(options: TableOptions, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is said of each of the columns `names`, in metadata and, above that, in the recipe. Raises UserError."""
    if strange := [name for name in options.columns if name not in names]:
        raise UserError(
            f"data.columns names {strange[0]!r}, which {options.source} has not{nearest(strange[0], names)}"
        )
    said = {} if options.metadata is None else read_metadata(options.metadata, names)
    for name, own in options.columns.items():
        # Another kind makes nonsense of what was said of the first.
        said[name] = own if "kind" in own else {**said.get(name, {}), **own}
    return said


def _target(options: TableOptions, columns: Sequence[Column]) -> str | None:
    names = [span.column.name for span in spans_of(columns)]
    if options.target is not None and options.target not in names:
        raise UserError(f"data.target={options.target!r} is no column that is modelled{nearest(options.target, names)}")
    categories = [column.name for column in columns if column.kind == "category" and column.size > 1]
    return options.target or (categories[-1] if categories else None)


def _protected(options: TableOptions, columns: Sequence[Column], target: str | None) -> str | None:
    name = options.protected
    groups = [column.name for column in columns if column.kind == "category"]
    if name is not None and name not in groups:
        raise UserError(f"data.protected={name!r} is no column of categories{nearest(name, groups)}")
    if name is not None and name == target:
        raise UserError(f"data.protected={name!r} is the target, too: set data.target to another column")
    return name


class TableData:
    """Rows of a table, kept as a code and a place a column, encoded when a batch is asked for.

    spec: shape (D,) of an encoded row; in `extra`, the `columns`, `target`, the one that models foretell, `protected`, and where
    there are constraints the `plan` by which they are kept; then the columns are those of a table as games see it, and so is
    `frame`.
    A batch of training has training-by-sampling in it (Xu et al. 2019, section 4.3): for each sample a category column is
    drawn, of it a category by log(1 + count), and of its rows one; `asked` (N,) is the category's number among those of
    all columns. With the sampling `modes` columns of numbers are drawn, too, and of them a mode (Zhao et al. 2022); these
    are numbered after all categories. It is done here, where the rows are, and not by the trainer's order, which knows no categories, nor in
    the game, whose checkpoint would have to hold them.
    """

    spec: DataSpec
    fingerprint: str
    broken: list[tuple[str, str]]

    def __init__(
        self,
        name: str,
        frame: DataFrame,
        columns: list[Column],
        sampling: str = "rows",
        target: str | None = None,
        protected: str | None = None,
        plan: Plan | None = None,
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
            (width,),
            (),
            len(frame),
            {"columns": [each.plain() for each in columns], "target": target, "protected": protected},
        )
        if plan is not None:
            self.spec.extra["plan"] = plan.plain()
        chosen = [n for n, span in enumerate(spans) if span.column.kind == "category"]
        chosen += numbers if sampling == "modes" else []
        self._weights = torch.zeros(0)
        if sampling != "rows" and chosen:
            self._index(chosen, [spans[n].column.size for n in chosen])
        hashed = pandas().util.hash_pandas_object(frame, index=False).to_numpy()
        text = repr(
            (list(frame.columns), self.spec.extra["columns"], sampling, *([] if plan is None else [plan.plain()]))
        )
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


def decode(
    data: Tensor,
    columns: Sequence[Column],
    start: int = 0,
    *,
    rows: Tensor | None = None,
    only: Iterable[str] | None = None,
    numbers: Tensor | None = None,
) -> DataFrame:
    """Encoded rows as a table of the original columns. Raises UserError for NaN.

    start: rows before these, from which keys count on. rows: the numbers that these were drawn under (N,), on which rare levels
    depend, and not on how rows are cut into batches; None: those from `start`. only: these columns alone.
    numbers: the category or mode of each column (N, P), where a game has told them already; see `OneHots.numbers`.
    """
    if not bool(torch.isfinite(data.sum())):  # of numbers between -1 and 1, which come to infinity by no other way
        raise UserError(
            "the samples hold NaN or infinite values: the generator has diverged; use an earlier checkpoint"
        )
    encoded, spans = data.detach().cpu(), spans_of(columns)
    where = {span.column.name: span for span in spans}
    found = OneHots(spans).numbers(encoded) if numbers is None else numbers.cpu()
    codes = dict(zip(where, found.T.contiguous().numpy(), strict=True))
    drawn = np.arange(start, start + len(data)) if rows is None else rows.cpu().numpy()
    luck = np.asarray(drawn, np.uint64)
    for number in codes.values():  # rows that another seed draws have other luck
        luck = luck * np.uint64(0x9E3779B97F4A7C15) + number.astype(np.uint64) + np.uint64(1)
    made, none = {}, np.zeros(len(data), np.int64)
    chosen = None if only is None else set(only)
    for column in columns:
        if chosen is not None and column.name not in chosen:
            continue
        span = where.get(column.name)
        place = encoded[:, span.start].double().numpy() if span and column.places else none.astype(float)
        made[column.name] = column.decode(codes.get(column.name, none), place, luck, start)
    return pandas().DataFrame(made, copy=False)


def encode(frame: DataFrame, columns: Sequence[Column]) -> Tensor:
    """A table as encoded rows (N, D), float32: the inverse of `decode`. Raises UserError for what the columns have not."""
    spans = spans_of(columns)
    rows = torch.zeros(len(frame), spans[-1].hot.stop)
    for span in spans:
        number, place = span.column.code(frame[span.column.name])
        rows[torch.arange(len(frame)), torch.from_numpy(number) + span.hot.start] = 1
        if span.column.places:
            rows[:, span.start] = torch.from_numpy(place).float()
    return rows
