"""What can go wrong while a game is played, and how it is noticed: NaN, out of memory, signals, full disks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from sparring.core.game import Batch, Losses, Turn
from sparring.files import FULL_DISK, whole_folder, write_json

MAX_RECOVERIES = 3


class Diverged(Exception):  # noqa: N818  (handled by going back to a good checkpoint)
    """A loss, gradient or weight is NaN or infinite; `str()` says which."""


class Stop:
    """Listens for Ctrl-C and SIGTERM. The first asks for a stop after the current step, the second stops at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Take over the signals, and give them back. Only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class FiniteGuard:
    """Notices NaN and infinity in losses and gradients.

    On a CPU each turn is checked. Elsewhere asking would make the host wait for the device, so the answer is
    collected there and asked for every `interval` turns and before each checkpoint: a checkpoint is never poisoned,
    and going back to the last one undoes the few turns in between.
    """

    def __init__(self, device: torch.device, interval: int = 16) -> None:
        self.interval = 1 if device.type == "cpu" else interval
        self.turns = 0
        self.finite: Tensor | None = None

    def check(self, turn: Turn, losses: Losses, norm: Tensor | None) -> None:
        """Note a turn's losses and gradient norm (None where a loss scaler looks after it). Raises Diverged."""
        values = [part.detach() for part in losses.values()] + ([] if norm is None else [norm])
        finite = torch.isfinite(torch.stack([value.float() for value in values])).all()
        self.finite = finite if self.finite is None else self.finite & finite
        self.turns += 1
        if self.turns % self.interval == 0:
            self.ask(f"turn {turn.name}: " + self.describe(losses, norm))

    def ask(self, what: str) -> None:
        """Raises Diverged, saying `what`, where anything since the last question was not finite."""
        finite, self.finite = self.finite, None
        if finite is not None and not finite.item():
            raise Diverged(what)

    @staticmethod
    def describe(losses: Losses, norm: Tensor | None) -> str:
        """The values in one line."""
        values = {**{f"loss {name}": part for name, part in losses.items()}, "gradient norm": norm}
        return ", ".join(f"{name} {value.item():.4g}" for name, value in values.items() if value is not None)


def unfinite_weights(game: nn.Module) -> list[str]:
    """Names of the parameters and buffers that hold NaN or infinity."""
    named = [*game.named_parameters(), *game.named_buffers()]
    floating = [(name, value) for name, value in named if value.is_floating_point() and value.numel()]
    if not floating:
        return []
    # One reduction a tensor and one answer for all: NaN and infinity both survive a sum of absolute values.
    sums = torch.stack([value.detach().abs().sum().float() for _, value in floating])
    if torch.isfinite(sums).all().item():
        return []
    return [name for name, value in floating if not torch.isfinite(value).all().item()]


def dump_incident(
    folder: Path,
    reason: str,
    batch: Batch | None,
    game: nn.Module,
    facts: Mapping[str, Any],
    write: Callable[[Path, Any], None],
) -> None:
    """Write what led to a divergence: the batch, the weights, the facts. A dump that fails never stops a recovery."""
    with tolerate_full_disk(lambda message: None), whole_folder(folder) as temporary:
        write(temporary / "game.safetensors", game.state_dict())
        if batch is not None:
            write(temporary / "batch.safetensors", dict(batch))
        write_json(temporary / "incident.json", {"reason": reason, **facts})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device or the host has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


@contextmanager
def tolerate_full_disk(warn: Callable[[str], None]) -> Iterator[None]:
    """Turn a full disk into a warning: training goes on, and what was written before stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        warn(
            f"the disk is full ({error.filename or error.strerror}): training goes on with the last checkpoint kept; free some space"
        )
