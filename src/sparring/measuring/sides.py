"""Sides: the two sets of samples that an evaluation compares, drawn batch by batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.data.dataset import Dataset, choose
from sparring.metrics.figure import Features
from sparring.metrics.meter import bulky
from sparring.metrics.meter import describe as described_by
from sparring.metrics.stored import read_stored, stored_name, write_stored
from sparring.trained import Label, Trained

BATCH = 256
PIXELS = 1 << 19  # of the images that are translated at once
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
    order: the numbers of the samples, instead of a random permutation. Of data whose sides do not belong together, each
    output comes once.
    """
    renumber = _renumbering(data.spec.classes, data.spec.classes if classes is None else classes)
    there = different(data, "output") if order is None else len(order)

    def first(count: int) -> Tensor:
        return _chosen(data, there, count, seed) if order is None else order[:count]

    def batches(count: int) -> Iterator[Batch]:
        for part in first(count).split(BATCH):
            yield renumber(data.batch(part, augment=False))

    def stored(features: Features, count: int) -> Path:
        assert cache is not None
        return cache / stored_name(data.fingerprint, features.digest, count, seed, KEPT, order is None)

    return Side(
        there,
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


def from_translated(
    trained: Trained,
    data: Dataset,
    *,
    seed: int,
    label: Label = None,
    order: Tensor | None = None,
    turned: bool = False,
) -> Side:
    """What a game that translates makes of the inputs of a data set, in the order of `from_dataset` with the same seed.

    label: what all are to become, see `Trained.translate`. order: the numbers of the inputs, instead of a random permutation.
    turned: the label's way goes from the outputs back to the inputs.
    """
    renumber = _renumbering(data.spec.classes, trained.spec.classes)
    back = _renumbering(trained.game.conditions, data.spec.classes)
    there = different(data, "output" if turned else "input") if order is None else len(order)
    # Activations of large images would fill the memory.
    size = max(1, min(BATCH, PIXELS // max(1, math.prod(data.spec.shape[1:]))))

    def parts(count: int) -> list[Tensor]:
        chosen = _chosen(data, there, count, seed) if order is None else order[:count]
        return list(chosen.split(size))

    def made(part: Tensor, number: int) -> Batch:
        given = renumber(data.batch(part, augment=False))
        own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        translated = trained.translate(given, seed=own, label=label)
        return back(Batch({name: value.cpu() for name, value in translated.items()}))

    def batches(count: int) -> Iterator[Batch]:
        for number, part in enumerate(parts(count)):
            yield made(part, number)

    def at(wanted: Tensor, count: int) -> Batch:
        found: dict[int, Tensor] = {}
        for number, part in enumerate(parts(count)):
            inside = [each for each in wanted.tolist() if each // size == number]
            if inside:
                samples = made(part, number)["data"]
                found.update({each: samples[each % size] for each in inside})
        return Batch(data=torch.stack([found[each] for each in wanted.tolist()]))

    return Side(there, batches, at)


class Turned:
    """A data set of translations whose inputs and outputs have changed places: what the way back is measured against."""

    def __init__(self, data: Dataset) -> None:
        facts = data.spec.extra["input"]
        extra = {**data.spec.extra, "counts": dict(zip(("input", "output"), _counts(data)[::-1], strict=True))}
        self.spec = replace(data.spec, shape=(facts["channels"], *data.spec.shape[1:]), extra=extra)
        self.fingerprint, self.broken, self.data = f"{data.fingerprint}turned", data.broken, data

    def __len__(self) -> int:
        return len(self.data)

    def to(self, device: torch.device) -> Self:
        """Batches are on `device` from now on."""
        self.data.to(device)
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        """The rows at `indices`, `source` and `data` exchanged."""
        batch = self.data.batch(indices, augment=augment)
        batch["data"], batch["source"] = batch["source"], batch["data"]
        return batch


def labels_of(data: Dataset) -> list[int]:
    """The number of each sample's class."""
    parts = torch.arange(len(data)).split(BATCH)
    return torch.cat([data.batch(part, augment=False)["label"].cpu() for part in parts]).tolist()


def different(data: Dataset, side: str) -> int:
    """How many different images a side has: the first rows hold each once. side: `input` or `output`."""
    return dict(zip(("input", "output"), _counts(data), strict=True))[side]


def _counts(data: Dataset) -> tuple[int, int]:
    counts = data.spec.extra.get("counts", {})
    return counts.get("input", len(data)), counts.get("output", len(data))


def _chosen(data: Dataset, there: int, count: int, seed: int) -> Tensor:
    """Numbers of different samples, in a random order, among the first `there`."""
    if there == len(data):
        return choose(data, count, seed)
    return torch.randperm(there, generator=torch.Generator().manual_seed(seed))[:count]


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


def describe(
    side: Side, features: Features, count: int, tick: Tick | None = None, *, keep: Collection[str] = ("data",)
) -> Batch:
    """The first `count` samples with their features; themselves, and what else of `keep` is large, only the first KEPT.

    On the CPU. What is large and not in `keep` is left out.
    """
    file = side.stored(features, count) if side.stored and set(keep) == {"data"} else None
    if file and (kept := read_stored(file)) is not None:
        return kept
    pieces: list[Batch] = []
    done = 0
    for batch in side.batches(count):
        described = described_by(features, batch)
        piece = Batch(
            {
                name: value.cpu()
                for name, value in {**batch, **described}.items()
                if name in keep or not bulky(name, value)
            }
        )
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
        batch = next(side.batches(size))
        features(batch)
        if attempt == 0 and time.monotonic() - start > 1.0:
            break  # slow enough that warming up is a small part of it
    return (time.monotonic() - start) / batch.count
