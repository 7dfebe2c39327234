"""The vector domain, as the verbs see it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparring.core.game import Batch, DataSpec
from sparring.data.dataset import Dataset
from sparring.data.npy import growing_npy, growing_npz
from sparring.domains.domain import Domain, Progress
from sparring.domains.figures import save_figure
from sparring.domains.vector.check import check_vectors, prepare_vectors
from sparring.domains.vector.data import VectorData, VectorOptions, open_vectors
from sparring.domains.vector.features import SPACES, open_features
from sparring.domains.vector.games import GAMES
from sparring.domains.vector.show import scatter
from sparring.errors import UserError
from sparring.files import write_whole
from sparring.metrics.catalogue import MEASURES
from sparring.metrics.figure import Features
from sparring.options import validate


class VectorDomain(Domain):
    """Vectors (N, D) of real numbers: points, measurements, rows of features."""

    name = "vector"
    games = GAMES
    measures = MEASURES
    spaces = SPACES
    unit = "vectors"
    formats = ("csv", "npy", "npz", "sheet")
    sample = "vectors (D,) in the data's own units"

    def resolve_data(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Validate against `VectorOptions`."""
        return validate(VectorOptions, options, where="data")

    def open_data(self, options: Mapping[str, Any], progress: Progress | None = None) -> VectorData:
        """Read the rows into memory."""
        return open_vectors(VectorOptions(**validate(VectorOptions, options, where="data")))

    def show(self, samples: Batch, conditions: Sequence[str], path: Path) -> None:
        """A scatter plot over `real`, where the samples bring it along."""
        real, label = samples.get("real"), samples.get("label")
        figure = scatter(
            samples["data"].double().cpu().numpy(),
            None if real is None else np.unique(real.double().cpu().numpy(), axis=0),
            None if label is None else label.cpu().numpy(),
            conditions,
        )
        save_figure(figure, path)

    def save(self, samples: Iterable[Batch], conditions: Sequence[str], out: Path, form: str) -> list[Path]:
        """`csv`: a line of names (x1, x2, …, label), a row each; `npy`: float32 (N, D); `npz`: `data`, `labels`, `classes`;
        `sheet`: one picture.
        """
        if form == "npy":
            with growing_npy(out) as append:
                for points, _ in _arrays(samples):
                    append(points)
            return [out]
        if form == "npz":
            return _save_npz(out, samples, conditions)
        if form == "sheet":
            batches = list(samples)
            self.show(
                Batch({name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}), conditions, out
            )
        else:
            write_whole(out, "".join(_csv(_arrays(samples), conditions)))
        return [out]

    def open_features(self, which: str, data: Dataset, progress: Progress | None = None) -> Features:
        """See `domains.vector.features`."""
        return open_features(which, data)

    def open_reference(
        self, source: str, options: Mapping[str, Any], spec: DataSpec, progress: Progress | None = None
    ) -> VectorData:
        """The run's own data as it was trained on; any other must have as many columns, and no classes but the run's."""
        own = source == options.get("source")
        chosen = (
            options
            if own
            else {**{key: options[key] for key in ("label", "scale") if key in options}, "source": source}
        )
        return _fitting(self.open_data(chosen), source, spec)

    def open_samples(
        self, source: str, real: str, progress: Progress | None = None, **options: Any
    ) -> tuple[VectorData, VectorData]:
        """Files of samples and of data with as many columns; options: those of the `data` section, for both."""
        data = self.open_data({**options, "source": real})
        return _fitting(self.open_data({**options, "source": source}), source, data.spec), data

    def check(self, source: str, progress: Progress | None = None, **options: Any) -> Any:
        """See `domains.vector.check`."""
        self.refuse(options)
        return check_vectors(source)

    def prepare(
        self, source: str, out: Path, progress: Progress | None = None, *, clean: bool = False, **options: Any
    ) -> Any:
        """See `domains.vector.check`."""
        self.refuse(options)
        return prepare_vectors(source, out, clean=clean)


def _fitting(data: VectorData, source: str, spec: DataSpec) -> VectorData:
    """`data`, its labels numbered as in `spec`. Raises UserError where it has other columns or further classes."""
    if data.spec.shape != spec.shape:
        raise UserError(f"{source}: has {data.spec.shape[0]} columns where the other side has {spec.shape[0]}")
    return data.numbered_as(spec.classes) if spec.classes and data.spec.classes else data


def _arrays(samples: Iterable[Batch]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64] | None]]:
    """The points (n, D) and labels (n,) of each batch. Raises UserError for numbers that are none."""
    for batch in samples:
        points = batch["data"].cpu().numpy()
        if not np.isfinite(points).all():
            raise UserError(
                "the samples hold NaN or infinite values: the generator has diverged; use an earlier checkpoint"
            )
        yield points, batch["label"].cpu().numpy().astype(np.int64) if "label" in batch else None


def _csv(
    batches: Iterable[tuple[NDArray[np.float32], NDArray[np.int64] | None]], conditions: Sequence[str]
) -> Iterator[str]:
    """The text of a table, batch by batch."""
    for number, (points, labels) in enumerate(batches):
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        if number == 0:
            writer.writerow([f"x{column + 1}" for column in range(points.shape[1])] + ["label"] * (labels is not None))
        # As text, a 32-bit number takes the digits that give it back, and no more.
        rows = [[str(value) for value in row] for row in points]
        if labels is not None:
            rows = [[*row, conditions[label]] for row, label in zip(rows, labels.tolist(), strict=True)]
        writer.writerows(rows)
        yield stream.getvalue()


def _save_npz(out: Path, samples: Iterable[Batch], conditions: Sequence[str]) -> list[Path]:
    labels: list[NDArray[np.int64]] = []
    with growing_npz(out) as file:
        with file.growing("data") as append:
            for points, numbers in _arrays(samples):
                append(points)
                labels += [] if numbers is None else [numbers]
        if labels:
            file.add("labels", np.concatenate(labels))
            file.add("classes", np.array(conditions))
    return [out]
