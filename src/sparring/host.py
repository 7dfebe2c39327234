"""The machine that we run on: its name, its cores, and how its C library hands out memory."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

# From glibc's malloc.h, for mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def processor() -> str:
    """The processor's name, as its maker has it where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of memory that are free on this machine."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 4 * 2**30  # systems that do not say: a small laptop


def keep_memory() -> bool:
    """Let glibc keep what the process frees and will ask for again; returns whether it does. Other systems: nothing.

    By default large tensors go back to the system when they are freed and come again as fresh zeroed pages, step after
    step: a fifth of the time of a small network's step was the kernel's, 2 % is with this. The process holds on to its
    peak until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    wanted = {_M_MMAP_THRESHOLD: 1 << 30, _M_TRIM_THRESHOLD: (1 << 31) - 1, _M_TOP_PAD: 64 << 20}
    return min(mallopt(ctypes.c_int(option), ctypes.c_int(value)) for option, value in wanted.items()) == 1
