"""The verbs, in Python. Here a domain is introduced to the trainer; neither knows the other.

import sparring
result = sparring.train("dcgan", data="photos/", set=["data.size=64"])
sparring.generate(result.run, count=16, out="samples.png", format="sheet")
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec, Game
from sparring.core.options import choose
from sparring.domains import Domain, open_domain
from sparring.errors import Interrupted, UserError, nearest
from sparring.recipe import Recipe, differences, load_recipe
from sparring.run import Run
from sparring.train.checkpoint import Checkpoint, Damaged, list_checkpoints, newest_good
from sparring.train.engine import Engine, choose_device, seed_everything
from sparring.train.follow import Evaluation, Recording, SampleSheets
from sparring.train.progress import Progress
from sparring.train.trainer import Trainer

Say = Callable[[str], None]


@dataclass
class TrainResult:
    """What a training did."""

    run: str | None
    recipe: str
    steps: int
    seconds: float
    samples_per_second: float
    seed: int
    device: str
    precision: str
    losses: dict[str, float]
    metrics: dict[str, float]
    facts: dict[str, Any] = field(default_factory=dict)
    """Further figures: parameters of each player, memory, predicted time, data."""

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**{key: value for key, value in vars(self).items() if key != "facts"}, **self.facts}


def train(
    recipe: str | Path | Recipe = "default",
    *,
    data: str | None = None,
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
    data: a source (see `docs/data.md`); None keeps the recipe's own.
    out: the run folder, which must not hold a run yet; None: `runs/RECIPE-N`.
    set: `KEY=VALUE` overrides of recipe keys.
    dry_run: resolve everything, play a few steps, report parameters, memory and time, write nothing.
    Raises UserError for what the user can mend, Interrupted after a signal (the state was saved).
    """
    chosen = _chosen_recipe(recipe, data, steps, seed, set)
    return _start(chosen, None, out, _engine(device, devices, nodes, precision), dry_run=dry_run, quiet=quiet)


def finetune(
    run: str | Path,
    *,
    data: str,
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
    recipe = _trusted(old.read_recipe(), trust).override(list(set), data={"source": data})
    chosen = _chosen_recipe(recipe, None, steps, seed, ())
    return _start(
        chosen,
        find_checkpoint(old, checkpoint),
        out,
        _engine(device, devices, nodes, precision),
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

    steps: a new total. Raises UserError where the recipe or the data have changed since, listing the differences.
    """
    opened = Run.open(run)
    recipe = _trusted(opened.read_recipe(), trust)
    checkpoint = newest_good(opened.checkpoints, _say(quiet))
    if checkpoint is None:
        raise UserError(f"{run}: has no usable checkpoint; train it anew")
    written = checkpoint.state()
    changed = differences(written["recipe"], recipe.plain())
    lasting = ("train.steps:", "train.epochs:", "train.minutes:")
    if refused := [line for line in changed if not line.startswith(lasting)]:
        raise UserError(
            f"{run}: the recipe has changed since step {checkpoint.step} ({'; '.join(refused)}), so this would be another training: "
            "put it back, or use `sparring finetune`"
        )
    if steps is not None:
        if steps < checkpoint.step:
            raise UserError(f"{run}: already at step {checkpoint.step}; --steps is the new total, so it must be larger")
        recipe = recipe.override([f"train.steps={steps}"])
    engine = _engine(device, devices or written["world"], nodes, written["precision"])
    return _play(recipe, opened, engine, resume_from=checkpoint, quiet=quiet)


@dataclass
class Trained:
    """A trained generator, ready to draw from."""

    game: Game
    domain: Domain
    recipe: Recipe
    spec: DataSpec

    def generate(
        self, count: int, *, seed: int = 0, label: str | int | None = None, batch_size: int = 256
    ) -> Iterator[Batch]:
        """Draw `count` samples in batches; the same seed draws the same samples, whatever the batch size of the run.

        label: a class name or number for all of them. Raises UserError for an unknown one, or for a game without.
        """
        condition = self.label(label)
        rng = torch.Generator(self.game.device).manual_seed(seed)
        for start in range(0, count, batch_size):
            size = min(batch_size, count - start)
            labels = None if condition is None else torch.full((size,), condition, dtype=torch.long)
            with torch.no_grad():
                yield self.game.generate(size, condition=labels, rng=rng)

    def label(self, label: str | int | None) -> int | None:
        """A class's number from its name or number."""
        if label is None:
            return None
        names = self.game.conditions
        if not names:
            raise UserError(
                f"recipe {self.recipe.name!r} draws samples without labels, so --label means nothing here; train `cgan`, say"
            )
        if str(label) in names:
            return list(names).index(str(label))
        raise UserError(f"unknown label {label!r}{nearest(str(label), names)}; there are {', '.join(names)}")


def load(run: str | Path, *, checkpoint: str | int = "best", device: str = "auto", trust: bool = False) -> Trained:
    """The trained generator of a run.

    checkpoint: `best` (the last where none was measured), `last`, or a step.
    trust: allow the recipe to import code outside the package (`module:Class`). Raises UserError.
    """
    opened = Run.open(run)
    recipe = _trusted(opened.read_recipe(), trust)
    spec, _ = opened.read_spec()
    domain = open_domain(recipe.domain)
    game = domain.build_game(recipe, spec)
    game.to(torch.device(choose_device(device)))
    with _readable():
        weights = find_checkpoint(opened, checkpoint).tensors("weights")
    for name, module in game.averaged().items():
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if _shapes(own) != _shapes(module.state_dict()):
            raise UserError(
                f"{run}: the weights do not fit the {name} that its recipe.yaml describes: has the file been changed?"
            )
        module.load_state_dict(own)
    return Trained(game.eval(), domain, recipe, spec)


def generate(
    run: str | Path,
    *,
    count: int = 64,
    out: str | Path | None = None,
    seed: int = 0,
    label: str | int | None = None,
    checkpoint: str | int = "best",
    format: str | None = None,
    device: str = "auto",
    trust: bool = False,
) -> list[Path]:
    """Draw samples of a run and write them; returns the files.

    format: one of the domain's (images: png, npz, sheet); None: by `out`'s ending, otherwise the domain's first.
    out: a file or folder; None: `RUN/generated…`. The same seed draws the same samples.
    """
    if count < 1:
        raise UserError(f"--count {count}: ask for at least one sample")
    trained = load(run, checkpoint=checkpoint, device=device, trust=trust)
    formats = trained.domain.formats
    chosen = format or _format_of(out, formats)
    if chosen not in formats:
        raise UserError(f"unknown format {chosen!r}{nearest(chosen, formats)}; there are {', '.join(formats)}")
    target = (
        Path(out)
        if out
        else Path(run) / {"png": "generated", "sheet": "generated.png"}.get(chosen, f"generated.{chosen}")
    )
    return trained.domain.save(trained.generate(count, seed=seed, label=label), trained.game.conditions, target, chosen)


def find_checkpoint(run: Run, which: str | int) -> Checkpoint:
    """A run's checkpoint: `best`, `last`, or a step. Raises UserError."""
    there = list_checkpoints(run.checkpoints)
    if not there:
        raise UserError(f"{run.folder}: has no checkpoint yet")
    if which == "last":
        return there[-1]
    if which == "best":
        with _readable():
            best = there[-1].state()["state"]["best"].get("step", there[-1].step)
        return next((each for each in there if each.step == best), there[-1])
    found = [each for each in there if str(each.step) == str(which)]
    if not found:
        raise UserError(
            f"{run.folder}: has no checkpoint {which!r}; there are best, last, {', '.join(str(each.step) for each in there)}"
        )
    return found[0]


def check_data(source: str, *, domain: str = "image", progress: Callable[[int, int], None] | None = None) -> Any:
    """A report of what is wrong with a data set; `.plain()` is JSON-ready."""
    return open_domain(domain).check(source, progress)


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
    """A recipe with its `data` section validated and every default of it filled in."""
    values = recipe.plain()
    values["data"] = open_domain(recipe.domain).resolve_data(recipe.data)
    return Recipe.parse(values)


def _chosen_recipe(
    recipe: str | Path | Recipe, data: str | None, steps: int | None, seed: int | None, assignments: Iterable[str]
) -> Recipe:
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    direct = [f"train.{key}={value}" for key, value in (("steps", steps), ("seed", seed)) if value is not None]
    chosen = chosen.override([*assignments, *direct], **({"data": {"source": data}} if data else {}))
    if chosen.train.steps is None and chosen.train.epochs is None and chosen.train.minutes is None:
        raise UserError("the recipe has no end: give train.steps, train.epochs or train.minutes")
    return resolve(chosen)


def _trusted(recipe: Recipe, trust: bool) -> Recipe:
    """Refuse to run code that the user has not named on purpose: a run folder may come from a stranger."""
    if recipe.needs_foreign_code and not trust:
        raise UserError(
            f"this run uses code from outside the package ({', '.join(recipe.needs_foreign_code)}): pass --trust if it is yours"
        )
    return recipe


def _engine(device: str, devices: int, nodes: int, precision: str) -> Engine:
    return Engine(device=device, devices=devices, nodes=nodes, precision=precision)


def _start(
    recipe: Recipe, weights: Checkpoint | None, out: str | Path | None, engine: Engine, *, dry_run: bool, quiet: bool
) -> TrainResult:
    if dry_run:
        return _play(recipe, None, engine, weights=weights, quiet=quiet)
    folder = Path(engine.broadcast(str(out or _free_folder(recipe.name))))
    if (folder / "recipe.yaml").exists() and engine.main:
        raise UserError(
            f"{folder}: already holds a run; `sparring resume {folder}` goes on with it, or choose another --out"
        )
    return _play(recipe, Run(folder), engine, weights=weights, quiet=quiet)


def _play(
    recipe: Recipe,
    run: Run | None,
    engine: Engine,
    *,
    weights: Checkpoint | None = None,
    resume_from: Checkpoint | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Introduce the domain to the trainer, and play."""
    say = _say(quiet or not engine.main)
    domain = open_domain(recipe.domain)
    if recipe.evaluate.metric is not None:
        choose(domain.metrics, recipe.evaluate.metric, what="metric")  # an unknown one must not end a long training
    with engine.main_first(), _reading(quiet or not engine.main) as reading:
        data = domain.open_data(recipe.data, reading)
    for name, reason in data.broken[:10]:
        say(f"skipped {name}: {reason}")
    if len(data.broken) > 10:
        say(f"skipped {len(data.broken) - 10} more broken samples; report.html names them all")

    seed_everything(recipe.train.seed)
    game = domain.build_game(recipe, data.spec)
    if weights:
        _take_weights(game, weights, say)
    if run and resume_from and run.read_spec()[1] != data.fingerprint:
        raise UserError(
            f"{run.folder}: the data {recipe.data.get('source')!r} has changed since the run began; use `sparring finetune` for new data"
        )

    silent = quiet or not engine.main
    progress = Progress(recipe.train.steps, minutes=recipe.train.minutes, quiet=silent)
    trainer = Trainer(game, data, recipe, engine, run, say=_say(True) if silent else progress.note)
    if run is None:
        return _rehearse(trainer)
    if resume_from:
        trainer.load(resume_from)
    # Only now, when nothing is left that the user must mend: a run folder that cannot be trained is in the way.
    if engine.main and resume_from:
        run.write_recipe(recipe)
    elif engine.main:
        Run.create(run.folder, recipe, data.spec, data.fingerprint)
    if data.spec.classes and not game.conditions:
        say(f"the data has {len(data.spec.classes)} classes, which the recipe {recipe.name!r} does not use")
    listeners = [
        Evaluation(domain.measure, recipe),
        SampleSheets(lambda samples, path: domain.show(samples, game.conditions, path), recipe),
    ]
    recording = Recording(run, progress, lambda: _summary(trainer, recipe).plain())
    trainer.listeners = [*listeners, recording]
    try:
        with progress:
            trainer.train()
    except Interrupted as interruption:
        raise Interrupted(
            f"{interruption}; the state is saved: `sparring resume {run.folder}` goes on"
        ) from interruption
    finally:
        engine.close()
    return _summary(trainer, recipe)


def _summary(trainer: Trainer, recipe: Recipe) -> TrainResult:
    state, data = trainer.state, trainer.data
    seconds = max(state.seconds, 1e-9)
    return TrainResult(
        run=str(trainer.run.folder) if trainer.run else None,
        recipe=recipe.name,
        steps=state.step,
        seconds=round(state.seconds, 3),
        samples_per_second=round(state.seen / seconds, 2),
        seed=recipe.train.seed,
        device=trainer.engine.device.type,
        precision=trainer.engine.precision,
        losses=trainer.read_losses(),
        metrics=state.metrics,
        facts={
            "parameters": {
                name: sum(each.numel() for each in player.parameters) for name, player in trainer.players.items()
            },
            "data": {
                "source": recipe.data.get("source"),
                "count": len(data),
                "shape": list(data.spec.shape),
                "classes": list(data.spec.classes),
                "broken": [list(each) for each in data.broken],
            },
            "best": state.best.get("step"),
            "recoveries": state.recoveries,
        },
    )


def _rehearse(trainer: Trainer) -> TrainResult:
    """Play a step to warm up and one to measure; keep nothing."""
    import resource
    import time

    trainer.game.train()
    trainer.play_step()
    start = time.monotonic()
    trainer.play_step()
    trainer.read_losses()
    seconds = time.monotonic() - start
    options = trainer.recipe.train
    cuda = trainer.engine.device.type == "cuda"
    # Linux counts the peak of resident memory in KiB, macOS in bytes.
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    memory = torch.cuda.max_memory_allocated() if cuda else host
    planned = options.steps
    if options.epochs is not None:
        in_epochs = int(options.epochs * len(trainer.data) / (trainer.sampler.position / 2))
        planned = in_epochs if planned is None else min(planned, in_epochs)
    predicted = None if planned is None else planned * seconds
    if options.minutes is not None:
        predicted = options.minutes * 60 if predicted is None else min(predicted, options.minutes * 60)
    result = _summary(trainer, trainer.recipe)
    result.steps, result.seconds, result.samples_per_second = 0, 0.0, round(options.batch_size / seconds, 2)
    result.facts |= {
        "dry_run": True,
        "seconds_per_step": round(seconds, 5),
        "memory_bytes": memory,
        "predicted_seconds": predicted,
        "planned_steps": planned,
    }
    return result


def _take_weights(game: Game, checkpoint: Checkpoint, say: Say) -> None:
    own = game.state_dict()
    with _readable():
        there = checkpoint.tensors("game")
    fitting = {key: value for key, value in there.items() if key in own and own[key].shape == value.shape}
    if not any(name in fitting for name, _ in game.named_parameters()):
        raise UserError(
            f"{checkpoint.folder}: none of its weights fits the new networks; are the image size and the recipe the same?"
        )
    game.load_state_dict(fitting, strict=False)
    fresh = [key for key in own if key not in fitting]
    say(
        f"took {len(fitting)} of {len(own)} tensors from {checkpoint.folder}"
        + (f"; these start fresh: {', '.join(fresh[:8])}" if fresh else "")
    )


@contextmanager
def _readable() -> Iterator[None]:
    """A damaged checkpoint is nothing to go back from here: the user chooses another."""
    try:
        yield
    except Damaged as damage:
        raise UserError(f"{damage}; choose another with --checkpoint") from damage


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in tensors.items()}


def _free_folder(name: str) -> Path:
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def _format_of(out: str | Path | None, formats: Sequence[str]) -> str:
    ending = Path(out).suffix.lower().removeprefix(".") if out else ""
    if ending == "png":
        return "sheet"  # one picture was asked for, not a folder
    return ending if ending in formats else formats[0]


def _say(quiet: bool) -> Say:
    return (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr))


def _reading(quiet: bool) -> AbstractContextManager[Callable[[int, int], None] | None]:
    from sparring.train.progress import reading_bar

    return nullcontext(None) if quiet else reading_bar("reading the data")
