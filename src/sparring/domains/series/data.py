"""Series: from the recipe's `data` section to batches of windows, every feature between 0 and 1."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.domains.series.sources import Array, Sequences, open_sequences, sines, slow_sines
from sparring.errors import UserError
from sparring.recipe import Section

MADE = {"sines": sines, "slow-sines": slow_sines}
SHOWN = 64  # windows that a game keeps to show its samples beside, at most
SHOWN_VALUES = 20_000  # and their numbers


class SeriesOptions(Section):
    """The recipe's `data` section."""

    source: str = pydantic.Field("sines", description="sines, slow-sines, or a file: .csv, .tsv, .npy, .npz")
    window: int = pydantic.Field(24, ge=2, description="steps of a sample; longer sequences are cut into windows")
    stride: int = pydantic.Field(1, ge=1, description="steps from the start of a window to that of the next")
    key: str | None = pydantic.Field(
        None, description="the column that tells sequences apart; none: one called `sequence`, if there is one"
    )
    count: int = pydantic.Field(10_000, ge=2, description="of sines: how many")
    features: int = pydantic.Field(5, ge=1, description="of sines: how many side by side")


def open_series(options: SeriesOptions, scaling: Mapping[str, Any] | None = None) -> SeriesData:
    """Read the sequences and cut them into windows.

    scaling: `features`, `low` and `high` of other data, to be used in place of their own.
    Raises UserError where there are fewer than two windows, or where features are others than those of `scaling`.
    """
    name = options.source
    if name in MADE:
        waves = MADE[name](options.count, options.window, options.features)
        found = Sequences([*waves], [f"x{number + 1}" for number in range(options.features)], whole=True)
    else:
        found = open_sequences(name, options.key)
    windows, broken = cut(name, found, options.window, options.stride)
    if len(windows) < 2:
        reason = f" ({broken[0][0]}: {broken[0][1]})" if broken else ""
        raise UserError(
            f"{name}: {len(windows)} usable windows of {options.window} steps; a distribution needs at least two{reason}"
        )
    return SeriesData(name, windows, found, broken, scaling)


def cut(name: str, found: Sequences, window: int, stride: int) -> tuple[Array, list[tuple[str, str]]]:
    """Windows (N, window, F) that never run from one sequence into another, and what could not be used, with why.

    Windows that hold a value that is not a number are left out.
    """
    pieces, broken = [], []
    for number, values in enumerate(found.values):
        if len(values) < window:
            broken.append((f"{name}[{number}]", f"{len(values)} steps are fewer than a window of {window}"))
            continue
        windows = np.lib.stride_tricks.sliding_window_view(values, window, axis=0)[::stride].swapaxes(1, 2)
        good = np.isfinite(windows).all(axis=(1, 2))
        if lost := int((~good).sum()):
            broken.append((f"{name}[{number}]", f"{lost} windows hold a value that is not a number"))
        pieces.append(windows[good])
    if not pieces:
        return np.empty((0, window, len(found.features))), broken
    return np.concatenate(pieces), broken


class SeriesData:
    """Windows of series, gathered by index into batches.

    spec: shape (T, F), count, and in `extra`: `features`, `low` and `high` of each (what 0 and 1 stand for), and `shown`,
        some windows, for pictures.
    All windows are kept on the device.
    """

    spec: DataSpec
    fingerprint: str
    broken: list[tuple[str, str]]

    def __init__(
        self,
        name: str,
        windows: Array,
        found: Sequences,
        broken: list[tuple[str, str]],
        scaling: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.broken = name, broken
        if scaling is None:
            low, high = windows.min(axis=(0, 1)), windows.max(axis=(0, 1))
            if (low == high).all():
                raise UserError(f"{name}: no feature ever varies, so there is nothing to learn")
            names = found.features
        else:
            low, high, names = np.array(scaling["low"]), np.array(scaling["high"]), list(scaling["features"])
            if windows.shape[2] != len(names):
                raise UserError(f"{name}: has {windows.shape[2]} features where the other side has {len(names)}")
        extra: dict[str, Any] = {"features": names, "low": low.tolist(), "high": high.tolist()}
        self._windows = torch.from_numpy(to_unit(windows, extra)).float()
        rows = max(1, min(SHOWN, SHOWN_VALUES // windows[0].size))
        order = np.random.default_rng(0).permutation(len(windows))[:rows]
        extra["shown"] = self._windows[order].tolist()
        if found.aside:
            # Said once, when a training begins.
            extra["label_note"] = "; ".join(f"the column {column} is left out: {why}" for column, why in found.aside)
        self.spec = DataSpec(windows.shape[1:], (), len(windows), extra)
        digest = hashlib.blake2b(f"{windows.shape}{low.tolist()}{high.tolist()}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(windows).data)
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._windows)

    def to(self, device: torch.device) -> Self:
        """Keep all windows on `device` from now on."""
        self._windows = self._windows.to(device)
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        """The windows at `indices` (N,): `data` float32 (N, T, F), the data's least value of a feature 0, its largest 1."""
        return Batch(data=self._windows.index_select(0, indices.to(self._windows.device)))


def to_unit(values: NDArray[Any], scaling: Mapping[str, Any]) -> Array:
    """Values (…, F) in the data's units, as games see them: 0 for `low`, 1 for `high`; 0 where these are one."""
    low, span = np.array(scaling["low"]), np.array(scaling["high"]) - np.array(scaling["low"])
    return (values.astype(np.float64) - low) / np.where(span > 0, span, np.inf)


def from_unit(values: NDArray[Any], scaling: Mapping[str, Any]) -> Array:
    """What `to_unit` was given, back in the data's units."""
    low, span = np.array(scaling["low"]), np.array(scaling["high"]) - np.array(scaling["low"])
    return values.astype(np.float64) * span + low
