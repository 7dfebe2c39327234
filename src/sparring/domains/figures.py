"""What the figures of several domains have in common: colours, axes, and how they are written."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparring.files import write_whole

FAINT, REAL, STRONG, INK = "#c9d0d9", "#5b6b80", "#c2314e", "#3d4451"
"""Axes and guides; data; samples, over data; words."""


def dress(axes: Axes) -> None:
    """Axes on the left and below alone, faint, with small words."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=7, length=3)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG in one atomic step; equal figures are equal files."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    write_whole(path, stream.getvalue())
