"""Where a game is played: devices and processes by Lightning Fabric, precision and the rest of the settings by torch.

Gradients are averaged by one flat all-reduce a turn, as StyleGAN's trainers do, and not by
DistributedDataParallel: that wants exactly one forward before each backward, which no game with a penalty, a shared
batch or two networks in one loss can promise.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import lightning_fabric
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sparring.core.processes import Group
from sparring.errors import UserError
from sparring.host import keep_memory
from sparring.recipe import Machine
from sparring.training.launch import agreed
from sparring.training.settings import HALVES, Settings, initial_settings


class Engine:
    """Devices, processes and settings of one training.

    machine: the recipe's section of that name; what it pins the settings have, what it leaves open `tune` may choose.
    """

    def __init__(
        self, *, device: str = "auto", devices: int = 1, nodes: int = 1, machine: Machine | None = None
    ) -> None:
        accelerator = choose_device(device)
        devices, nodes = agreed(devices, nodes)
        self.machine = machine or Machine()
        self.settings: Settings = initial_settings(self.machine, accelerator, devices)
        # cuBLAS reads this once, when CUDA starts; without it some reductions differ from run to run.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its greetings are not for our users
        # Workers of a multi-process CPU run share the cores; Fabric's script launcher starts the same command again.
        strategy = "ddp" if devices * nodes > 1 else "auto"
        try:
            self.fabric = lightning_fabric.Fabric(
                accelerator=accelerator,
                devices=devices,
                num_nodes=nodes,
                strategy=strategy,
            )
            self.fabric.launch()
        except (RuntimeError, ValueError) as error:
            raise UserError(f"cannot use {devices} × {accelerator}: {' '.join(str(error).split())}") from error
        if accelerator == "cpu":
            keep_memory()

    def use(self, settings: Settings) -> None:
        """Play with other settings; a trainer that exists already keeps the memory format it was built with."""
        self.settings = settings

    @property
    def device(self) -> torch.device:
        """This process's device."""
        return self.fabric.device

    @property
    def world(self) -> int:
        """The number of processes."""
        return self.fabric.world_size

    @property
    def rank(self) -> int:
        """This process's number."""
        return self.fabric.global_rank

    @property
    def main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.fabric.is_global_zero

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for forward passes, where the settings say so: weights stay float32."""
        half = HALVES.get(self.settings.precision)
        return nullcontext() if half is None else torch.autocast(self.device.type, half)

    def scaler(self) -> torch.amp.GradScaler | None:
        """A loss scaler, which only 16-bit floats with their short range need."""
        return torch.amp.GradScaler(self.device.type) if self.settings.precision == "16" else None

    def group(self, seed: int | None) -> Group | None:
        """The processes as a game knows them, None where there is one. seed: of their common random numbers, if they have any."""
        return Group(self.rank, self.world, self.device, seed) if self.world > 1 else None

    def average_gradients(self, parameters: list[nn.Parameter], figures: Sequence[Tensor] = ()) -> list[Tensor]:
        """Replace each gradient by its mean over processes; returns the means of scalar figures, which travel along.

        What no process has a gradient of stays without one, so that the optimiser passes it over as for a single process.
        """
        if self.world == 1:
            return list(figures)
        # Every process must send the same layout, also where a branch left a parameter out.
        missing = [index for index, parameter in enumerate(parameters) if parameter.grad is None]
        for index in missing:
            parameters[index].grad = torch.zeros_like(parameters[index])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means = [figure.detach().reshape(1).to(gradients[0].dtype, copy=True) for figure in figures]
        present = torch.ones_like(means[0] if means else gradients[0].flatten()[:1]).repeat(len(parameters))
        present[missing] = 0
        self._flat_mean([*gradients, *means, present])
        if missing:
            for index, share in zip(missing, present[missing].tolist(), strict=True):
                if share == 0:
                    parameters[index].grad = None
        return [mean.reshape(()) for mean in means]

    def share_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Give every process the main one's buffers (batch-norm statistics, …), as DistributedDataParallel does."""
        if self.world > 1:
            kinds: dict[torch.dtype, list[Tensor]] = {}
            for buffer in buffers:
                kinds.setdefault(buffer.dtype, []).append(buffer)
            for tensors in kinds.values():
                flat = torch.cat([tensor.flatten() for tensor in tensors])
                dist.broadcast(flat, 0)
                _unpack(flat, tensors)

    def any(self, flag: bool) -> bool:
        """Whether any process says so; all get the same answer."""
        if self.world == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value.item())

    def broadcast(self, value: Any) -> Any:
        """The main process's value, everywhere."""
        return self.fabric.broadcast(value)

    def barrier(self) -> None:
        """Wait for all processes."""
        self.fabric.barrier()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes first (and fills a cache), then the others, also where it fails: they see for themselves."""
        if not self.main:
            self.barrier()
        try:
            yield
        finally:
            if self.main:
                self.barrier()

    def close(self) -> None:
        """Leave the process group, so that the interpreter can end quietly."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def _flat_mean(self, tensors: list[Tensor]) -> None:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        _unpack(flat, tensors)


def _unpack(flat: Tensor, tensors: list[Tensor]) -> None:
    """Copy a row of values back to the tensors that it was made of."""
    pieces = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)])


def choose_device(device: str) -> str:
    """`auto` is a GPU where there is one. Raises UserError for a device this machine has not."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if device not in available:
        raise UserError(f"unknown device {device!r}; there are auto, cpu, cuda, mps")
    if not available[device]:
        raise UserError(f"this machine has no usable {device} device; leave --device out, or say --device cpu")
    return device


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Same machine, same recipe, same bits; puts torch's settings back afterwards."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )
    try:
        if enabled:
            torch.use_deterministic_algorithms(True, warn_only=True)
            # Filling fresh memory finds reads of garbage, which is a debugger's work and costs time in every layer.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic = enabled
        torch.backends.cudnn.benchmark = not enabled
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = before[2]  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before[3:]
