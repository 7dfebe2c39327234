"""What is wrong with a file of series."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparring.domains.series.data import SeriesOptions, cut
from sparring.domains.series.sources import open_sequences

REASONS = {
    "short": "no window fits in it",
    "holes": "it holds values that are not numbers; windows with them are left out",
    "copies": "it equals an earlier sequence",
    "constant": "it never varies",
    "aside": "it names the steps and is no feature",
}


@dataclass(frozen=True)
class SeriesReport:
    """What was found. Sequences count from 0, in the file's order.

    summary: sequences, features, shortest and longest, usable windows. short: sequences that no window fits in.
    holes: sequences with values that are not numbers. copies: sequences that equal an earlier one.
    constant: features that never vary. aside: columns that are no features.
    """

    source: str
    summary: dict[str, Any]
    short: list[int] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)
    copies: list[int] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict: the lists, how many each holds, and a finding for each in words."""
        lists = {name: getattr(self, name) for name in ("short", "holes", "copies", "constant", "aside")}
        counts = {name: len(found) for name, found in lists.items() if found}
        findings = [
            {"kind": kind, "name": self._name(each), "reason": REASONS[kind], "remove": False}
            for kind, found in lists.items()
            for each in found
        ]
        return {"source": self.source, "summary": self.summary, "counts": counts, "findings": findings, **lists}

    def _name(self, each: int | str) -> str:
        return f"column {each}" if isinstance(each, str) else f"{self.source}[{each}]"


def check_series(options: SeriesOptions) -> SeriesReport:
    """Look over a file. Raises UserError where it cannot be read."""
    found = open_sequences(options.source, options.key)
    windows, _ = cut(options.source, found, options.window, options.stride)
    lengths = [len(values) for values in found.values]
    seen: set[bytes] = set()
    copies = []
    for number, values in enumerate(found.values):
        content = values.tobytes()
        if content in seen:
            copies.append(number)
        seen.add(content)
    steps = np.concatenate(found.values)
    spans = [np.ptp(column[np.isfinite(column)]) if np.isfinite(column).any() else 0 for column in steps.T]
    return SeriesReport(
        options.source,
        {
            "sequences": len(found.values), "features": found.features, "shortest": min(lengths),
            "longest": max(lengths), "window": options.window, "windows": len(windows),
        },
        short=[number for number, length in enumerate(lengths) if length < options.window],
        holes=[number for number, values in enumerate(found.values) if not np.isfinite(values).all()],
        copies=copies,
        constant=[name for name, span in zip(found.features, spans, strict=True) if span == 0],
        aside=[column for column, _ in found.aside],
    )  # fmt: skip
