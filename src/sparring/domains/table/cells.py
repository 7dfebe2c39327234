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
from sparring.domains.table.columns import NUMBERS, WIDTH, Column
from sparring.domains.table.rows import Span, spans_of
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
    """Of each column of numbers the value, with mean 0 and deviation 1 (0 where it is missing), and 1 where it is missing;
    of each other column its categories, √½ for the one that is there.
    """

    resizer = "none"

    def __init__(self, columns: Sequence[Column]) -> None:
        self.spans = spans_of(columns)
        self.cells = cells_of(self.spans)
        known = json.dumps([column.plain() for column in columns], default=str)
        self.name = f"cells of {len(self.cells)} columns"
        self.digest = "cells-1-" + hashlib.blake2b(known.encode(), digest_size=8).hexdigest()

    def __call__(self, samples: Batch) -> Batch:
        """`features` float32 (N, D) of encoded rows `data`."""
        rows = samples["data"].float()
        parts: list[Tensor] = []
        for span in self.spans:
            hot = rows[:, span.hot]
            if span.column.kind not in NUMBERS:
                parts.append(APART * hot)
                continue
            mean, deviation = standards(span.column)
            number, modes = hot.argmax(1), len(span.column.centres)
            here = number < modes
            # In float64 there is nothing to lose: values far from 0, dates say, stand close together.
            centre, spread = (
                torch.tensor([*each, 0.0], dtype=torch.float64, device=rows.device)[number]
                for each in (span.column.centres, span.column.deviations)
            )
            value = centre - mean + WIDTH * rows[:, span.start].double() * spread
            low, high = span.column.low - mean, span.column.high - mean
            parts.append(torch.where(here, value.clamp(low, high) / deviation, 0.0)[:, None].float())
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


def open_features(which: str, columns: Sequence[Column]) -> Cells:
    """The space that `which` names: one of `SPACES` or `auto`. Raises UserError for any other."""
    if which not in ("auto", *SPACES):
        raise UserError(f"unknown features {which!r}{nearest(which, SPACES)}; tables have {', '.join(SPACES)}")
    return Cells(columns)
