"""Meter: real samples in a feature space, and everything that can be measured against them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sparring.core.game import Batch, Game
from sparring.errors import UserError, nearest
from sparring.metrics.figure import Features, Figure
from sparring.metrics.halves import Resampled, half_intervals
from sparring.options import is_reference, load_object


@dataclass(frozen=True)
class Value:
    """A number, and facts that belong to it alone (its floor, the same number of the real samples, …)."""

    number: float
    facts: Mapping[str, Any] = field(default_factory=dict)


Values = Mapping[str, Value | float]


@dataclass(frozen=True)
class Probed:
    """What was seen of a generator itself: a row for each of several looks, as `features`; and facts about how."""

    rows: Batch
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """A computation that gives one or several figures.

    figures: the name of each → whether higher is better.
    compute: (real, fake, seed) → the figures. Each side is a Batch with `features` (N, D) and, where there are,
        `logits` (N, K), `class_logits` (N, classes of the data), `label` (N,) numbers into the data's classes.
    needs: which of these it cannot do without, on both sides. `data`: the samples themselves, of which a side may hold
        only the first. `pairs`: sides whose n-th samples belong together.
    needs_fake: what of a sample it cannot do without on the second side alone: what a game that translates leaves there
        (`source`, `cycled`, …).
    most: take no more samples of a side than this.
    halves: an interval is of so many halves of the samples at most, where each of them takes a training.
    resampled: whose chance the interval is to hold: of `both` sides, of `pairs` together, or of the `fake` alone, where
        the question is about just these real samples.
    probe: of a measure of the generator itself: (game in eval mode, seed) → what `compute` gets as its second side, in
        place of samples; then `needs` is `generator`. Raises UserError where the game has not what it looks at.
    within: what its figures can be, which their intervals keep to.
    usual: measured unless others are asked for.
    note: what it says, in a few words.
    """

    figures: Mapping[str, bool]
    compute: Callable[[Batch, Batch, int], Values]
    needs: tuple[str, ...] = ("features",)
    needs_fake: tuple[str, ...] = ()
    most: int | None = None
    halves: int | None = None
    resampled: Resampled = "both"
    probe: Callable[[Game, int], Probed] | None = None
    within: tuple[float, float] = (0.0, math.inf)
    usual: bool = False
    note: str = ""


class Meter:
    """Measures samples against fixed real ones.

    features: the space. measures: what can be measured, by name. real: samples as `data` (and `label`), or already
    described. facts: what goes with every figure, e.g. the reference and the seed.
    """

    def __init__(
        self,
        features: Features,
        measures: Mapping[str, Measure],
        real: Batch,
        *,
        seed: int = 0,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.features, self.measures, self.seed = features, measures, seed
        self.real = self.describe(real)
        self.facts = {"seed": seed, "resizer": features.resizer, **(facts or {})}

    def describe(self, samples: Batch) -> Batch:
        """Samples with their features (and logits) beside them; labels only where they are classes."""
        if "label" in samples and samples["label"].is_floating_point():
            samples = Batch({name: value for name, value in samples.items() if name != "label"})
        return samples if "features" in samples else Batch({**samples, **describe(self.features, samples)})

    def able(self, fake: Batch, *, paired: bool = False) -> list[str]:
        """The measures for which both sides have what they need."""
        return [name for name, measure in self.measures.items() if not self.lacking(measure, fake, paired=paired)]

    def lacking(self, measure: Measure, fake: Batch, *, paired: bool = False) -> list[str]:
        """What a measure needs and the sides have not."""
        there = (self.real.keys() & fake.keys()) | ({"pairs"} if paired else set())
        return [need for need in measure.needs if need not in there] + [
            need for need in measure.needs_fake if need not in fake
        ]

    def values(self, fake: Batch, name: str) -> dict[str, Value]:
        """The figures of one measure, without intervals."""
        measure = self.measures[name]
        return self._compute(measure, _view(self.real, measure), _view(self.describe(fake), measure, fake=True))

    def figures(
        self,
        fake: Batch,
        name: str,
        *,
        resamples: int = 100,
        seconds: float = 60.0,
        wanted: Iterable[str] | None = None,
    ) -> dict[str, Figure]:
        """The figures of one measure, each with a 95 % interval.

        fake: samples, or the rows of a measure that probes the generator.
        seconds: how long the resampling may take; it gets coarser to fit, and is left out where not even that fits.
        wanted: only these of the measure's figures.
        """
        measure = self.measures[name]
        resamples = resamples if measure.halves is None else min(resamples, measure.halves)
        real, fake = _view(self.real, measure), _view(self.describe(fake), measure, fake=True)
        start = time.monotonic()
        values = self._compute(measure, real, fake)
        # A half-sample costs about half of the whole or less. Few steps, so that a machine's mood rarely decides.
        affordable = seconds / max(1e-6, time.monotonic() - start)
        count = next((each for each in (resamples, 40, 10) if each <= min(resamples, affordable)), 0)

        def compute(left: Batch, right: Batch) -> dict[str, float]:
            return {key: value.number for key, value in self._compute(measure, left, right).items()}

        numbers = {key: value.number for key, value in values.items()}
        try:
            intervals = half_intervals(
                compute, numbers, real, fake, resamples=count, seed=self.seed, resampled=measure.resampled
            )
        except ValueError:  # halves of so few samples are too few
            intervals, count = {}, 0
        chosen = [key for key in values if wanted is None or key in set(wanted)]
        return {
            key: Figure(
                metric=key,
                value=values[key].number,
                features=self.features.name if "features" in measure.needs or "logits" in measure.needs else "samples",
                real=real.count if measure.needs else 0,
                fake=fake.count,
                interval=_clipped(intervals.get(key), measure.within),
                higher_is_better=measure.figures[key],
                facts={**self.facts, "resamples": count, **values[key].facts},
            )
            for key in chosen
        }

    def _compute(self, measure: Measure, real: Batch, fake: Batch) -> dict[str, Value]:
        got = measure.compute(real, fake, self.seed)
        return {key: value if isinstance(value, Value) else Value(float(value)) for key, value in got.items()}


def describe(features: Features, samples: Batch) -> Batch:
    """`features` of samples, and `logits` where there are; `class_logits` are those over the data's own classes."""
    described = features(samples)
    if getattr(features, "classes", ()) and "logits" in described:
        described["class_logits"] = described["logits"]
    return described


def with_own(measures: Mapping[str, Measure], names: Iterable[str]) -> dict[str, Measure]:
    """`measures`, and those that `names` refers to as `module:function`: (real, fake features) → a number, lower is better.

    Importing them runs their code: callers make sure that the user wants it. Raises UserError.
    """
    own = {name: load_object(name, what="metric") for name in names if is_reference(name) and name not in measures}
    return {**measures, **{name: _own(name, function) for name, function in own.items()}}


def _own(name: str, function: Callable[[Tensor, Tensor], float]) -> Measure:
    return Measure({name: False}, lambda real, fake, seed: {name: float(function(real["features"], fake["features"]))})


def measure_of(measures: Mapping[str, Measure], figure: str) -> str:
    """The measure that gives a figure. Raises UserError with the nearest name."""
    for name, measure in measures.items():
        if figure in measure.figures:
            return name
    known = [key for measure in measures.values() for key in measure.figures]
    raise UserError(f"unknown metric {figure!r}{nearest(figure, known)}; there are {', '.join(known)}")


def choose_measures(measures: Mapping[str, Measure], wanted: str | Iterable[str] | None) -> dict[str, list[str]]:
    """Measure → the figures wanted of it.

    wanted: figure or measure names, a comma-separated text of them, `all`, or None for the usual ones. Raises UserError.
    """
    if wanted is None:
        return {name: list(measure.figures) for name, measure in measures.items() if measure.usual}
    names = [part.strip() for part in wanted.split(",") if part.strip()] if isinstance(wanted, str) else list(wanted)
    if names == ["all"]:
        return {name: list(measure.figures) for name, measure in measures.items()}
    if not names:
        raise UserError("no metric is named; leave the option out for the usual ones, or name some, or say all")
    chosen: dict[str, list[str]] = {}
    for name in names:
        owner = name if name in measures else measure_of(measures, name)
        figures = list(measures[name].figures) if name in measures else [name]
        kept = chosen.setdefault(owner, [])
        kept += [each for each in figures if each not in kept]
    return chosen


def _clipped(interval: tuple[float, float] | None, within: tuple[float, float]) -> tuple[float, float] | None:
    return interval and (max(interval[0], within[0]), min(interval[1], within[1]))


def _view(side: Batch, measure: Measure, *, fake: bool = False) -> Batch:
    """What a measure sees of a side: its first samples, which are in random order already, and bulky things only if needed."""
    wanted = {*measure.needs, *(measure.needs_fake if fake else ())}
    whole = [len(value) for key, value in side.items() if key in wanted and bulky(key, value)]
    count = min(whole, default=len(side["features"]))
    count = min(count, measure.most or count)
    return Batch({key: value[:count] for key, value in side.items() if key in wanted or not bulky(key, value)})


def bulky(name: str, value: Tensor) -> bool:
    """Whether this of a side are samples themselves, or what they were made from, of which only the first are kept."""
    return name == "data" or value.ndim > 2
