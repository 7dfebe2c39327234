"""When steps are: the times of a file as numbers and as text again, and what a calendar says of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparring.errors import UserError

Array = NDArray[np.float64]
Part = Literal["hour", "weekday", "month"]
UNITS = (86400.0, 3600.0, 60.0, 1.0)
PERIODS: dict[Part, int] = {"hour": 24, "weekday": 7, "month": 12}
ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[ T](\d{1,2}):(\d{2})(.*))?")
EPOCH = np.datetime64(0, "s")


@dataclass(frozen=True)
class Clock:
    """The column that says when steps are.

    dates: its cells are dates, as numbers seconds since 1970 (UTC where they say no zone); otherwise they are numbers.
    unit: seconds that all dates are multiples of, or 0 for what is not rounded.
    """

    name: str
    dates: bool
    unit: float

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict, from which the constructor makes it again."""
        return asdict(self)

    def text(self, times: Array) -> list[str]:
        """Times (N,) as the cells of a file."""
        if not self.dates:
            return [f"{time:.9g}" for time in times]
        form = "%Y-%m-%d" if self.unit == UNITS[0] else "%Y-%m-%d %H:%M:%S"
        rounded = np.round(times / self.unit) * self.unit if self.unit else times
        return [datetime.fromtimestamp(float(time), UTC).strftime(form) for time in rounded]

    def rounded(self, gaps: Array) -> Array:
        """Times from step to step as they can be: whole units, and at least one."""
        return np.maximum(np.round(gaps / self.unit), 1) * self.unit if self.unit else gaps


def read_clock(name: str, cells: Sequence[str]) -> tuple[Clock, Array] | None:
    """The clock of a column and its times (N,); None where a cell is neither a date with the year first nor a number."""
    dates = [_date(cell) for cell in cells]
    if all(date is not None for date in dates):
        times = np.array(dates, np.float64)
        return Clock(name, True, next((unit for unit in UNITS if not (times % unit).any()), 0.0)), times
    try:
        numbers = np.array([float(cell) for cell in cells])
    except ValueError:
        return None
    return (Clock(name, False, 0.0), numbers) if np.isfinite(numbers).all() else None


def calendar(clock: Clock, times: Array, parts: Sequence[Part]) -> Array:
    """Sine and cosine of each part's turn, (…, 2·parts) of times (…): Monday, January and midnight are at 0.

    The hour goes on evenly; weekdays and months jump. Raises UserError for a clock that knows no dates.
    """
    if not clock.dates:
        raise UserError(f"data.calendar: column {clock.name!r} holds no dates")
    when = EPOCH + times.astype("timedelta64[s]")
    place = {
        "hour": (times % 86400) / 3600,
        "weekday": (np.floor(times / 86400) + 3) % 7,  # the first day of 1970 was a Thursday
        "month": when.astype("datetime64[M]").astype(np.int64) % 12,
    }
    angles = [2 * np.pi * place[part] / PERIODS[part] for part in parts]
    return np.stack([turn(angle) for angle in angles for turn in (np.sin, np.cos)], axis=-1)


def _date(cell: str) -> float | None:
    """Seconds since 1970 of a date with the year first."""
    found = ISO.fullmatch(cell)
    if not found:
        return None
    year, month, day, hour, minute, rest = found.groups()
    try:
        when = datetime.fromisoformat(f"{year}-{month:0>2}-{day:0>2}" + (f"T{hour:0>2}:{minute}{rest}" if hour else ""))
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
