"""Encoded rows: where the columns lie in them, and what is done to their one-hots.

A table has as many one-hots as columns, and an operation on each is a call about a few numbers. Those of one length go
together here: a step makes as many calls as there are different lengths, and does at once what is done to all numbers alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function

from sparring.domains.table.columns import WIDTH, Column

CERTAIN = 1e6  # above any logit
SMALL = 2**16  # numbers of a matrix that a core's own memory holds
MODEST = 30.0  # logits below it have an exponential, and a sum of those, that 32 bits hold


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


def values_of(rows: Tensor, span: Span) -> tuple[Tensor, Tensor]:
    """Of a column of numbers in encoded rows (N, D): the numbers, float64 (N,), and which are there; others are the lowest."""
    column = span.column
    number, modes = rows[:, span.hot].argmax(1), len(column.centres)
    # In float64 there is nothing to lose: values far from 0, dates say, stand close together.
    centre, deviation = (
        torch.tensor([*each, 0.0], dtype=torch.float64, device=rows.device)[number]
        for each in (column.centres, column.deviations)
    )
    value = centre + WIDTH * rows[:, span.start].double() * deviation
    if column.log:
        value = column.low + value.clamp(0, math.log1p(column.high - column.low)).expm1()
    here = number < modes
    return torch.where(here, value.clamp(column.low, column.high), column.low), here


class OneHots(nn.Module):
    """The one-hots of rows (N, D), P of them with H numbers, and the places beside them.

    They are arranged by length, and those of one length as in rows. What is asked for is (N, K): of all categories (or modes)
    of all columns `askable`, in their order, 1 for those that a row is to have. askable: None for all columns of categories.
    """

    order: Tensor
    places: Tensor
    back: Tensor
    starts: Tensor
    arranged: Tensor
    part_of: Tensor
    sizes: Tensor
    firsts: Tensor
    asked_at: Tensor
    counting: Tensor | None

    def __init__(self, spans: Sequence[Span], askable: Sequence[Span] | None = None) -> None:
        super().__init__()
        sizes = torch.tensor([span.column.size for span in spans])
        starts = torch.tensor([span.hot.start for span in spans])
        arranged = sizes.argsort(stable=True)
        self.size = spans[-1].hot.stop
        self.lots = [(len([*same]), size) for size, same in groupby(sizes[arranged].tolist())]
        order = _runs(starts[arranged], sizes[arranged])
        places = torch.tensor([span.start for span in spans if span.column.places], dtype=torch.int64)
        if askable is None:
            askable = [span for span in spans if span.column.kind == "category"]
        hot = torch.cat(
            [torch.zeros(0, dtype=torch.int64), *(torch.arange(each.hot.start, each.hot.stop) for each in askable)]
        )
        buffers = {
            # in a row: the numbers of one-hots as arranged, and the places; and of both together the way back
            "order": order,
            "places": places,
            "back": _inverse(torch.cat([order, places]), self.size),
            # of each one-hot as arranged, where in a row it begins; and where among the arranged each column's is
            "starts": starts[arranged],
            "arranged": arranged.argsort(),
            # of each number as arranged, its one-hot; of each one-hot as arranged, its length, and where among the numbers it begins; and of what can be asked for, where among the arranged numbers it is
            "part_of": torch.repeat_interleave(sizes[arranged]),
            "sizes": sizes[arranged],
            "firsts": sizes[arranged].cumsum(0) - sizes[arranged],
            "asked_at": _inverse(order, self.size)[hot],
        }
        if self.size * len(spans) <= SMALL:
            # times a row, the number of each one-hot
            counting = torch.zeros(self.size, len(spans))
            counting[order, buffers["part_of"]] = (
                torch.arange(len(order)) - buffers["firsts"][buffers["part_of"]]
            ).float()
            buffers["counting"] = counting
        else:
            self.counting = None
        # All are the data's and not the training's: checkpoints do not hold them.
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def numbers(self, rows: Tensor) -> Tensor:
        """The category or mode of each column, int64 (N, P) in the columns' order, of encoded rows (N, D): the largest."""
        # Of a one-hot the sum of n times the number at n is its category, and a sum takes less than a search. Rows of a game
        # of one's own may be soft: where what is said to be the largest is not 1, or something is above 1, it is searched for.
        if self.counting is not None:
            said = (rows @ self.counting.to(rows.dtype)).round().long()
            said = said.clamp(min=0).minimum(self.sizes - 1)
            if bool(rows.max() <= 1) and bool((rows.gather(1, said + self.starts) == 1).all()):
                return said.index_select(1, self.arranged)
        found = self._each(rows.index_select(1, self.order), lambda lot: lot.argmax(2))
        return found.index_select(1, self.arranged)

    def soft(self, made: Tensor, noise: Tensor, asked: Tensor | None, temperature: float, hard: bool) -> Tensor:
        """Rows (N, D) of logits and places `made` (N, D): the Gumbel softmax of each one-hot (Jang et al. 2017), and tanh of places.

        noise: Gumbel's, (N, H). asked: (N, K); it is there for certain, and moves nothing. hard: each one-hot has 1 for the
        largest and 0 otherwise, with the gradient of the soft one (their section 2.2). Differentiable once.
        """
        rows: Tensor = _Choose.apply(made, self._insist(noise, asked), self, temperature, hard)
        return rows

    def drawn(self, made: Tensor, chance: Tensor, asked: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows (N, D) of logits and places `made` (N, D): of each column one category, as their softmax says, and tanh of places.

        Beside them those categories or modes, as `numbers` would find them, int64 (N, P).

        chance: uniform numbers (N, P), each of which chooses in the line of a one-hot's shares. asked: as for `soft`.
        """
        scores = made.index_select(1, self.order)
        wanted = None if asked is None else self._wanted(asked)
        if (asked is None or wanted is not None) and bool(scores.abs().max() < MODEST):
            shares = scores.exp_()
        else:
            scores = self._insist(scores, asked)
            shares = scores.sub_(self._spread(self._each(scores, lambda lot: lot.amax(2)))).exp_()
        lots, draws = self._lots(shares), chance.split([count for count, _ in self.lots], 1)
        chosen = torch.cat([_choose(lot, draw) for lot, draw in zip(lots, draws, strict=True)], 1)
        if wanted is not None:
            rows, which = wanted
            part = self.part_of[self.asked_at[which]]
            chosen[rows, part] = self.asked_at[which] - self.firsts[part]
        data = torch.zeros_like(made).scatter_(1, chosen + self.starts, 1.0)
        data[:, self.places] = made.index_select(1, self.places).tanh()
        return data, chosen.index_select(1, self.arranged)

    def _wanted(self, asked: Tensor) -> tuple[Tensor, Tensor] | None:
        """What is asked for (N, K) as rows and numbers of those that are 1; None where a row is asked for two of one column."""
        rows, which = asked_cells(asked)
        places = rows * len(self.starts) + self.part_of[self.asked_at[which]]
        # They come row by row, and in it column by column.
        return None if bool((places[1:] == places[:-1]).any()) else (rows, which)

    def _insist(self, scores: Tensor, asked: Tensor | None) -> Tensor:
        """Arranged scores (N, H), now with what is asked for (N, K) above all others."""
        return scores if asked is None else scores.index_add_(1, self.asked_at, asked.to(scores.dtype), alpha=CERTAIN)

    def _lots(self, numbers: Tensor) -> list[Tensor]:
        """Arranged numbers (N, H), for each length (N, one-hots of it, length)."""
        parts = numbers.split([count * size for count, size in self.lots], 1)
        return [part.unflatten(1, lot) for part, lot in zip(parts, self.lots, strict=True)]

    def _each(self, numbers: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Of each one-hot a figure: arranged numbers (N, H) → (N, P). function: (N, one-hots, length) → (N, one-hots)."""
        return torch.cat([function(lot) for lot in self._lots(numbers)], 1)

    def _spread(self, figures: Tensor) -> Tensor:
        """Each one-hot's figure to all its numbers, (N, P) → (N, H)."""
        return figures.index_select(1, self.part_of)


class _Choose(Function):
    """Rows of logits and places, and back. See `OneHots.soft`."""

    @staticmethod
    def forward(ctx: Any, made: Tensor, scores: Tensor, hots: OneHots, temperature: float, hard: bool) -> Tensor:
        noisy = made.index_select(1, hots.order).float().add_(scores).div_(temperature)
        largest = hots._spread(hots._each(noisy, lambda lot: lot.amax(2)))
        shares = (noisy - largest).exp_()
        shares /= hots._spread(hots._each(shares, lambda lot: lot.sum(2)))
        places = made.index_select(1, hots.places).float().tanh_()
        ctx.save_for_backward(shares, places)
        ctx.hots, ctx.temperature, ctx.dtype = hots, temperature, made.dtype
        shown = (noisy == largest).to(shares.dtype) if hard else shares
        return torch.cat([shown, places], 1).index_select(1, hots.back)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (shares, places), hots = ctx.saved_tensors, ctx.hots
        by_numbers = gradient.index_select(1, hots.order)
        by_numbers -= hots._spread(hots._each(by_numbers * shares, lambda lot: lot.sum(2)))
        by_numbers *= shares / ctx.temperature
        by_places = gradient.index_select(1, hots.places) * (1 - places.square())
        return torch.cat([by_numbers, by_places], 1).index_select(1, hots.back).to(ctx.dtype), None, None, None, None


def _choose(shares: Tensor, chance: Tensor) -> Tensor:
    """Of shares (N, n, length), not all 0, the number at which their sum passes the part `chance` (N, n) of it: int64 (N, n)."""
    line = shares.cumsum(2)
    # Below the whole sum, rounded as it may be, for chance is below 1: so there is a number that passes it, of a share above 0.
    return torch.searchsorted(line, chance[..., None] * line[..., -1:], right=True).squeeze(2)


def asked_cells(asked: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and numbers, row by row, of those of `asked` (N, K) that are not 0."""
    if asked.device.type != "cpu":
        rows, which = (asked != 0).nonzero().unbind(1)
        return rows, which
    flat = torch.from_numpy(np.flatnonzero(asked.numpy() != 0))  # a fifth of the time of `nonzero`
    return flat // asked.shape[1], flat % asked.shape[1]


def _inverse(order: Tensor, count: int) -> Tensor:
    """Of `count` numbers the place in `order` that each has; -1 of those that have none."""
    return torch.full((count,), -1).scatter_(0, order, torch.arange(len(order)))


def _runs(starts: Tensor, sizes: Tensor) -> Tensor:
    """All numbers of runs that begin at `starts` and are as long as `sizes`, one after the other."""
    own = torch.arange(int(sizes.sum())) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    return torch.repeat_interleave(starts, sizes) + own
