"""`generate`, `export`: what a trained generator is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.words import CheckpointOption, Device, DeviceOption, Json, RunFolder, Trust
from sparring.terminal import print_json, show_export, tell


def generate(
    run: RunFolder,
    count: Annotated[int, typer.Option(min=1, help="How many samples.")] = 64,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File or folder to write. Default: in the run folder.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same samples.")] = 0,
    label: Annotated[str | None, typer.Option(metavar="L", help="A class name, for conditional recipes.")] = None,
    checkpoint: CheckpointOption = "best",
    format: Annotated[
        str | None,
        typer.Option(
            metavar="png|npz|npy|sheet",
            help="png: a file a sample; npz, npy: one array file; sheet: one picture. Default: by PATH's ending, else png.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Samples of a forward pass at most; fewer take less memory, and are the same."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(metavar="32|bf16|16", help="Bits of forward passes.")] = "32",
    device: DeviceOption = Device.AUTO,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Draw samples from a trained generator."""
    from sparring import api

    paths = api.generate(
        run,
        count=count,
        out=out,
        seed=seed,
        label=label,
        checkpoint=checkpoint,
        format=format,
        batch_size=batch_size,
        precision=precision,
        device=device.value,
        trust=trust,
    )
    if json:
        print_json({"count": count, "seed": seed, "files": [str(path) for path in paths]})
    else:
        tell(f"{count} samples: {paths[0] if len(paths) == 1 else paths[0].parent}")


def export(
    run: RunFolder,
    format: Annotated[
        str,
        typer.Option(
            metavar="onnx|safetensors|pt2",
            help="onnx: for every ONNX runtime; safetensors: weights, for this package; pt2: a torch.export program.",
        ),
    ] = "onnx",
    quantize: Annotated[
        str, typer.Option(metavar="none|int8|bf16", help="Of ONNX: fewer bits, with the loss of quality measured.")
    ] = "none",
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to write. Default: RUN/export.")] = None,
    checkpoint: CheckpointOption = "best",
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Write the generator for other programs, checked against PyTorch, with a model card beside it."""
    from sparring import api

    result = api.export(run, format=format, out=out, quantize=quantize, checkpoint=checkpoint, trust=trust)
    if json:
        print_json(result.plain())
    else:
        show_export(result)
