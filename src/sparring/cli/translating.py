"""`translate`: files through a trained game that makes samples from others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.words import CheckpointOption, Device, DeviceOption, Json, RunFolder, Trust
from sparring.terminal import phases, print_json, show_translation

LARGE, BESIDE = "Large pictures", "What goes with inputs"


def translate(
    run: RunFolder,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT…", help="Images, films, folders of them (with sub-folders), archives.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write into; names and sizes are kept.")],
    direction: Annotated[
        str | None, typer.Option(metavar="a2b|b2a", help="For recipes that go both ways. Default: a2b.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="L", help="What inputs are to become, for recipes with several kinds.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, metavar="N", help="Outputs of each input, for recipes that draw them: NAME-1.png, …")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same of the same.")] = 0,
    tile: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="SIZE",
            rich_help_panel=LARGE,
            help="Cut pictures into tiles of so many pixels a side; 0: never. Default: where they are too large to go whole.",
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", rich_help_panel=LARGE, help="Pixels by which tiles overlap. Default: a quarter of SIZE."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            rich_help_panel=BESIDE,
            help="What is missing is bright: a file for all, or a folder of files named as inputs. Default: what is transparent.",
        ),
    ] = None,
    instance: Annotated[
        Path | None,
        typer.Option(metavar="PATH", rich_help_panel=BESIDE, help="Instance numbers of label maps, named as inputs."),
    ] = None,
    style: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE", rich_help_panel=BESIDE, help="Whose look outputs get, for recipes that take one."
        ),
    ] = None,
    checkpoint: CheckpointOption = "best",
    device: DeviceOption = Device.AUTO,
    precision: Annotated[str, typer.Option(metavar="32|bf16|16", help="Bits of forward passes.")] = "32",
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Make images from images with a trained recipe: files, folders, archives and films, of any size."""
    from sparring import api

    with phases() as progress:
        result = api.translate(
            run, inputs, out=out, direction=direction, label=label, count=count, seed=seed, tile=tile, overlap=overlap,
            mask=mask, instance=instance, style=style, checkpoint=checkpoint, device=device.value, precision=precision,
            trust=trust, progress=progress,
        )  # fmt: skip
    if json:
        print_json(result.plain())
    else:
        show_translation(result, out)
