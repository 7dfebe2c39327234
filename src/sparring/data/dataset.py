"""What the trainer asks of data, whatever its kind."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec


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
