"""Which samples a step plays on: endless shuffled epochs, exact after a restart and on any number of processes."""

from __future__ import annotations

import secrets
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sparring.errors import UserError


class Order(Protocol):
    """An endless order of samples: epoch after epoch, each of which visits every sample once.

    It is a function of the position alone (and of what the order was made with), so that a position is the whole state
    of a training's data, and any process can ask for any part.
    """

    def indices(self, start: int, stop: int) -> Tensor:
        """The samples at positions [start, stop): int64 (stop - start,), on the CPU."""
        ...


class Shuffled:
    """Each epoch a random permutation of all samples, for data where every sample is as near as any other.

    count: number of samples. The permutation depends on `seed` and the epoch's number alone; one is kept in memory.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def indices(self, start: int, stop: int) -> Tensor:
        """The samples at positions [start, stop): int64 (stop - start,), on the CPU."""
        parts: list[Tensor] = []
        while start < stop:
            epoch, offset = divmod(start, self.count)
            part = self._permuted(epoch)[offset : offset + stop - start]
            parts.append(part)
            start += len(part)
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def _permuted(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._permutation, self._epoch = torch.randperm(self.count, generator=generator(self.seed, epoch)), epoch
        return self._permutation


class Sampler:
    """Endless batches of indices; every epoch visits each sample once, in an order of its own.

    The order depends on `seed` and the epoch's number alone, so `position` is the whole state. Batches run across the
    border of two epochs: none is short, and sets smaller than a batch work.

    count: number of samples. batch_size: of all processes together. rank, world: this process, and how many there are;
    each takes its contiguous share of the batch that a single process would take. order: the data's own, where it has
    one; otherwise random permutations.
    Raises UserError where there are no samples or `world` does not divide `batch_size`.
    """

    def __init__(
        self, count: int, batch_size: int, seed: int, *, rank: int = 0, world: int = 1, order: Order | None = None
    ) -> None:
        if count < 1:
            raise UserError("there are no samples to draw from")
        if batch_size < 1 or batch_size % world:
            lower = max(world, batch_size - batch_size % world)
            raise UserError(
                f"a batch of {batch_size} cannot be shared evenly by {world} processes: "
                f"say --set train.batch_size={lower}"
            )
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world = rank, world
        self.order = order or Shuffled(count, seed)
        self._position = 0

    def next(self) -> Tensor:
        """The indices of this process's share of the next batch: int64 (batch_size / world,), on the CPU."""
        share = self.batch_size // self.world
        start = self._position + self.rank * share
        self._position += self.batch_size
        return self.order.indices(start, start + share)

    @property
    def position(self) -> int:
        """Samples drawn so far by all processes together; setting it goes on exactly from there."""
        return self._position

    @position.setter
    def position(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"a position is not negative: {value}")
        self._position = int(value)

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self._position / self.count


class PoissonSampler:
    """Batches that each sample is in or not, by a coin of its own: what accountants of private training suppose.

    A batch has `batch_size` samples on average, and may have none. It depends on `seed` and on how many there were before.

    secure: coins come from the system's cryptographic generator, and no batch comes again.
    Raises UserError where a batch would be more than all samples.
    """

    def __init__(self, count: int, batch_size: int, seed: int, *, secure: bool = False) -> None:
        if batch_size > count:
            raise UserError(
                f"train.batch_size={batch_size}: private training draws each of the {count} samples by chance, so say at most {count}"
            )
        self.count, self.batch_size, self.seed, self.secure = count, batch_size, seed, secure
        self.position = 0

    @property
    def rate(self) -> float:
        """The probability with which a sample is in a batch."""
        return self.batch_size / self.count

    def next(self) -> Tensor:
        """The indices of the next batch: int64 (n,), on the CPU."""
        entropy = secrets.randbits(128) if self.secure else [self.seed, self.position // self.batch_size]
        self.position += self.batch_size
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        # As many coins as samples, for less: how many fall so, and which.
        drawn = rng.choice(self.count, rng.binomial(self.count, self.rate), replace=False, shuffle=False)
        return torch.from_numpy(drawn.astype(np.int64))


def generator(*numbers: int) -> torch.Generator:
    """Randomness of its own for what the numbers name: a seed, an epoch, …"""
    # SeedSequence spreads them over all bits: (0, 1) and (1, 0) share nothing.
    state = int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)
