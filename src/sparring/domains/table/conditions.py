"""What rows of a table can be asked to be: categories of one or several columns at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparring.core.labels import Labels, Wish
from sparring.domains.table.columns import NUMBERS, Column
from sparring.errors import UserError, nearest

MISSING = "missing"  # what a user calls the category of missing values


OPERATORS = ("!=", "<=", ">=", "=", "<", ">")  # the longer ones first


@dataclass(frozen=True)
class Term:
    """A part of what a user asks for: a column, one of `OPERATORS`, and what follows it, as it is written or given."""

    column: Column
    operator: str
    value: Any

    def __str__(self) -> str:
        return f"{self.column.name}{self.operator}{said(self.value)}"


def read_terms(wish: Any, columns: Sequence[Column], example: str = "column=category") -> list[Term]:
    """`"income=>50K,age>40"`, or a mapping of columns to what they equal. Raises UserError for a column that there is not.

    A comma that no column's name follows belongs to a value.
    """
    known = {column.name: column for column in columns}
    if isinstance(wish, Mapping):
        given = [(str(name), "=", value) for name, value in wish.items()]
    else:
        starts = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
        operators = "|".join(OPERATORS)
        given = []
        for part in re.split(rf",\s*(?=(?:{starts})\s*(?:{operators}))", str(wish)):
            found = re.match(rf"\s*({starts})\s*({operators})(.*)", part, re.DOTALL)
            found = found or re.match(rf"(.*?)({operators})(.*)", part, re.DOTALL)
            if not found:
                raise UserError(f"{part.strip()!r} says no column; write {example}")
            given.append((found[1].strip(), found[2], found[3].strip()))
    terms: list[Term] = []
    for name, operator, value in given:
        if name not in known:
            raise UserError(f"there is no column {name!r} to ask for{nearest(name, known)}")
        if operator == "=" and any(each.column.name == name and each.operator == "=" for each in terms):
            raise UserError(f"column {name!r} is asked for twice; a row has one of its categories")
        terms.append(Term(known[name], operator, value))
    return terms


class TableLabels(Labels):
    """All categories of all columns, numbered column by column. What is asked for is a vector (K,), 1 where it must be.

    names: `column=category`. modes: whether modes of numbers can be asked for too, `column~mode`, numbered after all
    categories; `modes` has the first number of each such column.
    """

    def __init__(self, columns: Sequence[Column], modes: bool = False) -> None:
        choices = [
            (column.name, said(level)) for column in columns if column.kind == "category" for level in column.levels
        ]
        numbers = [column for column in columns if modes and column.kind in NUMBERS]
        names = [f"{column}={level}" for column, level in choices]
        starts: dict[str, int] = {}
        for column in numbers:
            starts[column.name] = len(names)
            names += [f"{column.name}~{mode}" for mode in range(column.size)]
        super().__init__(tuple(names), kind="attributes")
        self.numbers = {choice: number for number, choice in enumerate(choices)}
        self.columns, self.modes = list(columns), starts

    def ask(self, wish: Wish) -> Tensor:
        """`"income=>50K,sex=Female"`, or a mapping of columns to categories, as a vector (K,) of 0 and 1.

        Raises UserError for a column that has no categories, or a category that it has not.
        """
        asked = torch.zeros(len(self.names))
        for term in read_terms(wish, self.columns, self.names[0]):
            column, name, level = term.column, term.column.name, said(term.value)
            if column.kind in NUMBERS:
                raise UserError(f"column {name!r} holds numbers: only categories can be asked for, say {self.names[0]}")
            if term.operator != "=":
                raise UserError(f"{term}: a game can be asked for one category of a column, say {self.names[0]}")
            if (name, level) not in self.numbers:
                levels = [each for owner, each in self.numbers if owner == name]
                shown = ", ".join(levels[:20]) + (", …" if len(levels) > 20 else "")
                raise UserError(
                    f"column {name!r} has no {level!r}{nearest(level, levels)}; it has {shown or 'no categories'}"
                )
            asked[self.numbers[name, level]] = 1
        return asked

    def open(self, condition: Tensor | None) -> bool:
        """Always: what is not asked for, is left to the data."""
        return True

    def sheet(self, count: int) -> tuple[Tensor, Tensor, list[str]]:
        """Nothing asked for: pictures of tables are of all rows together."""
        return torch.zeros(count, len(self.names)), torch.zeros(count, dtype=torch.int64), ["rows"]

    def units(self, label: Tensor) -> Tensor:
        return label


def said(level: Any) -> str:
    """A category as users write it."""
    return MISSING if level is None else str(level)
