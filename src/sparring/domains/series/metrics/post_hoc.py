"""Networks that are trained after the fact to say how good samples are (Yoon et al. 2019, section 5).

As in the authors' code (jsyoon0823/TimeGAN, metrics/): one layer of max(1, F // 2) gated recurrent units, Adam at 1e-3,
batches of 128 of a side, Glorot's uniform weights and gates that begin open (a bias of 1), as TensorFlow's cells did. The
one difference: the reset gate acts after the product with the state (as in cuDNN), and not before.

All repeats are trained side by side, as networks that know nothing of each other: as small as they are, what costs is the
number of operations, and ten cost little more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sparring.domains.series.gru import gru

BATCH = 128
RATE = 1e-3
TRAINED_ON = 0.8  # of each side, to tell them apart
DRAWN_AT_ONCE = 250  # batches of indices


def discriminative_score(
    real: Tensor, fake: Tensor, *, iterations: int = 2000, repeats: int = 1, seed: int = 0
) -> list[float]:
    """|accuracy − ½| of a GRU that tells real windows from fake ones by its last state, on a fifth that it has not seen.

    real, fake: (N, T, F) and (M, T, F), cut to as many of each. Returns one score a repeat, in [0, 0.5]; lower is better.
    Each repeat splits the windows anew. The paper says two layers; the authors' code, whose scores are those in print, has
    one. Raises ValueError for fewer than 10 of a side.
    """
    count = min(len(real), len(fake))
    if count < 10:
        raise ValueError(f"{count} samples of a side are too few to train on some and test on others")
    known = int(TRAINED_ON * count)
    chances = _chances(seed, repeats)
    readers = _Readers(real.shape[2], max(1, real.shape[2] // 2), chances).to(real.device)
    orders = [[torch.randperm(len(side), generator=rng)[:count] for rng in chances] for side in (real, fake)]
    shuffled = [torch.stack(order).to(real.device) for order in orders]
    answer = torch.ones(2 * min(BATCH, known), device=real.device)
    answer[len(answer) // 2 :] = -1

    def loss(picked: Tensor) -> Tensor:
        sides = [
            side[order.gather(1, part)]
            for side, order, part in zip((real, fake), shuffled, picked.chunk(2, dim=1), strict=True)
        ]
        return softplus(-answer * readers.last(torch.cat(sides, dim=1))).mean(dim=1)

    _train(readers, loss, _picks(chances, known, 2, iterations, real.device), iterations)
    with torch.no_grad():
        held_out = [readers.last(side[order[:, known:]]) for side, order in zip((real, fake), shuffled, strict=True)]
    right = [held_out[0] > 0, held_out[1] <= 0]
    accuracies = torch.cat(right, dim=1).float().mean(dim=1)
    return [abs(accuracy - 0.5) for accuracy in accuracies.tolist()]


def predictive_score(
    real: Tensor, fake: Tensor, *, iterations: int = 5000, repeats: int = 1, seed: int = 0
) -> list[float]:
    """Mean absolute error on real windows of a GRU that learnt from fake ones to look a step ahead.

    As in the authors' code it foretells the last feature from all others, or of a single one from its own past. Returns
    one score a repeat, in units of data between 0 and 1; lower is better.
    """
    features = real.shape[2]
    inputs = max(1, features - 1)
    chances = _chances(seed, repeats)
    readers = _Readers(inputs, max(1, features // 2), chances).to(real.device)

    def errors(x: Tensor) -> Tensor:
        """(R,) of windows (R, N, T, F)."""
        foretold = readers.every(x[:, :, :-1, :inputs]).sigmoid()
        return (foretold - x[:, :, 1:, -1].permute(2, 0, 1)).abs().mean(dim=(0, 2))

    _train(
        readers, lambda picked: errors(fake[picked]), _picks(chances, len(fake), 1, iterations, real.device), iterations
    )
    with torch.no_grad():
        wholes = torch.stack([errors(part.expand(repeats, *part.shape)) * len(part) for part in real.split(1000)])
    return (wholes.sum(0) / len(real)).tolist()


class _Readers(nn.Module):
    """R networks of one layer that read windows (R, N, T, inputs) into a number a step, each with its own chance."""

    def __init__(self, inputs: int, width: int, chances: list[torch.Generator]) -> None:
        super().__init__()

        def glorot(rows: int, columns: int, fan: int) -> Tensor:
            bound = (6 / fan) ** 0.5
            drawn = [torch.rand(rows, columns, generator=rng) for rng in chances]
            return bound * (2 * torch.stack(drawn) - 1)

        # TensorFlow's cell has one matrix for r and z together, and one for n; Glorot's bound is of a whole matrix.
        gates, candidate = inputs + 3 * width, inputs + 2 * width

        def weights(columns: int) -> nn.Parameter:
            return nn.Parameter(
                torch.cat([glorot(2 * width, columns, gates), glorot(width, columns, candidate)], dim=1)
            )

        self.inward, self.onward = weights(inputs), weights(width)
        open_gates = torch.cat([torch.ones(2 * width), torch.zeros(width)])
        self.bias = nn.Parameter(open_gates.repeat(len(chances), 1))
        self.candidate_bias = nn.Parameter(torch.zeros(len(chances), width))
        self.head = nn.Parameter(glorot(1, width, width + 1))
        self.head_bias = nn.Parameter(torch.zeros(len(chances), 1, 1))

    def every(self, x: Tensor) -> Tensor:
        """(T, R, N): a number a step."""
        return (self.head @ self._states(x) + self.head_bias).squeeze(2)

    def last(self, x: Tensor) -> Tensor:
        """(R, N): the last step's number."""
        return (self.head @ self._states(x)[-1] + self.head_bias).squeeze(1)

    def _states(self, x: Tensor) -> Tensor:
        return gru(x.permute(2, 0, 3, 1), self.inward, self.onward, self.bias, self.candidate_bias)


def _train(readers: _Readers, losses: Callable[[Tensor], Tensor], picks: Iterator[Tensor], iterations: int) -> None:
    """Adam, on the sum of the repeats' losses: none has a slope by another's weights."""
    with torch.enable_grad():
        optimizer = torch.optim.Adam(readers.parameters(), lr=RATE)
        for _ in range(iterations):
            optimizer.zero_grad()
            losses(next(picks)).sum().backward()
            optimizer.step()


def _picks(
    chances: list[torch.Generator], count: int, sides: int, iterations: int, device: torch.device
) -> Iterator[Tensor]:
    """Numbers (R, sides·B) of windows to learn from, an iteration at a time; a repeat's own do not depend on the others."""
    size = sides * min(BATCH, count)
    for first in range(0, iterations, DRAWN_AT_ONCE):
        shape = (min(DRAWN_AT_ONCE, iterations - first), size)
        drawn = torch.stack([torch.randint(count, shape, generator=rng) for rng in chances], dim=1)
        yield from drawn.to(device)


def _chances(seed: int, repeats: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + number) for number in range(repeats)]
