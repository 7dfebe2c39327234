"""Curves: how losses, logits, gradients and figures moved over a training, as one picture."""

from __future__ import annotations

import colorsys
import io
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparring.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPREAD = 30.0  # curves further apart than this do not share a linear axis
BUCKETS = 2000  # a line has at most two points a bucket, its lowest and its highest
# Okabe and Ito's colours, which the colour-blind tell apart; the yellow is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, FAINT, ALARM = "#30343b", "#dfe2e6", "#d0021b"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """One set of axes: a heading and the names of what it shows."""

    heading: str
    names: list[str]
    fixed: tuple[float, float] | None = None
    points: bool = False
    positive: bool = False


def draw_curves(lines: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw the recorded `lines` (see `Run.read_metrics`) as a PNG at `path`, in one atomic step.

    Panels: losses, logits on real and fake, other watched figures, gradient norms, and one for each metric; those of
    which nothing was recorded are left out. Thin lines are the figures, bold ones their running mean; a cross marks a
    step at which a figure was not finite.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = list(_panels(lines))
    rows = 1 + math.ceil(max(0, len(panels) - 1) / 2)
    figure = Figure(figsize=(11, 0.7 + 3.2 * rows), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    heading = figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
    heading.set_parse_math(False)  # a dollar sign in a file name is no formula
    for axes, panel in zip(_axes(figure, rows, len(panels)), panels, strict=True):
        _draw_panel(axes, panel, lines)
    if not panels:
        figure.text(0.5, 0.4, "nothing recorded yet", ha="center", fontsize=12, color=INK)

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A title may hold signs that the font lacks: they show as boxes, which is no news for the terminal.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())


def _panels(lines: Sequence[Mapping[str, Any]]) -> Iterable[Panel]:
    names = list(dict.fromkeys(name for line in lines for name in line))
    watched = [name for name in names if name.startswith("watch/")]
    logits = [name for name in watched if name.endswith("_logit")]
    shares = [name for name in watched if name.rpartition("/")[2] == "accuracy"]
    others = [name for name in watched if name not in logits and name not in shares]
    groups = [
        *_by_size([name for name in names if name.startswith("loss/")], lines),
        Panel("mean logits", logits),
        Panel("discriminator accuracy", shares, fixed=(-0.03, 1.03)),
        Panel("gradient norms", [name for name in names if name.startswith("gradient/")], positive=True),
        Panel("watched", others),
        *(Panel(_words(name[7:]), [name], points=True) for name in names if name.startswith("metric/")),
    ]
    return (panel for panel in groups if panel.names)


def _by_size(names: list[str], lines: Sequence[Mapping[str, Any]]) -> Iterable[Panel]:
    """The losses; those that would lie flat on the zero line beside the others get a panel of their own."""
    sizes = {name: _typical(_series(lines, name)[1]) for name in names}
    large = [name for name in names if sizes[name] * SPREAD >= max(sizes.values())]
    yield Panel("losses", large)
    yield Panel("losses, smaller parts", [name for name in names if name not in large])


def _typical(values: Floats) -> float:
    values = np.abs(values[np.isfinite(values)])
    return float(np.median(values)) if len(values) else 0.0


def _axes(figure: Figure, rows: int, count: int) -> list[Axes]:
    """The first panel takes a whole row, the others share one by twos."""
    grid = figure.add_gridspec(rows, 2)
    places = [grid[0, :], *(grid[row, column] for row in range(1, rows) for column in range(2))]
    if count and count % 2 == 0:
        places[count - 1] = grid[rows - 1, :]
    return [figure.add_subplot(place) for place in places[:count]]


def _draw_panel(axes: Axes, panel: Panel, lines: Sequence[Mapping[str, Any]]) -> None:
    shown: list[Floats] = []
    broken: list[float] = []
    for name, (colour, dash) in zip(panel.names, _styles(panel.names), strict=True):
        steps, values = _series(lines, name)
        finite = np.isfinite(values)
        broken += steps[~finite].tolist()
        steps, values = steps[finite], values[finite]
        if not len(steps):
            continue
        label = _label(name, panel)
        if panel.points:
            axes.plot(steps, values, color=colour, linewidth=1.6, marker="o", markersize=4, label=label)
            shown.append(values)
            continue
        raw_steps, raw, mean_steps, mean = _condense(steps, values)
        smooth = _smooth(mean)
        axes.plot(raw_steps, raw, color=colour, linewidth=0.6, alpha=0.3)
        axes.plot(mean_steps, smooth, color=colour, linewidth=1.8, linestyle=dash, label=label)
        # The start and single spikes may leave the panel; the smooth line never does.
        shown += [np.percentile(raw, [1, 99]), smooth]
    if panel.names[0].endswith("_logit"):
        axes.axhline(0, color=INK, linewidth=0.7, alpha=0.6, zorder=1)
    _scale(axes, panel, shown)
    if broken:
        axes.plot(
            broken, [0.02] * len(broken), "x", color=ALARM, markersize=7, markeredgewidth=1.8, label="not finite",
            transform=axes.get_xaxis_transform(), clip_on=False, zorder=5,
        )  # fmt: skip
    _dress(axes, panel)


def _scale(axes: Axes, panel: Panel, shown: list[Floats]) -> None:
    """Limits that hold what matters; norms that span orders of magnitude get a logarithmic axis."""
    if panel.fixed is not None:
        axes.set_ylim(*panel.fixed)
        return
    if not shown:
        return
    low, high = float(min(part.min() for part in shown)), float(max(part.max() for part in shown))
    if panel.positive and 0 < low < high / SPREAD:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(low / 1.3, high * 1.3)
        return
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.heading, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    axes.set_xlabel("step", fontsize=9, color=INK)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.margins(x=0.01)
    axes.grid(True, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, labelsize=8.5, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color("#b7bcc4")
    if len(axes.get_legend_handles_labels()[1]) > (1 if panel.points else 0):
        columns = min(4, len(axes.get_legend_handles_labels()[1]))
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, fontsize=8.5, frameon=False, labelcolor=INK,
            borderaxespad=0.2, columnspacing=1.2, handlelength=1.6,
        )  # fmt: skip


def _styles(names: Sequence[str]) -> list[tuple[str, str]]:
    """A colour for each turn; the parts of a turn share its hue and differ in lightness, then in dashes."""
    keys = [_turn(name) for name in names]
    turns = list(dict.fromkeys(keys))
    styles = []
    for index, key in enumerate(keys):
        part = keys[:index].count(key)
        colour = _lighter(COLOURS[turns.index(key) % len(COLOURS)], min(0.5, 0.3 * (part % 3)))
        styles.append((colour, ("-", "--", ":", "-.")[part % 4]))
    return styles


def _turn(name: str) -> str:
    """What shares a hue: the parts of a turn's loss. Logits and gradients each get a hue of their own."""
    return "/".join(name.split("/")[:2]) if name.startswith("loss/") else name


def _lighter(colour: str, share: float) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    mixed = colorsys.hls_to_rgb(hue, light + share * (1 - light), saturation)
    return "#" + "".join(f"{round(255 * value):02x}" for value in mixed)


def _label(name: str, panel: Panel) -> str:
    parts = name.split("/")[1:]
    if panel.names[0].startswith("watch/"):
        # Only the turns that differ need a name.
        turns = {other.split("/")[1] for other in panel.names}
        parts = parts if len(turns) > 1 else parts[1:] or parts
        parts[-1] = parts[-1].removesuffix("_logit")
    return " · ".join(map(_words, parts)).replace("$", r"\$")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _series(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[Floats, Floats]:
    pairs = [(line["step"], line[name]) for line in lines if name in line and "step" in line]
    steps, values = np.array([pair[0] for pair in pairs], float), np.array([_float(pair[1]) for pair in pairs], float)
    return steps, values


def _float(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _condense(steps: Floats, values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Points of the thin line (lowest and highest of each bucket, so that spikes stay) and of the mean."""
    if len(steps) <= BUCKETS:
        return steps, values, steps, values
    edges = np.linspace(0, len(steps), BUCKETS + 1).astype(int)
    starts, counts = edges[:-1], np.diff(edges)
    extremes = np.stack([np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)], 1).ravel()
    centres = np.add.reduceat(steps, starts) / counts
    return np.repeat(centres, 2), extremes, centres, np.add.reduceat(values, starts) / counts


def _smooth(values: Floats) -> Floats:
    """A Gaussian running mean (its width: an eightieth of the points); weights at the ends are normalised."""
    width = len(values) / 80
    if width < 1:
        return values
    reach = math.ceil(3 * width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    total = np.convolve(values, kernel)[reach : reach + len(values)]
    smooth: Floats = total / np.convolve(np.ones_like(values), kernel)[reach : reach + len(values)]
    return smooth
