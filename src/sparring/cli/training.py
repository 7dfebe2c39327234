"""`train`, `resume`, `finetune`."""

from __future__ import annotations

from typing import Annotated

import typer

from sparring.cli.words import (
    CheckpointOption,
    Device,
    DeviceOption,
    Devices,
    Json,
    Nodes,
    Out,
    PrecisionChoice,
    PrecisionOption,
    RunFolder,
    Seed,
    Sets,
    Steps,
    Trust,
)
from sparring.terminal import show_training


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="[RECIPE]", help="A name from `sparring recipes`, or a YAML file.")
    ] = "default",
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="digits, a folder, a zip or tar, MNIST IDX, .npz/.npy, CSV/JSON, hf:NAME. Default: the recipe's.",
        ),
    ] = None,
    out: Out = None,
    steps: Steps = None,
    seed: Seed = None,
    set: Sets = None,
    device: DeviceOption = Device.AUTO,
    devices: Devices = 1,
    nodes: Nodes = 1,
    precision: PrecisionOption = PrecisionChoice.AUTO,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Resolve everything, play a step, print parameters, memory and predicted time; train nothing.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Train a recipe on data; leaves a run folder."""
    from sparring import api

    result = api.train(
        recipe, data=data, out=out, steps=steps, seed=seed, set=set or (), device=device.value, devices=devices, nodes=nodes,
        precision=precision.value, dry_run=dry_run,
    )  # fmt: skip
    show_training(result, json)


def resume(
    run: RunFolder,
    steps: Annotated[int | None, typer.Option(min=0, help="A new total number of steps.")] = None,
    device: DeviceOption = Device.AUTO,
    devices: Annotated[int | None, typer.Option(min=1, help="As many as before. Default: as before.")] = None,
    nodes: Nodes = 1,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Go on with a run exactly where its newest checkpoint stands; refuses a changed recipe and lists the differences."""
    from sparring import api

    show_training(api.resume(run, steps=steps, trust=trust, device=device.value, devices=devices, nodes=nodes), json)


def finetune(
    run: RunFolder,
    data: Annotated[str, typer.Option(metavar="SOURCE", help="The new data.")],
    out: Out = None,
    steps: Steps = None,
    seed: Seed = None,
    set: Sets = None,
    checkpoint: CheckpointOption = "last",
    device: DeviceOption = Device.AUTO,
    devices: Devices = 1,
    nodes: Nodes = 1,
    precision: PrecisionOption = PrecisionChoice.AUTO,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """A new run that starts from another run's weights."""
    from sparring import api

    result = api.finetune(
        run, data=data, out=out, steps=steps, seed=seed, set=set or (), checkpoint=checkpoint, trust=trust, device=device.value,
        devices=devices, nodes=nodes, precision=precision.value,
    )  # fmt: skip
    show_training(result, json)
