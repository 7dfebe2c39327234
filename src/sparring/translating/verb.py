"""The verb: what a trained game makes of files, written under their own names."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparring.core.game import Batch
from sparring.errors import UserError
from sparring.trained import Label, Trained, load

Progress = Callable[[str, int, int], None]
DIRECTIONS = ("a2b", "b2a")


@dataclass
class TranslateResult:
    """What was written.

    step: of the checkpoint. files: in the order of the inputs. broken: (name, why) of inputs that were passed over.
    facts: what else the domain says, of images `tiled`: how many were cut into tiles.
    """

    run: str
    step: int
    seed: int
    seconds: float
    files: list[str]
    broken: list[tuple[str, str]]
    facts: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**{key: value for key, value in vars(self).items() if key != "facts"}, **self.facts}


def translate(
    run: str | Path,
    inputs: Sequence[str | Path],
    *,
    out: str | Path,
    direction: str | None = None,
    label: Label = None,
    count: int = 1,
    seed: int = 0,
    tile: int | None = None,
    overlap: int | None = None,
    mask: str | Path | None = None,
    instance: str | Path | None = None,
    style: str | Path | None = None,
    checkpoint: str | int = "best",
    device: str = "auto",
    precision: str = "32",
    trust: bool = False,
    progress: Progress | None = None,
) -> TranslateResult:
    """Translate files, folders, archives and films with a trained run, into the folder `out`; names and sizes are kept.

    direction: `a2b` or `b2a`, for games that go both ways. label: what inputs are to become, for games with several
    kinds. count: outputs of each input, for games that draw them; the same seed draws the same.
    tile, overlap: pixels; None: tiles where a picture is too large to be translated whole; 0: never. mask: of what is
    missing, a file or a folder, for games that fill holes. instance: maps of instance numbers, for games that were
    trained with them. style: a picture whose look outputs get, for games that take one.
    An input that cannot be read is named in the result and passed over. Raises UserError, also where none could be read.
    """
    if not inputs:
        raise UserError("name at least one file or folder to translate")
    if count < 1:
        raise UserError(f"--count {count}: ask for at least one output of each input")
    start = time.perf_counter()
    trained = load(run, checkpoint=checkpoint, device=device, trust=trust)
    trained.require_translation()
    backwards, label = _which_way(trained, direction, label)
    trained.condition(label)  # said before anything is read

    def make(given: Batch, number: int) -> Batch:
        return trained.translate(given, seed=number, label=label, precision=precision)

    beside = {"mask": mask, "instance": instance, "style": style}
    options: dict[str, Any] = {"tile": tile, "overlap": overlap} | {
        name: None if value is None else str(value) for name, value in beside.items()
    }
    done = trained.domain.translate_files(
        inputs, Path(out), trained.game, trained.spec, make,
        seed=seed, count=count, backwards=backwards,
        progress=None if progress is None else lambda number, total: progress("translating", number, total),
        **{name: value for name, value in options.items() if value is not None},
    )  # fmt: skip
    if not done.files:
        name, why = done.broken[0]
        rest = f"; nor could {len(done.broken) - 1} more" if len(done.broken) > 1 else ""
        raise UserError(f"{name} {why}{rest}: nothing was written")
    seconds = round(time.perf_counter() - start, 3)
    return TranslateResult(
        str(run), trained.step, seed, seconds, [str(file) for file in done.files], done.broken, done.facts
    )


def _which_way(trained: Trained, direction: str | None, label: Label) -> tuple[bool, Label]:
    """Whether the game goes from the side of outputs, and what it is asked for. Raises UserError."""
    if direction is None:
        return label == DIRECTIONS[1], label
    if direction not in DIRECTIONS:
        raise UserError(f"--direction {direction!r}: there are {' and '.join(DIRECTIONS)}")
    if set(DIRECTIONS) <= set(trained.game.conditions):
        if label not in (None, direction):
            raise UserError(f"--label {label} and --direction {direction} contradict each other: leave one of them out")
        return direction == DIRECTIONS[1], direction
    learnt = trained.recipe.data.get("direction", DIRECTIONS[0])
    if direction != learnt:
        raise UserError(
            f"recipe {trained.recipe.name!r} has learnt one direction, {learnt}: train with data.direction={direction}, or a "
            "recipe that goes both ways (cyclegan)"
        )
    return False, label


__all__ = ["TranslateResult", "translate"]
