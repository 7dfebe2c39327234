"""Evaluation: samples of a run, or from files, set against data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sparring.core.game import Batch
from sparring.data.built import default_folder
from sparring.data.dataset import Dataset
from sparring.domains import Domain, open_domain
from sparring.domains.domain import Data
from sparring.errors import UserError
from sparring.files import write_json
from sparring.measuring.sides import (
    BATCH,
    Side,
    Turned,
    describe,
    from_dataset,
    from_trained,
    from_translated,
    labels_of,
    pace,
)
from sparring.metrics.figure import Features, Figure
from sparring.metrics.memorisation import suspects
from sparring.metrics.meter import Meter, choose_measures, with_own
from sparring.metrics.weights import Unavailable
from sparring.run import Run
from sparring.trained import Label, Trained, guarantee_of, load
from sparring.training.privacy import guarantee

COUNT = 10_000  # samples of each side, unless the user says otherwise
SAMPLING_SHARE = 0.5  # of the time budget that drawing and describing samples may take
SUSPECTS = 8
SMALL = {
    "features",
    "logits",
    "class_logits",
    "label",
    "pairs",
    "generator",
}  # what measures need beside samples themselves
BACKWARDS = "b2a"  # what games of two directions call the one from the data's outputs to its inputs
LARGE = 10**8  # numbers of both sides together, from which a measure is tried on a part first

Progress = Callable[[str, int, int], None]


@dataclass
class EvaluateResult:
    """What an evaluation found.

    figures: by name, in the order of the domain's measures. notes: what the reader of the figures must know.
    files: pictures and tables that were written.
    """

    subject: str
    data: str
    checkpoint: int | None
    features: str
    figures: dict[str, Figure]
    seconds: float
    notes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        own = {key: value for key, value in vars(self).items() if key != "figures"}
        return {**own, "metrics": {name: figure.plain() for name, figure in self.figures.items()}}


@dataclass
class _Match:
    """Both sides in one form, and where they are from."""

    domain: Domain
    fake: Side
    real: Side
    data: Dataset
    reference: str
    checkpoint: int | None = None
    trained: Trained | None = None
    """The generator, where the fake side is drawn from one."""
    samples: Dataset | None = None
    """The fake side, where it is from files."""
    facts: dict[str, Any] = field(default_factory=dict)


def evaluate(
    subject: Data,
    *,
    data: Data | None = None,
    metrics: str | Iterable[str] | None = None,
    features: str = "auto",
    count: int | None = None,
    checkpoint: str | int = "best",
    budget: float = 10.0,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    out: str | Path | None = None,
    domain: str = "image",
    label: Label = None,
    device: str = "auto",
    trust: bool = False,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Measure samples against data.

    subject: a run's folder, or a folder or file of samples (then `data` is needed, and `domain` says of what kind).
    data: a source; None: the data that the run was trained on. Samples and data of tables can be pandas DataFrames.
    metrics: names of figures or measures, `all`, or None for the usual ones that are possible.
    features: the space to measure in; `auto` takes the best at hand.
    count: samples of each side, at most; None: 10,000, or as many as both sides have.
    budget: minutes that it may take; samples get fewer and figures are left out to keep it, and the notes say so.
    size: (H, W) to read files of samples at. label: of a run that translates: what all inputs are to become, a direction
    (`b2a`) or a class, whose samples the data then are. out: a folder for pictures and figures.json; None: in the run's folder.
    Raises UserError.
    """
    if budget <= 0:
        raise UserError(f"--budget {budget:g}: give some minutes")
    clock = _Clock(budget * 60)
    tick = progress or (lambda what, done, total: None)
    named = isinstance(subject, str | Path)
    run = Run(Path(subject)) if named and (Path(subject) / "recipe.yaml").is_file() else None
    if run:
        match = _match_run(run, data, checkpoint, seed, label, device, trust, tick)
        if out is None:
            out = run.folder / "evaluation"
    else:
        if label is not None:
            raise UserError(
                f"{subject if named else 'a DataFrame'} is no run: only what a run makes of its inputs can be asked for by --label"
            )
        kind = open_domain(domain)
        subject = kind.source(subject)
        match = _match_files(subject, None if data is None else kind.source(data), kind, size, seed, tick)
    own = metrics.split(",") if isinstance(metrics, str) else metrics or []
    measures = with_own(match.domain.measures, own)
    chosen = choose_measures(measures, metrics)
    asked = metrics not in (None, "all") and any("pairs" in measures[name].needs for name in chosen)
    if asked and match.samples is not None:
        _pair(match)
    space = match.domain.open_features(features, match.data, lambda done, total: tick("features", done, total))

    result = EvaluateResult(str(subject), match.reference, match.checkpoint, space.name, {}, 0.0)
    if run and (facts := guarantee_of(run.folder, checkpoint)):
        result.notes.append(f"{guarantee(facts)}; figures that are measured on the data are not part of it")
    n_real, n_fake = _counts(match, count)
    n_real, n_fake = _affordable(match, space, n_real, n_fake, clock, result.notes)
    kept = {"data"}.union(*(measures[name].needs for name in chosen)) - SMALL
    kept_of_fake = kept.union(*(measures[name].needs_fake for name in chosen))
    real = describe(match.real, space, n_real, lambda done, total: tick("real samples", done, total), keep=kept)
    fake = describe(match.fake, space, n_fake, lambda done, total: tick("samples", done, total), keep=kept_of_fake)
    _require_finite(fake, str(subject))
    facts = {"reference": _reference(match, n_real, seed), **match.facts}
    meter = Meter(space, measures, real, seed=seed, facts=facts)
    explicit = metrics is not None and metrics != "all"
    possible = _possible(meter, fake, chosen, match, explicit=explicit)
    for index, name in enumerate(possible):
        tick(name, index, len(possible))
        left = clock.left
        if left <= 0 and index:
            missing = [figure for each in possible[index:] for figure in chosen[each]]
            result.notes.append(f"the time budget of {budget:g} minutes was over before: {', '.join(missing)}")
            break
        if index and meter.measures[name].probe is None and (needed := _foreseen(meter, fake, name)) > left:
            figures = ", ".join(chosen[name])
            result.notes.append(
                f"left out {figures}: about {needed / 60:.0f} minutes, and {left / 60:.0f} are left of the budget"
            )
            continue
        share = max(0.0, left) / (len(possible) - index)
        try:
            found = _measured(meter, match, fake, name, chosen[name], seed, share / 2)
        except (Unavailable, UnfitError) as error:
            if explicit:
                raise
            result.notes.append(f"left out {', '.join(chosen[name])}: {error}")
            continue
        result.figures |= {key: _named(figure, match.data.spec.classes) for key, figure in found.items()}
    if out is not None:
        result.files = _write(result, match, meter, fake, Path(out), clock)
    result.seconds = round(clock.spent, 3)
    if out is not None:
        write_json(Path(out) / "figures.json", result.plain())
    return result


class _Clock:
    """A time budget, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began = seconds, time.monotonic()

    @property
    def spent(self) -> float:
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        return self.seconds - self.spent


def _match_run(
    run: Run,
    data: Data | None,
    checkpoint: str | int,
    seed: int,
    label: Label,
    device: str,
    trust: bool,
    tick: Progress,
) -> _Match:
    trained = load(run.folder, checkpoint=checkpoint, device=device, trust=trust)
    source = str(trained.recipe.data["source"]) if data is None else trained.domain.source(data)
    reference = trained.domain.open_reference(
        source, trained.recipe.data, trained.spec, lambda done, total: tick("reading the data", done, total)
    )
    if trained.game.translates:
        return _match_translated(trained, reference, source, label, seed)
    if label is not None:
        raise UserError(
            f"recipe {trained.recipe.name!r} makes its samples from noise, and they are measured as it draws them: leave out --label"
        )
    return _Match(
        trained.domain,
        from_trained(trained, seed=seed, classes=reference.spec.classes),
        from_dataset(reference, seed=seed, cache=default_folder() / "described"),
        reference,
        source,
        trained.step,
        trained,
    )


def _match_translated(trained: Trained, data: Dataset, source: str, label: Label, seed: int) -> _Match:
    """What a game makes of the inputs of `data`, and what there is where it goes."""
    asked = trained.condition(label)
    name = "" if asked is None or asked.ndim else trained.game.conditions[int(asked)]
    reference, inputs, outputs = data, None, None
    if name == BACKWARDS:
        reference = Turned(data)
    elif name in data.spec.classes:
        # All others are to become like those that there are.
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        there = torch.tensor([data.spec.classes[number] == name for number in labels_of(data)])[order]
        inputs, outputs = order[~there], order[there]
        if not len(inputs) or not len(outputs):
            raise UserError(
                f"{source}: --label {name} compares images of other classes with those of it, and it has not both"
            )
    match = _Match(
        trained.domain,
        from_translated(trained, data, seed=seed, label=label, order=inputs, turned=name == BACKWARDS),
        from_dataset(reference, seed=seed, order=outputs, cache=default_folder() / "described"),
        reference,
        source,
        trained.step,
        trained,
    )
    if "real" in next(match.fake.batches(1)):  # the game knows what should have become of an input
        match.facts["pairs"] = match.fake.count
    if name:
        match.facts["label"] = name
    return match


def _match_files(
    subject: str, data: str | None, domain: Domain, size: tuple[int, int] | None, seed: int, tick: Progress
) -> _Match:
    if data is None:
        raise UserError(f"{subject} is no run, so there is nothing to compare it with: give --data SOURCE")
    options = {} if size is None else {"size": size}
    fake, real = domain.open_samples(subject, data, lambda done, total: tick("reading", done, total), **options)
    return _Match(
        domain.knowing(real.spec),
        # Another seed: sets that happen to be one must not be paired sample by sample by accident.
        from_dataset(fake, seed=seed + 1, classes=real.spec.classes),
        from_dataset(real, seed=seed, cache=default_folder() / "described"),
        real,
        data,
        samples=fake,
    )


def _pair(match: _Match) -> None:
    """Put samples and data with equal file names side by side. Raises UserError where they have none."""
    names = [_stems(data) for data in (match.samples, match.data)]
    shared = sorted(names[0].keys() & names[1].keys())
    if not shared:
        raise UserError(
            "paired metrics (psnr, ssim, …) compare files of equal names, and samples and data have none in common: leave these metrics out"
        )
    fake, real = (torch.tensor([own[name] for name in shared]) for own in names)
    assert match.samples is not None
    match.fake = from_dataset(match.samples, seed=0, classes=match.data.spec.classes, order=fake)
    match.real = from_dataset(match.data, seed=0, order=real)
    match.facts["pairs"] = len(shared)


def _stems(data: Dataset | None) -> dict[str, int]:
    """File names without folders and endings → number."""
    return {Path(name).stem: index for index, name in enumerate(getattr(data, "names", []))}


def _counts(match: _Match, count: int | None) -> tuple[int, int]:
    """How many samples of each side to take: (real, fake). Equal numbers unless the user asks for more than there are."""
    if count is not None and count < 2:
        raise UserError(f"--count {count}: a distribution of fewer than 2 samples cannot be measured")
    there_real, there_fake = match.real.count or 0, match.fake.count
    if count is None:
        count = min(COUNT, there_real, there_fake or COUNT)
    return min(count, there_real), min(count, there_fake or count)


def _affordable(
    match: _Match, features: Features, n_real: int, n_fake: int, clock: _Clock, notes: list[str]
) -> tuple[int, int]:
    """Fewer samples where drawing and describing all would take more than its share of the time."""
    stored = match.real.stored and match.real.stored(features, n_real).exists()
    each_fake = pace(match.fake, features)
    each_real = 0.0 if stored else pace(match.real, features)
    room = SAMPLING_SHARE * clock.left
    needed = n_fake * each_fake + n_real * each_real
    if needed <= room:
        return n_real, n_fake
    # In whole batches, and equal sides again: a smaller N moves the figures, so it should at least be one N.
    fitting = int(max(0.0, room) / (each_fake + (each_real or pace(match.real, features)))) // BATCH * BATCH
    fitting = max(BATCH, fitting)
    if fitting < max(n_real, n_fake):
        notes.append(
            f"{fitting:,} samples of each side instead of {max(n_real, n_fake):,}, to stay within {clock.seconds / 60:g} minutes (--budget): "
            "figures from different counts must not be compared"
        )
    return min(n_real, fitting), min(n_fake, fitting)


def _require_finite(fake: Batch, subject: str) -> None:
    if not bool(torch.isfinite(fake["features"]).all()):
        raise UserError(
            f"{subject}: its samples hold NaN or infinite values: the generator has diverged; use an earlier --checkpoint"
        )


def _foreseen(meter: Meter, fake: Batch, name: str) -> float:
    """Seconds that a measure will take on large sides, from what it takes on an eighth of them; 0 for small ones."""
    size = meter.real["features"].numel() + fake["features"].numel()
    if size < LARGE:
        return 0.0
    eighth = [{key: value[: len(value) // 8] for key, value in side.items()} for side in (meter.real, fake)]
    start = time.monotonic()
    small = Meter(meter.features, meter.measures, Batch(eighth[0]), seed=meter.seed)
    small.values(Batch(eighth[1]), name)
    return (time.monotonic() - start) * 8**2.5  # between the square of neighbours and the cube of eigenvalues


def _named(figure: Figure, classes: Sequence[str]) -> Figure:
    """Figures by class carry the classes' names."""
    by_class = figure.facts.get("by_class")
    if not by_class:
        return figure
    return replace(
        figure, facts={**figure.facts, "by_class": {classes[int(key)]: value for key, value in by_class.items()}}
    )


def _reference(match: _Match, count: int, seed: int) -> str:
    there = match.real.count or 0
    part = f"all {there:,}" if count == there else f"{count:,} of {there:,}, drawn with seed {seed},"
    return f"{part} of {match.reference}"


class UnfitError(UserError):
    """A generator that has not what a measure looks at, or samples that it cannot be taken of."""


def _measured(
    meter: Meter, match: _Match, fake: Batch, name: str, wanted: list[str], seed: int, seconds: float
) -> dict[str, Figure]:
    """The figures of a measure. Raises UnfitError."""
    probe = meter.measures[name].probe
    if probe is None:
        try:
            return meter.figures(fake, name, seconds=seconds, wanted=wanted)
        except ValueError as error:  # too few samples, or of a kind that the measure does not know
            raise UnfitError(f"{name}: {error}") from error
    assert match.trained is not None
    try:
        with torch.no_grad():
            seen = probe(match.trained.game, seed)
    except UserError as error:
        raise UnfitError(str(error)) from error
    found = meter.figures(seen.rows, name, seconds=seconds, wanted=wanted)
    # No data and no samples were looked at, but so many places of the generator.
    return {key: replace(each, real=0, facts={**each.facts, **seen.facts}) for key, each in found.items()}


def _possible(
    meter: Meter, fake: Batch, chosen: Mapping[str, list[str]], match: _Match, *, explicit: bool
) -> list[str]:
    """The chosen measures that both sides allow. Raises UserError for one that was asked for by name."""
    paired = "pairs" in match.facts
    able = meter.able(fake, paired=paired)
    if match.trained is not None:
        able += [name for name in chosen if meter.measures[name].probe]
    missing = [name for name in chosen if name not in able]
    if missing and explicit:
        lacking = meter.lacking(meter.measures[missing[0]], fake, paired=paired)
        words = NEEDS if match.trained is None else {**NEEDS, **NEEDS_OF_RUN}
        needs = [words.get(need, need) for need in lacking]
        raise UserError(f"{missing[0]} needs {' and '.join(needs)}: leave it out, or choose other --features or data")
    return [name for name in chosen if name in able]


NEEDS = {
    "logits": "features of a network that classifies (inception or classifier)",
    "class_logits": "features that were learnt from the data's labels (--features classifier)",
    "label": "labels on both sides, with the same names",
    "pairs": "samples and data in files of equal names",
    "generator": "a run, whose generator it looks at",
    "cycled": "a game that goes there and back",
    "source": "a game that makes its samples from others",
}
NEEDS_OF_RUN = {"pairs": "samples and data in files of equal names, or a run that makes images from others in pairs"}


def _write(result: EvaluateResult, match: _Match, meter: Meter, fake: Batch, out: Path, clock: _Clock) -> list[str]:
    """The domain's pictures, and the suspects beside what they look copied from; figures.json is the caller's."""
    files = [str(path) for path in match.domain.illustrate(meter.real, fake, out)]
    if "authenticity" not in result.figures and "copies" not in result.figures:
        return files
    found = suspects(meter.real["features"], fake["features"], count=SUSPECTS)
    picture = out / "suspects.png"
    captions = [f"×{ratio:.2f}" for ratio in found.ratio.tolist()]
    if not match.domain.show_pairs(
        match.fake.at(found.fake, len(fake["features"])),
        match.real.at(found.train, len(meter.real["features"])),
        captions,
        picture,
    ):
        return files
    return [*files, str(picture)]
