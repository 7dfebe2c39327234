"""`project`, `directions`: what a trained generator has learnt to make, and what can be changed in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.words import (
    CheckpointOption,
    Device,
    DeviceOption,
    Json,
    LabelOption,
    RunFolder,
    TruncationOption,
    Trust,
)
from sparring.terminal import phases, print_json, show_directions, show_projection


def project(
    run: RunFolder,
    photos: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="What to find among the generator's samples.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For reconstructions, sheet, codes, figures. Default: RUN/projected."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the descent.")] = 400,
    restarts: Annotated[int, typer.Option(min=1, help="Attempts from different beginnings; the best is kept.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The same seed finds the same.")] = 0,
    label: LabelOption = None,
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = Device.AUTO,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Find the codes of given images: what the generator makes that is most like them, and how like it is."""
    from sparring import api

    with phases() as progress:
        result = api.project(
            run, photos, out=out, steps=steps, restarts=restarts, seed=seed, label=label, checkpoint=checkpoint,
            device=device.value, trust=trust, progress=progress,
        )  # fmt: skip
    if json:
        print_json(result.plain())
    else:
        show_projection(result)


def directions(
    run: RunFolder,
    method: Annotated[
        str,
        typer.Option(
            metavar="pca|sefa|labels",
            help="pca: where samples differ most (GANSpace); sefa: from the weights of style-based generators; labels: of the data's classes (InterFaceGAN).",
        ),
    ] = "pca",
    count: Annotated[int, typer.Option(min=1, help="How many, of pca and sefa.")] = 8,
    reach: Annotated[float, typer.Option(min=0.1, help="Standard deviations to either side on the sheet.")] = 3.0,
    layers: Annotated[
        str | None,
        typer.Option(metavar="coarse|middle|fine|N-M", help="Show in these layers alone (style-based generators)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PNG", help="The sheet. Default: RUN/directions/METHOD.png.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed finds the same.")] = 0,
    label: LabelOption = None,
    truncation: TruncationOption = 1.0,
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = Device.AUTO,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Find directions along which samples change, show each as a row of a sheet, keep them for `generate --edit`."""
    from sparring import api

    with phases() as progress:
        result = api.directions(
            run, method=method, count=count, reach=reach, layers=layers, out=out, seed=seed, label=label,
            truncation=truncation, checkpoint=checkpoint, device=device.value, trust=trust, progress=progress,
        )  # fmt: skip
    if json:
        print_json(result.plain())
    else:
        show_directions(result)
