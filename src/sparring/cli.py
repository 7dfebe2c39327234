"""The verbs for the shell. No logic of its own: every command is one call of `sparring.api`."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from sparring.errors import Interrupted, UserError
from sparring.terminal import (
    phases,
    print_json,
    show_comparison,
    show_evaluation,
    show_export,
    show_findings,
    show_training,
    tell,
)

# The library is imported inside the commands: `--help` must not wait for torch.

app = typer.Typer(
    name="sparring",
    help="Train, sample and measure generative adversarial networks.",
    epilog="Exit codes: 0 done, 1 a defect of ours, 2 something you can mend (one line says what), 130 interrupted (state saved).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at data sets and prepare them.", no_args_is_help=True)
app.add_typer(data_app, name="data")


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


# What the system refuses because of the path that the user gave, or for want of room.
MENDABLE = {
    errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EROFS, errno.ENOSPC,
    errno.EDQUOT,
}  # fmt: skip

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
CheckpointOption = Annotated[str, typer.Option(metavar="best|last|STEP", help="Which checkpoint.")]


def _version(wanted: bool) -> None:
    if wanted:
        from sparring import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def sparring(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, sample and measure generative adversarial networks."""


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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
    device: DeviceOption = Device.AUTO,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Measure samples against data: figures with intervals, and all that comparing them needs."""
    from sparring import api

    with phases() as progress:
        result = api.evaluate(
            subject, data=data, metrics=metrics, features=features, count=count, checkpoint=checkpoint, budget=budget, seed=seed,
            size=_pair(size), out=out, domain=domain, device=device.value, trust=trust, progress=progress,
        )  # fmt: skip
    if json:
        print_json(result.plain())
    else:
        show_evaluation(result)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A recipe to show whole.")] = None,
    json: Json = False,
) -> None:
    """List the recipes, or show one fully resolved as YAML."""
    from sparring.api import resolve
    from sparring.recipe import load_recipe, named_recipes

    if name is not None:
        recipe = resolve(load_recipe(name))
        if json:
            print_json(recipe.plain())
        else:
            print(recipe.to_yaml(), end="")
        return
    found = [load_recipe(each) for each in named_recipes()]
    if json:
        print_json({each.name: {"domain": each.domain, "summary": each.summary, "paper": each.paper} for each in found})
        return
    table = Table("recipe", "domain", "what", "paper")
    for each in found:
        table.add_row(each.name, each.domain, each.summary, each.paper)
    Console().print(table)


@data_app.command()
def check(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder, an archive, an array file, hf:NAME, …")],
    json: Json = False,
) -> None:
    """Find what is wrong with a data set: broken files, duplicates, blanks, outliers, wrong labels."""
    from sparring import api
    from sparring.training.progress import reading_bar

    with reading_bar("checking") as progress:
        report = api.check_data(source, progress=progress)
    if json:
        print_json(report.plain())
    else:
        show_findings(report.plain())


@data_app.command()
def prepare(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The data set; it is never changed.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new data set to write.")],
    size: Annotated[str | None, typer.Option(metavar="N|HxW", help="Resize to this. Default: as it is.")] = None,
    fit: Annotated[str, typer.Option(metavar="crop|pad|stretch", help="How to reach another shape.")] = "crop",
    channels: Annotated[
        int | None, typer.Option(min=1, max=4, help="1 grey, 2 grey+alpha, 3 RGB, 4 RGBA. Default: as it is.")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Leave out what `data check` would remove; it is copied to OUT-quarantine.")
    ] = False,
    keep_labels: Annotated[
        bool,
        typer.Option(
            "--keep-labels", help="With --clean: keep images whose labels are doubted; most are only unusual."
        ),
    ] = False,
    format: Annotated[str, typer.Option(metavar="folder|npz|shards|tar", help="What to write.")] = "folder",
    shards: Annotated[
        bool, typer.Option("--shards", help="Write WebDataset tars to stream from: the same as --format tar.")
    ] = False,
    shard_mb: Annotated[int, typer.Option(min=1, metavar="MB", help="The size of a tar at most.")] = 256,
    json: Json = False,
) -> None:
    """Resize, crop, convert, clean and write a data set anew, in files or in a fast format."""
    from sparring import api
    from sparring.training.progress import reading_bar

    with reading_bar("preparing") as progress:
        result = api.prepare_data(
            source,
            out,
            progress=progress,
            size=_size(size),
            fit=fit,
            channels=channels,
            clean=clean,
            labels=not keep_labels,
            format="tar" if shards else format,
            shard_mb=shard_mb,
        )
    if json:
        print_json(result.plain())
    else:
        for key, value in result.plain().items():
            tell(f"{key}: {value}")


def main() -> None:
    """The entry point: turns what went wrong into one line and an exit code."""
    # `module:Class` may lie beside the user. Last, so that nothing there can take a library's place.
    sys.path.append("")
    try:
        # Commands return nothing; what comes back is the exit code that Typer made of a Ctrl-C.
        if code := app(standalone_mode=False):
            _end("interrupted", code)
    except UserError as error:
        _end(f"error: {error}", 2)
    except Interrupted as interruption:
        _end(str(interruption), 130)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has gone (`sparring recipes | head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _end("", 141)
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        _end(f"error: {error.filename}: {error.strerror}", 2)
    except Exception as error:
        _usage_error(error)


def _usage_error(error: Exception) -> NoReturn:
    """Misuse of the command line is one line as well; anything else is a defect and shows its traceback."""
    if isinstance(error, typer.Exit):
        sys.exit(error.exit_code)
    if isinstance(error, typer.Abort):
        _end("interrupted", 130)
    show: Callable[[], str] | None = getattr(error, "format_message", None)
    if show is not None:
        text = " ".join(show().split())  # empty where a command without arguments has shown its help
        _end(f"error: {text}" if text else "", 2)
    raise error


def _pair(text: str | None) -> tuple[int, int] | None:
    size = _size(text)
    return (size, size) if isinstance(size, int) else size


def _size(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.lower().split("x")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise UserError(f"--size {text!r}: write one number, or HEIGHTxWIDTH, e.g. 64 or 64x48")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _end(message: str, code: int) -> NoReturn:
    if message and os.environ.get("LOCAL_RANK", "0") == "0":  # what is wrong for one process is so for its helpers
        tell(message)
    sys.stdout.flush()
    # Not sys.exit: a worker of a multi-process run must not wait here for processes that have already gone.
    sys.exit(code)


if __name__ == "__main__":
    main()
