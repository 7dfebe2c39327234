"""Pictures of returns: paths of prices as a fan, how long large changes stay together, and how far out the tails reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparring.domains.figures import FAINT, INK, REAL, STRONG, dress
from sparring.domains.series.sources import Array

LINES = 20  # paths that are drawn one by one, over the fan
BANDS = ((0.025, 0.975), (0.25, 0.75))
POINTS = 400  # of a quantile plot, and all of the tails


def fan(sides: Mapping[str, Array], label: str) -> Figure:
    """Paths (N, T + 1) of each side in a picture of its own, on one scale: 95 and 50 % of them as bands, some as lines."""
    figure = Figure(figsize=(4.4 * len(sides), 3.4), dpi=110, layout="constrained")
    grid = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    for axes, (title, paths), colour in zip(grid, sides.items(), _colours(len(sides)), strict=True):
        steps = range(paths.shape[1])
        for low, high in BANDS:
            ends = np.quantile(paths, [low, high], axis=0)
            axes.fill_between(steps, *ends, color=colour, alpha=0.13, linewidth=0)
        axes.plot(np.median(paths, axis=0), color=colour, linewidth=1.6)
        some = np.linspace(0, len(paths) - 1, min(LINES, len(paths))).round().astype(int)
        axes.plot(paths[some].T, color=colour, linewidth=0.6, alpha=0.5)
        _write(axes, title, "step", "")
    grid[0].set_ylabel(label, fontsize=8, color=INK)
    return figure


def memory(curves: Mapping[str, tuple[Array, Array]], bands: Mapping[str, tuple[Array, Array]] | None = None) -> Figure:
    """A picture a quantity: (data, samples) curves over lags 1, …, and the interval of the data's where it is known."""
    figure = Figure(figsize=(3.7 * len(curves), 3.0), dpi=110, layout="constrained")
    grid = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (title, (real, fake)) in zip(grid, curves.items(), strict=True):
        lags = np.arange(1, len(real) + 1)
        axes.axhline(0, color=FAINT, linewidth=0.8)
        if bands and title in bands:
            axes.fill_between(lags, *bands[title], color=REAL, alpha=0.18, linewidth=0, label="95 % of the data's")
        axes.plot(lags, real, color=REAL, linewidth=1.3, label="data")
        axes.plot(lags, fake, color=STRONG, linewidth=1.3, label="samples")
        _write(axes, title, "lag", "")
    grid[0].legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure


def quantiles(real: Array, fake: Array, names: Sequence[str]) -> Figure:
    """Quantiles of samples (N, F) over those of data (M, F), a picture a feature: on the diagonal where they agree."""
    figure = Figure(figsize=(0.5 + 3.4 * len(names), 3.5), dpi=110, layout="constrained")
    for axes, name, left, right in zip(
        figure.subplots(1, len(names), squeeze=False)[0], names, real.T, fake.T, strict=True
    ):
        count = min(len(left), len(right))
        # Order statistics as far out as the smaller side has them, evenly in between.
        ranks = np.unique(np.concatenate([np.arange(min(50, count)), np.linspace(0, count - 1, POINTS).astype(int)]))
        levels = (np.unique(np.concatenate([ranks, count - 1 - ranks])) + 0.5) / count
        x, y = np.quantile(left, levels), np.quantile(right, levels)
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axes.plot(ends, ends, color=FAINT, linewidth=1)
        axes.scatter(x, y, s=7, color=STRONG, linewidths=0)
        _write(axes, name, "quantiles of the data", "of the samples")
    return figure


def _write(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)
    dress(axes)


def _colours(count: int) -> list[str]:
    return [REAL, *[STRONG] * (count - 1)] if count > 1 else [STRONG]
