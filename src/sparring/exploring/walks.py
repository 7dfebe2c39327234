"""Walks: films of samples that change into each other and come back to where they began."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from sparring.core.game import Batch
from sparring.errors import UserError
from sparring.exploring.film import require_film, write_film
from sparring.exploring.paths import loop
from sparring.nn.condition import as_vector
from sparring.trained import Label, Trained


@dataclass(frozen=True)
class Walk:
    """What makes a walk: as many samples side by side, each on a closed way through `anchors` draws of its own."""

    samples: int = 16
    anchors: int = 5
    seconds: float = 8.0
    fps: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.anchors < 2 or self.fps < 1 or self.frames < 2:
            raise UserError("a walk needs at least one sample, two anchors, one frame a second and two frames")

    @property
    def frames(self) -> int:
        """How many pictures there are."""
        return round(self.seconds * self.fps)

    @property
    def columns(self) -> int:
        """Of samples in each picture."""
        return math.ceil(math.sqrt(self.samples))

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**vars(self), "frames": self.frames}


def walk_codes(trained: Trained, walk: Walk, *, label: Label = None, truncation: float = 1.0) -> Iterator[Batch]:
    """The codes of each frame in turn, (samples, …). The last frame is as near to the first as any to the next one."""
    drawn = trained.codes(walk.samples * walk.anchors, seed=walk.seed, label=label, truncation=truncation)
    ways = [
        loop(trained.game, Batch({name: value[sample :: walk.samples] for name, value in drawn.items()}), walk.frames)
        for sample in range(walk.samples)
    ]
    for frame in range(walk.frames):
        yield join([Batch({name: value[frame : frame + 1] for name, value in way.items()}) for way in ways])


def film_walk(trained: Trained, walk: Walk, path: Path, *, label: Label = None, truncation: float = 1.0) -> Path:
    """Write a walk as .gif, .webp, .png or .mp4. Raises UserError as `Trained.codes` and `write_film`."""
    require_film(path)

    def frames() -> Iterator[Image]:
        for codes in walk_codes(trained, walk, label=label, truncation=truncation):
            picture = trained.domain.frame(trained.render(codes), walk.columns)
            if picture is None:
                raise UserError(f"{trained.domain.name} samples have no look, so there is no film of them")
            yield picture

    write_film(frames(), path, fps=walk.fps)
    return path


def join(batches: list[Batch]) -> Batch:
    """Batches as one. Labels of which some are mixed become vectors in all."""
    joined = {}
    for name in batches[0]:
        values = [batch[name] for batch in batches]
        vectors = [value for value in values if value.is_floating_point()]
        if name == "label" and vectors and len(vectors) < len(values):
            values = [as_vector(value, vectors[0].shape[1]) for value in values]
        joined[name] = torch.cat(values)
    return Batch(joined)
