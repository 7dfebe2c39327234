"""The verbs, in Python.

import sparring
result = sparring.train("dcgan", data="photos/", set=["data.size=64"])
sparring.generate(result.run, count=16, out="samples.png", format="sheet")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sparring.core.schedules import SCHEDULES
from sparring.domains import open_domain
from sparring.domains.domain import Data
from sparring.errors import UserError, nearest
from sparring.exploring.stored import read_codes
from sparring.exploring.verbs import (
    DirectionsResult,
    ProjectResult,
    by_class,
    directions,
    interpolate,
    mix,
    project,
    steered,
    walk,
)
from sparring.exporting.export import ExportResult, export
from sparring.measuring.comparison import CompareResult, compare
from sparring.measuring.evaluation import EvaluateResult, evaluate
from sparring.options import resolve_named
from sparring.recipe import Machine, Recipe, differences, load_recipe
from sparring.run import Run
from sparring.stage import TrainResult, play, speaker, start, without_data
from sparring.trained import Label, Trained, find_checkpoint, load, trusted
from sparring.training.checkpoint import newest_good
from sparring.training.engine import Engine
from sparring.training.launch import agreed, launched
from sparring.training.optimizers import OPTIMIZERS
from sparring.translating.verb import TranslateResult, translate


def train(
    recipe: str | Path | Recipe = "default",
    *,
    data: Data | None = None,
    out: str | Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    set: Iterable[str] = (),
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    precision: str = "auto",
    dry_run: bool = False,
    quiet: bool = False,
) -> TrainResult:
    """Train a recipe on data; writes a run folder.

    recipe: a packaged recipe's name, a YAML file, or a Recipe. Passing one that names `module:Class` runs that code.
    data: a source (see `docs/data.md`), of tables also a pandas DataFrame; None keeps the recipe's own.
    out: the run folder, which must not hold a run yet; None: `runs/RECIPE-N`.
    set: `KEY=VALUE` overrides of recipe keys.
    dry_run: resolve everything, play a few steps, report parameters, memory and time, write nothing.
    Raises UserError for what the user can mend, Interrupted after a signal (the state was saved).
    """
    chosen = _privately(_chosen_recipe(recipe, data, steps, seed, set, precision), quiet)
    return start(
        chosen,
        None,
        out,
        Engine(device=device, devices=devices, nodes=nodes, machine=chosen.machine),
        dry_run=dry_run,
        quiet=quiet,
    )


def finetune(
    run: str | Path,
    *,
    data: Data,
    out: str | Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    set: Iterable[str] = (),
    checkpoint: str | int = "last",
    trust: bool = False,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    precision: str = "auto",
    quiet: bool = False,
) -> TrainResult:
    """A new run on `data` with the recipe of another run, starting from its weights and from nothing else of it.

    Weights whose shapes fit are taken, others (a head for another number of classes) start fresh and are named.
    """
    old = Run.open(run)
    recipe = trusted(old.read_recipe(), trust)
    recipe = recipe.override(list(set), data={"source": open_domain(recipe.domain).source(data)})
    chosen = _privately(_chosen_recipe(recipe, None, steps, seed, (), precision), quiet)
    return start(
        chosen,
        find_checkpoint(old, checkpoint),
        out,
        Engine(device=device, devices=devices, nodes=nodes, machine=chosen.machine),
        dry_run=False,
        quiet=quiet,
    )


def resume(
    run: str | Path,
    *,
    steps: int | None = None,
    trust: bool = False,
    device: str = "auto",
    devices: int | None = None,
    nodes: int = 1,
    quiet: bool = False,
) -> TrainResult:
    """Go on with a run exactly where its newest checkpoint stands.

    steps: a new total. device: auto is the one the run was trained on. devices: None means as many processes as before, or as
    a launcher has started; another number goes on with the same training, up to rounding. Raises UserError where the recipe or the data have changed since, listing the differences.
    """
    opened = Run.open(run)
    recipe = trusted(opened.read_recipe(), trust)
    checkpoint = newest_good(opened.checkpoints, speaker(quiet))
    if checkpoint is None:
        raise UserError(f"{run}: has no usable checkpoint; train it anew")
    written = checkpoint.state()
    changed = differences(written["recipe"], recipe.plain())
    # Where the data lies may change: that it is the same data, its fingerprint says.
    lasting = ("train.steps:", "train.epochs:", "train.minutes:", "evaluate.patience:", "data.source:")
    if refused := [line for line in changed if not line.startswith(lasting)]:
        raise UserError(
            f"{run}: the recipe has changed since step {checkpoint.step} ({'; '.join(refused)}), so this would be another training: "
            "put it back, or use `sparring finetune`"
        )
    if steps is not None:
        if steps < checkpoint.step:
            raise UserError(f"{run}: already at step {checkpoint.step}; --steps is the new total, so it must be larger")
        recipe = recipe.override([f"train.steps={steps}"])
    if device != "auto" and device != written["device"]:
        speaker(quiet)(f"the run was trained on {written['device']}; on {device} it goes on, but not bit for bit")
    # As many processes as a launcher has started, or as there were.
    asked = devices or (1 if launched() else max(1, written["world"] // nodes))
    settings = Machine(**written["settings"])
    if math.prod(agreed(asked, nodes)) != written["world"]:
        settings.threads = recipe.machine.threads  # other processes share the cores in another way
    engine = Engine(
        device=written["device"] if device == "auto" else device, devices=asked, nodes=nodes, machine=settings
    )
    return play(recipe, opened, engine, resume_from=checkpoint, quiet=quiet)


def generate(
    run: str | Path,
    *,
    count: int = 64,
    out: str | Path | None = None,
    seed: int = 0,
    label: Label = None,
    truncation: float = 1.0,
    truncation_layers: int | None = None,
    length: int | None = None,
    edit: Sequence[str] = (),
    edit_layers: str = "all",
    codes: str | Path | None = None,
    checkpoint: str | int = "best",
    format: str | None = None,
    batch_size: int | None = None,
    precision: str = "32",
    device: str = "auto",
    trust: bool = False,
    quiet: bool = False,
) -> list[Path]:
    """Draw samples of a run and write them; returns the files.

    label: see `Trained.generate`; of tables also what numbers and dates are to be, `"age>40,sex=Female"`.

    format: one of the domain's (images: png, npz, npy, sheet); None: by `out`'s ending, otherwise the domain's first.
    out: a file or folder; None: `RUN/generated…`. batch_size: samples of a forward pass at most, up to the domain's `drawn` (the default).
    precision: bits of forward passes. The same seed draws the same samples, whatever the batch size.
    truncation: less than 1 draws more typical samples; truncation_layers: in the first layers alone (style-based
    generators). length: steps of each sample, for games that draw sequences of any length. edit: `DIRECTION:STRENGTH`, of `directions`; edit_layers: `coarse`, `middle`, `fine`, or a range.
    codes: a file of codes that `project` wrote, in place of drawing `count` of them.
    """
    if count < 1:
        raise UserError(f"--count {count}: ask for at least one sample")
    trained = load(run, checkpoint=checkpoint, device=device, trust=trust)
    if length is not None:
        if codes is not None:
            raise UserError("--codes are of samples that have a length already: leave --length out")
        trained.game.stretch(length)
    formats = trained.domain.formats
    chosen = format or _format_of(out, formats)
    if chosen not in formats:
        raise UserError(f"unknown format {chosen!r}{nearest(chosen, formats)}; there are {', '.join(formats)}")
    target = (
        Path(out)
        if out
        else Path(run) / {"png": "generated", "sheet": "generated.png"}.get(chosen, f"generated.{chosen}")
    )
    drawing: dict[str, Any] = {
        "seed": seed,
        "label": label,
        "truncation": truncation,
        "truncation_layers": truncation_layers,
    }
    if edit or codes is not None:
        trained.require_codes()
        start = trained.codes(count, **drawing) if codes is None else read_codes(Path(codes), trained)
        samples = steered(
            trained, run, start, edit, edit_layers, batch_size=batch_size or trained.domain.drawn, precision=precision
        )
    else:
        samples = trained.generate(count, batch_size=batch_size, precision=precision, say=speaker(quiet), **drawing)
    return trained.domain.save(samples, trained.game.conditions, target, chosen)


def check_data(
    source: Data,
    *,
    domain: str = "image",
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Any:
    """A report of what is wrong with a data set; `.plain()` is JSON-ready.

    options: of translations, keys of the recipe's `data` section and `against`, other data that must not be among these.
    Raises UserError.
    """
    return open_domain(domain).check(open_domain(domain).source(source), progress, **options)


def prepare_data(
    source: str,
    out: str | Path,
    *,
    domain: str = "image",
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Any:
    """Write a resized, converted, cleaned copy of a data set. The source is never changed."""
    return open_domain(domain).prepare(source, Path(out), progress, **options)


def resolve(recipe: Recipe) -> Recipe:
    """A recipe with every section validated and every default filled in. Runs the code that it names."""
    domain = open_domain(recipe.domain)
    values = recipe.plain()
    values["data"] = domain.resolve_data(recipe.data)
    values |= domain.game_class(recipe).resolve(recipe)
    train = values["train"]
    train["optimizer"] = resolve_named(OPTIMIZERS, train["optimizer"], what="optimiser", where="train.optimizer")
    train["schedule"] = resolve_named(
        SCHEDULES, train["schedule"], what="schedule", where="train.schedule", beside=["steps"]
    )
    # By way of plain data, so that a tuple of defaults is the list that YAML gives back.
    return Recipe.parse(Recipe.parse(values).plain())


def _chosen_recipe(
    recipe: str | Path | Recipe,
    data: Data | None,
    steps: int | None,
    seed: int | None,
    assignments: Iterable[str],
    precision: str = "auto",
) -> Recipe:
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    direct = [f"train.{key}={value}" for key, value in (("steps", steps), ("seed", seed)) if value is not None]
    direct += [] if precision == "auto" else [f"machine.precision={precision}"]
    source = None if data is None else open_domain(chosen.domain).source(data)
    chosen = chosen.override([*assignments, *direct], **({"data": {"source": source}} if source else {}))
    if chosen.train.steps is None and chosen.train.epochs is None and chosen.train.minutes is None:
        raise UserError("the recipe has no end: give train.steps, train.epochs or train.minutes")
    return resolve(chosen)


def _privately(recipe: Recipe, quiet: bool) -> Recipe:
    """A private recipe without what it must not have, which is said."""
    other, off = without_data(recipe)
    if off:
        speaker(quiet)(f"private: switched off, for it looks at the data past the discriminator: {'; '.join(off)}")
    return other


def _format_of(out: str | Path | None, formats: Sequence[str]) -> str:
    ending = Path(out).suffix.lower().removeprefix(".") if out else ""
    if ending == "png":
        return "sheet"  # one picture was asked for, not a folder
    if ending in formats:
        return ending
    if (
        ending in {"jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "npy", "csv", "xlsx"}
        and not Path(str(out)).is_dir()
    ):
        raise UserError(f"cannot write {out}: name a .png (one sheet), a .npz or a folder")
    return formats[0]


__all__ = [
    "CompareResult",
    "DirectionsResult",
    "EvaluateResult",
    "ExportResult",
    "ProjectResult",
    "TrainResult",
    "Trained",
    "TranslateResult",
    "by_class",
    "check_data",
    "compare",
    "directions",
    "evaluate",
    "export",
    "finetune",
    "generate",
    "interpolate",
    "load",
    "mix",
    "prepare_data",
    "project",
    "resolve",
    "resume",
    "train",
    "translate",
    "walk",
]
