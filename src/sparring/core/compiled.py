"""Compiled networks, and where they must not be used as such: a compiled pass has no second derivative."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

BACKEND = "inductor"
_in_use = False  # importing the compiler takes a second, which trainings without it need not wait


def compile_network(module: nn.Module, *, graphs: bool = False) -> None:
    """Compile a network in place, at its first call; its parameters keep their names.

    graphs: record CUDA graphs too, for networks whose kernels are over before the host has launched the next.
    """
    global _in_use
    _in_use = True
    module.compile(dynamic=False, backend=BACKEND, mode="reduce-overhead" if graphs else None)


def eager() -> AbstractContextManager[Any]:
    """Inside, compiled networks run as they are written.

    For passes whose gradient is differentiated again (the backward of torch.compile cannot be), and for those whose
    shapes change from call to call, which would be compiled each time anew.
    """
    return torch.compiler.set_stance("force_eager") if _in_use else nullcontext()
