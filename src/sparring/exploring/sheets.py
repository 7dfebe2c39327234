"""Sheets that show what a generator's codes mean: ways between samples and classes, mixed styles, classes apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sparring.core.game import Batch
from sparring.errors import UserError
from sparring.exploring.paths import between_codes
from sparring.trained import Label, Trained

LAYERS = ("coarse", "middle", "fine")


@dataclass(frozen=True)
class Grid:
    """Samples row by row, `columns` in each; a caption for each row and a heading for each column, or none at all."""

    samples: Batch
    columns: int
    captions: Sequence[str] | None = None
    headings: Sequence[str] | None = None


def interpolate(
    trained: Trained, *, rows: int = 8, columns: int = 10, seed: int = 0, label: Label = None, truncation: float = 1.0
) -> Grid:
    """A row each: from one sample to another, evenly. Raises UserError for fewer than 2 columns, and as `Trained.codes`."""
    _require_sizes(rows, columns)
    ends = trained.codes(2 * rows, seed=seed, label=label, truncation=truncation)
    start, end = (Batch({name: value[side::2] for name, value in ends.items()}) for side in (0, 1))
    codes = between_codes(trained.game, start, end, torch.linspace(0, 1, columns))
    return Grid(trained.render(codes), columns)


def between_classes(
    trained: Trained, names: Sequence[str], *, rows: int = 8, columns: int = 10, seed: int = 0, truncation: float = 1.0
) -> Grid:
    """A row each: one latent, while its label moves from class to class through soft labels.

    names: two or more classes; the columns are spread evenly over the ways between them.
    Raises UserError for a generator without classes, an unknown class, fewer than two, or fewer columns than names.
    """
    _require_sizes(rows, columns)
    if len(names) < 2:
        raise UserError("--between needs at least two classes, e.g. --between cat,dog")
    if columns < len(names):
        raise UserError(f"{columns} columns cannot show {len(names)} classes: ask for more --columns")
    for name in names:
        trained.condition(name)
    steps, headings = [], []
    for column in range(columns):
        place = column * (len(names) - 1) / (columns - 1)
        first = min(int(place), len(names) - 2)
        share = place - first
        # The same seed draws the same latents, so only the label differs from column to column.
        wish = {names[first]: 1 - share, names[first + 1]: share} if 0 < share < 1 else names[first + round(share)]
        steps.append(trained.render(trained.codes(rows, seed=seed, label=wish, truncation=truncation)))
        headings.append(wish if isinstance(wish, str) else "")
    data = torch.stack([step["data"] for step in steps], dim=1).flatten(0, 1)
    return Grid(Batch(data=data), columns, headings=headings)


def by_class(trained: Trained, each: int, *, seed: int = 0, truncation: float = 1.0) -> Grid:
    """A row for each class, of `each` samples; the same latents in each row. Raises UserError for a generator without."""
    names = trained.game.conditions
    if not names:
        trained.condition("?")  # says that there are no classes
    data = [trained.render(trained.codes(each, seed=seed, label=name, truncation=truncation))["data"] for name in names]
    return Grid(Batch(data=torch.cat(data)), each, captions=list(names))


def mix_styles(
    trained: Trained,
    *,
    rows: int = 5,
    columns: int = 6,
    layers: str = "coarse",
    seed: int = 0,
    label: Label = None,
    truncation: float = 1.0,
) -> Grid:
    """Style mixing (Karras et al. 2019, sec. 3.1, fig. 3): each row's sample with some layers' styles of each column's.

    The first row and column show the sources. layers: `coarse`, `middle`, `fine` or `3-5`: see `layer_range`.
    Raises UserError for a generator without styles or layers that it has not.
    """
    _require_sizes(rows, columns)
    sources = trained.codes(rows + columns, seed=seed, label=label, truncation=truncation)
    codes = sources["code"]
    chosen = layer_range(trained, codes, layers)
    down, across = codes[:rows], codes[rows:]
    mixed = down[:, None].repeat(1, columns, 1, 1)
    mixed[:, :, chosen] = across[None, :, chosen]
    cells = trained.render(Batch(code=mixed.flatten(0, 1)))["data"]
    left, top = (trained.render(Batch(code=part))["data"] for part in (down, across))
    blank = torch.zeros_like(top[:1])
    body = torch.cat([left[:, None], cells.unflatten(0, (rows, columns))], dim=1).flatten(0, 1)
    return Grid(Batch(data=torch.cat([blank, top, body])), columns + 1)


def layer_range(trained: Trained, codes: torch.Tensor, layers: str) -> slice:
    """The layers that a word means: the first, second and last third of them, or `2-4`, both included, from 0.

    Raises UserError for a generator that has one latent for all layers, and for other words.
    """
    if codes.ndim != 3:
        raise UserError(
            f"recipe {trained.recipe.name!r}: its generator has one latent for all layers, so there are no styles to mix; "
            "train `stylegan2`, say"
        )
    count = codes.shape[1]
    if layers == "all":
        return slice(0, count)
    if layers in LAYERS:
        third = LAYERS.index(layers)
        # At least one each, where there are three: rounded so that the shares add up.
        return slice(round(count * third / 3), round(count * (third + 1) / 3))
    first, dash, last = layers.partition("-")
    if first.isdecimal() and (last.isdecimal() or not dash):
        start, stop = int(first), int(last or first)
        if start <= stop < count:
            return slice(start, stop + 1)
    raise UserError(f"unknown layers {layers!r}: say {', '.join(LAYERS)}, all, or a range within 0-{count - 1}")


def save_grid(trained: Trained, grid: Grid, path: Path) -> Path:
    """Write a grid as one picture. Raises UserError for data that is not looked at."""
    if not trained.domain.show_grid(grid.samples, grid.columns, grid.captions, grid.headings, path):
        raise UserError(f"sheets of {trained.domain.name} samples cannot be drawn in rows: use `load` in Python")
    return path


def _require_sizes(rows: int, columns: int) -> None:
    if rows < 1 or columns < 2:
        raise UserError(f"{rows} rows and {columns} columns cannot be: at least 1 row and 2 columns")
