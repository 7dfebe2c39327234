"""What rows of a table are to be: categories, numbers and dates, equal, unequal, above and below.

A game is asked for what it can be asked for, and of its rows those that are not all that is wanted are rejected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.core.game import Batch
from sparring.core.labels import Labels
from sparring.data.frames import pandas
from sparring.domains.table.columns import NUMBERS, WIDTH, Column, numbers
from sparring.domains.table.conditions import MISSING, TableLabels, Term, read_terms, said
from sparring.domains.table.levels import TRUTHS
from sparring.errors import UserError, nearest

if TYPE_CHECKING:
    from pandas import DataFrame, Series

RARE = 0.05  # share of rows below which several levels are drawn beside what is asked for, and not waited for
EQUAL = 1e-9  # of a number, by which equal ones may differ
Bools = NDArray[np.bool_]
Frame = Callable[[Batch, Sequence[str]], "DataFrame"]
"""Encoded rows, names of columns → these columns as users see them."""


@dataclass
class Range:
    """What numbers a column is to have: from `low` to `high`, without those of `but`; and whether they may be missing."""

    column: Column
    low: float = -math.inf
    high: float = math.inf
    but: list[float] = field(default_factory=list)
    open_low: bool = False
    open_high: bool = False
    missing: bool = True
    there: bool = True

    def add(self, term: Term) -> None:
        """Narrow it. Raises UserError for what is no number of the column's kind."""
        if said(term.value) == MISSING and term.operator in ("=", "!="):
            self.missing &= term.operator == "="
            self.there &= term.operator != "="
            return
        self.missing = False
        low, dots, high = str(term.value).partition("..")
        if dots and term.operator == "=":
            self._above(self._number(low), False)
            self._below(self._number(high), False)
            return
        number = self._number(term.value)
        if term.operator == "!=":
            self.but.append(number)
        if term.operator in ("=", ">=", ">"):
            self._above(number, term.operator == ">")
        if term.operator in ("=", "<=", "<"):
            self._below(number, term.operator == "<")

    def holds(self, values: Series) -> Bools:
        """Which values, as users see them, are in it."""
        given = numbers(values, self.column.kind, self.column.form)
        found = np.full(len(given), self.there)
        with np.errstate(invalid="ignore"):
            found &= (given > self.low) if self.open_low else (given >= self.low - EQUAL * abs(self.low))
            found &= (given < self.high) if self.open_high else (given <= self.high + EQUAL * abs(self.high))
        for each in self.but:
            found &= np.abs(given - each) > EQUAL * abs(each)
        return np.where(np.isnan(given), self.missing, found)

    @property
    def possible(self) -> bool:
        """Whether numbers between the column's own ends can be in it."""
        if self.missing and self.column.missing:
            return True
        low, high = max(self.low, self.column.low), min(self.high, self.column.high)
        edge = (self.open_low and high <= self.low) or (self.open_high and low >= self.high)
        return self.there and low <= high + EQUAL * abs(high) and not edge

    def modes(self) -> list[int]:
        """The modes that have numbers in it."""
        found = []
        for number, (centre, deviation) in enumerate(zip(self.column.centres, self.column.deviations, strict=True)):
            reach = WIDTH * deviation + EQUAL * abs(centre)
            if self.there and centre + reach >= self.low and centre - reach <= self.high:
                found.append(number)
        return found + [len(self.column.centres)] * (self.missing and self.column.missing > 0)

    def _above(self, number: float, without: bool) -> None:
        if number > self.low or (number == self.low and without):
            self.low, self.open_low = number, without

    def _below(self, number: float, without: bool) -> None:
        if number < self.high or (number == self.high and without):
            self.high, self.open_high = number, without

    def _number(self, value: Any) -> float:
        """A number as the column has them, a date in seconds."""
        column = self.column
        try:
            if column.kind != "date":
                found = float(value)
                if math.isnan(found):
                    raise ValueError
                return found
            when = pandas().Timestamp(value.strip() if isinstance(value, str) else value)
            zone = column.zone or getattr(pandas().api.types.pandas_dtype(column.dtype), "tz", None)
            if zone and when.tzinfo is None:
                when = when.tz_localize(zone)
            if when.tzinfo is not None:
                when = when.tz_convert(None)
            return float(when.as_unit("us").asm8.astype(np.int64)) / 1e6
        except (ValueError, TypeError, OverflowError):
            what = "date, say 2020-12-31" if column.kind == "date" else "number"
            raise UserError(f"column {column.name!r}: {str(value)!r} is no {what}") from None


def allowed(column: Column, terms: Sequence[Term]) -> set[Any]:
    """The levels of a column of categories that all terms allow, rare ones by themselves. Raises UserError."""
    rare = [] if not column.rare else column.rare
    levels = [*(column.levels[:-1] if column.rare else column.levels), *rare]
    found = set(levels)
    for term in terms:
        found &= {level for level in levels if _holds(column, term, level, levels)}
    return found


def _holds(column: Column, term: Term, level: Any, levels: Sequence[Any]) -> bool:
    written = said(term.value)
    low, dots, high = written.partition("..")
    if dots and term.operator == "=" and written not in map(said, levels):
        return all(_holds(column, Term(column, *each), level, levels) for each in ((">=", low), ("<=", high)))
    if term.operator in ("=", "!="):
        return (level == _level(column, written, levels)) == (term.operator == "=")
    there = [each for each in levels if each is not None]
    if not column.ordered and not all(isinstance(each, int | float) and not isinstance(each, bool) for each in there):
        raise UserError(
            f"{term}: the categories of {column.name!r} have no order; say = or !=, or train with an order of them "
            f"(data.columns.{column.name}.order)"
        )
    if column.guessed:
        raise UserError(
            f"{term}: nobody said the order of the categories of {column.name!r}, and that of the alphabet means nothing: train with "
            f"data.columns.{column.name}.order"
        )
    if level is None:
        return False
    if column.ordered:
        rank, other = levels.index(level), levels.index(_level(column, written, levels))
    else:
        rank, other = level, Range(Column(column.name, "continuous", "float64"))._number(term.value)  # type: ignore[assignment]
    return {"<": rank < other, "<=": rank <= other, ">": rank > other, ">=": rank >= other}[term.operator]


def _level(column: Column, written: str, levels: Sequence[Any]) -> Any:
    """The level that a user means. Raises UserError."""
    names = {said(level): level for level in levels}
    if written in names:
        return names[written]
    if column.boolean and written.lower() in TRUTHS:
        wanted = TRUTHS[written.lower()]
        for level in levels:
            if level is not None and TRUTHS[str(level).lower()] == wanted:
                return level
    shown = ", ".join([*names][:20]) + (", …" if len(names) > 20 else "")
    raise UserError(f"column {column.name!r} has no {written!r}{nearest(written, names)}; it has {shown}")


@dataclass
class Group:
    """A column as the game has it, and those of its levels or modes that may be asked for.

    numbers: theirs among the game's labels. counts: how often the data have each. share: of the data that have any.
    exact: whether all rows with one of them are what is wanted.
    """

    numbers: list[int]
    counts: list[int]
    share: float
    exact: bool


class Where:
    """Rows that are what a user asks for, as `Domain.sieve` has it.

    columns: as users see them. labels: of the game, None where it can be asked for nothing. frame: what makes a table of
    rows. groups: beside those of the game's own columns, of such as stand for several (see `constraints`). Raises UserError for
    what no row can be.
    """

    def __init__(
        self, wish: Any, columns: Sequence[Column], labels: Labels | None, frame: Frame,
        joint: Callable[[dict[str, set[Any]]], dict[str, tuple[Column, set[Any]]]] | None = None,
    ) -> None:  # fmt: skip
        terms = [] if wish is None else read_terms(wish, columns)
        self.said = ", ".join(map(str, terms))
        self._frame = frame
        self._labels = labels if isinstance(labels, TableLabels) else None
        self.ranges: dict[str, Range] = {}
        self.levels: dict[str, set[Any]] = {}
        for column in {term.column.name: term.column for term in terms}.values():
            own = [term for term in terms if term.column.name == column.name]
            self._choose(column, own)
        groups = self._groups(columns, joint)
        self.fixed = [group.numbers[0] for group in groups.values() if len(group.numbers) == 1]
        several = {name: group for name, group in groups.items() if len(group.numbers) > 1}
        rarest = min(several, key=lambda name: several[name].share, default=None)
        self.drawn: Group | None = None
        if rarest is not None and (not self.fixed or several[rarest].share < RARE):
            self.drawn = several.pop(rarest)
            groups[rarest] = self.drawn
        sure = {name for name, group in groups.items() if group.exact and name not in several}
        self._sure = sure
        self.checked = [name for name in [*self.ranges, *self.levels] if name not in self._met(sure, joint)]
        self.rejects = bool(self.checked)

    def condition(self, count: int, rng: torch.Generator) -> Tensor | None:
        """What the game is asked for, (count, K); None where that is nothing."""
        if self._labels is None or (not self.fixed and self.drawn is None):
            return None
        asked = torch.zeros(count, len(self._labels.names), device=rng.device)
        asked[:, self.fixed] = 1
        if self.drawn is not None:
            weights = torch.tensor(self.drawn.counts, dtype=torch.float32, device=rng.device)
            which = torch.multinomial(weights, count, replacement=True, generator=rng)
            asked.scatter_(1, torch.tensor(self.drawn.numbers, device=rng.device)[which][:, None], 1.0)
        return asked

    def keep(self, samples: Batch) -> Tensor:
        """The rows that are all that is wanted."""
        return torch.from_numpy(self.holds(self._frame(samples, self.checked)))

    def holds(self, frame: DataFrame) -> Bools:
        """The same of a table."""
        found = np.ones(len(frame), bool)
        for name in self.checked:
            if name in self.ranges:
                found &= self.ranges[name].holds(frame[name])
            else:
                own = frame[name].astype(object)
                found &= own.where(own.notna(), None).isin([*self.levels[name]]).to_numpy()
        return found

    def _choose(self, column: Column, terms: list[Term]) -> None:
        if column.kind in NUMBERS:
            chosen = self.ranges[column.name] = Range(column)
            for term in terms:
                chosen.add(term)
            if not chosen.possible:
                ends = [str(each) for each in column.series(np.array([column.low, column.high]), np.ones(2, bool))]
                raise UserError(
                    f"no row can have {' and '.join(map(str, terms))}: column {column.name!r} is from {ends[0]} to {ends[1]}"
                    + (", and may be missing" if column.missing else "")
                )
            return
        if column.kind != "category" or not column.size:
            raise UserError(f"column {column.name!r} has no categories: it is {column.kind}, and cannot be asked for")
        self.levels[column.name] = allowed(column, terms)
        if not self.levels[column.name]:
            raise UserError(f"no row can have {' and '.join(map(str, terms))}: no category of {column.name!r} is both")

    def _groups(self, columns: Sequence[Column], joint: Any) -> dict[str, Group]:
        """What the game could be asked for, by its columns."""
        if self._labels is None:
            return {}
        known = {column.name: column for column in self._labels.columns}
        chosen = {name: (known[name], wanted) for name, wanted in self.levels.items() if name in known}
        if joint is not None:
            chosen |= joint(self.levels)
        found = {}
        for name, (column, wanted) in chosen.items():
            own = column.levels[:-1] if column.rare else column.levels
            places = [place for place, level in enumerate(own) if level in wanted]
            exact = True
            if column.rare and wanted & set(column.rare):
                places.append(len(own))
                exact = set(column.rare) <= wanted
            if not places:
                raise UserError(f"no row can have {self.said}: no row of the data has them together")
            numbers_ = [self._labels.numbers[name, said(column.levels[place])] for place in places]
            counts = [column.counts[place] for place in places]
            found[name] = Group(numbers_, counts, sum(counts) / max(1, sum(column.counts)), exact)
        for name, chosen_range in self.ranges.items():
            if name in self._labels.modes and name in known and known[name].kind in NUMBERS:
                modes = chosen_range.modes()
                counts = [known[name].counts[mode] for mode in modes]
                share = sum(counts) / max(1, sum(known[name].counts))
                found[name] = Group([self._labels.modes[name] + mode for mode in modes], counts, share, False)
        return found

    def _met(self, sure: set[str], joint: Any) -> set[str]:
        """The columns that are as wanted for certain, whatever rows come."""
        met = {name for name in self.levels if name in sure}
        if joint is not None:
            met |= {name for name in self.levels if set(joint({name: self.levels[name]})) & sure}
        return met
