"""Vector data: from the recipe's `data` section to batches in the data's own units."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.data.labels import sort_classes
from sparring.domains.vector.sources import open_rows
from sparring.errors import UserError
from sparring.recipe import Section

Scale = Literal["columns", "common"]
SHOWN = 1000  # points that a game keeps to show its samples beside, at most
SHOWN_VALUES = 20_000  # and their numbers
FINEST = 1e-5  # share of a column's size below which its spread is lost in 32 bits


class VectorOptions(Section):
    """The recipe's `data` section."""

    source: str = pydantic.Field("ring", description="ring, grid, or a file of numbers: .npy, .npz, .csv, .tsv")
    label: str | None = pydantic.Field(None, description="the column or array of labels; none: one called label, …")
    scale: Scale = pydantic.Field(
        "columns",
        description="what the game divides by: each column's deviation, or one for all, which keeps angles and distances",
    )
    limit: int | None = pydantic.Field(None, ge=1, description="keep so many rows, chosen at random, always the same")


def open_vectors(options: VectorOptions) -> VectorData:
    """Read the rows. Raises UserError where there are none, or too few, or their digits would be lost in 32 bits."""
    rows = open_rows(options.source, options.label)
    points, labels = rows.points, np.array(rows.labels)
    good = np.isfinite(points).all(axis=1)
    broken = [(f"{options.source}[{index}]", "holds a value that is not a number") for index in np.flatnonzero(~good)]
    points, labels = points[good], labels[good] if len(labels) else labels
    if options.limit is not None and options.limit < len(points):
        chosen = np.sort(np.random.default_rng(0).permutation(len(points))[: options.limit])
        points, labels = points[chosen], labels[chosen] if len(labels) else labels
    if len(points) < 2:
        raise UserError(f"{options.source}: {len(points)} usable rows; a distribution needs at least two")
    return VectorData(options.source, points, labels.tolist(), broken, scale=options.scale)


class VectorData:
    """Rows of numbers, gathered by index into batches.

    spec: shape (D,), class names, count, and in `extra`: `mean` and `scale` of each column (a scale of 0 says that the
        column is constant), `shown` (some rows, for pictures), `label_counts` where there are labels.
    Batches are in the data's own units; a game standardises for itself, so that samples, figures and files need not
    know how. All rows are kept on the device.
    """

    spec: DataSpec
    fingerprint: str
    broken: list[tuple[str, str]]

    def __init__(
        self,
        name: str,
        points: NDArray[np.float64],
        labels: list[str],
        broken: list[tuple[str, str]],
        *,
        scale: Scale = "columns",
    ) -> None:
        self.name = name
        classes = tuple(sort_classes(labels))
        numbers = {text: number for number, text in enumerate(classes)}
        self._points = torch.from_numpy(points).float()
        self._labels = torch.tensor([numbers[text] for text in labels]) if labels else None
        rows = max(1, min(SHOWN, SHOWN_VALUES // points.shape[1]))
        order = np.random.default_rng(0).permutation(len(points))[:rows]
        extra: dict[str, Any] = {**standards(name, points, scale), "shown": self._points[order].tolist()}
        if self._labels is not None:
            extra["label_counts"] = torch.bincount(self._labels, minlength=len(classes)).tolist()
        self.spec = DataSpec((points.shape[1],), classes, len(points), extra)
        digest = hashlib.blake2b(f"{points.shape}{scale}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(points).data)
        digest.update("\0".join(labels).encode())
        self.fingerprint, self.broken = digest.hexdigest(), broken

    def __len__(self) -> int:
        return len(self._points)

    def to(self, device: torch.device) -> Self:
        """Keep all rows on `device` from now on."""
        self._points = self._points.to(device)
        self._labels = None if self._labels is None else self._labels.to(device)
        return self

    def numbered_as(self, classes: tuple[str, ...]) -> Self:
        """The same rows with labels numbered as in `classes`. Raises UserError for a label that is not among them."""
        if strange := [name for name in self.spec.classes if name not in classes]:
            raise UserError(f"{self.name}: label {strange[0]!r} is not one of {', '.join(classes)}")
        if self._labels is not None:
            self._labels = torch.tensor([classes.index(name) for name in self.spec.classes])[self._labels]
            counts = torch.bincount(self._labels, minlength=len(classes)).tolist()
            self.spec = replace(self.spec, classes=classes, extra={**self.spec.extra, "label_counts": counts})
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        """The rows at `indices` (N,): `data` float32 (N, D) in the data's units, and `label` int64 (N,) if labelled."""
        indices = indices.to(self._points.device)
        batch = Batch(data=self._points.index_select(0, indices))
        if self._labels is not None:
            batch["label"] = self._labels.index_select(0, indices)
        return batch


def standards(name: str, points: NDArray[np.float64], scale: Scale) -> dict[str, list[float]]:
    """`mean` and `scale` of each column of points (N, D): what to subtract and to divide by; 0 where nothing varies.

    columns: a column's units are an accident, and one that is small beside the others would be nothing to a
    discriminator's gradient or to its penalty. common: for points in space, where one unit holds for all columns.
    Raises UserError where a column's spread is so small beside its values that 32 bits cannot hold it.
    """
    mean, deviation = points.mean(axis=0), points.std(axis=0)
    size = np.abs(points).max(axis=0)
    varies = np.ptp(points, axis=0) > 0
    lost = varies & (deviation < FINEST * size)
    if lost.any():
        column = int(np.flatnonzero(lost)[0])
        raise UserError(
            f"{name}: column {column + 1} lies at {mean[column]:.6g} with a deviation of {deviation[column]:.3g}, "
            "whose digits 32-bit numbers lose: subtract an offset first"
        )
    if not varies.any():
        raise UserError(f"{name}: all rows are equal, so there is nothing to learn")
    if scale == "common":
        deviation = np.full_like(deviation, np.sqrt(np.square(deviation[varies]).mean()))
    return {"mean": mean.tolist(), "scale": np.where(varies, deviation, 0.0).tolist()}
