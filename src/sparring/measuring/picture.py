"""The picture of a comparison: curves over the training, samples side by side, figures with their intervals."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sparring.domains import open_domain
from sparring.files import write_whole
from sparring.measuring.evaluation import EvaluateResult
from sparring.run import Run
from sparring.training.curves import COLOURS, FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4  # panels of figures in a row
SHEET = 420  # pixels of a sheet's shown part, a side


@dataclass(frozen=True)
class Lane:
    """A run and what was measured of it."""

    name: str
    run: Run
    result: EvaluateResult


def draw_comparison(lanes: Sequence[Lane], figures: Sequence[str], path: Path) -> None:
    """Write the picture as PNG in one atomic step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curve = _curve(lanes)
    rows = math.ceil(len(figures) / COLUMNS)
    across = min(len(lanes), 4)
    sheets = math.ceil(len(lanes) / across)
    heights = ([2.6] if curve else []) + [3.4] * sheets + [0.5 + 0.32 * max(3, len(lanes))] * rows
    figure = Figure(figsize=(12, sum(heights) + 0.8), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(lanes))]
    if curve:
        _draw_curves(parts[0].subplots(), lanes, curve, colours)
        parts = parts[1:]
    for row in range(sheets):
        panels = parts[row].subplots(1, across, squeeze=False)[0]
        for column, axes in enumerate(panels):
            index = row * across + column
            axes.axis("off")
            if index < len(lanes):
                _draw_sheet(axes, lanes[index], colours[index])
    for row in range(rows):
        panels = parts[sheets + row].subplots(1, COLUMNS, squeeze=False)[0]
        for column, axes in enumerate(panels):
            index = row * COLUMNS + column
            if index < len(figures):
                _draw_figure(axes, lanes, figures[index], colours, first=column == 0)
            else:
                axes.axis("off")
    first = lanes[0].result
    title = figure.suptitle(f"{first.data} · {first.features}", fontsize=11, color=INK, x=0.01, ha="left")
    title.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())


def _curve(lanes: Sequence[Lane]) -> str | None:
    """The figure that most runs followed while they trained."""
    names = [
        name
        for lane in lanes
        for name in {key for line in lane.run.read_metrics() for key in line}
        if name.startswith("metric/")
    ]
    return max(sorted(set(names)), key=names.count) if names else None


def _space(lanes: Sequence[Lane]) -> str:
    """The spaces that the trainings measured in."""
    recipes = [lane.run.read_recipe() for lane in lanes]
    return ", ".join(dict.fromkeys(each.evaluate.features or open_domain(each.domain).spaces[0] for each in recipes))


def _draw_curves(axes: Axes, lanes: Sequence[Lane], name: str, colours: Sequence[str]) -> None:
    for lane, colour in zip(lanes, colours, strict=True):
        points = [
            (line["step"], line[name]) for line in lane.run.read_metrics() if isinstance(line.get(name), int | float)
        ]
        if points:
            steps, values = np.array(points, dtype=float).T
            axes.plot(steps, values, color=colour, marker="o", markersize=3, linewidth=1.6, label=lane.name)
    axes.set_title(
        f"{name.removeprefix('metric/').replace('_', ' ')}, in {_space(lanes)}, measured while training",
        loc="left",
        fontsize=10,
        color=INK,
    )
    axes.set_xlabel("step", fontsize=9, color=INK)
    axes.grid(True, color=FAINT)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8.5, frameon=False, labelcolor=INK)
    _bare(axes)


def _draw_sheet(axes: Axes, lane: Lane, colour: str) -> None:
    title = axes.set_title(_cut(lane.name), fontsize=10, color=colour, fontweight="bold", loc="left")
    title.set_parse_math(False)
    sheets = sorted(lane.run.samples.glob("step-*.png"))
    chosen = [
        sheet for sheet in sheets if lane.result.checkpoint is None or int(sheet.stem[5:]) <= lane.result.checkpoint
    ]
    if not (chosen or sheets):
        axes.text(0.5, 0.5, "no samples", ha="center", fontsize=9, color=INK)
        return
    with Image.open((chosen or sheets)[-1]) as opened:
        picture = opened.convert("RGB")
    # The upper left part at the sheet's own scale: a whole sheet made small shows nothing.
    part = picture.crop((0, 0, min(picture.width, SHEET), min(picture.height, SHEET)))
    axes.imshow(np.asarray(part), interpolation="nearest" if part.width < SHEET else None)


def _draw_figure(axes: Axes, lanes: Sequence[Lane], name: str, colours: Sequence[str], *, first: bool) -> None:
    for row, (lane, colour) in enumerate(zip(lanes, colours, strict=True)):
        figure = lane.result.figures[name]
        low, high = figure.interval or (figure.value, figure.value)
        axes.plot([low, high], [row, row], color=colour, linewidth=2.5, solid_capstyle="butt", alpha=0.55)
        axes.plot([figure.value], [row], "o", color=colour, markersize=6)
    arrow = "higher is better" if lanes[0].result.figures[name].higher_is_better else "lower is better"
    axes.set_title(f"{name.replace('_', ' ')}", loc="left", fontsize=9.5, fontweight="bold", color=INK)
    axes.set_xlabel(arrow, fontsize=8, color=INK)
    axes.set_yticks(range(len(lanes)), [_cut(lane.name) if first else "" for lane in lanes], fontsize=8)
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(True, axis="x", color=FAINT)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    _bare(axes)


def _bare(axes: Axes) -> None:
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color("#b7bcc4")
    axes.set_axisbelow(True)


def _cut(name: str, most: int = 28) -> str:
    return name if len(name) <= most else "…" + name[-most + 1 :]
