"""Networks that are trained after the fact to say how good samples are (Yoon et al. 2019, section 5).

As in the authors' code: recurrent networks of max(1, F // 2) units, Adam at 1e-3, batches of 128.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss

BATCH = 128
RATE = 1e-3
TRAINED_ON = 0.8  # of each side, to tell them apart


class _Reader(nn.Module):
    """Windows (N, T, inputs) → a number a step (N, T)."""

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.states = nn.GRU(inputs, width, depth, batch_first=True)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.states(x)[0]).squeeze(2)


def discriminative_score(
    real: Tensor, fake: Tensor, *, iterations: int = 2000, repeats: int = 1, seed: int = 0
) -> list[float]:
    """|accuracy − ½| of a two-layer GRU that tells real windows from fake ones, on a fifth that it has not seen.

    real, fake: (N, T, F) and (M, T, F), cut to as many of each. Returns one score a repeat, in [0, 0.5]; lower is better.
    The authors' classifier has one layer of GRU cells; the paper says two. Raises ValueError for fewer than 10 of a side.
    """
    count = min(len(real), len(fake))
    if count < 10:
        raise ValueError(f"{count} samples of a side are too few to train on some and test on others")
    return [_told_apart(real, fake, count, iterations, seed + number) for number in range(repeats)]


def predictive_score(
    real: Tensor, fake: Tensor, *, iterations: int = 5000, repeats: int = 1, seed: int = 0
) -> list[float]:
    """Mean absolute error on real windows of a one-layer GRU that learnt from fake ones to look a step ahead.

    As in the authors' code it foretells the last feature from all others, or of a single one from its own past. Returns
    one score a repeat, in units of data between 0 and 1; lower is better.
    """
    return [_foretold(real, fake, iterations, seed + number) for number in range(repeats)]


def _told_apart(real: Tensor, fake: Tensor, count: int, iterations: int, seed: int) -> float:
    with _own_randomness(real.device, seed):
        reader = _Reader(real.shape[2], max(1, real.shape[2] // 2), 2).to(real.device)
        known = int(TRAINED_ON * count)
        real, fake = (side[torch.randperm(len(side), device=side.device)[:count]] for side in (real, fake))

        def loss() -> Tensor:
            x = torch.cat([_some(real[:known]), _some(fake[:known])])
            answer = torch.zeros(len(x), device=x.device)
            answer[: len(x) // 2] = 1
            return binary_cross_entropy_with_logits(reader(x)[:, -1], answer)

        _train(reader, loss, iterations)
        with torch.no_grad():
            right = [(reader(real[known:])[:, -1] > 0), (reader(fake[known:])[:, -1] <= 0)]
        return abs(float(torch.cat(right).float().mean()) - 0.5)


def _foretold(real: Tensor, fake: Tensor, iterations: int, seed: int) -> float:
    features = real.shape[2]
    inputs = max(1, features - 1)
    with _own_randomness(real.device, seed):
        reader = _Reader(inputs, max(1, features // 2), 1).to(real.device)

        def error(x: Tensor) -> Tensor:
            return l1_loss(reader(x[:, :-1, :inputs]).sigmoid(), x[:, 1:, -1])

        _train(reader, lambda: error(_some(fake)), iterations)
        with torch.no_grad():
            return float(error(real))


def _train(network: nn.Module, loss: Callable[[], Tensor], iterations: int) -> None:
    with torch.enable_grad():
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        for _ in range(iterations):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()


def _some(side: Tensor) -> Tensor:
    return side[torch.randint(len(side), (min(BATCH, len(side)),), device=side.device)]


@contextmanager
def _own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Inside, torch's global generator starts from `seed`; afterwards it is where it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
