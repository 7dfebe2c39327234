"""Codes and directions as files: plain arrays, which anything that reads npz can open."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from sparring.core.game import Batch
from sparring.errors import UserError
from sparring.exploring.directions import Directions, Method, find_directions
from sparring.files import write_whole
from sparring.run import Run
from sparring.trained import Trained


def write_codes(codes: Batch, path: Path, names: Sequence[str], step: int) -> None:
    """`code` (N, …) and what belongs to it (`label`), `names` (N,) and the checkpoint's `step`."""
    arrays = {name: value.cpu().numpy() for name, value in codes.items()}
    _write(path, {**arrays, "names": np.array(list(names)), "step": np.array(step)})


def read_codes(path: Path, trained: Trained) -> Batch:
    """Codes that `write_codes` wrote, on the game's device. Raises UserError for others, or for another generator's."""
    arrays = _read(path, "codes", ("code", "step"))
    mine = trained.codes(1)
    forms = [
        {name: value.shape[1:] for name, value in each.items() if name not in ("names", "step")}
        for each in (arrays, mine)
    ]
    if forms[0] != forms[1]:
        held, wanted = (", ".join(f"{name} {tuple(shape)}" for name, shape in sorted(form.items())) for form in forms)
        raise UserError(f"{path}: holds {held}, and this generator takes {wanted}: the codes are another one's")
    if int(arrays["step"]) != trained.step:
        raise UserError(
            f"{path}: these codes belong to step {int(arrays['step'])}, and this is step {trained.step}: pass --checkpoint"
        )
    device = trained.game.device
    return Batch({name: torch.from_numpy(arrays[name]).to(device) for name in mine})


def directions_file(run: Run, method: str) -> Path:
    """Where the directions of a method are kept."""
    return run.folder / "directions" / f"{method}.npz"


def write_directions(directions: Directions, path: Path, step: int) -> None:
    """All of them in one file."""
    _write(
        path,
        {
            "names": np.array(directions.names),
            "vectors": directions.vectors.cpu().numpy(),
            "spread": directions.spread.cpu().numpy(),
            "weight": directions.weight.cpu().numpy(),
            "how": np.array(directions.how),
            "step": np.array(step),
        },
    )


def known_directions(run: Run, trained: Trained) -> list[Directions]:
    """What `sparring directions` has found in this generator; of other checkpoints' nothing. Raises UserError."""
    found = []
    for method in get_args(Method):
        path = directions_file(run, method)
        if not path.is_file():
            continue
        held = _read(path, "directions", ("names", "vectors", "spread", "weight", "how", "step"))
        if int(held["step"]) == trained.step:
            vectors, spread, weight = (torch.from_numpy(held[name]) for name in ("vectors", "spread", "weight"))
            names = tuple(str(name) for name in held["names"])
            found.append(Directions(names, vectors, spread, weight, method, str(held["how"])))
    return found


def look_up(run: Run, trained: Trained, name: str) -> Directions:
    """The directions that hold `name`: those found before, else `pca-N` and `sefa-N` are found now. Raises UserError."""
    known = known_directions(run, trained)
    for directions in known:
        if name in directions.names:
            return directions
    method, _, number = name.partition("-")
    if method in ("pca", "sefa") and number.isdecimal() and int(number) > 0:
        return find_directions(trained, method, count=max(8, int(number)))
    there = [each for directions in known for each in directions.names]
    said = f"there are {', '.join(there)}" if there else "none has been found yet"
    raise UserError(f"no direction {name!r}: {said}; `sparring directions {run.folder}` finds and names some")


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # its stubs forget that names are free
    write_whole(path, stream.getvalue())


def _read(path: Path, what: str, needed: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of a file, none of which is an object that would have to be run. Raises UserError."""
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is the path right?") from None
    except Exception as error:  # a damaged zip raises whatever it meets first
        raise UserError(f"{path}: cannot be read as {what} ({' '.join(str(error).split())[:80]})") from error
    if missing := [name for name in needed if name not in arrays]:
        raise UserError(f"{path}: holds no {what} (it has no {missing[0]!r})")
    return arrays
