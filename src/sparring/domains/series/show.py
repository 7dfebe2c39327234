"""Showing series: samples beside the data that they should be like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from sparring.domains.figures import FAINT, INK, REAL, STRONG, dress
from sparring.domains.series.metrics.autocorrelation import acf
from sparring.domains.series.sources import Array
from sparring.errors import UserError

PATHS = 12  # lines of a side: more would be a thicket
FEATURES = 8  # rows of a picture
FANS, FANNED = 4, 4  # forecasts side by side, and their features
LAGS = 12


def paths(samples: Array, real: Array | None, names: Sequence[str]) -> Figure:
    """A row a feature: paths of data (M, T, F) on the left, samples (N, T, F) on the right, on one scale, in their units.

    A path has a gap where it is NaN, and may end early.
    """
    shown = list(names)[:FEATURES]
    sides = [("samples", samples, STRONG)] if real is None else [("data", real, REAL), ("samples", samples, STRONG)]
    figure = Figure(figsize=(4.2 * len(sides), 0.6 + 1.35 * len(shown)), dpi=110, layout="constrained")
    grid = figure.subplots(len(shown), len(sides), sharex=True, sharey="row", squeeze=False)
    for row, name in enumerate(shown):
        for column, (title, values, colour) in enumerate(sides):
            axes = grid[row, column]
            # Spread over all: what comes first may be alike (windows in the order of time, or sorted).
            some = np.linspace(0, len(values) - 1, min(PATHS, len(values))).round().astype(int)
            axes.plot(values[some, :, row].T, color=colour, linewidth=0.9, alpha=0.7)
            dress(axes)
            if row == 0:
                axes.set_title(title, fontsize=10, color=INK, loc="left")
            if column == 0:
                axes.set_ylabel(name, fontsize=8, color=INK)
            if row == len(shown) - 1:
                axes.set_xlabel("step", fontsize=8, color=INK)
    if len(names) > len(shown):
        figure.supxlabel(f"the first {len(shown)} of {len(names)} features", fontsize=8, color=INK)
    return figure


def fans(past: Array, came: Array | None, drawn: Array, names: Sequence[str]) -> Figure:
    """Forecasts: a row a feature, some pasts (N, P, F) side by side, each with the bands that 50 and 90 % of what is drawn
    (N, S, h, F) lie in, its median, and what came (N, h, F).
    """
    shown = list(names)[:FANNED]
    some = np.linspace(0, len(past) - 1, min(FANS, len(past))).round().astype(int)
    figure = Figure(figsize=(2.9 * len(some), 0.7 + 1.9 * len(shown)), dpi=110, layout="constrained")
    grid = figure.subplots(len(shown), len(some), sharex=True, sharey="row", squeeze=False)
    before, after = np.arange(1 - past.shape[1], 1), np.arange(drawn.shape[2] + 1)
    for row, name in enumerate(shown):
        for column, number in enumerate(some):
            axes = grid[row, column]
            last = past[number, -1, row]
            low, lower, median, upper, high = np.quantile(
                drawn[number, :, :, row], (0.05, 0.25, 0.5, 0.75, 0.95), axis=0
            )
            for bottom, top, alpha, label in ((low, high, 0.16, "90 %"), (lower, upper, 0.3, "50 %")):
                axes.fill_between(after, np.r_[last, bottom], np.r_[last, top], color=STRONG, alpha=alpha, linewidth=0, label=label)  # fmt: skip
            axes.plot(after, np.r_[last, median], color=STRONG, linewidth=1.2, label="median")
            axes.plot(before, past[number, :, row], color=REAL, linewidth=1.2)
            if came is not None:
                axes.plot(after, np.r_[last, came[number, :, row]], color=INK, linewidth=1.2, label="what came")
            axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
            dress(axes)
            if column == 0:
                axes.set_ylabel(name, fontsize=8, color=INK)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=4, fontsize=8, frameon=False, labelcolor=INK)
    figure.supxlabel("steps from the last one known", fontsize=8, color=INK)
    return figure


def cloud(samples: Array, real: Array) -> Figure:
    """Windows as points: samples (N, T, F) over data (M, T, F), in the first two principal axes of the data."""
    flat, reference = samples.reshape(len(samples), -1), real.reshape(len(real), -1)
    centre = reference.mean(axis=0)
    _, values, rows = np.linalg.svd(reference - centre, full_matrices=False)
    shares = np.square(values) / max(float(np.square(values).sum()), 1e-300)
    figure = Figure(figsize=(6, 5.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for title, side, colour, size in (("data", reference, REAL, 12.0), ("samples", flat, STRONG, 8.0)):
        x, y = ((side - centre) @ rows[:2].T).T
        axes.scatter(x, y, s=size, c=colour, alpha=0.35, linewidths=0, label=title)
    axes.set_xlabel(f"first principal axis, {shares[0]:.0%} of the variance", fontsize=9, color=INK)
    axes.set_ylabel(f"second principal axis, {shares[1]:.0%}", fontsize=9, color=INK)
    axes.legend(loc="upper right", fontsize=8, frameon=False, labelcolor=INK)
    dress(axes)
    return figure


def memories(samples: Array, real: Array, names: Sequence[str]) -> Figure:
    """Autocorrelations of samples and data, a small picture a feature."""
    shown = list(names)[:FEATURES]
    lags = min(LAGS, real.shape[1] - 1)
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(0.4 + 2.7 * columns, 0.4 + 2.1 * rows), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    curves = [
        ("data", acf(torch.from_numpy(real), lags), REAL),
        ("samples", acf(torch.from_numpy(samples), lags), STRONG),
    ]
    for number, axes in enumerate(grid):
        if number >= len(shown):
            axes.set_visible(False)
            continue
        axes.axhline(0, color=FAINT, linewidth=0.8)
        for title, curve, colour in curves:
            axes.plot(
                range(1, lags + 1),
                curve[:, number],
                color=colour,
                marker="o",
                markersize=2.5,
                linewidth=1.2,
                label=title,
            )
        axes.set_title(shown[number], fontsize=9, color=INK, loc="left")
        dress(axes)
    grid[0].legend(fontsize=8, frameon=False, labelcolor=INK)
    figure.supxlabel("lag", fontsize=9, color=INK)
    figure.supylabel("autocorrelation", fontsize=9, color=INK)
    return figure


def require_finite(samples: Array) -> None:
    """Raise UserError for samples that are no numbers."""
    if not np.isfinite(samples).all():
        raise UserError(
            "the samples hold NaN or infinite values: the generator has diverged; use an earlier checkpoint"
        )
