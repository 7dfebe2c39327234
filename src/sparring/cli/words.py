"""Arguments and options that several commands have, with one meaning each."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sparring.errors import UserError


class Device(StrEnum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class PrecisionChoice(StrEnum):
    """How many bits a number has in forward passes."""

    AUTO = "auto"
    SINGLE = "32"
    BF16 = "bf16"
    HALF = "16"


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `sparring train` made.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, everything else on standard error.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the recipe, e.g. train.batch_size=128. Repeatable."
    ),
]
Steps = Annotated[int | None, typer.Option(min=0, help="How many steps to train.")]
Seed = Annotated[int | None, typer.Option(min=0, help="The one seed that governs everything.")]
Out = Annotated[Path | None, typer.Option(metavar="RUN", help="The run folder to make. Default: runs/RECIPE-N.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.")]
Devices = Annotated[int, typer.Option(min=1, help="How many devices (on CPU: processes) on each node.")]
Nodes = Annotated[int, typer.Option(min=1, help="How many machines.")]
PrecisionOption = Annotated[
    PrecisionChoice, typer.Option(help="Bits of forward passes; weights and penalties stay 32-bit.")
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Allow the recipe to run code from outside the package (module:Class).")
]
LabelOption = Annotated[
    str | None,
    typer.Option(
        "--label",
        "--where",
        metavar="L",
        help="What samples are to be: a class; cat=0.7,dog=0.3; smiling=1; age=35; of a table sex=Male,age>40.",
    ),
]
TruncationOption = Annotated[
    float, typer.Option(metavar="PSI", help="1: as in training; less: more typical samples, and fewer kinds of them.")
]
CheckpointOption = Annotated[str, typer.Option(metavar="best|last|STEP", help="Which checkpoint.")]


def pair(text: str | None) -> tuple[int, int] | None:
    size = size_of(text)
    return (size, size) if isinstance(size, int) else size


def size_of(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.lower().split("x")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise UserError(f"--size {text!r}: write one number, or HEIGHTxWIDTH, e.g. 64 or 64x48")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
