"""What the labels of a data set are: classes, shares of classes, attributes or values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparring.errors import UserError, nearest

VectorKind = Literal["soft", "attributes", "values"]
Asked = Literal["auto", "classes", "attributes", "values", "none"]
KEPT_ROWS = 4096  # label vectors that a run remembers, to draw conditions as the data has them
SEPARATOR = ";"  # between the attributes of a cell


@dataclass(frozen=True)
class Vectors:
    """A label vector for each image.

    kind: `soft`: shares of classes, which sum to 1; `attributes`: 0 or 1 each; `values`: any numbers, in their own units.
    names: of the K columns. rows: float32 (N, K).
    """

    kind: VectorKind
    names: tuple[str, ...]
    rows: NDArray[np.float32]

    def digest(self) -> bytes:
        """The content, for fingerprints."""
        return f"{self.kind}\0{self.names}".encode() + np.ascontiguousarray(self.rows).tobytes()

    def means(self) -> dict[str, float]:
        """The mean of each column: for attributes the share of images that have it."""
        return dict(zip(self.names, self.rows.mean(axis=0, dtype=np.float64).round(6).tolist(), strict=True))


@dataclass(frozen=True)
class Labelling:
    """How images are labelled. At most one of `texts` (a class each) and `vectors` is there.

    note: what of the labels is not used, and how to use it; empty where there is nothing to say.
    """

    texts: list[str] = field(default_factory=list)
    vectors: Vectors | None = None
    note: str = ""


@dataclass(frozen=True)
class Wanted:
    """What the recipe wants as labels: `data.labels` and `data.label_columns`."""

    kind: Asked = "auto"
    columns: tuple[str, ...] | None = None

    def __bool__(self) -> bool:
        return self.kind != "auto" or self.columns is not None


def label_by_columns(where: str, columns: Mapping[str, Sequence[str]], usual: str | None, wanted: Wanted) -> Labelling:
    """Choose the labels among the columns of a table, which hold a text for each image.

    where: the table, for messages. usual: the column that is named like a label, if any. Without a wish that column is
    taken; without one all others, if they are attributes.
    Raises UserError for unknown columns, cells that do not fit the kind, or some that are empty.
    """
    if wanted.kind == "none":
        return Labelling()
    chosen = list(wanted.columns or ([usual] if usual is not None else columns))
    for name in chosen:
        if name not in columns:
            known = ", ".join(columns) or "none but the paths"
            raise UserError(f"{where}: has no column {name!r}{nearest(name, columns)}; there are {known}")
    chosen = [name for name in chosen if any(columns[name])]
    if not chosen:
        return _none(where, wanted)
    for name in chosen:
        if (row := next((number for number, cell in enumerate(columns[name], 1) if not cell), None)) and not (
            wanted.kind == "attributes" and len(chosen) == 1
        ):
            if usual is None and not wanted:
                return Labelling(note=_unused(where, chosen))
            raise UserError(
                f"{where}: row {row} has no {'label' if name == usual else name}; fill it in or remove it, "
                "or leave all labels aside with --set data.labels=none"
            )
    if len(chosen) == 1 and (usual is not None or wanted):
        return label_by_texts(where, list(columns[chosen[0]]), wanted, chosen[0], guess=True)
    numbers = _numbers([columns[name] for name in chosen])
    if wanted.kind == "classes":
        raise UserError(f"{where}: classes are one column of a table; name it: --set data.label_columns=[{chosen[0]}]")
    if wanted.kind == "values":
        return Labelling(vectors=Vectors("values", tuple(chosen), _require_numbers(where, chosen, columns, numbers)))
    if numbers is not None and (answers := _answers(numbers)) is not None:
        return Labelling(vectors=Vectors("attributes", tuple(chosen), answers))
    if wanted:
        raise UserError(
            f"{where}: attributes are 0 or 1 (or -1 and 1), and columns {', '.join(chosen[:5])} hold other things; "
            "for numbers say --set data.labels=values"
        )
    return Labelling(note=_unused(where, chosen))


def label_by_texts(
    where: str, texts: list[str], wanted: Wanted, name: str = "label", *, guess: bool = False
) -> Labelling:
    """Labels from one text an image; empty texts mean that nothing applies, where attributes are asked for.

    guess: cells like `hat;scarf` are attributes and fractions are values, unless something is asked for.
    """
    kind = wanted.kind
    if kind == "none" or (not texts and not wanted):
        return Labelling()
    if not texts:
        return _none(where, wanted)
    numbers = _numbers([texts])
    if kind == "auto" and guess:
        if any(SEPARATOR in text for text in texts):
            kind = "attributes"
        elif numbers is not None and not (numbers == np.rint(numbers)).all():
            kind = "values"
    if kind == "values":
        return Labelling(vectors=Vectors("values", (name,), _require_numbers(where, [name], {name: texts}, numbers)))
    if kind == "attributes" and numbers is not None and (answers := _answers(numbers)) is not None:
        return Labelling(vectors=Vectors("attributes", (name,), answers))
    if kind == "attributes":
        lists = [[part.strip() for part in text.split(SEPARATOR) if part.strip()] for text in texts]
        names = tuple(sorted({part for parts in lists for part in parts}))
        places = {each: place for place, each in enumerate(names)}
        rows = np.zeros((len(lists), len(names)), np.float32)
        for row, parts in zip(rows, lists, strict=True):
            row[[places[part] for part in parts]] = 1
        return Labelling(vectors=Vectors("attributes", names, rows))
    return Labelling(texts)


def label_by_array(where: str, labels: NDArray[Any], names: Sequence[str] | None, wanted: Wanted) -> Labelling | None:
    """Labels from numbers (N, K), or from fractions (N,); None where they are plain classes or nothing of the kind.

    names: of the columns, where the file says them.
    """
    if wanted.kind in ("none", "classes") or labels.dtype.kind not in "iufb":
        return None
    fractions = labels.dtype.kind == "f" and not (labels == np.rint(labels)).all()
    if labels.ndim == 1 and (wanted.kind == "values" or (fractions and wanted.kind == "auto" and names is None)):
        labels = labels[:, None]
        names = names if names is not None and len(names) == 1 else ("label",)
    if labels.ndim != 2 or (labels.shape[1] == 1 and wanted.kind == "auto" and not fractions):
        return None
    rows = labels.astype(np.float32)
    if not np.isfinite(rows).all():
        raise UserError(f"{where}: labels hold values that are not numbers; save them again")
    named = tuple(map(str, names)) if names is not None else tuple(map(str, range(rows.shape[1])))
    if len(set(named)) < len(named):
        raise UserError(f"{where}: `classes` {named} names a column twice")
    if len(named) != rows.shape[1]:
        raise UserError(f"{where}: {len(named)} names in `classes` for labels of {rows.shape[1]} columns")
    if wanted.kind == "values":
        return Labelling(vectors=Vectors("values", named, rows))
    if (answers := _answers(rows)) is not None:
        return Labelling(vectors=Vectors("attributes", named, answers))
    if wanted.kind == "attributes":
        raise UserError(f"{where}: attributes are 0 or 1 (or -1 and 1); for other numbers say --set data.labels=values")
    shares = rows.shape[1] > 1 and (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3)
    return Labelling(vectors=Vectors("soft" if shares else "values", named, rows))


def describe_labels(rows: NDArray[np.float32], kind: VectorKind) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Vectors (N, K) as networks see them, and what a `DataSpec` says of them in `extra`.

    Values get mean 0 and variance 1. Of many rows an even choice is kept.
    """
    wide = rows.astype(np.float64)
    mean = wide.mean(axis=0)
    spread = wide.std(axis=0)
    deviation = np.where(spread > 0, spread, 1.0)
    if kind == "values":
        seen = ((wide - mean) / deviation).astype(np.float32)
    else:
        seen = rows
    kept = np.arange(len(rows))
    if len(rows) > KEPT_ROWS:
        kept = np.sort(np.random.default_rng(0).permutation(len(rows))[:KEPT_ROWS])
    rows_kept = np.round(seen[kept].astype(np.float64), 6).tolist()
    extra = {"label_kind": kind, "label_mean": mean.tolist(), "label_rows": rows_kept}
    if kind == "values":
        extra |= {
            "label_deviation": deviation.tolist(),
            "label_low": wide.min(axis=0).tolist(),
            "label_high": wide.max(axis=0).tolist(),
        }
    return seen, extra


def _none(where: str, wanted: Wanted) -> Labelling:
    if wanted.kind in ("classes", "attributes", "values"):
        raise UserError(f"{where}: has no labels, so data.labels={wanted.kind} finds none: leave it out")
    return Labelling()


def _unused(where: str, columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:5]) + (", …" if len(columns) > 5 else "")
    return f"{where}: its columns {shown} are taken as labels with --set data.labels=values, attributes or classes"


def _numbers(columns: Sequence[Sequence[str]]) -> NDArray[np.float32] | None:
    """Columns of texts as numbers (N, K), None where a cell is none."""
    try:
        found = np.array([[float(cell) for cell in column] for column in columns], np.float64).T
    except ValueError:
        return None
    return found.astype(np.float32) if np.isfinite(found).all() else None


def _require_numbers(
    where: str, names: Sequence[str], columns: Mapping[str, Sequence[str]], numbers: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    if numbers is not None:
        return numbers
    for name in names:
        for row, cell in enumerate(columns[name], 1):
            if _numbers([[cell]]) is None:
                raise UserError(
                    f"{where}: row {row} of column {name!r} is {cell!r}, which is no number; data.labels=values"
                )
    raise UserError(f"{where}: data.labels=values needs numbers")


def _answers(numbers: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Numbers as 0 and 1, None where they are not answers: 0 and 1, or -1 and 1."""
    if np.isin(numbers, (0, 1)).all():
        return numbers.astype(np.float32)
    if np.isin(numbers, (-1, 1)).all():
        return ((numbers + 1) / 2).astype(np.float32)
    return None
