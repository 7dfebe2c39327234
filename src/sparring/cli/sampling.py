"""`generate`, `export`: what a trained generator is for. `cli.exploring` has what looks into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
from sparring.errors import UserError
from sparring.terminal import print_json, show_export, show_guarantee, tell

STEERING, SHEETS = "Steering", "Sheets and films, in place of samples"


def generate(
    run: RunFolder,
    count: Annotated[
        int | None, typer.Option(min=1, help="How many samples; side by side in a film. Default: 64; 16 in a film.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File or folder to write. Default: in the run folder.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same samples.")] = 0,
    label: LabelOption = None,
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
        typer.Option(min=1, help="Samples of a forward pass at most; fewer take less memory, and are the same."),
    ] = None,
    precision: Annotated[str, typer.Option(metavar="32|bf16|16", help="Bits of forward passes.")] = "32",
    length: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of a sample, for games that draw sequences of any length (quantgan, sigwgan)."),
    ] = None,
    truncation: TruncationOption = 1.0,
    truncation_layers: Annotated[
        int | None,
        typer.Option(
            min=0,
            rich_help_panel=STEERING,
            help="Truncate in so many of the first layers alone (style-based generators).",
        ),
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIRECTION:STRENGTH",
            rich_help_panel=STEERING,
            help="Move along a direction of `sparring directions`, by so many standard deviations. Repeatable.",
        ),
    ] = None,
    edit_layers: Annotated[
        str,
        typer.Option(
            metavar="coarse|middle|fine|N-M",
            rich_help_panel=STEERING,
            help="Edit these layers alone (style-based generators).",
        ),
    ] = "all",
    codes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=STEERING, help="Take the codes that `sparring project` wrote."),
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=SHEETS, help="A row of N samples for each class.")
    ] = None,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", rich_help_panel=SHEETS, help="Rows that go from one sample to another.")
    ] = False,
    between: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS,CLASS", rich_help_panel=SHEETS, help="Rows that go from class to class, one latent each."
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            metavar="coarse|middle|fine|N-M",
            rich_help_panel=SHEETS,
            help="Rows' samples with these layers' styles of the columns' (style-based generators).",
        ),
    ] = None,
    walk: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=SHEETS,
            help="A film of samples that change into each other: .gif, .webp, .png, .mp4.",
        ),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, rich_help_panel=SHEETS, help="Of a sheet.")] = None,
    columns: Annotated[int | None, typer.Option(min=2, rich_help_panel=SHEETS, help="Of a sheet.")] = None,
    anchors: Annotated[int, typer.Option(min=2, rich_help_panel=SHEETS, help="Samples that a film passes.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, rich_help_panel=SHEETS, help="Length of a film.")] = 8.0,
    device: DeviceOption = Device.AUTO,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Draw samples from a trained generator; steer them, lay them on sheets, film them."""
    from sparring import api
    from sparring.trained import guarantee_of

    opened: dict[str, Any] = {
        "seed": seed, "truncation": truncation, "checkpoint": checkpoint, "device": device.value, "trust": trust,
    }  # fmt: skip
    kinds = {
        "--per-class": per_class, "--interpolate": interpolate or None, "--between": between, "--mix": mix, "--walk": walk,
    }  # fmt: skip
    asked = [name for name, value in kinds.items() if value is not None]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)}: ask for one of them at a time")
    sheet: dict[str, Any] = {name: value for name, value in (("rows", rows), ("columns", columns)) if value is not None}
    if asked:
        samples_only = {
            "--format": format, "--batch-size": batch_size, "--edit": edit, "--codes": codes,
            "--truncation-layers": truncation_layers, "--length": length,
        }  # fmt: skip
        if given := [name for name, value in samples_only.items() if value]:
            raise UserError(f"{given[0]} is for samples, not for {asked[0]}: leave one of them out")
    if per_class is not None:
        if label is not None:
            raise UserError("--per-class shows all classes: leave --label out")
        paths = [api.by_class(run, per_class, out=out, **opened)]
    elif interpolate or between is not None:
        classes = None if between is None else [name.strip() for name in between.split(",") if name.strip()]
        paths = [api.interpolate(run, out=out, classes=classes, label=label, **sheet, **opened)]
    elif mix is not None:
        paths = [api.mix(run, out=out, layers=mix, label=label, **sheet, **opened)]
    elif walk is not None:
        if out is not None:
            raise UserError("--walk FILE names the film itself: leave --out out")
        paths = [api.walk(run, walk, samples=count or 16, anchors=anchors, seconds=seconds, label=label, **opened)]
    else:
        paths = api.generate(
            run,
            count=count or 64,
            out=out,
            label=label,
            truncation_layers=truncation_layers,
            length=length,
            edit=edit or (),
            edit_layers=edit_layers,
            codes=codes,
            format=format,
            batch_size=batch_size,
            precision=precision,
            **opened,
        )
    if json:
        number = {} if asked else {"count": count or 64}
        print_json({**number, "seed": seed, "files": [str(path) for path in paths]})
    elif asked:
        tell(f"{asked[0].removeprefix('--')}: {paths[0]}")
    else:
        tell(
            f"{'samples of the codes' if codes else f'{count or 64} samples'}: {paths[0] if len(paths) == 1 else paths[0].parent}"
        )
    if not json:
        show_guarantee(guarantee_of(run, checkpoint))


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
