"""What is wrong with a file of series."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparring.data.checks.listed import ListedReport
from sparring.domains.series.attributes import Attribute, fit_attribute
from sparring.domains.series.channels import Channels
from sparring.domains.series.data import SeriesOptions, cut, read_sequences
from sparring.domains.series.sources import Array

REASONS = {
    "short": "no window fits in it",
    "holes": "it holds values that are not numbers; windows with them are left out",
    "copies": "it equals an earlier sequence",
    "constant": "it never varies",
    "aside": "it is no feature",
    "uneven": "its steps are not evenly spaced; data.gaps=true learns the time between them",
    "missing": "it has missing values; data.missing says what becomes of their windows",
}


@dataclass(frozen=True)
class SeriesReport(ListedReport):
    """What was found. Sequences count from 0, in the file's order.

    summary: sequences, features, attributes and what they are, shortest and longest, usable windows. short: sequences that no
    window fits in. uneven: sequences whose steps are not equally far from each other. missing: features with missing values.
    holes: sequences with values that are not numbers. copies: sequences that equal an earlier one.
    constant: features that never vary. aside: columns that are no features.
    """

    reasons = REASONS

    short: list[int] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)
    copies: list[int] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    uneven: list[int] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def name_of(self, kind: str, each: int | str) -> str:
        return f"column {each}" if isinstance(each, str) else f"{self.source}[{each}]"


def check_series(options: SeriesOptions) -> SeriesReport:
    """Look over a file. Raises UserError where it cannot be read."""
    found = read_sequences(options)
    _, values = Channels.of(options.source, found, options.missing, False, None)
    made = cut(options.source, values, options.window, options.stride, options.shortest)
    lengths = [len(each) for each in found.values]
    least = options.window if options.shortest is None else min(options.shortest, options.window)
    seen: set[bytes] = set()
    copies = []
    for number, each in enumerate(found.values):
        content = each.tobytes()
        if content in seen:
            copies.append(number)
        seen.add(content)
    steps = np.concatenate(found.values)
    spans = [np.ptp(column[np.isfinite(column)]) if np.isfinite(column).any() else 0 for column in steps.T]
    attributes = [fit_attribute(name, cells, options.attributes.get(name)) for name, cells in found.attributes.items()]
    summary: dict[str, Any] = {"sequences": len(found.values), "features": found.features}
    if attributes:
        summary["attributes"] = {each.name: _described(each) for each in attributes}
    if found.clock is not None:
        summary["time"] = found.clock.name
    return SeriesReport(
        options.source,
        {
            **summary, "shortest": min(lengths), "longest": max(lengths), "window": options.window,
            "windows": len(made.windows), "padded": int((made.lengths < options.window).sum()),
        },
        short=[number for number, length in enumerate(lengths) if length < least],
        holes=[number for number, each in enumerate(values) if not np.isfinite(each).all()],
        copies=copies,
        constant=[name for name, span in zip(found.features, spans, strict=True) if span == 0],
        aside=[column for column, _ in found.aside],
        uneven=[number for number, each in enumerate(found.times) if _uneven(each)],
        missing=[name for name, column in zip(found.features, steps.T, strict=True) if np.isnan(column).any()],
    )  # fmt: skip


def _described(attribute: Attribute) -> str:
    if attribute.kind == "number":
        return f"number, {attribute.low:g} to {attribute.high:g}"
    shown = ", ".join(attribute.levels[:10]) + (", …" if len(attribute.levels) > 10 else "")
    return f"category of {len(attribute.levels)}: {shown}"


def _uneven(times: Array) -> bool:
    """Whether one step in a hundred or more is not as long as the usual one."""
    gaps = np.diff(times)
    return len(gaps) > 1 and bool((np.abs(gaps - np.median(gaps)) > 1e-6 * np.abs(gaps).max()).mean() >= 0.01)
