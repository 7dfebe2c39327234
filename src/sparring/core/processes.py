"""Several processes that play one game together, each on its share of every batch.

Of a batch each process has a share in a row: the first N samples are the first process's, and so on. So evenly spaced
samples of all shares (`Batch.split`, a penalty's part) are together evenly spaced samples of the batch, and a pass over
several lots of samples, real and fake in a row, holds several shares in a row.

The trainer averages the gradients of the processes' losses, which is right where a loss is a mean over samples. A term
that looks across its batch (a batch's mean or deviation inside a non-linear function) takes that figure from all
processes by `mean`, or it is another loss on every share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


class Group:
    """The processes of a training, as one of them sees it.

    rank: this process; world: how many there are, at least 2. device: this process's.
    seed: of the streams of random numbers that all of them draw in common (`core.chance`), or None where each draws its own.
    at_hand: how many samples this process plays on at the moment, where it knows.
    """

    def __init__(self, rank: int, world: int, device: torch.device, seed: int | None) -> None:
        self.rank, self.world = rank, world
        self.at_hand = 0
        kinds = {} if seed is None else {"cpu": torch.device("cpu"), device.type: device}
        self._streams = {kind: torch.Generator(place) for kind, place in kinds.items()}
        self.seed(seed or 0)

    @property
    def shares_noise(self) -> bool:
        """Whether random numbers are drawn for the whole batch, the same ones by every process."""
        return bool(self._streams)

    def share(self, whole: Tensor) -> Tensor:
        """This process's part of what was made for the whole batch, (N · world, …) → (N, …).

        Where N is a multiple of the samples that are `at_hand`, these are lots in a row, of each of which it has a part.
        """
        count = len(whole) // self.world
        size = self.at_hand if self.at_hand and count % self.at_hand == 0 else count
        if size == count:
            return whole[self.rank * count :][:count]
        lots = whole.unflatten(0, (count // size, self.world, size))
        return lots[:, self.rank].flatten(0, 1).contiguous(memory_format=layout(whole))

    def stream(self, device: torch.device) -> torch.Generator:
        """The common stream on a device, in the same state in every process."""
        return self._streams[device.type]

    def seed(self, seed: int) -> None:
        """Begin the common streams anew."""
        for stream in self._streams.values():
            stream.manual_seed(seed)

    def state(self) -> dict[str, Tensor]:
        """The states of the common streams, named as those of a single process's generators are in checkpoints."""
        return {_name(kind): stream.get_state() for kind, stream in self._streams.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on with streams as `state` says, which may hold those of a single process's generators."""
        for kind, stream in self._streams.items():
            if _name(kind) in state:
                stream.set_state(state[_name(kind)])

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Inside, `mean` is that of all processes, and random numbers are drawn as the group draws them."""
        with _within(self):
            yield


def current() -> Group | None:
    """The group that plays at this moment; None for a single process, and wherever a process acts by itself."""
    return _current


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process acts by itself: nothing waits for the others, nothing takes from the common random numbers."""
    with _within(None):
        yield


def mean(value: Tensor) -> Tensor:
    """The mean of `value` over all processes, of any shape; `value` itself where one plays alone.

    Every process must call it, with the same shape. It may be differentiated any number of times: summed over processes,
    the gradient of a mean is the mean of the gradients, which is how the trainer's average of all gradients wants it.
    """
    return value if _current is None else _Mean.apply(value, _current.world)


def gather(value: Tensor) -> Tensor:
    """The samples of all processes in a row, (N, …) → (N · world, …), without gradients; `value` itself where one plays alone.

    `Group.share` is the way back. Every process must call it, with the same shape.
    """
    if _current is None:
        return value.detach()
    parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(_current.world)]
    dist.all_gather(parts, value.detach().contiguous())
    return torch.cat(parts)


def deviation(value: Tensor) -> Tensor:
    """The standard deviation (without Bessel's correction) of all values of all processes, a scalar without gradients."""
    if _current is None:
        return value.std(correction=0)
    value = value.detach()
    return mean((value - mean(value.mean())).square().mean()).sqrt()


def layout(value: Tensor) -> torch.memory_format:
    """How the values of a tensor lie in memory, which decides the order in which random numbers fill it."""
    if value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


class _Mean(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, world: int) -> Tensor:
        ctx.world = world
        total = value.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total / world

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Mean.apply(gradient, ctx.world), None


_current: Group | None = None


@contextmanager
def _within(group: Group | None) -> Iterator[None]:
    global _current
    before, _current = _current, group
    try:
        yield
    finally:
        _current = before


def _name(kind: str) -> str:
    return "torch" if kind == "cpu" else kind
