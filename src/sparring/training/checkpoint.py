"""Checkpoints: atomic, safe, exact.

A checkpoint is a folder. `weights.safetensors` is the light part, what `generate` needs; the rest is for going on:

    weights.safetensors      the averaged networks that samples are drawn from
    game.safetensors         every parameter and buffer of the game
    average.safetensors      the moving average in full precision
    optimizers.safetensors   the optimisers' tensors
    random-0000.safetensors  each process's random-number generators
    noise.safetensors        of several processes, the random numbers that they draw in common
    state.json               step, sampler position, clocks, and a checksum of each file above

Nothing in it is code or can become code: tensors are safetensors, the rest is JSON.
"""

from __future__ import annotations

import errno
import json
import random
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, optim

from sparring.errors import UserError
from sparring.files import FULL_DISK, publish_folder

FORMAT = 1
Tensors = Mapping[str, Tensor]


class Damaged(Exception):  # noqa: N818  (handled by going back one checkpoint)
    """A checkpoint whose files are missing or not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint folder."""

    folder: Path

    @property
    def step(self) -> int:
        """Steps played when it was written."""
        return int(self.folder.name.removeprefix("step-"))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The file `NAME.safetensors`, on the CPU. Raises Damaged."""
        try:
            return safetensors.torch.load_file(self.folder / f"{name}.safetensors")
        except (OSError, safetensors.SafetensorError) as error:
            raise Damaged(f"{self.folder}: {name}.safetensors cannot be read: {error}") from error

    def state(self) -> dict[str, Any]:
        """The content of `state.json`. Raises Damaged."""
        try:
            content = json.loads((self.folder / "state.json").read_text())
        except (OSError, ValueError) as error:
            raise Damaged(f"{self.folder}: state.json cannot be read: {error}") from error
        if not isinstance(content, dict) or "files" not in content:
            raise Damaged(f"{self.folder}: state.json is not what was written")
        return content

    def verify(self) -> None:
        """Compare every file with its checksum. Raises Damaged."""
        for name, (size, checksum) in self.state()["files"].items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != size or _checksum(path) != checksum:
                raise Damaged(f"{path}: missing or not what was written")


@contextmanager
def readable() -> Iterator[None]:
    """A damaged checkpoint is nothing to go back from here: the user chooses another."""
    try:
        yield
    except Damaged as damage:
        raise UserError(f"{damage}; choose another with --checkpoint") from damage


def list_checkpoints(root: Path) -> list[Checkpoint]:
    """The complete checkpoints below `root`, oldest first."""
    found = (
        [Checkpoint(path) for path in root.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
        if root.is_dir()
        else []
    )
    return sorted((each for each in found if (each.folder / "state.json").is_file()), key=lambda each: each.step)


def newest_good(root: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint whose files are what was written; tells of each damaged one that is passed over."""
    for checkpoint in reversed(list_checkpoints(root)):
        try:
            checkpoint.verify()
            return checkpoint
        except Damaged as damage:
            say(f"passing over a damaged checkpoint: {damage}")
    return None


def save_checkpoint(
    root: Path,
    step: int,
    tensors: Mapping[str, Tensors],
    state: Mapping[str, Any],
    *,
    rank: int = 0,
    any_process: Callable[[bool], bool] = lambda failed: failed,
) -> Checkpoint:
    """Write a checkpoint whole or not at all. Every process calls it; each writes its own random state.

    tensors: file name → tensors; state: plain JSON; any_process: whether any process says True (and a meeting point).
    Raises OSError in every process where one of them fails (a full disk, say), and leaves nothing then.
    """
    final = root / f"step-{step:08d}"
    temporary = root / f".{final.name}.tmp"

    def prepare() -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)

    def write() -> None:
        write_tensors(temporary / f"random-{rank:04d}.safetensors", random_state())
        if rank == 0:
            for name, content in tensors.items():
                write_tensors(temporary / f"{name}.safetensors", content)

    def publish() -> None:
        files = {path.name: (path.stat().st_size, _checksum(path)) for path in sorted(temporary.iterdir())}
        (temporary / "state.json").write_text(json.dumps({"format": FORMAT, **state, "files": files}, indent=1))
        publish_folder(temporary, final)

    for work, here in ((prepare, rank == 0), (write, True), (publish, rank == 0)):
        failure: OSError | None = None
        try:
            if here:
                work()
        except OSError as error:
            failure = error
        full = any_process(failure is not None and failure.errno in FULL_DISK)
        if any_process(failure is not None):
            if rank == 0:
                shutil.rmtree(temporary, ignore_errors=True)
            # Every process raises the same kind of error, so that all go on, or all end.
            raise failure or OSError(
                errno.ENOSPC if full else errno.EIO, "another process could not write", str(temporary)
            )
    return Checkpoint(final)


def prune_checkpoints(root: Path, keep: int, best: int | None) -> None:
    """Remove all but the newest `keep` checkpoints and the best one, and what a killed process left unfinished."""
    for checkpoint in list_checkpoints(root)[:-keep]:
        if checkpoint.step != best:
            # Its name goes first: a removal that is cut short must neither look like a checkpoint nor stay for ever.
            old = root / f".{checkpoint.folder.name}.old"
            shutil.rmtree(old, ignore_errors=True)
            checkpoint.folder.rename(old)
    for leftover in [*root.glob(".step-*.tmp"), *root.glob(".step-*.old")]:
        shutil.rmtree(leftover, ignore_errors=True)


def random_state() -> dict[str, Tensor]:
    """The state of every global random-number generator of this process, as tensors."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_gauss": torch.tensor([float("nan") if gauss is None else gauss], dtype=torch.float64),
        "numpy": torch.tensor([*map(int, keys), position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: Tensors) -> None:
    """Put back what `random_state` returned."""
    version, *words = state["python"].tolist()
    gauss = state["python_gauss"].item()
    random.setstate((version, tuple(words), None if gauss != gauss else gauss))
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, state["numpy_gauss"].item()))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def pack_optimizer(optimizer: optim.Optimizer, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimiser's state into tensors (`prefix/index/name`) and plain JSON."""
    full = optimizer.state_dict()
    tensors, plain = {}, {}
    for index, entries in full["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}/{index}/{name}"] = value
            else:
                plain[f"{index}/{name}"] = value
    return tensors, {"scalars": plain, "groups": full["param_groups"]}


def unpack_optimizer(optimizer: optim.Optimizer, prefix: str, tensors: Tensors, plain: Mapping[str, Any]) -> None:
    """Put back what `pack_optimizer` returned."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        owner, index, name = key.split("/", 2)
        if owner == prefix:
            state.setdefault(int(index), {})[name] = value
    for key, value in plain["scalars"].items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": plain["groups"]})
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            # Files know no memory format, and fused optimisers walk over a weight and its moments side by side.
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                entries[name] = torch.empty_like(parameter).copy_(value)


def write_tensors(path: Path, tensors: Tensors) -> None:
    # Written by our own hand rather than by safetensors' writer, so that a full disk is an OSError with its number.
    # Clones, because tied weights share memory, which the format has no word for.
    content = safetensors.torch.save(
        {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    )
    with path.open("wb") as stream:
        stream.write(content)


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum
