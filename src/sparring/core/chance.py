"""Random numbers for the samples of a batch, the same for every number of processes.

A game draws by these functions and not by torch's own. A single process draws from torch's global generator, which the
trainer seeds, saves and restores. Of several processes each draws the numbers of the whole batch from a stream that they
have in common, and keeps those of its own samples (`processes.Group.share`): what is played does not depend on how many
play it. That costs each process the drawing of all numbers, so `train.shared_noise: false` lets each draw its own.

What is drawn past these functions, from torch's global generator, is independent from process to process: sound, but
another training on another number of processes. With an `rng` of its own, a call is torch's plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from sparring.core import processes

Device = torch.device
Rng = torch.Generator | None


def normal(count: int, *shape: int, device: Device, rng: Rng = None, dtype: torch.dtype | None = None) -> Tensor:
    """Draws of N(0, 1) for `count` samples, (count, *shape)."""
    return _draw(lambda n, g: torch.randn(n, *shape, device=device, dtype=dtype, generator=g), count, device, rng)


def uniform(count: int, *shape: int, device: Device, rng: Rng = None, dtype: torch.dtype | None = None) -> Tensor:
    """Draws of U[0, 1) for `count` samples, (count, *shape)."""
    return _draw(lambda n, g: torch.rand(n, *shape, device=device, dtype=dtype, generator=g), count, device, rng)


def integers(low: int, high: int, count: int, *shape: int, device: Device, rng: Rng = None) -> Tensor:
    """Whole numbers from `low` to `high` − 1, each as likely, for `count` samples: int64 (count, *shape)."""
    return _draw(lambda n, g: torch.randint(low, high, (n, *shape), device=device, generator=g), count, device, rng)


def choices(weights: Tensor, count: int, rng: Rng = None) -> Tensor:
    """For each of `count` samples a number from 0 to K − 1, as often as its weight in `weights` (K,) says: int64 (count,)."""
    return _draw(lambda n, g: torch.multinomial(weights, n, replacement=True, generator=g), count, weights.device, rng)


def normal_like(samples: Tensor) -> Tensor:
    """Draws of N(0, 1) in the shape, type and device of `samples` (N, …)."""
    group = _sharing()
    if group is None:
        return torch.randn_like(samples)
    return group.share(_whole(samples, group).normal_(generator=group.stream(samples.device)))


def uniform_like(samples: Tensor) -> Tensor:
    """Draws of U[0, 1) in the shape, type and device of `samples` (N, …)."""
    group = _sharing()
    if group is None:
        return torch.rand_like(samples)
    return group.share(_whole(samples, group).uniform_(generator=group.stream(samples.device)))


def dropout(samples: Tensor, probability: float) -> Tensor:
    """Zero each value of `samples` (N, …) with this probability, and scale the rest to keep the mean (Srivastava et al. 2014)."""
    group = _sharing()
    if group is None:
        return functional.dropout(samples, probability)
    with _stream_as_global(group, samples.device):
        # torch's own dropout, which takes no generator, of ones: its mask, already scaled.
        mask = functional.dropout(_whole(samples, group).fill_(1), probability)
    return samples * group.share(mask)


def drawn_elsewhere(
    count: int, draw: Callable[[int], dict[str, Tensor]], device: Device, *, common: Collection[str] = ()
) -> dict[str, Tensor]:
    """What a library draws from torch's global generator for `count` samples: named tensors, each (count, …).

    draw: is called with how many samples to draw for. common: names of tensors that hold for all samples.
    """
    group = _sharing()
    if group is None:
        return draw(count)
    with _stream_as_global(group, device):
        drawn = draw(count * group.world)
    return {name: value if name in common else group.share(value) for name, value in drawn.items()}


def _draw(draw: Callable[[int, Rng], Tensor], count: int, device: Device, rng: Rng) -> Tensor:
    group = _sharing() if rng is None else None
    if group is None:
        return draw(count, rng)
    return group.share(draw(count * group.world, group.stream(device)))


def _sharing() -> processes.Group | None:
    group = processes.current()
    return group if group is not None and group.shares_noise else None


def _whole(samples: Tensor, group: processes.Group) -> Tensor:
    """An empty tensor for all processes' samples, laid out in memory as these are."""
    shape = (len(samples) * group.world, *samples.shape[1:])
    order = processes.layout(samples)
    return torch.empty(shape, dtype=samples.dtype, device=samples.device, memory_format=order)


@contextmanager
def _stream_as_global(group: processes.Group, device: Device) -> Iterator[None]:
    """Inside, torch's global generator of the device is the group's stream."""
    stream, own = group.stream(device), _global_generator(device)
    before = own.get_state()
    own.set_state(stream.get_state())
    try:
        yield
        stream.set_state(own.get_state())
    finally:
        own.set_state(before)


def _global_generator(device: Device) -> torch.Generator:
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    return torch.mps._get_default_mps_generator() if device.type == "mps" else torch.default_generator
