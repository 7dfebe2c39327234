"""Showing tables: the distribution of each column, samples over data, and what columns say about each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from sparring.domains.figures import INK, STRONG, dress
from sparring.domains.table.cells import Cell, standards
from sparring.domains.table.conditions import said

REAL = "#8a97a8"  # of areas, which are louder than lines
COLUMNS = 24  # of a table that one picture shows
LEVELS = 10  # categories of a column that have a bar of their own
ACROSS = 4
POINTS, COMPONENTS, ROUNDS = (
    500,
    30,
    500,
)  # of each side in a cloud, principal components that t-SNE sees, and its iterations
CLOUD = "#2f5d8a"  # of points of the data, which are as many and as loud as those of the samples
Shares = NDArray[np.float64]


def marginals(features: Tensor, cells: Sequence[Cell], name: str = "samples") -> Figure:
    """A panel a column: how often the samples (N, D) have each value or category, over how often the data have it."""
    shown = list(cells)[:COLUMNS]
    across = min(ACROSS, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(0.3 + 3.0 * across, 0.6 + 2.0 * down), dpi=110, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flatten()
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    for axes, cell in zip(grid, shown, strict=False):
        side = features[:, cell.place].double().cpu().numpy()
        (_numbers if cell.number else _categories)(axes, cell, side)
        axes.set_title(cell.column.name, fontsize=9, color=INK, loc="left")
        dress(axes)
    # Of no axes: a bar in the first would widen its range.
    handles = [Patch(color=REAL), Line2D([], [], color=STRONG)]
    figure.legend(
        handles=handles,
        labels=["data", name],
        loc="outside upper right",
        ncols=2,
        fontsize=8,
        frameon=False,
        labelcolor=INK,
    )
    if len(cells) > len(shown):
        figure.supxlabel(f"the first {len(shown)} of {len(cells)} columns", fontsize=8, color=INK)
    return figure


def _numbers(axes: Axes, cell: Cell, side: Shares) -> None:
    column = cell.column
    bins = np.array(column.bins)
    mean, deviation = standards(column)
    here = side[:, 1] == 0 if cell.size > 1 else np.ones(len(side), bool)
    values = (side[here, 0] * deviation + mean).clip(bins[0], bins[-1])
    shares = np.histogram(values, bins)[0] / max(1, len(values))
    axes.stairs(column.shares, bins, fill=True, color=REAL)
    axes.stairs(shares, bins, color=STRONG, linewidth=1.3)
    axes.set_yticks([])
    if column.kind == "date":
        ends = np.array([bins[0], bins[-1]])
        axes.set_xticks(ends, [str(np.datetime64(int(end), "s"))[:10] for end in ends])
    if column.missing:
        total = column.missing / column.rows
        axes.text(
            0.99, 0.95, f"missing {total:.1%}, here {1 - here.mean():.1%}", transform=axes.transAxes, ha="right", va="top",
            fontsize=6.5, color=INK,
        )  # fmt: skip


def _categories(axes: Axes, cell: Cell, side: Shares) -> None:
    column = cell.column
    data = np.array(column.counts) / sum(column.counts)
    made = np.bincount(side.argmax(1), minlength=cell.size) / len(side)
    order = np.argsort(-data, kind="stable")
    names = [said(column.levels[each]) for each in order]
    data, made = data[order], made[order]
    if len(names) > LEVELS:
        data, made = (np.append(each[: LEVELS - 1], each[LEVELS - 1 :].sum()) for each in (data, made))
        names = [*names[: LEVELS - 1], f"{cell.size - LEVELS + 1} others"]
    places = np.arange(len(names))
    axes.barh(places, data, color=REAL, height=0.8)
    axes.barh(places, made, color="none", edgecolor=STRONG, linewidth=1.3, height=0.8)
    axes.set_yticks(places, [name if len(name) <= 16 else name[:15] + "…" for name in names])
    axes.invert_yaxis()


def matrices(real: NDArray[np.float64], fake: NDArray[np.float64], names: Sequence[str]) -> Figure:
    """How much each pair of columns has to do with each other, (K, K) each, in data and samples, and the difference.

    names: of all columns, of which these may be the first K.
    """
    count = len(real)
    few = count <= COLUMNS
    side = min(6.0, 1.8 + 0.16 * count)
    figure = Figure(figsize=(3 * side, side + 0.4), dpi=110, layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, title, values in zip(
        panels, ("data", "samples", "difference"), (real, fake, np.abs(real - fake)), strict=True
    ):
        image = axes.imshow(values, vmin=0, vmax=1, cmap="magma_r")
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        if few:
            axes.set_xticks(range(count), names[:count], rotation=90)
            axes.set_yticks(range(count), names[:count])
        axes.tick_params(colors=INK, labelsize=6.5, length=0)
    if count < len(names):
        figure.supxlabel(f"the first {count} of {len(names)} columns", fontsize=8, color=INK)
    bar = figure.colorbar(image, ax=panels, shrink=0.8)
    bar.set_label("association", fontsize=8, color=INK)
    bar.ax.tick_params(colors=INK, labelsize=7)
    return figure


def cloud(real: Tensor, fake: Tensor) -> Figure:
    """Features of data and samples (N, D) on a plane: their principal components, and t-SNE (van der Maaten & Hinton 2008).

    Where one side alone has points, the other lacks something. Of each side are the first rows, which come in random order.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = min(POINTS, len(real), len(fake))
    sides = [side[:count].double().cpu().numpy() for side in (real, fake)]
    both = np.concatenate(sides)
    few = min(COMPONENTS, *both.shape)
    components = PCA(few, random_state=0).fit(sides[0] if count >= few else both).transform(both)
    perplexity = min(30.0, max(1.0, (len(both) - 1) / 3))
    panels = {
        "principal components of the data": components[:, :2] if few > 1 else np.repeat(components, 2, axis=1),
        "t-SNE": TSNE(2, perplexity=perplexity, init="pca", max_iter=ROUNDS, random_state=0, n_jobs=1).fit_transform(
            components
        ),
    }
    figure = Figure(figsize=(9.6, 4.9), dpi=110, layout="constrained")
    order = np.random.default_rng(0).permutation(len(both))  # no side lies above the other
    colours = np.repeat([CLOUD, STRONG], count)[order]
    for axes, (title, points) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        axes.scatter(*points[order].T, s=5, c=colours, alpha=0.55, linewidths=0)
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
        dress(axes)
    handles = [Axes.scatter(figure.axes[0], [], [], s=16, color=colour, linewidths=0) for colour in (CLOUD, STRONG)]
    figure.legend(
        handles=handles, labels=["data", "samples"], loc="outside upper right", ncols=2, fontsize=8, frameon=False, labelcolor=INK
    )  # fmt: skip
    return figure
