"""Sides: the two sets of samples that an evaluation compares, drawn batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.data.dataset import Dataset, choose
from sparring.metrics.figure import Features
from sparring.metrics.meter import bulky
from sparring.metrics.meter import describe as described_by
from sparring.metrics.stored import read_stored, stored_name, write_stored
from sparring.trained import Trained

BATCH = 256
KEPT = 2000  # samples of a side that are kept themselves, for measures that look at more than features

Tick = Callable[[int, int], None]


@dataclass
class Side:
    """Samples that can be asked for more of.

    count: how many there are; None for as many as one likes. batches: yields them, BATCH at a time, in a random order
    that a seed fixes. stored: where a description of the first n is kept between evaluations, if anywhere.
    """

    count: int | None
    batches: Callable[[int], Iterator[Batch]]
    at: Callable[[Tensor, int], Batch]
    """Of the first `count` samples, as `batches(count)` yields them, those with these numbers."""
    stored: Callable[[Features, int], Path] | None = None


def from_dataset(
    data: Dataset,
    *,
    seed: int,
    classes: Sequence[str] | None = None,
    cache: Path | None = None,
    order: Tensor | None = None,
) -> Side:
    """Samples of a data set, without augmentation.

    classes: what labels are to number, where that is not the data's own. cache: a folder to keep descriptions in.
    order: the numbers of the samples, instead of a random permutation.
    """
    renumber = _renumbering(data.spec.classes, data.spec.classes if classes is None else classes)

    def first(count: int) -> Tensor:
        return choose(data, count, seed) if order is None else order[:count]

    def batches(count: int) -> Iterator[Batch]:
        for part in first(count).split(BATCH):
            yield renumber(data.batch(part, augment=False))

    def stored(features: Features, count: int) -> Path:
        assert cache is not None
        return cache / stored_name(data.fingerprint, features.digest, count, seed, KEPT, order is None)

    return Side(
        len(data) if order is None else len(order),
        batches,
        lambda numbers, count: data.batch(first(count)[numbers], augment=False),
        stored if cache and order is None else None,
    )


def from_trained(trained: Trained, *, seed: int, classes: Sequence[str]) -> Side:
    """Samples of a generator, their labels as numbers into the data's `classes` where it knows all of them."""
    renumber = _renumbering(trained.game.conditions, classes)

    def batches(count: int) -> Iterator[Batch]:
        for batch in trained.generate(count, seed=seed, batch_size=BATCH):
            yield renumber(batch)

    def at(wanted: Tensor, count: int) -> Batch:
        # Drawn again up to the last one wanted: the same seed and count draw the same samples.
        found: dict[int, Tensor] = {}
        last = int(wanted.max()) // BATCH
        for index, batch in zip(range(last + 1), batches(count), strict=False):
            inside = [number for number in wanted.tolist() if number // BATCH == index]
            found.update({number: batch["data"][number % BATCH] for number in inside})
        return Batch(data=torch.stack([found[number] for number in wanted.tolist()]))

    return Side(None, batches, at)


def from_translated(trained: Trained, data: Dataset, *, seed: int) -> Side:
    """What a game that translates makes of the inputs of a data set, in the order of `from_dataset` with the same seed."""

    def first(count: int) -> Tensor:
        return choose(data, count, seed)

    def batches(count: int) -> Iterator[Batch]:
        for part in first(count).split(BATCH):
            yield trained.translate(data.batch(part, augment=False), seed=seed)

    def at(wanted: Tensor, count: int) -> Batch:
        return trained.translate(data.batch(first(count)[wanted], augment=False), seed=seed)

    return Side(len(data), batches, at)


def _renumbering(own: Sequence[str], classes: Sequence[str]) -> Callable[[Batch], Batch]:
    """Labels as numbers into `classes`; left out where these do not hold all of one's own."""
    known = bool(own) and set(own) <= set(classes)
    numbers = torch.tensor([list(classes).index(name) for name in own]) if known else None

    def renumber(batch: Batch) -> Batch:
        label = batch.pop("label", None)
        # Vectors are no classes, which is what measures ask labels for.
        if label is not None and numbers is not None and not label.is_floating_point():
            batch["label"] = numbers[label.cpu()]
        return batch

    return renumber


def describe(side: Side, features: Features, count: int, tick: Tick | None = None) -> Batch:
    """The first `count` samples with their features; themselves (`data`) only the first KEPT. On the CPU."""
    file = side.stored(features, count) if side.stored else None
    if file and (kept := read_stored(file)) is not None:
        return kept
    pieces: list[Batch] = []
    done = 0
    for batch in side.batches(count):
        described = described_by(features, batch)
        piece = Batch({name: value.cpu() for name, value in {**batch, **described}.items()})
        if done >= KEPT:
            piece = Batch({name: value for name, value in piece.items() if not bulky(name, value)})
        pieces.append(piece)
        done += len(piece["features"])
        if tick:
            tick(done, count)
    whole = Batch({name: torch.cat([piece[name] for piece in pieces if name in piece]) for name in pieces[0]})
    whole.update({name: value[:KEPT] for name, value in whole.items() if bulky(name, value)})
    if file:
        write_stored(file, whole)
    return whole


def pace(side: Side, features: Features) -> float:
    """Seconds that drawing and describing a sample takes, measured on one batch after one to warm up."""
    size = min(BATCH, side.count or BATCH)
    for attempt in range(2):
        start = time.monotonic()
        features(next(side.batches(size)))
        if attempt == 0 and time.monotonic() - start > 1.0:
            break  # slow enough that warming up is a small part of it
    return (time.monotonic() - start) / size
