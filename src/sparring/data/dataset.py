"""What the trainer asks of data, whatever its kind."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.data.sampling import Order


class Dataset(Protocol):
    """Samples that can be gathered by index, on the device they are played on."""

    spec: DataSpec
    fingerprint: str
    """A digest of the content and of the settings it was read with."""
    broken: list[tuple[str, str]]
    """Samples that could not be read: (name, reason)."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Self:
        """Move to `device` what fits there."""
        ...

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        """The samples at `indices` (N,), augmented with randomness from torch's global generator, or as they are."""
        ...


@runtime_checkable
class Local(Protocol):
    """Data of which only a part is near at any time, and which therefore says in what order to visit it."""

    def order(self, batch_size: int, seed: int) -> Order:
        """The order of a training in batches of `batch_size`, of all processes together."""
        ...

    def choose(self, count: int, seed: int) -> Tensor:
        """See `choose`."""
        ...


@runtime_checkable
class Watched(Protocol):
    """Data that keeps other data beside it, which no game learns from: what sheets show and figures are measured on."""

    held_out: Dataset | None


def watched(data: Dataset) -> Dataset:
    """What a training is watched on: held-out data where there are some, otherwise the training data themselves."""
    return data.held_out if isinstance(data, Watched) and data.held_out is not None else data


def order_of(data: Dataset, batch_size: int, seed: int) -> Order | None:
    """The data's own order, or None where any will do."""
    return data.order(batch_size, seed) if isinstance(data, Local) else None


def choose(data: Dataset, count: int, seed: int) -> Tensor:
    """Samples to measure against: min(count, all) different indices in random order, int64, on the CPU.

    With a smaller `count` the same seed gives the beginning of the same list.
    """
    if isinstance(data, Local):
        return data.choose(count, seed)
    return torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count]
