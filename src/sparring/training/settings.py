"""Settings: how a machine plays a game. They change speed and rounding, never what is played."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from sparring.core.compiled import compile_network
from sparring.errors import UserError
from sparring.recipe import Machine

Module = TypeVar("Module", bound=nn.Module)

HALVES = {"bf16": torch.bfloat16, "16": torch.float16}


@dataclass(frozen=True)
class Settings:
    """precision: "32", "bf16" or "16", of forward passes. threads: of a process on a CPU. channels_last: images with their
    channels innermost. compile: first-order passes by torch.compile; "graphs": as CUDA graphs too.
    """

    precision: str = "32"
    threads: int = 1
    channels_last: bool = False
    compile: bool | Literal["graphs"] = False

    def __str__(self) -> str:
        extra = [
            name.replace("_", " ")
            for name, on in (("channels_last", self.channels_last), ("compile", self.compile))
            if on
        ]
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        return ", ".join([f"{self.precision} bits" if self.precision.isdigit() else self.precision, threads, *extra])

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data, which `Machine` takes as pins."""
        return asdict(self)

    @contextmanager
    def applied(self, device: torch.device) -> Iterator[None]:
        """The process as the settings want it; afterwards as it was."""
        before = torch.get_num_threads()
        if device.type == "cpu":
            torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def dress(self, module: Module) -> Module:
        """Give a module's weights the memory format of the settings; the same module."""
        return module.to(memory_format=torch.channels_last) if self.channels_last else module  # type: ignore[call-overload]

    def quicken(self, network: nn.Module) -> None:
        """Compile a network where the settings say so; second derivatives must go round it (`core.compiled.eager`)."""
        if self.compile:
            compile_network(network, graphs=self.compile == "graphs")


def initial_settings(machine: Machine, device: str, processes: int = 1) -> Settings:
    """What is pinned, and for the rest what is usual on the device. Raises UserError for what the device cannot do."""
    # Who sets OMP_NUM_THREADS, torchrun among them, means each process.
    shared = 1 if device != "cpu" or "OMP_NUM_THREADS" in os.environ else processes
    usual = Settings(choose_precision(machine.precision, device), max(1, torch.get_num_threads() // shared))
    return replace(usual, **{key: value for key, value in pins(machine).items() if key != "precision"})


def choose_precision(precision: str, device: str) -> str:
    """`auto`: bf16 on GPUs that have it, otherwise 32-bit. Raises UserError for what the device cannot do."""
    if precision == "auto":
        return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "32"
    if precision not in ("32", *HALVES):
        raise UserError(f"unknown precision {precision!r}; there are auto, 32, bf16, 16")
    if precision == "16" and device == "cpu":
        raise UserError("16-bit floats need a GPU (they lose gradients on a CPU): say --precision bf16 or 32")
    return precision


def pins(machine: Machine) -> dict[str, Any]:
    """What the recipe leaves no choice about."""
    return {key: value for key, value in machine.model_dump().items() if value != "auto"}
