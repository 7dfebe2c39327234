"""What holds in every row of a table, and is to hold in every sample.

Where it can be, a constraint is kept by construction: games see other columns than users do. In place of the greater of two
ordered columns they see how much greater it is; columns of which only some combinations occur are one column of combinations;
numbers never leave the range of the data. What is left (unique rows, a column above two others) is kept by rejection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pydantic
from numpy.typing import NDArray

from sparring.data.frames import pandas
from sparring.domains.table.columns import NUMBERS, Column, numbers
from sparring.domains.table.conditions import Term
from sparring.domains.table.where import Range, allowed
from sparring.errors import UserError, nearest
from sparring.recipe import Section

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Constraints(Section):
    """What holds in every row. Missing values break no range and no order."""

    ranges: dict[str, tuple[int | float | str | None, int | float | str | None]] = pydantic.Field(
        {}, description="{age: [18, null]}: numbers, dates or ordered categories, ends included"
    )
    order: list[list[str]] = pydantic.Field([], description="[[start, end]]: each of these columns is at most the next")
    strict: list[list[str]] = pydantic.Field(
        [], description="[[start, end]]: each of these columns is less than the next"
    )
    unique: list[list[str]] = pydantic.Field(
        [], description="[[name, born]]: no two rows have the same in all of these"
    )
    together: list[list[str]] = pydantic.Field(
        [], description="[[city, country]]: only combinations that the data have"
    )


@dataclass(frozen=True)
class Difference:
    """A column `name` in place of `high`: by how much that is above `low`, in `unit`s; above `anchor` where `low` is missing."""

    name: str
    low: str
    high: str
    strict: bool
    unit: float
    anchor: float


@dataclass(frozen=True)
class Joint:
    """A column `name` in place of several: their values as a JSON list, numbers as `columns.numbers` has them."""

    name: str
    columns: list[str]


@dataclass(frozen=True)
class Plan:
    """How constraints are kept, plain JSON values. shown: the columns as users see them.

    ranks: of pairs of ordered categories, which are compared, all categories in their order.
    """

    shown: list[Column]
    constraints: Constraints
    differences: list[Difference] = field(default_factory=list)
    joints: list[Joint] = field(default_factory=list)
    ranks: dict[str, list[Any]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict, from which `read` makes it again."""
        return {**asdict(self), "constraints": self.constraints.model_dump(mode="json")}

    @classmethod
    def read(cls, values: Mapping[str, Any] | None) -> Self | None:
        """A plan from what `plain` gave, None from None."""
        if values is None:
            return None
        return cls(
            [Column(**each) for each in values["shown"]],
            Constraints(**values["constraints"]),
            [Difference(**each) for each in values["differences"]],
            [Joint(**each) for each in values["joints"]],
            values["ranks"],
        )

    def forward(self, frame: DataFrame) -> DataFrame:
        """A table as games see it, from one as users do."""
        made = {column.name: frame[column.name] for column in self.shown}
        for joint in self.joints:
            place = {name: self._column(name) for name in joint.columns}
            made = _replaced(
                made, joint.columns, joint.name, _joined([_plain(frame[name], place[name]) for name in place])
            )
        for each in self.differences:
            low, high = (self._numbers(frame, name) for name in (each.low, each.high))
            above = (high - np.where(np.isnan(low), each.anchor, low)) / each.unit
            made = _replaced(made, [each.high], each.name, pandas().Series(above))
        return pandas().DataFrame({name: values.reset_index(drop=True).rename(name) for name, values in made.items()})

    def backward(self, frame: DataFrame) -> DataFrame:
        """The inverse of `forward`, for rows that games make."""
        made = {name: frame[name] for name in frame.columns}
        for joint in self.joints:
            places, texts = pandas().factorize(made.pop(joint.name))
            for number, name in enumerate(joint.columns):
                values = [json.loads(text)[number] for text in texts]
                made[name] = _valued(values, self._column(name)).iloc[places].reset_index(drop=True)
        for each in self.differences:
            low, column = numbers_of(made[each.low], self._column(each.low)), self._column(each.high)
            above = made.pop(each.name).to_numpy(float, na_value=np.nan)
            made[each.high] = _above(low, above, each, column)
        return pandas().DataFrame({column.name: made[column.name] for column in self.shown})

    def broken(self, frame: DataFrame, *, unique: bool = True) -> Iterator[tuple[str, Bools]]:
        """Each constraint in words, and which rows of a table as users see it break it: of equal ones all but the first.

        unique: with those that are about rows together.
        """
        for name, ends in self.constraints.ranges.items():
            column = self._column(name)
            terms = [Term(column, sign, end) for sign, end in zip((">=", "<="), ends, strict=True) if end is not None]
            yield " and ".join(map(str, terms)), ~_within(column, terms, frame[name])
        for low, high, strict in _pairs(self.constraints):
            left, right = (self._numbers(frame, name) for name in (low, high))
            yield f"{low} {'<' if strict else '<='} {high}", (left >= right) if strict else (left > right)
        for names in self.constraints.unique if unique else ():
            yield f"unique {', '.join(names)}", frame.duplicated(names).to_numpy()

    def joint(self, levels: Mapping[str, set[Any]], columns: Sequence[Column]) -> dict[str, tuple[Column, set[Any]]]:
        """Of each column of combinations in which some of these are: the column, and those that have only such levels.

        columns: as games have them.
        """
        known = {column.name: column for column in columns}
        found = {}
        for joint in self.joints:
            named = [(number, levels[name]) for number, name in enumerate(joint.columns) if name in levels]
            if named and joint.name in known:
                column = known[joint.name]
                texts = [*(column.levels[:-1] if column.rare else column.levels), *column.rare]
                wanted = {text for text in texts if all(json.loads(text)[number] in own for number, own in named)}
                found[joint.name] = column, wanted
        return found

    @property
    def words(self) -> list[str]:
        """What is kept by looking at rows."""
        pairs = [f"{low} {'<' if strict else '<='} {high}" for low, high, strict in _pairs(self.constraints)]
        return pairs + [f"unique {', '.join(names)}" for names in self.unique]

    @property
    def unique(self) -> list[list[str]]:
        """The columns that no two samples may have the same in all of; with a key among them, none has."""
        return [names for names in self.constraints.unique if all(self._column(name).kind != "key" for name in names)]

    def _column(self, name: str) -> Column:
        return next(column for column in self.shown if column.name == name)

    def _numbers(self, frame: DataFrame, name: str) -> Floats:
        """The numbers of a column, of ordered categories their ranks; NaN for what is missing."""
        if name not in self.ranks:
            return numbers_of(frame[name], self._column(name))
        rank = {level: float(number) for number, level in enumerate(self.ranks[name])}
        return frame[name].astype(object).map(rank).to_numpy(float)


def fit_plan(constraints: Constraints, frame: DataFrame, shown: Sequence[Column]) -> Plan | None:
    """How `constraints` are kept for a table with the columns `shown`; None where there are none.

    Raises UserError for one that cannot be, and one that a row of the table breaks.
    """
    if constraints == Constraints():
        return None
    plan = plan_for(constraints, shown)
    for words, rows in plan.broken(frame):
        if rows.any():
            raise UserError(
                f"data.constraints: {int(rows.sum()):,} of {len(rows):,} rows break {words!r}, the first being row {int(rows.argmax())} "
                "(from 0): mend the data, or leave the constraint out; `sparring data check` names the rows"
            )
    return plan


def plan_for(constraints: Constraints, shown: Sequence[Column]) -> Plan:
    """The plan alone, whatever rows there are. Raises UserError for a constraint that cannot be."""
    known = {column.name: column for column in shown}
    groups = [*constraints.unique, *constraints.together, *constraints.order, *constraints.strict]
    for name in [*constraints.ranges, *(name for group in groups for name in group)]:
        if name not in known:
            raise UserError(
                f"data.constraints names {name!r}, which is no column that is modelled{nearest(name, known)}"
            )
    joints: list[Joint] = []
    for names in constraints.together:
        taken = [name for joint in joints for name in joint.columns]
        if len(names) < 2 or len(set(names)) < len(names):
            raise UserError(f"data.constraints.together: {names} are not several columns")
        for name in names:
            if known[name].kind == "key" or name in taken:
                what = "numbers rows" if known[name].kind == "key" else "is in two of the lists: make one of them"
                raise UserError(f"data.constraints.together: {name!r} {what}")
        joints.append(Joint(_free(" & ".join(names), known), list(names)))
    differences, ranks = _ordered(constraints, known, {name for joint in joints for name in joint.columns})
    return Plan(list(shown), constraints, differences, joints, ranks)


def numbers_of(values: Series, column: Column) -> Floats:
    """Values as `columns.numbers` has them."""
    return numbers(values, column.kind, column.form)


class Kept:
    """Rows that a plan allows and that are what is asked for, as `Domain.sieve` has it; of equal ones the first.

    where: what is asked for. frame: what makes a table of rows, as users see it.
    """

    def __init__(self, plan: Plan, where: Any, frame: Any) -> None:
        self.plan, self.where, self._frame = plan, where, frame
        self.said = " and ".join([*([where.said] if where.said else []), *plan.words])
        self.rejects = where.rejects or bool(plan.words)
        self.condition = where.condition
        self._seen: list[set[tuple[Any, ...]]] = [set() for _ in plan.unique]

    def keep(self, samples: Any) -> Any:
        """The rows, of samples that come in order."""
        import torch

        frame = self._frame(samples, None)
        stays = self.where.holds(frame)
        for _, rows in self.plan.broken(frame, unique=False):
            stays &= ~rows
        for names, seen in zip(self.plan.unique, self._seen, strict=True):
            own = frame[names].astype(object)
            cells = own.where(own.notna(), None).itertuples(index=False, name=None)
            for place, row in enumerate(cells):
                if stays[place]:
                    stays[place] = row not in seen
                    seen.add(row)
        return torch.from_numpy(stays)


def _pairs(constraints: Constraints) -> Iterator[tuple[str, str, bool]]:
    for groups, strict in ((constraints.order, False), (constraints.strict, True)):
        for names in groups:
            if len(names) < 2:
                raise UserError(
                    f"data.constraints.{'strict' if strict else 'order'}: {names} are not two columns or more"
                )
            for low, high in pairwise(names):
                yield low, high, strict


def _ordered(
    constraints: Constraints, known: Mapping[str, Column], taken: set[str]
) -> tuple[list[Difference], dict[str, list[Any]]]:
    """Differences in an order in which the columns that they are from come first, and ranks of ordered categories."""
    below: dict[str, Difference] = {}
    ranks: dict[str, list[Any]] = {}
    for low, high, strict in _pairs(constraints):
        one, other = known[low], known[high]
        if guessed := [each.name for each in (one, other) if each.guessed]:
            raise UserError(f"data.constraints: say the order of {guessed[0]!r}, with data.columns.{guessed[0]}.order")
        if one.ordered and other.ordered:
            ranks |= dict.fromkeys((low, high), _common(one, other))
            continue
        if one.kind not in NUMBERS or other.kind not in NUMBERS or (one.kind == "date") != (other.kind == "date"):
            raise UserError(
                f"data.constraints: {low!r} and {high!r} cannot be compared: one is {_kind(one)}, the other {_kind(other)}"
            )
        root = low
        while root in below:
            root = below[root].low
        if high in below or high in taken or root == high:
            continue  # kept by rejection
        unit = other.unit if other.kind == "date" else 1.0
        name = _free(f"{high} - {low}", known)
        below[high] = Difference(name, low, high, strict, unit, one.low)

    def depth(name: str) -> int:
        return 1 + depth(below[name].low) if name in below else 0

    return sorted(below.values(), key=lambda each: depth(each.high)), ranks


def _common(one: Column, other: Column) -> list[Any]:
    """The order of the categories of two columns. Raises UserError where one has another order, or others."""
    left, right = ([level for level in column.levels if level is not None] for column in (one, other))
    longer, shorter = (left, right) if len(left) >= len(right) else (right, left)
    if [level for level in longer if level in shorter] != shorter:
        raise UserError(
            f"data.constraints: {one.name!r} and {other.name!r} cannot be compared: their categories have not one order"
        )
    return longer


def _kind(column: Column) -> str:
    return column.kind if column.kind != "category" or not column.ordered else "ordinal"


def _free(name: str, known: Mapping[str, Any]) -> str:
    """A name that no column has."""
    while name in known:
        name += "'"
    return name


def _within(column: Column, terms: Sequence[Term], values: Series) -> Bools:
    if column.kind in NUMBERS:
        chosen = Range(column)
        for term in terms:
            chosen.add(term)
        chosen.missing = True
        return chosen.holds(values)
    own = values.astype(object)
    return (own.isin([*allowed(column, terms)]) | own.isna()).to_numpy()


def _replaced(made: dict[str, Series], names: Sequence[str], name: str, values: Series) -> dict[str, Series]:
    """Columns with one in place of the first of `names`, and the others of them left out."""
    found: dict[str, Series] = {}
    for each, own in made.items():
        if each not in names:
            found[each] = own
        elif name not in found:
            found[name] = values
    return found


def _plain(values: Series, column: Column) -> list[Any]:
    """Values as JSON has them."""
    if column.kind in NUMBERS:
        given = numbers_of(values, column)
        return [None if np.isnan(each) else each for each in given.tolist()]
    own = values.astype(object)
    return [each.item() if isinstance(each, np.generic) else each for each in own.where(own.notna(), None)]


def _joined(columns: Sequence[Sequence[Any]]) -> Series:
    texts = [json.dumps(row, ensure_ascii=False) for row in zip(*columns, strict=True)]
    return pandas().Series(texts, dtype=object)


def _valued(values: Sequence[Any], column: Column) -> Series:
    """The inverse of `_plain`."""
    if column.kind not in NUMBERS:
        return column.typed(values)
    given = np.array([np.nan if each is None else each for each in values], float)
    return column.series(np.where(np.isnan(given), column.low, given), ~np.isnan(given))


def _above(low: Floats, above: Floats, each: Difference, column: Column) -> Series:
    """The greater column of a difference, in its own decimals and range, and never below the lesser."""
    base = np.where(np.isnan(low), each.anchor, low)
    here = ~np.isnan(above)
    made = column.series(np.where(here, base + each.unit * above, column.low), here)
    given = numbers_of(made, column)
    short = here & ~np.isnan(low) & ((given <= base) if each.strict else (given < base))
    if not short.any():
        return made
    # The next step of the column's own, above.
    step = column.unit * 10.0**-column.decimals
    next_ = np.ceil(base / step - 1e-9) * step
    next_ = np.where(each.strict & (next_ <= base), next_ + step, next_)
    return column.series(np.where(short, next_, np.where(here, given, column.low)), here)
