"""The domain of series, as the verbs see it."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.data.dataset import Dataset
from sparring.data.npy import growing_npy, growing_npz
from sparring.domains.domain import Domain, Progress
from sparring.domains.figures import save_figure
from sparring.domains.series.check import check_series
from sparring.domains.series.data import SeriesData, SeriesOptions, from_unit, open_series
from sparring.domains.series.features import SPACES, open_features
from sparring.domains.series.finance import fan, memory, quantiles
from sparring.domains.series.games import GAMES
from sparring.domains.series.metrics import MEASURES, of_returns
from sparring.domains.series.metrics.autocorrelation import acf
from sparring.domains.series.metrics.tails import leverage
from sparring.domains.series.returns import log_returns_of, prices_of, returns_of
from sparring.domains.series.show import FEATURES, cloud, memories, paths, require_finite
from sparring.domains.series.sources import KEY_COLUMN, STEP_COLUMN, Array
from sparring.errors import UserError
from sparring.files import write_whole
from sparring.metrics.figure import Features
from sparring.options import validate

LAGS = 50  # of pictures of returns


class SeriesDomain(Domain):
    """Windows (T, F) of series. Games see every feature between 0 and 1; files and pictures have the data's own units."""

    name = "series"
    games = GAMES
    measures = MEASURES
    spaces = SPACES
    unit = "windows"
    formats = ("csv", "npz", "npy", "sheet")
    sample = "windows (T, F), each feature between 0 and 1 as the data's least and largest values are"

    private_outside = "names of features, and the least and the largest value of each"

    scaling: Mapping[str, Any] | None = None

    def knowing(self, spec: DataSpec) -> Self:
        """This domain, knowing what the features are called, and what 0 and 1 stand for."""
        other = copy.copy(self)
        other.scaling = spec.extra if "low" in spec.extra else None
        if "returns" in spec.extra:
            other.measures = of_returns(other.log_returns)
        return other

    def resolve_data(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Validate against `SeriesOptions`."""
        return validate(SeriesOptions, options, where="data")

    def open_data(self, options: Mapping[str, Any], progress: Progress | None = None) -> SeriesData:
        """Read the windows into memory."""
        return open_series(_options(options))

    def describe_privately(self, data: Dataset, noise: float, draw: Callable[[int], Tensor]) -> list[float]:
        """Without the windows that samples are shown beside."""
        data.spec = replace(data.spec, extra={**data.spec.extra, "shown": []})
        return []

    def show(self, samples: Batch, conditions: Sequence[str], path: Path) -> None:
        """Paths of each feature, beside `real` ones where the samples bring them along."""
        real = None if "real" not in samples else self.in_units(torch.unique(samples["real"].cpu(), dim=0))
        values = self.in_units(samples["data"])
        save_figure(paths(values, real, self.names(values.shape[2])), path)

    def illustrate(self, real: Batch, fake: Batch, out: Path) -> list[Path]:
        """The windows of both sides as a cloud of points, and their autocorrelations."""
        left, right = (side["data"].double().cpu().numpy() for side in (real, fake))
        names = self.names(left.shape[2])
        figures = {"cloud": cloud(right, left), "autocorrelation": memories(right, left, names)}
        if self.scaling is not None and (codes := returns_of(self.scaling)):
            figures |= self._illustrate_returns(real["data"], fake["data"], [code.place for code in codes][:FEATURES])
        for name, figure in figures.items():
            save_figure(figure, out / f"{name}.png")
        return [out / f"{name}.png" for name in figures]

    def _illustrate_returns(self, real: Tensor, fake: Tensor, places: Sequence[int]) -> dict[str, Figure]:
        """Fans of the first price, the memory of its returns, and quantiles of all returns."""
        names = [self.names(real.shape[2])[place] for place in places]
        first = places[0]
        lags = min(LAGS, real.shape[1] - 1)
        prices = [self.in_units(side)[:, :, first] for side in (real, fake)]
        left, right = (self.log_returns(side).cpu() for side in (real, fake))
        curves = {
            title: (acf(turn(left), lags)[:, first].numpy(), acf(turn(right), lags)[:, first].numpy())
            for title, turn in (("returns", torch.clone), ("their size", torch.abs), ("their squares", torch.square))
        }
        curves["leverage"] = (leverage(left, lags)[:, first].numpy(), leverage(right, lags)[:, first].numpy())
        of_data, of_samples = (side.flatten(0, 1)[:, list(places)].numpy() for side in (left, right))
        return {
            "fan": fan({"data, from one start": prices[0], "samples": prices[1]}, names[0]),
            "memory": memory(curves),
            "quantiles": quantiles(of_data, of_samples, names),
        }

    def save(self, samples: Iterable[Batch], conditions: Sequence[str], out: Path, form: str) -> list[Path]:
        """`csv`: `sequence`, `step` and a column a feature; `npz`: `data` (N, T, F) and `features`; `npy`: (N, T, F);
        `sheet`: one picture. All in the data's own units.
        """
        if form == "sheet":
            batches = list(samples)
            whole = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
            self.show(Batch(whole), conditions, out)
        elif form == "csv":
            write_whole(out, "".join(self._csv(samples)))
        elif form == "npy":
            with growing_npy(out) as append:
                for batch in samples:
                    append(self.in_units(batch["data"]))
        else:
            with growing_npz(out) as file:
                width = 0
                with file.growing("data") as append:
                    for batch in samples:
                        append(self.in_units(batch["data"]))
                        width = batch["data"].shape[2]
                file.add("features", np.array(self.names(width)))
        return [out]

    def open_features(self, which: str, data: Dataset, progress: Progress | None = None) -> Features:
        """See `domains.series.features`."""
        return open_features(which)

    def open_reference(
        self, source: str, options: Mapping[str, Any], spec: DataSpec, progress: Progress | None = None
    ) -> SeriesData:
        """The run's own data as it was trained on, or other data with its features, in windows as long, scaled as it is."""
        return _fitting(open_series(_options({**options, "source": source}), spec.extra), spec)

    def open_samples(
        self, source: str, real: str, progress: Progress | None = None, **options: Any
    ) -> tuple[SeriesData, SeriesData]:
        """Files of samples and of data with the same features, scaled as the data are; options: those of the `data` section."""
        data = self.open_data({**options, "source": real})
        return open_series(_options({**options, "source": source}), data.spec.extra), data

    def check(self, source: str, progress: Progress | None = None, **options: Any) -> Any:
        """See `domains.series.check`. options: those of the `data` section."""
        return check_series(_options({**options, "source": source}))

    def prepare(self, source: str, out: Path, progress: Progress | None = None, **options: Any) -> Any:
        """Series are read as they are: there is nothing to prepare."""
        raise UserError("series need no preparation: windows are cut, and holes left out, when a training reads them")

    def in_units(self, data: Tensor) -> Array:
        """Windows (N, T, F) as games draw them, in the data's own units; where these are prices, (N, T + 1, F), from a start on.

        Raises UserError for what is not finite.
        """
        values = data.double().cpu().numpy()
        require_finite(values)
        if self.scaling is None:
            return values
        told = from_unit(values, self.scaling)
        codes = returns_of(self.scaling)
        return prices_of(told, codes) if codes else told

    def log_returns(self, data: Tensor) -> Tensor:
        """Windows (N, T, F) as games draw them, with log returns, and other features in their own units."""
        scaling = self.scaling or {}
        told = log_returns_of(from_unit(data.double().cpu().numpy(), scaling), returns_of(scaling))
        return torch.from_numpy(told).to(data.device)

    def names(self, count: int) -> list[str]:
        """What the features are called."""
        return [f"x{number + 1}" for number in range(count)] if self.scaling is None else list(self.scaling["features"])

    def _csv(self, samples: Iterable[Batch]) -> Iterator[str]:
        first = 0
        for batch in samples:
            stream = io.StringIO()
            writer = csv.writer(stream, lineterminator="\n")
            values = self.in_units(batch["data"])
            if first == 0:
                writer.writerow([KEY_COLUMN, STEP_COLUMN, *self.names(values.shape[2])])
            for number, window in enumerate(values, start=first):
                # Samples are 32-bit numbers: nine digits give them back.
                writer.writerows([number, step, *(f"{value:.9g}" for value in row)] for step, row in enumerate(window))
            first += len(values)
            yield stream.getvalue()


def _options(options: Mapping[str, Any]) -> SeriesOptions:
    return SeriesOptions(**validate(SeriesOptions, options, where="data"))


def _fitting(data: SeriesData, spec: DataSpec) -> SeriesData:
    if data.spec.shape != spec.shape:
        raise UserError(f"{data.name}: windows of {data.spec.shape[0]} steps where the other side has {spec.shape[0]}")
    return data
