"""What rows of a table can be asked to be: categories of one or several columns at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sparring.core.labels import Labels, Wish
from sparring.domains.table.columns import NUMBERS, Column
from sparring.errors import UserError, nearest

MISSING = "missing"  # what a user calls the category of missing values


class TableLabels(Labels):
    """All categories of all columns, numbered column by column. What is asked for is a vector (K,), 1 where it must be.

    names: `column=category`.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        choices = [
            (column.name, said(level)) for column in columns if column.kind == "category" for level in column.levels
        ]
        super().__init__(tuple(f"{column}={level}" for column, level in choices), kind="attributes")
        self.numbers = {choice: number for number, choice in enumerate(choices)}
        self.columns = list(columns)

    def ask(self, wish: Wish) -> Tensor:
        """`"income=>50K,sex=Female"`, or a mapping of columns to categories, as a vector (K,) of 0 and 1.

        Raises UserError for a column that has no categories, or a category that it has not.
        """
        asked = torch.zeros(len(self.names))
        given = (
            {str(key): said(value) for key, value in wish.items()}
            if isinstance(wish, Mapping)
            else self._read(str(wish))
        )
        for name, level in given.items():
            column = next((each for each in self.columns if each.name == name), None)
            if column is None:
                raise UserError(
                    f"there is no column {name!r} to ask for{nearest(name, [each.name for each in self.columns])}"
                )
            if column.kind in NUMBERS:
                raise UserError(f"column {name!r} holds numbers: only categories can be asked for, say {self.names[0]}")
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

    def _read(self, wish: str) -> dict[str, str]:
        """`column=category,column=category`; a comma that no column's name follows belongs to a category."""
        names = sorted((column.name for column in self.columns), key=len, reverse=True)
        starts = "|".join(map(re.escape, names))
        parts = re.split(rf",\s*(?=(?:{starts})\s*=)", wish)
        given: dict[str, str] = {}
        for part in parts:
            found = re.match(rf"\s*({starts})\s*=(.*)", part, re.DOTALL)
            name, equals, level = (found[1], "=", found[2]) if found else part.partition("=")
            if not equals:
                raise UserError(f"{part.strip()!r} says no column; write {self.names[0]}")
            if name.strip() in given:
                raise UserError(f"column {name.strip()!r} is asked for twice; a row has one of its categories")
            given[name.strip()] = level.strip()
        return given


def said(level: Any) -> str:
    """A category as users write it."""
    return MISSING if level is None else str(level)
