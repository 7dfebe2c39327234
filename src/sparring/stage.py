"""The stage: where a domain is introduced to the trainer. Neither knows the other; they meet in a game."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sparring.core.accounting import Spent
from sparring.core.game import Batch, DataSpec, Game
from sparring.data.built import default_folder
from sparring.data.dataset import Dataset
from sparring.domains import Domain, open_domain
from sparring.errors import Interrupted, UserError
from sparring.metrics.meter import Measure, Meter, measure_of, with_own
from sparring.recipe import Recipe, differences
from sparring.run import Run
from sparring.training.autotune import tune
from sparring.training.checkpoint import Checkpoint, readable
from sparring.training.engine import Engine, seed_everything
from sparring.training.follow import Evaluation, Recording, SampleSheets
from sparring.training.listener import Listener
from sparring.training.privacy import drawing, noise_of_counts
from sparring.training.progress import Progress, reading_bar
from sparring.training.trainer import Trainer

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


def start(
    recipe: Recipe, weights: Checkpoint | None, out: str | Path | None, engine: Engine, *, dry_run: bool, quiet: bool
) -> TrainResult:
    """A new training in a new folder; `weights`: of another run, to begin with."""
    if dry_run:
        return play(recipe, None, engine, weights=weights, quiet=quiet)
    folder = Path(engine.broadcast(str(out or _free_folder(recipe.name))))
    if (folder / "recipe.yaml").exists() and engine.main:
        raise UserError(
            f"{folder}: already holds a run; `sparring resume {folder}` goes on with it, or choose another --out"
        )
    return play(recipe, Run(folder), engine, weights=weights, quiet=quiet)


def play(
    recipe: Recipe,
    run: Run | None,
    engine: Engine,
    *,
    weights: Checkpoint | None = None,
    resume_from: Checkpoint | None = None,
    quiet: bool = False,
) -> TrainResult:
    """Introduce the domain to the trainer, and play."""
    say = speaker(quiet or not engine.main)
    domain = open_domain(recipe.domain)
    # What names no measure or no space must not end a long training.
    metric = recipe.evaluate.metric
    measures = with_own(domain.measures, [metric] if metric else [])
    measure = None if metric is None else measure_of(measures, metric)
    translates = domain.game_class(recipe).translate is not Game.translate
    in_pairs = measure is not None and require_partners(measures[measure], str(metric), translates)
    with engine.main_first(), _reading(quiet or not engine.main) as reading:
        data = domain.open_data(recipe.data, reading)
    before = run.read_spec() if run and resume_from else None
    if run and before and before[1] != data.fingerprint:
        raise UserError(
            f"{run.folder}: the data {recipe.data.get('source')!r} has changed since the run began; use `sparring finetune` for new data"
        )
    described = _describe_privately(domain, data, recipe, before and before[0], say)
    domain = domain.knowing(data.spec)
    measures = with_own(domain.measures, [metric] if metric else [])
    measure = None if metric is None else measure_of(measures, metric)  # these data may lack what one of them needs
    for line in () if resume_from else domain.introduce(data.spec):
        say(line)
    for name, reason in data.broken[:10]:
        say(f"skipped {name}: {reason}")
    if len(data.broken) > 10:
        say(f"skipped {len(data.broken) - 10} more broken samples; report.html names them all")

    def rehearsal() -> Trainer:
        game = domain.build_game(recipe, data.spec)
        return Trainer(game, data, recipe, engine, None, described=described, say=speaker(True))

    if not resume_from:
        engine.use(tune(rehearsal, recipe, engine, remember=default_folder() / "settings"))
    seed_everything(recipe.train.seed)
    game = domain.build_game(recipe, data.spec)
    if in_pairs:
        require_known_partners(str(metric), game, data)
    if weights:
        _take_weights(game, weights, say)
    if run and not resume_from:
        with engine.main_first(), _reading(quiet or not engine.main, "preparing the game") as reading:
            game.prepare(data, reading)

    silent = quiet or not engine.main
    progress = Progress(recipe.train.steps, minutes=recipe.train.minutes, unit=domain.unit, quiet=silent)
    note = speaker(True) if silent else progress.note
    trainer = Trainer(game, data, recipe, engine, run, described=described, say=note)
    if run is None:
        return rehearse(trainer)
    if resume_from:
        with readable():
            trainer.load(resume_from)
    # Only now, when nothing is left that the user must mend: a run folder that cannot be trained is in the way.
    if engine.main and resume_from:
        run.write_recipe(recipe)
    elif engine.main:
        Run.create(run.folder, recipe, data.spec, data.fingerprint)
    if unused := unused_labels(recipe, data.spec, game):
        say(unused)
    listeners: list[Listener] = [
        SampleSheets(lambda samples, path: domain.show(samples, _rows(game, recipe), path), recipe)
    ]
    if measure is not None:
        # First: what it measures may end the training, and then there is a last sheet to draw.
        listeners.insert(
            0, Evaluation(lambda real: _meter(domain, measures, data, real, recipe, silent), measure, recipe)
        )
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


def without_data(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """A private recipe without what looks at the data past the turns that are private, and what was switched off; others as they are.

    Figures measured on the data choose a checkpoint, and would tell of the data by it.
    """
    if not recipe.private.on:
        return recipe, []
    domain = open_domain(recipe.domain)
    off = ["evaluate.metric=null", "evaluate.patience=null"]
    other = recipe.override([*domain.game_class(recipe).without_data(recipe), *domain.without_data(recipe), *off])
    return other, differences(recipe.plain(), other.plain())


def _describe_privately(
    domain: Domain, data: Dataset, recipe: Recipe, before: DataSpec | None, say: Say
) -> list[Spent]:
    """Leave in the description of a private training's data what may be known; what that spends. before: of a run that goes on."""
    if not recipe.private.on:
        return []
    if before is not None:
        domain.adopt(data, before)
        return []
    say(
        f"private: not protected are {domain.private_outside}, and how many samples there are; docs/privacy.md says more"
    )
    return [
        (noise, 1.0, 1) for noise in domain.describe_privately(data, noise_of_counts(recipe.private), drawing(recipe))
    ]


def unused_labels(recipe: Recipe, spec: DataSpec, game: Game) -> str:
    """One line on labels of the data that have no part in the game, and how they would; empty where all have."""
    if game.reads_labels or not spec.classes:
        return str(spec.extra.get("label_note", ""))
    kind = spec.extra.get("label_kind", "classes")
    what = "classes" if kind in ("classes", "soft") else kind
    other = spec.extra.get("label_recipe", "cgan")
    way = "--set model.conditional=true uses them" if "conditional" in recipe.model else f"`{other}`, say, uses them"
    aside = ", and --set data.labels=none leaves them aside" if "labels" in recipe.data else ""
    return f"the data has {len(spec.classes)} {what}, which the recipe {recipe.name!r} does not use: {way}{aside}"


def _rows(game: Game, recipe: Recipe) -> Sequence[str]:
    """What the rows of a sample sheet show."""
    return game.labels.sheet(recipe.train.sample_count)[2] if game.labels else ()


def require_partners(measure: Measure, figure: str, translates: bool) -> bool:
    """Whether a figure compares pairs, which only a game that translates can have. Raises UserError."""
    pairs = "pairs" in measure.needs
    if pairs and not translates:
        raise UserError(f"evaluate.metric={figure} compares pairs, and a game's samples have no partners in the data")
    return pairs


def require_known_partners(figure: str, game: Game, data: Dataset) -> None:
    """Raise UserError where nobody knows what should become of an input."""
    # Looked at, and not asked: it may hang on the game, the data, or both.
    with torch.random.fork_rng([]), torch.no_grad():
        given = data.batch(torch.zeros(1, dtype=torch.int64), augment=False)
        known = "real" in game.eval().translate(given, rng=torch.Generator(game.device).manual_seed(0))
    game.train()
    if not known:
        raise UserError(
            f"evaluate.metric={figure} compares pairs, and nothing of the data is known to be an input's output"
        )


def _meter(
    domain: Domain, measures: Mapping[str, Measure], data: Dataset, real: Batch, recipe: Recipe, quiet: bool
) -> Meter:
    with _reading(quiet, "preparing the features") as progress:
        features = domain.open_features(recipe.evaluate.features or domain.spaces[0], data, progress)
    meter = Meter(features, measures, real, seed=recipe.train.seed)
    measure = measures[measure_of(measures, str(recipe.evaluate.metric))]
    if missing := [need for need in measure.needs if need not in meter.real and need != "pairs"]:
        raise UserError(
            f"evaluate.metric={recipe.evaluate.metric} needs {' and '.join(missing)}, which {features.name} does not give here"
        )
    return meter


def _summary(trainer: Trainer, recipe: Recipe) -> TrainResult:
    state, data = trainer.state, trainer.data
    evaluation = next((each for each in trainer.listeners if isinstance(each, Evaluation)), None)
    seconds = max(state.seconds, 1e-9)
    return TrainResult(
        run=str(trainer.run.folder) if trainer.run else None,
        recipe=recipe.name,
        steps=state.step,
        seconds=round(state.seconds, 3),
        samples_per_second=round(state.seen / seconds, 2),
        seed=recipe.train.seed,
        device=trainer.engine.device.type,
        precision=trainer.engine.settings.precision,
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
            "settings": trainer.engine.settings.plain(),
            "best": state.best.get("step"),
            "evaluation": evaluation and evaluation.facts(),
            "translates": trainer.game.translates,
            "format": open_domain(recipe.domain).formats[0],
            "recoveries": state.recoveries,
            "privacy": trainer.privacy and trainer.privacy.plain(),
        },
    )


def rehearse(trainer: Trainer) -> TrainResult:
    """Play a step to warm up and one to measure; keep nothing."""
    trainer.game.train()
    with trainer.ready_to_play():
        trainer.play_step()
        trainer.read_losses()
        start = time.monotonic()
        trainer.play_step()
        trainer.read_losses()
        seconds = time.monotonic() - start
    options = trainer.recipe.train
    cuda = trainer.engine.device.type == "cuda"
    # Linux counts the peak of resident memory in KiB, macOS in bytes.
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    memory = torch.cuda.max_memory_allocated() if cuda else host
    predicted = None if trainer.length is None else trainer.length * seconds
    if options.minutes is not None:
        predicted = options.minutes * 60 if predicted is None else min(predicted, options.minutes * 60)
    result = _summary(trainer, trainer.recipe)
    result.steps, result.seconds, result.samples_per_second = 0, 0.0, round(options.batch_size / seconds, 2)
    result.facts |= {
        "dry_run": True,
        "seconds_per_step": round(seconds, 5),
        "memory_bytes": memory,
        "predicted_seconds": predicted,
        "planned_steps": trainer.length,
    }
    return result


def _take_weights(game: Game, checkpoint: Checkpoint, say: Say) -> None:
    """Take over the weights that fit, and say which start fresh."""
    own = game.state_dict()
    with readable():
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


def _free_folder(name: str) -> Path:
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def speaker(quiet: bool) -> Say:
    """Prints lines on standard error, or nothing."""
    return (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr))


def _reading(quiet: bool, what: str = "reading the data") -> AbstractContextManager[Callable[[int, int], None] | None]:
    return nullcontext(None) if quiet else reading_bar(what)
