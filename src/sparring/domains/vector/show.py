"""Showing vectors: samples before the data that they should be like."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sparring.errors import UserError

FAINT, STRONG, INK, PAPER = "#a9b4c2", "#c2314e", "#3d4451", "#ffffff"
NAMED = 12  # classes that a legend names; more would cover the picture
MARGIN = 0.08  # of the data's span, left free on each side

Array = NDArray[np.float64]


def scatter(
    samples: Array, real: Array | None = None, labels: NDArray[np.int64] | None = None, names: Sequence[str] = ()
) -> Figure:
    """Samples (N, D), strong, over data (M, D), faint, with equal axes in the data's own units.

    One column becomes a pair of histograms; of more than two, the first two principal axes of the data (of the samples
    where there is none) are shown. labels: numbers (N,) into names, which give the samples colours of their own.
    The frame is the data's: samples outside it are counted in the title. Raises UserError for NaN.
    """
    if not np.isfinite(samples).all():
        raise UserError(
            "the samples hold NaN or infinite values: the generator has diverged; use an earlier checkpoint"
        )
    figure = Figure(figsize=(6.4, 6.4), dpi=110, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot()
    if samples.shape[1] == 1:
        outside = _histograms(axes, samples[:, 0], None if real is None else real[:, 0])
    else:
        outside = _points(axes, samples, real, labels, names)
    title = f"{len(samples):,} samples" + (f", {outside:,} of them outside the frame" if outside else "")
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8, length=3)
    return figure


def principal_axes(points: Array) -> tuple[Array, Array, Array]:
    """The centre (D,), the first two principal axes (D, 2), and their shares of the variance (2,) of points (N, D).

    An axis points to where its largest entry is positive, so that equal data gives equal pictures.
    """
    centre = points.mean(axis=0)
    _, values, rows = np.linalg.svd(points - centre, full_matrices=False)
    axes = np.zeros((points.shape[1], 2))
    axes[:, : len(rows)] = rows[:2].T
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    shares = np.zeros(2)
    power = np.square(values)[:2]
    shares[: len(power)] = power / max(np.square(values).sum(), 1e-300)
    return centre, axes * np.where(signs == 0, 1, signs), shares


def _points(
    axes: Axes, samples: Array, real: Array | None, labels: NDArray[np.int64] | None, names: Sequence[str]
) -> int:
    reference = samples if real is None else real
    if samples.shape[1] > 2:
        centre, directions, shares = principal_axes(reference)
        samples, reference = (samples - centre) @ directions, (reference - centre) @ directions
        axes.set_xlabel(f"first principal axis, {shares[0]:.0%} of the variance", fontsize=9, color=INK)
        axes.set_ylabel(f"second principal axis, {shares[1]:.0%}", fontsize=9, color=INK)
    size = float(np.clip(4000 / len(samples), 5, 30))
    if real is not None:
        axes.scatter(reference[:, 0], reference[:, 1], s=2.2 * size, c=FAINT, alpha=0.45, linewidths=0, label="data")
    if labels is None or not names:
        axes.scatter(samples[:, 0], samples[:, 1], s=size, c=STRONG, alpha=0.8, linewidths=0, label="samples")
    else:
        colours = matplotlib.colormaps["tab10" if len(names) <= 10 else "turbo"]
        for number in np.unique(labels).tolist():
            colour = colours(number if len(names) <= 10 else number / (len(names) - 1))
            x, y = samples[labels == number].T
            axes.scatter(x, y, s=size, color=colour, alpha=0.8, linewidths=0, label=names[number])
    low, high = reference.min(axis=0), reference.max(axis=0)
    middle, half = (low + high) / 2, (0.5 + MARGIN) * max(float((high - low).max()), 1e-9)
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.set_aspect("equal")
    if len(axes.get_legend_handles_labels()[0]) <= NAMED:
        legend = axes.legend(loc="upper right", fontsize=8, frameon=True, framealpha=0.85, labelcolor=INK)
        legend.get_frame().set_linewidth(0)
    return int((np.abs(samples - middle) > half).any(axis=1).sum())


def _histograms(axes: Axes, samples: Array, real: Array | None) -> int:
    reference = samples if real is None else real
    low, high = float(reference.min()), float(reference.max())
    spare = MARGIN * max(high - low, 1e-9)
    low, high = low - spare, high + spare
    # Square-root rule, within what the eye can use.
    bins = np.linspace(low, high, int(np.clip(np.sqrt(len(samples)), 10, 60)) + 1)
    if real is not None:
        axes.stairs(_shares(real, bins), bins, color=FAINT, fill=True, label="data")
    axes.stairs(_shares(samples, bins), bins, color=STRONG, linewidth=1.8, label="samples")
    axes.set_ylabel("share", fontsize=9, color=INK)
    axes.legend(loc="upper right", fontsize=8, frameon=False, labelcolor=INK)
    return int(((samples < low) | (samples > high)).sum())


def _shares(values: Array, bins: Array) -> Array:
    return np.histogram(values, bins)[0] / len(values)
