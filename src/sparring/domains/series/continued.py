"""Files through a game that goes on from a past: what may follow the end of each sequence, written beside a picture of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure

from sparring.core.game import Batch, DataSpec, Game
from sparring.domains.domain import Make, Progress, Translated
from sparring.domains.figures import save_figure
from sparring.domains.series.channels import Channels
from sparring.domains.series.data import SeriesOptions, read_sequences, to_unit
from sparring.domains.series.rows import write_rows
from sparring.domains.series.show import FANS, fans
from sparring.domains.series.sources import KEY_COLUMN, STEP_COLUMN, Array
from sparring.errors import UserError

if TYPE_CHECKING:
    from sparring.domains.series.domain import SeriesDomain

SEQUENCES = 256  # that are continued at once
PATH_COLUMN = "path"


def continue_files(
    inputs: Sequence[str | Path], out: Path, domain: SeriesDomain, game: Game, spec: DataSpec, make: Make,
    *, seed: int = 0, count: int = 1, backwards: bool = False, progress: Progress | None = None, **others: Any,
) -> Translated:  # fmt: skip
    """Go on from the last steps of each sequence of each file, by `count` paths, in the folder `out`.

    `NAME.csv` (`.parquet` of such a file) has `sequence`, `path`, `step` (1 is the first after the end) and a column a
    feature, in the data's units; `NAME.png` shows the fans of some. A sequence that is too short, or misses a value at its
    end, is named and passed over. Raises UserError for options that mean nothing here.
    """
    if strange := sorted(others) or (["direction"] if backwards else []):
        raise UserError(f"--{strange[0]} means nothing for series: leave it out")
    steps = spec.shape[0] - int(game.horizon)  # type: ignore[arg-type]
    done = Translated(facts={"past": steps, "horizon": int(game.horizon), "paths": count})  # type: ignore[arg-type]
    for number, each in enumerate(inputs):
        if progress:
            progress(number, len(inputs))
        path = Path(each)
        try:
            pasts, numbers, broken = _pasts(path, spec, steps)
        except UserError as error:
            done.broken.append((str(each), str(error)))
            continue
        done.broken += broken
        if not numbers:
            continue
        paths = torch.cat([_drawn(make, part, seed, count) for part in pasts.split(SEQUENCES)])
        form = "parquet" if path.suffix.lower() == ".parquet" else "csv"
        table, picture = out / f"{path.stem}.{form}", out / f"{path.stem}.png"
        values = domain.in_units(paths.flatten(0, 1)).reshape(*paths.shape[:3], -1)
        out.mkdir(parents=True, exist_ok=True)
        write_rows(_rows(values, numbers, domain.names(values.shape[3])), table, form)
        save_figure(_picture(domain, make, pasts, seed), picture)
        done.files += [table, picture]
    return done


def _pasts(path: Path, spec: DataSpec, steps: int) -> tuple[torch.Tensor, list[int], list[tuple[str, str]]]:
    """The last steps of each sequence as games see them (N, steps, F), their numbers, and what could not be used. Raises UserError."""
    options = SeriesOptions(source=str(path), window=max(2, steps), **spec.extra["reading"])
    found = read_sequences(options, spec.extra)
    _, values = Channels.of(str(path), found, options.missing, options.gaps, spec.extra)
    pasts, numbers, broken = [], [], []
    for number, each in enumerate(values):
        if len(each) < steps:
            broken.append((f"{path}[{number}]", f"has {len(each)} steps, and a forecast wants {steps}"))
        elif not np.isfinite(each[-steps:]).all():
            broken.append((f"{path}[{number}]", f"has a value that is not a number in its last {steps} steps"))
        else:
            pasts.append(each[-steps:])
            numbers.append(number)
    scaled = to_unit(np.stack(pasts), spec.extra) if pasts else np.zeros((0, steps, spec.shape[1]))
    return torch.from_numpy(scaled).float(), numbers, broken


def _picture(domain: SeriesDomain, make: Make, pasts: torch.Tensor, seed: int) -> Figure:
    """Fans of some sequences, of all paths that a game draws of a past, however few are written."""
    some = pasts[torch.linspace(0, len(pasts) - 1, min(FANS, len(pasts))).round().long()]
    paths = make(Batch(source=some), seed)["paths"].cpu()
    drawn = domain.in_units(paths.flatten(0, 1)).reshape(*paths.shape[:3], -1)
    return fans(domain.in_units(some), None, drawn, domain.names(drawn.shape[3]))


def _drawn(make: Make, pasts: torch.Tensor, seed: int, count: int) -> torch.Tensor:
    """Paths (N, count, h, F): as many at a time as a game draws of a past, by other seeds for the rest."""
    pieces: list[torch.Tensor] = []
    while sum(piece.shape[1] for piece in pieces) < count:
        own = int(np.random.SeedSequence([seed, len(pieces)]).generate_state(1)[0]) if pieces else seed
        pieces.append(make(Batch(source=pasts), own)["paths"].cpu())
    return torch.cat(pieces, 1)[:, :count]


def _rows(values: Array, numbers: Sequence[int], names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Paths (N, S, h, F) as columns, a row a step, in one piece."""
    sequences, paths, steps, _ = values.shape
    which = np.indices((sequences, paths, steps)).reshape(3, -1)
    flat = values.reshape(-1, values.shape[3])
    yield {
        KEY_COLUMN: np.array(numbers)[which[0]].tolist(), PATH_COLUMN: which[1].tolist(), STEP_COLUMN: (which[2] + 1).tolist(),
        **{name: flat[:, place].tolist() for place, name in enumerate(names)},
    }  # fmt: skip
