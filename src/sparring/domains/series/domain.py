"""The domain of series, as the verbs see it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from sparring.core.game import Batch, DataSpec, Game
from sparring.data.checks.listed import some_of
from sparring.data.dataset import Dataset
from sparring.data.npy import growing_npy, growing_npz
from sparring.domains.domain import Domain, Make, Progress, Translated
from sparring.domains.figures import save_figure
from sparring.domains.series.attributes import attributes_of
from sparring.domains.series.channels import channels_of
from sparring.domains.series.check import check_series
from sparring.domains.series.clock import Clock
from sparring.domains.series.continued import continue_files
from sparring.domains.series.data import SeriesData, SeriesOptions, from_unit, open_series
from sparring.domains.series.features import SPACES, open_features
from sparring.domains.series.finance import fan, memory, quantiles
from sparring.domains.series.games import GAMES
from sparring.domains.series.metrics import MEASURES, of_returns
from sparring.domains.series.metrics.autocorrelation import acf
from sparring.domains.series.metrics.tails import leverage
from sparring.domains.series.returns import log_returns_of, prices_of, returns_of
from sparring.domains.series.rows import write_rows
from sparring.domains.series.show import FEATURES, cloud, fans, memories, paths, require_finite
from sparring.domains.series.sources import KEY_COLUMN, STEP_COLUMN, Array
from sparring.errors import UserError
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
    formats = ("csv", "parquet", "npz", "npy", "sheet")
    sample = "windows (T, F), each feature between 0 and 1 as the data's least and largest values are"

    private_outside = "names of features, the least and the largest value of each, and of prices how their returns are coded and the last of them"

    scaling: Mapping[str, Any] | None = None

    def knowing(self, spec: DataSpec) -> Self:
        """This domain, knowing what the features are called, and what 0 and 1 stand for."""
        other = copy.copy(self)
        other.scaling = spec.extra if "channels" in spec.extra else None
        if "returns" in spec.extra:
            other.measures = of_returns(other.log_returns)
        return other

    def introduce(self, spec: DataSpec) -> list[str]:
        """Windows, features, attributes."""
        names = some_of(channels_of(spec.extra).features)
        lines = [f"{spec.count:,} windows of {spec.shape[0]} steps (data.window) of {names}"]
        attributes = [f"{each.name} ({each.kind})" for each in attributes_of(spec.extra)]
        return [*lines, f"attributes: {some_of(attributes)}"] if attributes else lines

    def resolve_data(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Validate against `SeriesOptions`."""
        return validate(SeriesOptions, options, where="data")

    def open_data(self, options: Mapping[str, Any], progress: Progress | None = None) -> SeriesData:
        """Read the windows into memory."""
        return open_series(_options(options))

    def describe_privately(self, data: Dataset, noise: float, draw: Callable[[int], Tensor]) -> list[float]:
        """Without the windows that samples are shown beside. Raises UserError for what samples would take from windows."""
        if "frames" in data.spec.extra:
            raise UserError(
                "private: attributes, lengths and times of samples are those of windows of the data: leave out data.shortest, "
                "data.gaps and data.calendar, and set attributes to drop in data.attributes"
            )
        data.spec = replace(data.spec, extra={**data.spec.extra, "shown": []})
        return []

    def show(self, samples: Batch, conditions: Sequence[str], path: Path) -> None:
        """Paths of each feature, beside `real` ones where the samples bring them along; of forecasts, fans after their pasts."""
        if "paths" in samples:
            save_figure(self._fans(samples, samples.get("real")), path)
            return
        values = self.in_units(samples["data"], samples.get("mask"))
        real = None
        if "real" in samples:
            own = samples.get("real_mask", torch.ones(samples["real"].shape[:2])).cpu()
            # Different ones: the same windows may come with several samples.
            both = torch.unique(torch.cat([samples["real"].cpu(), own[:, :, None]], 2), dim=0)
            real = self.in_units(both[:, :, :-1], both[:, :, -1])
        save_figure(paths(values, real, self.names(values.shape[2])), path)

    def illustrate(self, real: Batch, fake: Batch, out: Path) -> list[Path]:
        """The windows of both sides as a cloud of points, and their autocorrelations."""
        left, right = (side["data"].double().cpu().numpy() for side in (real, fake))
        figures = {"cloud": cloud(right, left)}
        if "paths" in fake:
            figures["fans"] = self._fans(fake, real["data"])
        if "mask" not in real:
            figures["autocorrelation"] = memories(right, left, self.channel_names(left.shape[2]))
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
        """`csv`, `parquet`: `sequence`, `step`, times where they were learnt, a column a feature, a column an attribute.

        `npz`: `data` (N, T, F), `features`, of padded windows `lengths`, of attributes `attribute_NAME`; `npy`: (N, T, F);
        what is no step of a sequence or is missing is NaN. `sheet`: one picture. All in the data's own units.
        """
        if form == "sheet":
            batches = list(samples)
            whole = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
            self.show(Batch(whole), conditions, out)
        elif form in ("csv", "parquet"):
            write_rows(self.rows(samples), out, form)
        elif form == "npy":
            with growing_npy(out) as append:
                for batch in samples:
                    append(self.in_units(batch["data"], batch.get("mask")))
        else:
            self._save_npz(samples, out)
        return [out]

    def translate_files(
        self, inputs: Sequence[str | Path], out: Path, game: Game, spec: DataSpec, make: Make,
        *, progress: Progress | None = None, **options: Any,
    ) -> Translated:  # fmt: skip
        """Forecasts of the ends of sequences, see `continued.continue_files`."""
        return continue_files(inputs, out, self, game, spec, make, progress=progress, **options)

    def _fans(self, samples: Batch, real: Tensor | None) -> Figure:
        """Fans of forecasts `paths` (N, S, h, F) after `source` or the beginnings of `real` windows (N, T, F)."""
        count = len(samples["paths"])
        paths = self.in_units(samples["paths"].flatten(0, 1))
        windows = samples["data"] if real is None else real[:count]
        values = self.in_units(windows)
        horizon = paths.shape[1]
        fanned = paths.reshape(count, -1, *paths.shape[1:])
        came = None if real is None else values[:, -horizon:]
        return fans(values[:, :-horizon], came, fanned, self.names(values.shape[2]))

    def rows(self, samples: Iterable[Batch]) -> Iterator[dict[str, list[Any]]]:
        """Samples as columns of rows by name, batch by batch: a row a step."""
        first = 0
        for batch in samples:
            values = self.in_units(batch["data"], batch.get("mask"))
            there = np.ones(values.shape[:2], bool) if "mask" not in batch else batch["mask"].cpu().numpy() > 0
            number, step = np.nonzero(there)
            columns: dict[str, list[Any]] = {KEY_COLUMN: (first + number).tolist(), STEP_COLUMN: step.tolist()}
            if (when := self.times(batch)) is not None:
                clock = Clock(**(self.scaling or {})["channels"]["clock"])
                columns[clock.name] = clock.text(when[there])
            for place, name in enumerate(self.names(values.shape[2])):
                columns[name] = values[there][:, place].tolist()
            for name, cells in self.attributes(batch).items():
                columns[name] = [cells[each] for each in number]
            yield columns
            first += len(values)

    def attributes(self, samples: Batch) -> dict[str, list[str]]:
        """What samples (N) have once and for all, a cell a sample; nothing where they are drawn without."""
        found: dict[str, list[str]] = {}
        start = 0
        for each in attributes_of(self.scaling or {}) if "attributes" in samples else []:
            coded = samples["attributes"][:, start : start + each.size].cpu().numpy()
            found[each.name] = each.text(coded)
            start += each.size
        return found

    def times(self, samples: Batch) -> Array | None:
        """When the steps of samples are, (N, T); None where games do not learn that."""
        if self.scaling is None or "frame" not in samples or "times" not in self.scaling.get("frames", {}):
            return None
        when = np.array(self.scaling["frames"]["times"])[samples["frame"].cpu().numpy()]
        channels = channels_of(self.scaling)
        _, gaps = channels.read(from_unit(samples["data"].double().cpu().numpy(), self.scaling))
        if gaps is None:
            return when
        # The first step is when the frame's is.
        gaps[:, 0] = 0
        return when[:, :1] + gaps.cumsum(1)

    def open_features(self, which: str, data: Dataset, progress: Progress | None = None) -> Features:
        """See `domains.series.features`."""
        return open_features(which)

    def open_reference(
        self, source: str, options: Mapping[str, Any], spec: DataSpec, progress: Progress | None = None
    ) -> SeriesData:
        """The run's own data as it was trained on (of these what was held out, if anything), or other data with its features,
        in windows as long, scaled as it is.
        """
        own = source == options.get("source") and bool(options.get("held_out"))
        chosen = _options({**options, "source": source})
        if not own:
            chosen = chosen.model_copy(update={"held_out": 0.0})
        return _fitting(open_series(chosen, spec.extra, part="end" if own else "all"), spec)

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

    def in_units(self, data: Tensor, mask: Tensor | None = None) -> Array:
        """Features of windows (N, T, C) as games draw them, (N, T, F) in the data's own units; NaN for what is missing, and
        where `mask` (N, T) is 0. Where features are prices, (N, T + 1, F), from a start on. Raises UserError for what is not finite.
        """
        values = data.double().cpu().numpy()
        require_finite(values)
        if self.scaling is None:
            return values
        told = from_unit(values, self.scaling)
        if codes := returns_of(self.scaling):
            return prices_of(told, codes)
        features, _ = channels_of(self.scaling).read(told)
        if mask is not None:
            features[mask.cpu().numpy() == 0] = np.nan
        return features

    def log_returns(self, data: Tensor) -> Tensor:
        """Windows (N, T, F) as games draw them, with log returns, and other features in their own units."""
        scaling = self.scaling or {}
        told = log_returns_of(from_unit(data.double().cpu().numpy(), scaling), returns_of(scaling))
        return torch.from_numpy(told).to(data.device)

    def names(self, count: int) -> list[str]:
        """What the features are called."""
        return (
            [f"x{number + 1}" for number in range(count)]
            if self.scaling is None
            else channels_of(self.scaling).features
        )

    def channel_names(self, count: int) -> list[str]:
        """What all numbers of a step are called."""
        return self.names(count) if self.scaling is None else channels_of(self.scaling).names

    def _save_npz(self, samples: Iterable[Batch], out: Path) -> None:
        lengths: list[NDArray[np.int64]] = []
        cells: dict[str, list[str]] = {}
        width = 0
        with growing_npz(out) as file:
            with file.growing("data") as append:
                for batch in samples:
                    values = self.in_units(batch["data"], batch.get("mask"))
                    append(values)
                    width = values.shape[2]
                    if "mask" in batch:
                        lengths.append(batch["mask"].sum(1).long().cpu().numpy())
                    for name, column in self.attributes(batch).items():
                        cells.setdefault(name, []).extend(column)
            file.add("features", np.array(self.names(width)))
            if lengths:
                file.add("lengths", np.concatenate(lengths))
            for name, column in cells.items():
                file.add(f"attribute_{name}", np.array(column))


def _options(options: Mapping[str, Any]) -> SeriesOptions:
    return SeriesOptions(**validate(SeriesOptions, options, where="data"))


def _fitting(data: SeriesData, spec: DataSpec) -> SeriesData:
    if data.spec.shape != spec.shape:
        raise UserError(f"{data.name}: windows of {data.spec.shape[0]} steps where the other side has {spec.shape[0]}")
    return data
