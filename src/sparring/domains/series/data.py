"""Series: from the recipe's `data` section to batches of windows, every feature between 0 and 1."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.domains.series.attributes import Attribute, attributes_of, fit_attribute
from sparring.domains.series.channels import Channels, channels_of
from sparring.domains.series.clock import Part, calendar
from sparring.domains.series.returns import Returns, code_returns, plain, returns_of
from sparring.domains.series.sources import Array, Columns, Sequences, open_sequences, sines, slow_sines
from sparring.errors import UserError, nearest
from sparring.recipe import Section

MADE = {"sines": sines, "slow-sines": slow_sines}
SHOWN = 64  # windows that a game keeps to show its samples beside, at most
SHOWN_VALUES = 20_000  # and their numbers
READING = ("key", "columns", "missing", "time", "gaps", "attributes")  # options that say how a file is read
FRAMES, FRAME_VALUES = 1024, 100_000  # frames that a game draws from, at most, and their numbers


class SeriesOptions(Section):
    """The recipe's `data` section."""

    source: str = pydantic.Field("sines", description="sines, slow-sines, or a file: .csv, .tsv, .parquet, .npy, .npz")
    window: int = pydantic.Field(24, ge=2, description="steps of a sample; longer sequences are cut into windows")
    stride: int = pydantic.Field(1, ge=1, description="steps from the start of a window to that of the next")
    shortest: int | None = pydantic.Field(
        None, ge=2, description="steps of the shortest sequences to learn, padded; none: those of a window"
    )
    key: str | None = pydantic.Field(
        None, description="the column that tells sequences apart; none: one called `sequence`, if there is one"
    )
    columns: list[str] | None = pydantic.Field(None, description="the features to learn; none: all")
    missing: Literal["leave_out", "forward", "learn"] = pydantic.Field(
        "leave_out", description="values that are not there: leave their windows out, repeat the last, or learn where"
    )
    time: str | None = pydantic.Field(
        None, description="the column that says when steps are; none: the first of dates, the year first"
    )
    gaps: bool = pydantic.Field(False, description="learn the time from step to step, of steps that are not even")
    calendar: list[Part] = pydantic.Field([], description="what of dates the game is told: hour, weekday, month")
    attributes: dict[str, Literal["category", "number", "feature", "drop"]] = pydantic.Field(
        {}, description="corrections of what is constant in each sequence: {digit: category}"
    )
    label: str | None = pydantic.Field(
        None, description="the attribute whose categories are the classes; none: the first with categories"
    )
    held_out: float = pydantic.Field(
        0.0, ge=0, lt=1, description="share of the end of each sequence that is only watched and measured on"
    )
    returns: bool | list[str] = pydantic.Field(
        False, description="features that are prices, learnt as log returns; true: all; drawn as prices again"
    )
    tails: bool = pydantic.Field(True, description="take heavy tails off returns, by Lambert's W, and put them back on")
    count: int = pydantic.Field(10_000, ge=2, description="of sines: how many")
    features: int = pydantic.Field(5, ge=1, description="of sines: how many side by side")


@dataclass(frozen=True)
class Cut:
    """Windows (N, T, F) of sequences, filled with 0 after their ends. owner: of each the number of its sequence.

    first: the step of the sequence that it begins with. lengths: its own steps. broken: what could not be used, with why.
    """

    windows: Array
    owner: NDArray[np.int64]
    first: NDArray[np.int64]
    lengths: NDArray[np.int64]
    broken: list[tuple[str, str]]


def open_series(
    options: SeriesOptions, known: Mapping[str, Any] | None = None, *, part: Literal["all", "end"] = "all"
) -> SeriesData:
    """Read the sequences and cut them into windows; what is held out of them is the data's `held_out`.

    known: `DataSpec.extra` of other data, whose features, scales and attributes are to be used in place of their own.
    part: `end` for what is held out alone. Raises UserError where there are fewer than two windows, or where features are
    others than those of `known`.
    """
    found = read_sequences(options, known)
    share = options.held_out
    if part == "end":
        return _windows_of(options, _part(found, share, end=True), known)
    if not share:
        return _windows_of(options, found, known)
    data = _windows_of(options, _part(found, share, end=False), known)
    data.held_out = _windows_of(options, _part(found, share, end=True), data.spec.extra)
    return data


def read_sequences(options: SeriesOptions, known: Mapping[str, Any] | None = None) -> Sequences:
    """The sequences that the options name. known: as in `open_series`; what were attributes there, are here. Raises UserError."""
    if options.source in MADE:
        waves = MADE[options.source](options.count, options.window, options.features)
        return Sequences([*waves], [f"x{number + 1}" for number in range(options.features)], whole=True)
    kinds = dict(options.attributes) | {each.name: each.kind for each in attributes_of(known or {})}
    return open_sequences(options.source, Columns(options.key, options.time, options.columns, kinds))


def cut(name: str, values: list[Array], window: int, stride: int, shortest: int | None = None) -> Cut:
    """Windows that never run from one sequence into another; those that hold a value that is not a number are left out.

    shortest: steps of a sequence from which it is padded to a window; None: it is left out.
    """
    pieces, owner, first, lengths, broken = [], [], [], [], []
    least = window if shortest is None else min(shortest, window)
    for number, sequence in enumerate(values):
        steps = len(sequence)
        if steps < least:
            what = f"a window of {window}" if least == window else f"data.shortest={least}"
            broken.append((f"{name}[{number}]", f"{steps} steps are fewer than {what}"))
            continue
        whole = np.pad(sequence, ((0, max(0, window - steps)), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(whole, window, axis=0)[::stride].swapaxes(1, 2)
        good = np.isfinite(windows).all(axis=(1, 2))
        if lost := int((~good).sum()):
            broken.append((f"{name}[{number}]", f"{lost} windows hold a value that is not a number"))
        pieces.append(windows[good])
        first.append(stride * np.flatnonzero(good))
        owner.append(np.full(good.sum(), number))
        lengths.append(np.full(good.sum(), min(steps, window)))
    if not pieces:
        empty = np.empty(0, np.int64)
        return Cut(np.empty((0, window, values[0].shape[1])), empty, empty, empty, broken)
    owners, firsts, ends = (np.concatenate(each) for each in (owner, first, lengths))
    return Cut(np.concatenate(pieces), owners, firsts, ends, broken)


class SeriesData:
    """Windows of series, gathered by index into batches.

    spec: shape (T, F), count, the categories of the label as classes, and in `extra`: `features`, `low` and `high` of each
        (what 0 and 1 stand for), `channels`, `attributes`, `label`; `shown`, some windows, for pictures; and `frames`,
        what some windows have besides values: attributes, lengths, times.
    held_out: windows of the ends of the sequences, which no game learns from.
    All windows are kept on the device.
    """

    spec: DataSpec
    fingerprint: str
    broken: list[tuple[str, str]]
    held_out: SeriesData | None = None

    def __init__(
        self, options: SeriesOptions, found: Sequences, known: Mapping[str, Any] | None, channels: Channels, made: Cut
    ) -> None:
        self.name, self.broken = options.source, made.broken
        windows, there = made.windows, np.arange(made.windows.shape[1]) < made.lengths[:, None]
        if known is None:
            low, high = windows[there].min(axis=0), windows[there].max(axis=0)
            if (low == high).all():
                raise UserError(f"{self.name}: no feature ever varies, so there is nothing to learn")
        else:
            low, high = np.array(known["low"]), np.array(known["high"])
        extra: dict[str, Any] = {
            "features": channels.names, "low": low.tolist(), "high": high.tolist(), "channels": channels.plain(),
        }  # fmt: skip
        self._tensors = {"data": torch.from_numpy(to_unit(windows, extra) * there[:, :, None]).float()}
        # How files of more data are read: their columns are those of these.
        extra["reading"] = options.model_dump(include=set(READING))
        if options.shortest is not None:
            self._tensors["mask"] = torch.from_numpy(there).float()
        attributes, label = self._attributes(options, found, known, made, extra)
        extra["calendar"] = list(options.calendar)
        when = None if found.clock is None else _times(found, made, windows.shape[1])
        if options.calendar:
            self._tensors["calendar"] = torch.from_numpy(calendar(found.clock, when, options.calendar)).float()  # type: ignore[arg-type]
        self._describe(extra, options, found, made, when if options.calendar or options.gaps else None)
        classes: tuple[str, ...] = ()
        if label is not None:
            classes = tuple(label.levels)
            extra["label_counts"] = torch.bincount(self._tensors["label"], minlength=len(classes)).tolist()
            extra["label_recipe"] = "rcgan"
        self.spec = DataSpec(windows.shape[1:], classes, len(windows), extra)
        text = f"{windows.shape}{low.tolist()}{high.tolist()}{[each.plain() for each in attributes]}{classes}"
        digest = hashlib.blake2b(text.encode(), digest_size=16)
        for tensor in self._tensors.values():
            digest.update(tensor.numpy().data)
        self.fingerprint = digest.hexdigest()

    def _attributes(
        self,
        options: SeriesOptions,
        found: Sequences,
        known: Mapping[str, Any] | None,
        made: Cut,
        extra: dict[str, Any],
    ) -> tuple[list[Attribute], Attribute | None]:
        """Fit or take over the attributes, and code those of each window."""
        fitted = [fit_attribute(name, cells, options.attributes.get(name)) for name, cells in found.attributes.items()]
        attributes = fitted if known is None else attributes_of(known)
        if lacking := [each.name for each in attributes if each.name not in found.attributes]:
            raise UserError(f"{self.name}: has no attribute {lacking[0]!r}, which the other side has")
        categories = {each.name: each for each in attributes if each.kind == "category"}
        if options.label is not None and options.label not in categories:
            raise UserError(f"data.label={options.label!r} is no attribute with categories{nearest(options.label, list(categories))}")  # fmt: skip
        label = categories[options.label] if options.label else next(iter(categories.values()), None)
        if attributes:
            coded = [each.code(found.attributes[each.name]) for each in attributes]
            self._tensors["attributes"] = torch.from_numpy(np.concatenate(coded, 1)[made.owner])
        if label is not None:
            numbers = label.code(found.attributes[label.name]).argmax(1)
            self._tensors["label"] = torch.from_numpy(numbers[made.owner])
        extra["attributes"] = [each.plain() for each in attributes]
        extra["label"] = None if label is None else label.name
        return attributes, label

    def _describe(
        self, extra: dict[str, Any], options: SeriesOptions, found: Sequences, made: Cut, when: Array | None
    ) -> None:
        """Put into `extra` what games keep of single windows, and what is said of the columns."""
        data = self._tensors["data"]
        order = np.random.default_rng(0).permutation(len(data))
        shown = order[: max(1, min(SHOWN, SHOWN_VALUES // data[0].numel()))]
        extra["shown"] = data[shown].tolist()
        if "mask" in self._tensors:
            extra["shown_lengths"] = made.lengths[shown].tolist()
        frames: dict[str, list[Any]] = {}
        width = sum(each.shape[1] for each in (when, self._tensors.get("attributes")) if each is not None) + 1
        some = order[: max(1, min(FRAMES, FRAME_VALUES // width))]
        if "attributes" in self._tensors:
            frames["attributes"] = self._tensors["attributes"][some].tolist()
        if "mask" in self._tensors:
            frames["lengths"] = made.lengths[some].tolist()
        if when is not None:
            frames["times"] = when[some].tolist()
        if frames:
            extra["frames"] = frames
        # Said once, when a training begins.
        reasons: dict[str, list[str]] = {}
        for column, why in found.aside:
            if when is None or found.clock is None or column != found.clock.name:
                reasons.setdefault(why, []).append(column)
        notes = [
            f"the column {columns[0]} is left out: {why}"
            if len(columns) == 1
            else f"the columns {', '.join(columns)} are left out: {why}"
            for why, columns in reasons.items()
        ]
        if options.missing != "leave_out" and (holes := channels_of(extra).holes):
            what = (
                "repeat the last one" if options.missing == "forward" else "repeat the last one, and games learn where"
            )
            notes.append(f"missing values of {', '.join(holes)} {what}")
        if notes:
            extra["label_note"] = "; ".join(notes)

    def __len__(self) -> int:
        return len(self._tensors["data"])

    def to(self, device: torch.device) -> Self:
        """Keep all windows on `device` from now on."""
        self._tensors = {name: value.to(device) for name, value in self._tensors.items()}
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        """The windows at `indices` (N,): `data` float32 (N, T, F), the data's least value of a feature 0, its largest 1.

        Where there are such: `mask` (N, T), 1 for a window's own steps and 0 for those that fill it up (`data` is 0 there);
        `attributes` float32 (N, K) and of these `label` (N,), the number of its class; `calendar` (N, T, C).
        """
        where = indices.to(self._tensors["data"].device)
        return Batch({name: value.index_select(0, where) for name, value in self._tensors.items()})


def to_unit(values: NDArray[Any], scaling: Mapping[str, Any]) -> Array:
    """Values (…, F) in the data's units, as games see them: 0 for `low`, 1 for `high`; 0 where these are one."""
    low, span = np.array(scaling["low"]), np.array(scaling["high"]) - np.array(scaling["low"])
    return (values.astype(np.float64) - low) / np.where(span > 0, span, np.inf)


def from_unit(values: NDArray[Any], scaling: Mapping[str, Any]) -> Array:
    """What `to_unit` was given, back in the data's units."""
    low, span = np.array(scaling["low"]), np.array(scaling["high"]) - np.array(scaling["low"])
    return values.astype(np.float64) * span + low


def _windows_of(options: SeriesOptions, found: Sequences, known: Mapping[str, Any] | None) -> SeriesData:
    name = options.source
    codes = returns_of(known or {})
    if options.returns or codes:
        found, codes = _returns(options, found, codes)
    if found.clock is None and (options.gaps or options.calendar):
        which = "data.gaps" if options.gaps else "data.calendar"
        raise UserError(
            f"{name}: {which} wants a column of dates, the year first; name a column of numbers with data.time"
        )
    if options.gaps and options.calendar:
        raise UserError("data.gaps draws the times that data.calendar would take: leave one of them out")
    channels, values = Channels.of(name, found, options.missing, options.gaps, known)
    made = cut(name, values, options.window, options.stride, options.shortest)
    if len(made.windows) < 2:
        pads = "; data.shortest pads them" if made.broken and options.shortest is None and len(found.values) > 1 else ""
        reason = f" ({made.broken[0][0]}: {made.broken[0][1]}{pads})" if made.broken else ""
        raise UserError(
            f"{name}: {len(made.windows)} usable windows of {options.window} steps; a distribution needs at least two{reason}"
        )
    data = SeriesData(options, found, known, channels, made)
    if codes:
        data.spec.extra["returns"] = plain(codes)
    return data


def _returns(options: SeriesOptions, found: Sequences, codes: list[Returns]) -> tuple[Sequences, list[Returns]]:
    """Prices as returns, by `codes` where there are any. Raises UserError for what paths of prices cannot have beside them."""
    beside = {"shortest": options.shortest is not None, "gaps": options.gaps, "calendar": bool(options.calendar),
              "missing": options.missing != "leave_out"}  # fmt: skip
    if strange := [name for name, there in beside.items() if there]:
        raise UserError(
            f"data.{strange[0]}: paths of prices are of one length, even and whole: leave it out, or data.returns"
        )
    return code_returns(options.source, found, options.returns, tails=options.tails, known=codes or None)


def _part(found: Sequences, share: float, *, end: bool) -> Sequences:
    """The last share of each sequence, or what is before; of sequences that are samples already, the last of these."""
    if found.whole:
        border = len(found.values) - round(share * len(found.values))
        return replace(found, values=found.values[border:] if end else found.values[:border])

    def of(each: Array) -> Array:
        border = len(each) - round(share * len(each))
        return each[border:] if end else each[:border]

    return replace(found, values=[of(each) for each in found.values], times=[of(each) for each in found.times])


def _times(found: Sequences, made: Cut, window: int) -> Array:
    """When the steps of windows are, (N, T); those after the end of a sequence, when the last one is."""
    steps = made.first[:, None] + np.minimum(np.arange(window), made.lengths[:, None] - 1)
    return np.stack([found.times[owner][row] for owner, row in zip(made.owner, steps, strict=True)])
