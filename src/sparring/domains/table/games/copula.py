"""Tables without a game: what every GAN on tables has to be better than."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparring.core import chance
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.domains.table.data import columns_of
from sparring.domains.table.rows import spans_of, values_of

QUANTILES = 513  # of a column of numbers that are kept
ROWS = 50_000  # that are looked at, at most
EDGE = 1e-6  # of [0, 1], beyond which normal scores are not taken


class Marginals(nn.Module):
    """What was found in the data: how often each category is there, quantiles of numbers, and how columns go together."""

    below: Tensor
    quantiles: Tensor
    factor: Tensor

    def __init__(self, width: int, numbers: int, columns: int) -> None:
        super().__init__()
        # Shares of a column's categories that come before each, then of numbers the share that is missing, at their place.
        self.register_buffer("below", torch.zeros(width))
        self.register_buffer("quantiles", torch.zeros(numbers, QUANTILES, dtype=torch.float64))
        # Lower triangle of what correlates the normal scores.
        self.register_buffer("factor", torch.eye(columns))


class Copula(Game):
    """A Gaussian copula: every column as it is in the data, and between them the correlations of their normal scores.

    Nothing is trained: it is fitted before the first step. correlated: false draws each column on its own. Categories lie
    in the order of their frequency on a line, where each has as much room as it is frequent.
    """

    def __init__(self, spec: DataSpec, *, correlated: bool = True) -> None:
        super().__init__()
        self.spans, self.correlated = spans_of(columns_of(spec)), correlated
        self.numbers = [span for span in self.spans if span.column.places]
        (self.width,) = spec.shape
        self.generator = Marginals(self.width, len(self.numbers), len(self.spans))

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Count, sort and correlate."""
        rng = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(data), generator=rng)[:ROWS]
        rows = data.batch(chosen, augment=False)["data"].cpu()
        found, scores = self.generator, []
        for span in self.spans:
            hot = rows[:, span.hot]
            if span.column.places:
                values, here = values_of(rows, span)
                missing = 1 - here.double().mean()
                found.below[span.start] = missing
                ordered = values[here].sort().values
                places = torch.linspace(0, len(ordered) - 1, QUANTILES, dtype=torch.float64)
                low = places.long().clamp(max=max(0, len(ordered) - 2))
                high = (low + 1).clamp(max=len(ordered) - 1)
                found.quantiles[self.numbers.index(span)] = torch.lerp(ordered[low], ordered[high], places - low)
                # Equal values share a stretch of the line, within which they are put at random.
                rank = torch.stack([torch.searchsorted(ordered, values, right=side) for side in (False, True)]) / len(
                    ordered
                )
                start = torch.where(here, missing + (1 - missing) * rank[0], 0.0)
                end = torch.where(here, missing + (1 - missing) * rank[1], missing)
            else:
                shares = hot.double().mean(0)
                before = shares.cumsum(0) - shares
                found.below[span.hot] = before.float()
                number = hot.argmax(1)
                start, end = before[number], (before + shares)[number]
            place = start + (end - start) * torch.rand(len(rows), generator=rng, dtype=torch.float64)
            scores.append(torch.special.ndtri(place.clamp(EDGE, 1 - EDGE)))
        if self.correlated:
            matrix = torch.corrcoef(torch.stack(scores)).reshape(len(self.spans), -1)
            steady = matrix + 1e-4 * torch.eye(len(matrix), dtype=torch.float64)  # columns that say the same
            found.factor.copy_(torch.linalg.cholesky(steady / (1 + 1e-4)).float())

    def players(self) -> dict[str, nn.Module]:
        """Nobody."""
        return {}

    def averaged(self) -> dict[str, nn.Module]:
        """What was found."""
        return {"generator": self.generator}

    @property
    def device(self) -> torch.device:
        return self.generator.below.device

    def turns(self, step: int) -> tuple[Turn, ...]:
        """None."""
        return ()

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        raise AssertionError("nobody plays")

    def generate(self, count: int, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Encoded rows as `data` (N, D)."""
        found = self.generator
        scores = chance.normal(count, len(self.spans), device=self.device, rng=rng) @ found.factor.T
        places = torch.special.ndtr(scores.double()).clamp(EDGE, 1 - EDGE)
        data = torch.zeros(count, self.width, device=self.device)
        rows = torch.arange(count, device=self.device)
        for number, span in enumerate(self.spans):
            place = places[:, number]
            if not span.column.places:
                which = (
                    torch.searchsorted(found.below[span.hot].double().contiguous(), place.contiguous(), right=True) - 1
                )
                data[rows, span.hot.start + which] = 1
                continue
            missing = found.below[span.start].double()
            within = ((place - missing) / (1 - missing)).clamp(0, 1) * (QUANTILES - 1)
            quantiles = found.quantiles[self.numbers.index(span)]
            low = within.long().clamp(max=QUANTILES - 2)
            values = torch.lerp(quantiles[low], quantiles[low + 1], within - low)
            # Between two single values there may be nothing.
            near = torch.where(within - low < 0.5, quantiles[low], quantiles[low + 1])
            whole = span.column.kind != "continuous" or bool((torch.tensor(span.column.deviations) == 0).any())
            given = torch.where(place < missing, torch.nan, near if whole else values)
            code, inside = span.column.code_numbers(given.cpu().numpy())
            data[rows, span.hot.start + torch.from_numpy(code).to(rows)] = 1
            data[:, span.start] = torch.from_numpy(inside).to(data)
        return Batch(data=data)
