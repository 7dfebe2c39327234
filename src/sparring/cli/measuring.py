"""`evaluate`, `compare`, and `metrics`, which lists what they measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sparring.cli.words import CheckpointOption, Device, DeviceOption, Json, Trust, pair
from sparring.terminal import phases, print_json, show_comparison, show_evaluation

Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="LIST|all", help="Comma-separated names; `sparring metrics` lists them. Default: the usual ones."
    ),
]
FeatureSpace = Annotated[
    str,
    typer.Option(
        metavar="auto|NAME|PATH",
        help="The space to measure in: inception, dinov2, clip, classifier, pixels, a file of weights; auto: the best at hand.",
    ),
]
Count = Annotated[
    int | None,
    typer.Option(min=2, help="Samples of each side at most. Default: 10,000, or as many as both sides have."),
]
Budget = Annotated[float, typer.Option(metavar="MINUTES", help="How long it may take; samples get fewer to keep it.")]


def evaluate(
    subject: Annotated[str, typer.Argument(metavar="RUN|FOLDER|FILE", help="A run, or samples in a folder or file.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="What to measure against. Default: what the run was trained on."),
    ] = None,
    metrics: Metrics = None,
    features: FeatureSpace = "auto",
    count: Count = None,
    checkpoint: CheckpointOption = "best",
    budget: Budget = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Chooses samples and halves.")] = 0,
    size: Annotated[str | None, typer.Option(metavar="N|HxW", help="Read samples in files at this size.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For figures.json and pictures. Default: RUN/evaluation.")
    ] = None,
    domain: Annotated[str, typer.Option(help="What kind of data FOLDER or FILE holds; a run knows.")] = "image",
    direction: Annotated[
        str | None,
        typer.Option(metavar="a2b|b2a", help="Of a run of two directions: the one to measure. Default: a2b."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Of a run that turns images into other classes: the class to measure.")
    ] = None,
    device: DeviceOption = Device.AUTO,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Measure samples against data: figures with intervals, and all that comparing them needs."""
    from sparring import api

    with phases() as progress:
        result = api.evaluate(
            subject, data=data, metrics=metrics, features=features, count=count, checkpoint=checkpoint, budget=budget, seed=seed,
            size=pair(size), out=out, domain=domain, label=direction or label, device=device.value, trust=trust,
            progress=progress,
        )  # fmt: skip
    if json:
        print_json(result.plain())
    else:
        show_evaluation(result)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Folders that `sparring train` made.")],
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="What to measure against. Default: what all were trained on.")
    ] = None,
    metrics: Metrics = None,
    features: FeatureSpace = "auto",
    count: Count = None,
    checkpoint: CheckpointOption = "best",
    budget: Budget = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Chooses samples and halves.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="PNG", help="The picture. Default: compare.png beside the runs.")
    ] = None,
    device: DeviceOption = Device.AUTO,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Measure several runs in one way: one table, and one picture of curves, samples and figures."""
    from sparring import api

    with phases() as progress:
        result = api.compare(
            runs, data=data, metrics=metrics, features=features, count=count, checkpoint=checkpoint, budget=budget, seed=seed,
            out=out, device=device.value, trust=trust, progress=progress,
        )  # fmt: skip
    if json:
        print_json(result.plain())
    else:
        show_comparison(result)


def metrics(
    domain: Annotated[str, typer.Option(help="Of which kind of data.")] = "image",
    json: Json = False,
) -> None:
    """List what can be measured."""
    from sparring.domains import open_domain

    known = open_domain(domain).measures
    if json:
        print_json(
            {
                figure: {
                    "higher_is_better": higher,
                    "needs": list(measure.needs),
                    "usual": measure.usual,
                    "note": measure.note,
                }
                for measure in known.values()
                for figure, higher in measure.figures.items()
            }
        )
        return
    table = Table("metric", "better", "usual", "needs", "what")
    for measure in known.values():
        for figure, higher in measure.figures.items():
            table.add_row(
                figure,
                "higher" if higher else "lower",
                "yes" if measure.usual else "",
                ", ".join(measure.needs),
                measure.note,
            )
    Console().print(table)
