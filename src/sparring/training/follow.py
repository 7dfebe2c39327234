"""Listeners that every training has: figures, sample sheets, the record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparring.core.game import Batch, Game
from sparring.data.dataset import choose, watched
from sparring.errors import UserError
from sparring.metrics.meter import Meter, bulky
from sparring.recipe import Recipe
from sparring.run import Run
from sparring.training.guard import tolerate_full_disk
from sparring.training.listener import Listener
from sparring.training.progress import Progress
from sparring.training.recorder import Recorder
from sparring.training.report import write_report
from sparring.training.trainer import Trainer

GIVEN, PIXELS = 256, 1 << 19  # samples of the data at a time, and pixels of them: images may be large
SECONDS_BETWEEN_PAGES = 60.0  # drawing curves takes about half a second


class Evaluation(Listener):
    """Measures samples against data every so many steps, and offers the trainer the figure that names the best checkpoint.

    meter: real samples → what measures against them; called once, at the start.
    measure: the one that gives `evaluate.metric`; all its figures are recorded.
    """

    def __init__(self, meter: Callable[[Batch], Meter], measure: str, recipe: Recipe) -> None:
        self.meter, self.measure = meter, measure
        self.options = recipe.evaluate
        self.every = recipe.evaluate.every or recipe.train.checkpoint_every
        self.seed = recipe.train.seed
        self.measured = -1
        self.ready: Meter | None = None
        self.seconds, self.began = 0.0, time.monotonic()

    def facts(self) -> dict[str, Any]:
        """The space, and the share of this process's time that measuring has taken."""
        share = self.seconds / max(time.monotonic() - self.began, 1e-9)
        return {"features": self.ready and self.ready.features.name, "share": round(share, 4)}

    def at_start(self, trainer: Trainer) -> None:
        """Describe the real samples, which stay the same for the whole training."""
        self.began = time.monotonic()
        with trainer.undisturbed():
            if trainer.engine.main:
                parts = [_small(part, ("data",)) for part in first_samples(trainer, self.options.count, self.seed)]
                self.ready = self.meter(joined(parts))
            trainer.engine.barrier()

    def after_step(self, trainer: Trainer) -> None:
        """Measure where it is time, and at the end."""
        due = trainer.state.step % self.every == 0 or trainer.finished()
        if not due or trainer.state.step == self.measured:
            return
        self.measured = trainer.state.step
        start = time.monotonic()
        figures: dict[str, float] = {}
        if self.ready is not None:
            with trainer.sampling() as game:
                fake = draw(
                    game,
                    self.options.count,
                    seed=self.seed,
                    given=first_samples(trainer, self.options.count, self.seed),
                    keep=("data", *self.ready.measures[self.measure].needs_fake),
                )
                if all(bool(torch.isfinite(each).all()) for each in fake.values()):
                    fake = self.ready.describe(fake)
                    if lacking := self.ready.lacking(self.ready.measures[self.measure], fake, paired=True):
                        raise UserError(
                            f"evaluate.metric={self.options.metric} needs {' and '.join(lacking)}, which the game's samples have not"
                        )
                    values = self.ready.values(fake, self.measure)
                    figures = {name: value.number for name, value in values.items()}
        metric = str(self.options.metric)
        figures = trainer.engine.broadcast(figures)
        higher = trainer.engine.broadcast(self.ready.measures[self.measure].figures[metric] if self.ready else False)
        trainer.offer({metric: float("nan"), **figures}, metric, lower_is_better=not higher)
        self.seconds += time.monotonic() - start


class SampleSheets(Listener):
    """Draws the same latents (or translates the same inputs) every so many steps, so that the eye can follow each."""

    def __init__(self, show: Callable[[Batch, Path], None], recipe: Recipe) -> None:
        self.show = show
        self.every, self.count, self.seed = recipe.train.sample_every, recipe.train.sample_count, recipe.train.seed

    def at_start(self, trainer: Trainer) -> None:
        """Untrained networks make a sheet too: the first of the strip."""
        if trainer.state.step == 0:
            self.draw(trainer)

    def after_step(self, trainer: Trainer) -> None:
        """Draw where it is time, and at the end."""
        if trainer.state.step % self.every == 0 or trainer.finished():
            self.draw(trainer)

    def draw(self, trainer: Trainer) -> None:
        """Write `samples/step-….png`."""
        if not trainer.engine.main or trainer.run is None:
            return
        with trainer.sampling() as game:
            samples = draw(
                game,
                self.count,
                seed=self.seed,
                balanced=True,
                given=first_samples(trainer, self.count, self.seed),
            )
        with tolerate_full_disk(trainer.say):
            trainer.run.samples.mkdir(parents=True, exist_ok=True)
            try:
                self.show(samples, trainer.run.samples / f"step-{trainer.state.step:08d}.png")
            except UserError as error:
                # Samples that cannot be shown are not finite; the guard will notice, and knows what to do.
                trainer.say(f"no sheet at step {trainer.state.step}: {error}")


class Recording(Listener):
    """Writes metrics.jsonl and TensorBoard events, moves the progress bar, and leaves curves.png and report.html."""

    def __init__(self, run: Run, progress: Progress, summary: Callable[[], Mapping[str, Any]]) -> None:
        self.run, self.progress, self.summary = run, progress, summary
        self.recorder: Recorder | None = None
        self.incidents: list[str] = []
        self.shown: dict[str, float] = {}
        self.spent: dict[str, float] = {}
        self.paged = time.monotonic()

    def at_start(self, trainer: Trainer) -> None:
        """Open the record; lines past a resumed step are of a future that did not happen."""
        if trainer.engine.main:
            resumed = trainer.state.step or None
            self.recorder = Recorder(self.run, resume_step=resumed, warn=trainer.say)
            self.progress.begin(trainer.state.step, trainer.state.seen)
            self.image(trainer)

    def after_step(self, trainer: Trainer) -> None:
        """A line every `log_every` steps and wherever something was measured."""
        if self.recorder is None:
            return
        state = trainer.state
        figures = {
            f"metric/{name}": value for name, value in state.metrics.items() if trainer.measured_at == state.step
        }
        if state.step % trainer.recipe.train.log_every == 0 or figures or trainer.finished():
            values = trainer.read_losses()
            self.shown = {
                turn: sum(v for k, v in values.items() if k.startswith(f"loss/{turn}/")) for turn in _turns(values)
            }
            rate = state.seen / max(state.seconds, 1e-9)
            if trainer.privacy is not None and trainer.privacy.due(state.step, trainer.finished()):
                figures |= trainer.privacy.figures()
                self.spent = {"ε": trainer.privacy.epsilon}
            self.recorder.record(state.step, {**values, **figures, "speed/samples_per_second": rate}, state.seconds)
        self.image(trainer)
        self.progress.update(state.step, state.seen, {**self.shown, **self.spent})

    def at_recovery(self, trainer: Trainer, reason: str) -> None:
        """Steps after the checkpoint did not happen."""
        self.incidents.append(f"back to step {trainer.state.step}: {reason}")
        if self.recorder:
            self.recorder.close()
            self.recorder = Recorder(self.run, resume_step=trainer.state.step, warn=trainer.say)

    def at_checkpoint(self, trainer: Trainer) -> None:
        """The page can be looked at while the training goes on."""
        if self.recorder and time.monotonic() - self.paged > SECONDS_BETWEEN_PAGES:
            self.write_pages(trainer)
            self.paged = time.monotonic()

    def at_end(self, trainer: Trainer) -> None:
        """Close the record and write the final pages."""
        if self.recorder:
            self.recorder.close()
            self.write_pages(trainer)

    def image(self, trainer: Trainer) -> None:
        """Give TensorBoard this step's sheet, where there is one."""
        sheet = self.run.samples / f"step-{trainer.state.step:08d}.png"
        if self.recorder and trainer.state.step % trainer.recipe.train.sample_every == 0 and sheet.exists():
            self.recorder.image(trainer.state.step, sheet)

    def write_pages(self, trainer: Trainer) -> None:
        """report.html, and the curves.png that it shows."""
        with tolerate_full_disk(trainer.say):
            write_report(self.run, {**self.summary(), "incidents": self.incidents})


def first_samples(trainer: Trainer, count: int, seed: int) -> Iterator[Batch]:
    """The same samples of what the training is watched on each time, as they are, a few at a time."""
    data = watched(trainer.data).to(trainer.engine.device)
    shape = trainer.data.spec.shape
    size = GIVEN if len(shape) < 3 else max(1, min(GIVEN, PIXELS // max(1, math.prod(shape[1:]))))
    for part in choose(data, count, seed).split(size):
        yield data.batch(part, augment=False)


def draw(
    game: Game,
    count: int,
    *,
    seed: int,
    balanced: bool = False,
    given: Iterator[Batch] | None = None,
    keep: Collection[str] | None = None,
    batch_size: int = 256,
) -> Batch:
    """Samples in one batch, on the CPU.

    given: samples of the data, for games that translate; theirs come with what they were made from. keep: what of these
    is wanted beside what is small.
    balanced: of each class equally many, or of each attribute or step of a value (`Labels.sheet`), in order, about
    `count`; their `label` is then the number of the row that they belong in. What translates turns the same inputs into each.
    """
    rng = torch.Generator(game.device).manual_seed(seed)
    if game.translates:
        assert given is not None, "a game that translates is given what it makes its samples from"
        return _translated(game, count, rng, balanced, given, keep)
    condition, rows = None, None
    if balanced and (labels := game.labels) is not None:
        condition, rows, _ = labels.sheet(count)
        count = len(condition)
    pieces = []
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        part = None if condition is None else condition[start : start + size]
        pieces.append({name: value.cpu() for name, value in game.generate(size, condition=part, rng=rng).items()})
    whole = joined(pieces)
    if rows is not None:
        whole["label"] = rows
    return whole


def _translated(
    game: Game, count: int, rng: torch.Generator, balanced: bool, given: Iterator[Batch], keep: Collection[str] | None
) -> Batch:
    """What becomes of samples of the data; `balanced`: of the first of them under each condition in turn."""

    def made(part: Batch, condition: Tensor | None) -> Batch:
        asked = None if condition is None else condition.to(game.device).expand(part.count, *condition.shape)
        translated = game.translate(part, condition=asked, rng=rng)
        return _small(Batch({name: value.cpu() for name, value in translated.items()}), keep)

    labels = game.labels if balanced else None
    if labels is None:
        return joined([made(part, None) for part in given])
    conditions, rows, captions = labels.sheet(count)
    inputs = joined(list(given))
    each = max(1, count // len(captions))
    inputs = Batch({name: value[:each] for name, value in inputs.items()})
    places = [int((rows == row).nonzero()[0]) for row in range(len(captions))]
    whole = joined([made(inputs, conditions[place]) for place in places])
    whole["label"] = torch.arange(len(captions)).repeat_interleave(inputs.count)
    return whole


def joined(parts: Sequence[Mapping[str, Tensor]]) -> Batch:
    """Several batches as one; of what not all have, nothing."""
    return Batch(
        {name: torch.cat([part[name] for part in parts]) for name in parts[0] if all(name in each for each in parts)}
    )


def _small(batch: Batch, keep: Collection[str] | None) -> Batch:
    """A batch without what is large and not in `keep`, on the CPU."""
    return Batch(
        {name: value.cpu() for name, value in batch.items() if keep is None or name in keep or not bulky(name, value)}
    )


def _turns(values: Mapping[str, float]) -> list[str]:
    return list(dict.fromkeys(key.split("/")[1] for key in values if key.startswith("loss/")))
