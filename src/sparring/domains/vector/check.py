"""What is wrong with a table of numbers, and a copy of it without that."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.data.checks.listed import ListedReport
from sparring.domains.vector.sources import Rows, open_rows
from sparring.errors import UserError
from sparring.files import write_whole

FAR = 10.0  # interquartile ranges from the median beyond which a value is called far
REASONS = {
    "unusable": "holds a value that is not a number",
    "copies": "equals an earlier one",
    "far": f"a value is more than {FAR:g} interquartile ranges from its column's median",
    "constant": "never varies",
}


@dataclass(frozen=True)
class VectorReport(ListedReport):
    """What was found. rows and columns count from 0, and each list is in order.

    summary: rows, columns, classes and their counts, smallest and largest value of all.
    unusable: rows that hold NaN, infinity or nothing. copies: rows that equal an earlier one, labels aside.
    far: usable rows with a value more than `FAR` interquartile ranges from its column's median.
    constant: columns that never vary.
    """

    reasons = REASONS
    removed = frozenset({"unusable", "copies"})

    unusable: list[int] = field(default_factory=list)
    copies: list[int] = field(default_factory=list)
    far: list[int] = field(default_factory=list)
    constant: list[int] = field(default_factory=list)

    def name_of(self, kind: str, each: int) -> str:
        return f"{'column' if kind == 'constant' else 'row'} {each}"


@dataclass(frozen=True)
class PreparedVectors:
    """What was written. removed: kind of finding → rows left out."""

    out: Path
    written: int
    removed: dict[str, int]

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {"out": str(self.out), "format": "npz", "written": self.written, "removed": self.removed}


def check_vectors(source: str) -> VectorReport:
    """Look over a source. Raises UserError where it cannot be read."""
    return _check(source, open_rows(source))


def prepare_vectors(source: str, out: Path, *, clean: bool = False) -> PreparedVectors:
    """Write an .npz with `data` (N, D) and, where there are any, `labels`.

    Unusable rows are left out always, copies too where `clean` says so. Raises UserError where nothing would be left.
    """
    rows = open_rows(source)
    report = _check(source, rows)
    found = {"unusable": report.unusable, "copies": report.copies if clean else []}
    keep = np.ones(len(rows.points), bool)
    keep[[index for indices in found.values() for index in indices]] = False
    if not keep.any():
        raise UserError(f"{source}: no row is usable, so there is nothing to write")
    arrays: dict[str, NDArray[Any]] = {"data": rows.points[keep]}
    if rows.labels:
        arrays["labels"] = np.array(rows.labels)[keep]
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    write_whole(out, stream.getvalue())
    return PreparedVectors(out, int(keep.sum()), {name: len(indices) for name, indices in found.items() if indices})


def _check(source: str, rows: Rows) -> VectorReport:
    points = rows.points
    finite = np.isfinite(points).all(axis=1)
    usable = np.flatnonzero(finite)
    summary: dict[str, Any] = {"rows": len(points), "columns": points.shape[1]}
    if rows.labels:
        names, counts = np.unique(rows.labels, return_counts=True)
        summary["classes"] = dict(zip(names.tolist(), counts.tolist(), strict=True))
    unusable = np.flatnonzero(~finite).tolist()
    if not len(usable):
        return VectorReport(source, summary, unusable)
    good = points[usable]
    summary |= {"smallest": float(good.min()), "largest": float(good.max())}
    _, first = np.unique(good, axis=0, return_index=True)
    low, middle, high = np.percentile(good, [25, 50, 75], axis=0)
    # A column of mostly one value has no such range: nothing can be called far from it.
    reach = np.where(high > low, FAR * (high - low), np.inf)
    return VectorReport(
        source,
        summary,
        unusable,
        copies=np.setdiff1d(usable, usable[first]).tolist(),
        far=usable[(np.abs(good - middle) > reach).any(axis=1)].tolist(),
        constant=np.flatnonzero(np.ptp(good, axis=0) == 0).tolist(),
    )
