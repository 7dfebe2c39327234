"""Channels: what each number of a step stands for. Beside features, where values are missing, and the time since the last step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from sparring.domains.series.clock import Clock
from sparring.domains.series.sources import Array, Sequences
from sparring.errors import UserError

Missing = Literal["leave_out", "forward", "learn"]
GAP = "log gap"


@dataclass(frozen=True)
class Channels:
    """Plain JSON values.

    features: columns of the file. holes: those of them that have missing values. told: whether each of these has a channel that
    is 1 where a value is missing. gap: whether the logarithm of the time since the step before is a channel. clock: see `Clock`.
    """

    features: list[str]
    holes: list[str] = field(default_factory=list)
    told: bool = False
    gap: bool = False
    clock: dict[str, Any] | None = None

    @classmethod
    def of(
        cls, source: str, found: Sequences, missing: Missing, gap: bool, known: Mapping[str, Any] | None
    ) -> tuple[Channels, list[Array]]:
        """The channels of sequences, and what is in them. known: see `open_series`. Raises UserError."""
        empty = np.concatenate([np.isnan(values).any(axis=0, keepdims=True) for values in found.values]).any(axis=0)
        holes = [name for name, hole in zip(found.features, empty, strict=True) if hole]
        clock = None if found.clock is None else found.clock.plain()
        channels = cls(list(found.features), [] if missing == "leave_out" else holes, missing == "learn", gap, clock)
        if known is not None:
            other = channels_of(known)
            if len(other.features) != len(channels.features):
                raise UserError(
                    f"{source}: has {len(channels.features)} features where the other side has {len(other.features)}"
                )
            channels = other
        values = [channels.fill(each) if missing != "leave_out" else each for each in found.values]
        if gap:
            gaps = _log_gaps(source, found.times)
            values = [np.concatenate([each, own[:, None]], 1) for each, own in zip(values, gaps, strict=True)]
        return channels, values

    @property
    def names(self) -> list[str]:
        """What every channel is called."""
        return [
            *self.features,
            *(f"{name} missing" for name in self.holes if self.told),
            *([GAP] if self.gap else []),
        ]

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict, from which the constructor makes it again."""
        return asdict(self)

    def fill(self, values: Array) -> Array:
        """Features (T, F) whose missing values repeat the last one, at the start the first one; beside them where these are."""
        empty = np.isnan(values)
        places = np.where(empty, 0, np.arange(len(values))[:, None])
        last = np.maximum.accumulate(places, axis=0)
        filled = np.take_along_axis(values, last, axis=0)
        for column in range(values.shape[1]):
            there = np.flatnonzero(~empty[:, column])
            if len(there):
                filled[: there[0], column] = values[there[0], column]
        if not self.told:
            return filled
        told = [empty[:, self.features.index(name), None] for name in self.holes]
        return np.concatenate([filled, *told], axis=1).astype(np.float64)

    def read(self, values: Array) -> tuple[Array, Array | None]:
        """Of channels (N, T, C): the features (N, T, F), NaN where values are missing; and the gaps (N, T), where there are."""
        size = len(self.features)
        features = values[:, :, :size].copy()
        if self.told:
            for number, name in enumerate(self.holes):
                column = features[:, :, self.features.index(name)]
                column[values[:, :, size + number] > 0.5] = np.nan
        if not self.gap:
            return features, None
        gaps = np.exp(values[:, :, -1])
        return features, gaps if self.clock is None else Clock(**self.clock).rounded(gaps)


def channels_of(extra: Mapping[str, Any]) -> Channels:
    """The channels that a specification's `extra` holds."""
    return Channels(**extra["channels"])


def _log_gaps(source: str, times: list[Array]) -> list[Array]:
    """Logarithms of the time from step to step, (T,) a sequence; before the first step it is the usual one."""
    gaps = [np.diff(each) for each in times]
    for number, each in enumerate(gaps):
        if (each <= 0).any():
            place = int(np.flatnonzero(each <= 0)[0]) + 1
            raise UserError(f"{source}[{number}]: step {place} is not later than the one before: sort the rows by time")
    usual = float(np.median(np.concatenate(gaps))) if any(len(each) for each in gaps) else 1.0
    return [np.log(np.concatenate([[usual], each])) for each in gaps]
