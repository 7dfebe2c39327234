"""Rows as points: what tables are measured in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.domains.table.columns import NUMBERS, Column
from sparring.domains.table.constraints import Plan
from sparring.domains.table.data import decode, encode
from sparring.domains.table.rows import Span, spans_of, values_of
from sparring.errors import UserError, nearest

SPACES = ("cells",)
APART = 0.5**0.5  # of a category: so that two different ones are 1 apart


@dataclass(frozen=True)
class Cell:
    """Where a column lies among the features of a row: `numbers` (its value, and whether it is missing) or categories."""

    column: Column
    start: int
    size: int

    @property
    def place(self) -> slice:
        """All its features."""
        return slice(self.start, self.start + self.size)

    @property
    def number(self) -> bool:
        """Whether it holds numbers."""
        return self.column.kind in NUMBERS


class Cells:
    """Rows as users see them, where there is a plan by which constraints are kept, as points. Of each column of numbers the value, with mean 0 and deviation 1 (0 where it is missing), and 1 where it is missing;
    of each other column its categories, √½ for the one that is there.
    """

    resizer = "none"

    def __init__(self, columns: Sequence[Column], plan: Plan | None = None) -> None:
        self.given, self.plan = list(columns), plan
        columns = self.given if plan is None else plan.shown
        self.spans = spans_of(columns)
        self.cells = cells_of(self.spans)
        seen = [column.plain() for column in columns], None if plan is None else [each.plain() for each in self.given]
        known = json.dumps(seen if plan else seen[0], default=str)
        self.name = f"cells of {len(self.cells)} columns"
        self.digest = "cells-1-" + hashlib.blake2b(known.encode(), digest_size=8).hexdigest()

    def __call__(self, samples: Batch) -> Batch:
        """`features` float32 (N, D) of encoded rows `data`."""
        rows = samples["data"].float()
        if self.plan is not None:
            frame = self.plan.backward(decode(rows, self.given, rows=samples.get("row")))
            rows = encode(frame, self.plan.shown).to(rows.device)
        parts: list[Tensor] = []
        for span in self.spans:
            hot = rows[:, span.hot]
            if span.column.kind not in NUMBERS:
                parts.append(APART * hot)
                continue
            mean, deviation = standards(span.column)
            value, here = values_of(rows, span)
            parts.append(torch.where(here, (value - mean) / deviation, 0.0)[:, None].float())
            if span.column.missing:
                parts.append((~here).float()[:, None])
        return Batch(features=torch.cat(parts, 1))


def cells_of(spans: Sequence[Span]) -> list[Cell]:
    """Where each column lies among the features."""
    cells, start = [], 0
    for span in spans:
        number = span.column.kind in NUMBERS
        size = 1 + (span.column.missing > 0) if number else span.column.size
        cells.append(Cell(span.column, start, size))
        start += size
    return cells


def standards(column: Column) -> tuple[float, float]:
    """Mean and deviation of a column of numbers, from its histogram."""
    bins, shares = np.array(column.bins), np.array(column.shares)
    scale = float(np.abs(bins).max()) or 1.0  # squares of 1e300 are infinite
    middle = (bins[1:] / 2 + bins[:-1] / 2) / scale
    mean = float((middle * shares).sum())
    return mean * scale, scale * float(np.sqrt((np.square(middle - mean) * shares).sum())) or 1.0


def open_features(which: str, columns: Sequence[Column], plan: Plan | None = None) -> Cells:
    """The space that `which` names: one of `SPACES` or `auto`. Raises UserError for any other."""
    if which not in ("auto", *SPACES):
        raise UserError(f"unknown features {which!r}{nearest(which, SPACES)}; tables have {', '.join(SPACES)}")
    return Cells(columns, plan)
