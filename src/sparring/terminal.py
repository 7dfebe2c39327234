"""What the shell prints: results as tables on the terminal, or as one JSON object."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from sparring.exploring.verbs import DirectionsResult, ProjectResult
    from sparring.exporting.export import ExportResult
    from sparring.measuring.comparison import CompareResult
    from sparring.measuring.evaluation import EvaluateResult
    from sparring.metrics.figure import Figure
    from sparring.translating.verb import TranslateResult


def speaks() -> bool:
    """Whether this process is the one of a training that speaks: the first of those that any launcher has started."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def show_training(result: Any, as_json: bool) -> None:
    """What a training did, and what to do next."""
    if not speaks():
        return
    if as_json:
        print_json(result.plain())
    elif result.run is None:
        _show_rehearsal(result)
    else:
        sheets = sorted((Path(result.run) / "samples").glob("*.png"))
        tell(
            f"{sheets[-1] if sheets else result.run} shows samples, {Path(result.run) / 'curves.png'} the losses, {Path(result.run) / 'report.html'} everything"
        )
        if result.facts.get("translates"):
            tell(f"next: sparring translate {result.run} INPUT --out translated")
        else:
            tell(f"next: sparring generate {result.run} --count 100 --out samples.{result.facts.get('format', 'png')}")


def _show_rehearsal(result: Any) -> None:
    from sparring.training.settings import Settings

    facts = result.facts
    table = Table(show_header=False)
    table.add_row(
        "recipe",
        f"{result.recipe} on {facts['data']['source']}: {facts['data']['count']:,} samples of {'×'.join(map(str, facts['data']['shape']))}",
    )
    for player, parameters in facts["parameters"].items():
        table.add_row(f"parameters of the {player}", f"{parameters:,}")
    table.add_row("memory", f"{facts['memory_bytes'] / 2**20:,.0f} MiB at most so far")
    table.add_row(
        "speed",
        f"{facts['seconds_per_step'] * 1000:.1f} ms a step, {result.samples_per_second:,.0f} samples/s on {result.device} ({Settings(**facts['settings'])})",
    )
    if facts["predicted_seconds"] is not None:
        table.add_row(
            "predicted",
            f"{facts['predicted_seconds'] / 60:,.1f} minutes"
            + (f" for {facts['planned_steps']:,} steps" if facts["planned_steps"] else ""),
        )
    Console(stderr=True).print(table)


def show_findings(report: dict[str, Any]) -> None:
    """What a check of data found."""
    console = Console()
    console.print(
        yaml.safe_dump(report.get("summary", {}), sort_keys=False, allow_unicode=True).rstrip(),
        markup=False,
        highlight=False,
    )
    table = Table("kind", "what", "why", "remove?")
    for finding in report["findings"][:200]:
        table.add_row(finding["kind"], finding["name"], finding["reason"], "yes" if finding["remove"] else "")
    if report["findings"]:
        console.print(table)
    if len(report["findings"]) > 200:
        console.print(f"… and {len(report['findings']) - 200} more: --json lists them all")
    for kind, reason in report.get("skipped", {}).items():
        console.print(f"not checked: {kind}: {reason}", markup=False, highlight=False)
    if not report["findings"]:
        console.print("nothing wrong was found")


def show_evaluation(result: EvaluateResult) -> None:
    """A row a figure; then what comparing them needs, and the notes."""
    table = Table()
    for heading in ("metric", "value", "95 % interval", "better"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("metric", "better") else "right")
    table.add_column("besides")
    figures = list(result.figures.values())
    usual = max({(each.real, each.fake) for each in figures}, default=(0, 0))
    for figure in figures:
        besides = [] if (figure.real, figure.fake) == usual else [f"of {figure.real:,} real, {figure.fake:,} fake"]
        better = "higher" if figure.higher_is_better else "lower"
        table.add_row(
            figure.metric, number(figure.value), interval(figure), better, ", ".join([*besides, *_besides(figure)])
        )
    console = _console()
    console.print(table)
    console.print(
        f"samples: {usual[1]:,} fake, {usual[0]:,} real",
        f"features: {result.features}",
        sep="\n",
        markup=False,
        highlight=False,
    )
    for key in SHARED:
        if figures and key in figures[0].facts:
            console.print(f"{key}: {figures[0].facts[key]}", markup=False, highlight=False)
    for note in result.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    for file in result.files:
        copied = "shows the samples that look most copied, each beside the closest real one and the ratio of distances"
        tell(f"{file} {copied if Path(file).stem == 'suspects' else 'sets samples beside data'}")


def show_comparison(result: CompareResult) -> None:
    """A row a figure, a column a run; the best is marked, twice where no other run's interval reaches it."""
    table = Table("metric", *result.runs, "better")
    for name in result.figures:
        best, is_apart = result.best(name)
        best_value = result.runs[best].figures[name].value
        cells = []
        for measured in result.runs.values():
            figure = measured.figures[name]
            mark = "" if figure.value != best_value else " ★★" if is_apart else " ★"
            cells.append(f"{number(figure.value)}{mark}\n[dim]{interval(figure)}[/dim]")
        higher = next(iter(result.runs.values())).figures[name].higher_is_better
        table.add_row(name, *cells, "higher" if higher else "lower")
    console = _console()
    console.print(table)
    console.print(
        f"measured on {result.data} in {result.features}; ★ the best, ★★ the best by intervals that do not meet",
        markup=False, highlight=False,
    )  # fmt: skip
    for note in result.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    tell(f"{result.picture} shows curves, samples and figures side by side")


def show_export(result: ExportResult) -> None:
    """How large, how exact, how fast, and what a quantized model lost."""
    facts = result.facts
    before = facts.get("unquantized")
    table = Table(show_header=False)

    def row(what: str, value: str, was: str | None = None) -> None:
        table.add_row(what, value if was is None else f"{value} (unquantized {was})")

    row("size", f"{facts['bytes'] / 1024:,.1f} KiB", f"{before['bytes'] / 1024:,.1f} KiB" if before else None)
    largest = "largest difference from PyTorch's samples" + (", unquantized" if before else "")
    table.add_row(largest, f"{number(facts['difference'])} (allowed 0.0001; relative for samples beyond 1)")
    for batch, value in facts.get("milliseconds", {}).items():
        was = f"{number(before['milliseconds'][batch])} ms" if before else None
        row(f"onnxruntime, batch of {batch}", f"{number(value)} ms", was)
        table.add_row(f"PyTorch, batch of {batch}", f"{number(facts['milliseconds_in_pytorch'][batch])} ms")
    if loss := facts.get("quality_loss"):
        table.add_row("mean absolute difference of samples", number(loss["mean_absolute_difference"]))
        table.add_row(
            f"Fréchet distance in {loss['features']}, {loss['samples']} samples",
            f"{number(loss['frechet_distance'])} (between two draws unquantized {number(loss['frechet_of_two_draws'])})",
        )
    _console().print(table)
    tell(f"wrote {', '.join(result.files)} (step {result.step})")


SHARED = ("resizer", "reference", "seed")
OWN = ("seed", "resizer", "reference", "resamples", "by_class")


def _besides(figure: Figure) -> list[str]:
    facts = {key: value for key, value in figure.facts.items() if key not in OWN and value is not None}
    return [
        f"{key.replace('_', ' ')} {number(value) if isinstance(value, int | float) else value}"
        for key, value in facts.items()
    ]


def _console() -> Console:
    """As wide as the terminal; a file or a pipe has room."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def interval(figure: Figure) -> str:
    """`[low, high]`, or a dash."""
    return "—" if figure.interval is None else f"[{number(figure.interval[0])}, {number(figure.interval[1])}]"


def number(value: float) -> str:
    """Four significant digits; whole numbers whole."""
    if isinstance(value, int) or abs(value) >= 1e4:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def show_projection(result: ProjectResult) -> None:
    """A row a photo: how like the reconstruction is."""
    table = Table("image", *(name for name in FIGURES if any(name in found for found in result.found.values())))
    for photo, found in result.found.items():
        figures = [found[name] for name in FIGURES if name in found]
        table.add_row(photo, *("—" if value is None else f"{value:.3f}" for value in figures))
    console = _console()
    console.print(table)
    first = next(iter(result.found.values()))
    console.print(
        f"descended: {first['distance']['name']}, {first['steps']} steps, {first['restarts']} restarts, seed {first['seed']}",
        markup=False,
        highlight=False,
    )
    for note in result.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    tell(f"{Path(result.files[-1]).parent} holds the reconstructions, sheet.png, codes.npz and projection.json")


FIGURES = ("lpips", "ssim", "psnr")


def show_translation(result: TranslateResult, out: Path) -> None:
    """What was passed over, and what was written."""
    for name, why in result.broken:
        tell(f"passed over: {name} {why}")
    tiled = f", {result.facts['tiled']} in tiles" if result.facts.get("tiled") else ""
    passed = f", {len(result.broken)} passed over" if result.broken else ""
    where = result.files[0] if len(result.files) == 1 else out
    tell(f"{len(result.files)} translated{tiled}{passed}: {where}")


def show_directions(result: DirectionsResult) -> None:
    """A row a direction, and where they are."""
    plain = result.plain()
    table = Table("direction", "told on held-out codes" if plain["method"] == "labels" else "share of the change")
    for row in plain["directions"]:
        table.add_row(row["name"], f"{100 * row['weight']:.1f} %")
    console = _console()
    console.print(table)
    console.print(plain["how"], markup=False, highlight=False)
    name = plain["directions"][0]["name"]
    tell(f"{result.files[0]} shows them; next: sparring generate RUN --edit {name}:2 --out edited.png")


@contextmanager
def phases() -> Iterator[Callable[[str, int, int], None]]:
    """Show what is being done and how far it is: yields `(what, done, total) -> None`. Silent in a log."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda what, done, total: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def show_guarantee(facts: dict[str, Any] | None) -> None:
    """What a private training spent; nothing of others."""
    if facts:
        from sparring.training.privacy import guarantee

        tell(guarantee(facts))


def print_json(value: Any) -> None:
    """One line on standard output."""
    print(json.dumps(value, ensure_ascii=False))


def tell(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr)
