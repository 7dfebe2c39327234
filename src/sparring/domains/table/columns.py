"""Columns of a table: what kind each is, and how its values become numbers that networks make, and values again.

A column is *coded* as a whole number a row, its level or mode, and for continuous ones a place within the mode, in
[−1, 1]. A row of the encoded table has, column by column, the place and a one-hot of the number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import skew

from sparring.data.frames import pandas
from sparring.domains.table.levels import TRUTHS, fit_levels, level_numbers
from sparring.domains.table.mixtures import FEW, fit_modes
from sparring.errors import UserError, nearest

if TYPE_CHECKING:
    from pandas import Series

KINDS = ("number", "continuous", "integer", "date", "category", "ordinal", "boolean", "constant", "key", "drop")
"""What a user can say a column is. In a fitted one `number` is continuous or integer, ordinal and boolean are categories."""
NUMBERS = ("continuous", "integer", "date")
MODES, LIGHTEST = 10, 0.005
WIDTH = 4.0  # deviations of a mode that a place of 1 lies from its centre (Xu et al. 2019, section 4.2)
FAR = 1e9  # deviations
BINS = 30  # of the histogram of a column of numbers
OPTIONS = ("kind", "order", "format", "log")  # of a column
TAIL = 3.0  # skewness above which a column of numbers has a long tail; of an exponential distribution it is 2
IDS, WORDS = 20, 4  # rows from which different values are ids, words of a cell from which it is prose

UNITS = (86400.0, 3600.0, 60.0)  # seconds that dates may be multiples of
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class Column:
    """A fitted column, plain JSON values.

    rows: that it was fitted on.
    levels, counts: of a category, None being the missing ones; the last stands for all `rare` ones, if there are any. Of numbers
    there are counts alone, of the modes.
    ordered: the levels are in their order, the missing one last; guessed: which is that of the alphabet, since nobody said one. boolean: they are two answers, in whatever words.
    categories, of: all that a column of pandas' own categories can have, and of which type; ranked: whether they had an order.
    centres, deviations: of the modes of numbers, 0 of those that are one value; missing ones have one more mode, of `missing` rows.
    log: modes are of log(1 + x − low), and not of the number x.
    text: dates that were text, in the format `form`, zone `zone`. unit: seconds that all dates are multiples of, which 32 bits
    would lose. limits: the ends of whole numbers that float64 does not hold. bins, shares: a histogram of numbers, for pictures.
    """

    name: str
    kind: str
    dtype: str
    rows: int = 0
    levels: list[Any] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    rare: list[Any] = field(default_factory=list)
    rare_counts: list[int] = field(default_factory=list)
    ordered: bool = False
    guessed: bool = False
    boolean: bool = False
    categories: list[Any] | None = None
    of: str = ""
    ranked: bool = False
    centres: list[float] = field(default_factory=list)
    deviations: list[float] = field(default_factory=list)
    missing: int = 0
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    decimals: int = 0
    text: bool = False
    form: str = ""
    zone: str = ""
    unit: float = 1.0
    limits: list[int] = field(default_factory=list)
    bins: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict, from which the constructor makes it again."""
        return {name: list(value) if isinstance(value, list) else value for name, value in vars(self).items()}

    @property
    def places(self) -> int:
        """Places within modes that the column has in an encoded row, 0 or 1."""
        return int(self.kind in NUMBERS)

    @property
    def size(self) -> int:
        """Levels or modes: the length of its one-hot; 0 for what is not modelled."""
        if self.kind in NUMBERS:
            return len(self.centres) + (self.missing > 0)
        return len(self.levels) if self.kind == "category" else 0

    def code(self, values: Series) -> tuple[Ints, Floats]:
        """The number (N,) of each value, and its place (N,). Raises UserError for a level that the column has not."""
        if self.kind in NUMBERS:
            return self.code_numbers(numbers(values, self.kind, self.form))
        number = {level: place for place, level in enumerate(self.levels)}
        number |= {level: len(self.levels) - 1 for level in self.rare}
        places, there = level_numbers(values)
        for level in there:
            if level not in number:
                raise UserError(f"column {self.name!r}: {level!r} is not among its categories")
        return np.array([number[level] for level in there], np.int64)[places], np.zeros(len(values))

    def code_numbers(self, given: Floats) -> tuple[Ints, Floats]:
        """The same of values as `numbers` gives them, NaN for what is missing."""
        there = np.isfinite(given)
        if not there.all() and not self.missing:
            raise UserError(f"column {self.name!r}: has missing values, which it had not before")
        centres, deviations = np.array(self.centres), np.array(self.deviations)
        # From itself a single value is not far at all, and from all others farther than any mode of a width.
        single = deviations == 0
        scaled = np.where(there, given, self.low)
        away = (np.log1p((scaled - self.low).clip(0)) if self.log else scaled)[:, None] - centres
        far = np.where(single, np.where(away == 0, 0.0, FAR + np.abs(away)), away / np.where(single, 1.0, deviations))
        # The nearest mode, in its own deviations: every value is decoded to itself, if within its reach.
        number = np.abs(far).argmin(1)
        place = np.take_along_axis(far, number[:, None], 1)[:, 0] / WIDTH
        placed = there & ~single[number]
        return np.where(there, number, len(centres)), np.where(placed, place.clip(-0.99, 0.99), 0.0)

    def decode(self, number: Ints, place: Floats, luck: NDArray[np.uint64], start: int = 0) -> Series:
        """Values of the column's own dtype. luck: of each row, for rare levels. start: rows before these: keys count on."""
        pd = pandas()
        if self.kind == "constant":
            return self.typed([self.levels[0]] * len(number))
        if self.kind == "key":
            ids = np.arange(start, start + len(number))
            return pd.Series(ids + int(self.low) if self.dtype.startswith(("int", "uint")) else [f"{self.name}-{i}" for i in ids]).astype(self.dtype)  # fmt: skip
        if self.kind == "category":
            values = _objects(self.levels)[number]
            if self.rare:
                bucket = number == len(self.levels) - 1
                below = np.cumsum(self.rare_counts) / sum(self.rare_counts)
                values[bucket] = _objects(self.rare)[np.searchsorted(below, _uniform(luck[bucket], self.name), "right")]
            return self.typed(values)
        here = number < len(self.centres)
        safe = np.where(here, number, 0)
        value = np.array(self.centres)[safe] + WIDTH * place * np.array(self.deviations)[safe]
        if self.log:
            value = self.low + np.expm1(value.clip(0, np.log1p(self.high - self.low)))
        return self.series(value, here)

    def series(self, value: Floats, here: NDArray[np.bool_]) -> Series:
        """Numbers (N,), as `numbers` gives them, in the column's own dtype, range and decimals; missing where not `here`."""
        pd = pandas()
        value = (self.unit * np.round(value / self.unit, self.decimals)).clip(self.low, self.high)
        if self.kind == "date":
            return self._dates(value, here)
        if self.dtype.lower().startswith(("int", "uint")):
            if here.all() and not self.limits:
                return pd.Series(value.round().astype(np.int64)).astype(self.dtype)
            whole = pd.Series(pd.array(self._exact(value), "Int64" if self.dtype[0] in "iI" else "UInt64"))
            whole[~here] = pd.NA
            return whole.astype(self.dtype)
        given = pd.Series(np.where(here, value, np.nan))
        return (pd.to_timedelta(given, unit="s") if self.dtype.startswith("timedelta") else given).astype(self.dtype)

    def _exact(self, value: Floats) -> Any:
        """Whole numbers, within limits that float64 does not hold where there are such."""
        if not self.limits:
            return value.round()
        low, high = self.limits
        return [min(max(int(each), low), high) for each in value]

    def _dates(self, value: Floats, here: NDArray[np.bool_]) -> Series:
        steps = np.where(here, value, 0) * (1e6 if self.decimals else 1)
        when = pandas().Series(steps.round().astype(np.int64).view(f"datetime64[{'us' if self.decimals else 's'}]"))
        when[~here] = pandas().NaT
        zone = self.zone or getattr(pandas().api.types.pandas_dtype(self.dtype), "tz", None)
        if zone:
            when = when.dt.tz_localize("UTC").dt.tz_convert(zone)
        if not self.text:
            return when.astype(self.dtype)
        days = not zone and self.low % 86400 == 0 and self.high % 86400 == 0
        times = f"%Y-%m-%dT%H:%M:%S{'.%f' * bool(self.decimals)}{'%z' * bool(zone)}"
        return when.dt.strftime(self.form or ("%Y-%m-%d" if days else times)).astype(self.dtype)

    def typed(self, values: Any) -> Series:
        """Levels in the column's dtype."""
        pd = pandas()
        if self.categories is None:
            return pd.Series(values, dtype=object).astype(self.dtype)
        return pd.Series(pd.Categorical(values, pd.Index(self.categories, dtype=self.of), ordered=self.ranked))


def fit_column(values: Series, options: Mapping[str, Any], most: int, *, log_tails: bool = False) -> Column | None:
    """Describe a column; None for one that is left out. Raises UserError.

    options: `kind`; `order`, of an ordinal column all its levels; `format`, of dates that are text (`%d.%m.%Y`).
    Of numbers also `log`, whether modes are of their logarithm. most: levels at most. log_tails: of numbers with a long tail they
    are, unless `log` says otherwise.
    """
    name = str(values.name)
    given = {key: value for key, value in options.items() if value is not None}
    if strange := [key for key in given if key not in OPTIONS]:
        raise UserError(f"unknown key 'data.columns.{name}.{strange[0]}'{nearest(strange[0], OPTIONS)}")
    if not isinstance(given.get("log", False), bool):
        raise UserError(f"data.columns.{name}.log is true or false, not {given['log']!r}")
    implied = "ordinal" if "order" in given else "date" if "format" in given else None
    kind = given.get("kind") or implied or infer(values)
    if kind not in KINDS:
        raise UserError(f"data.columns.{name}.kind is {kind!r}; there are {', '.join(KINDS)}")
    if implied not in (None, kind):
        raise UserError(f"data.columns.{name}: a {kind} column has no {'order' if implied == 'ordinal' else 'format'}")
    if kind == "drop":
        return None
    if kind == "number":
        kind = _number_kind(values)
    column = Column(name, kind, str(values.dtype), len(values))
    if isinstance(values.dtype, pandas().CategoricalDtype):
        column.categories, column.ranked = _categories(values), bool(values.cat.ordered)
        column.of = str(values.cat.categories.dtype)
    if kind == "key" and column.dtype.startswith(("int", "uint")):
        column.low = float(values.min())
    elif kind == "constant":
        column.levels = level_numbers(values)[1]
    elif kind in NUMBERS:
        _fit_numbers(column, values, given.get("format", ""), given.get("log", None if log_tails else False))
    elif kind != "key":
        column.kind, column.ordered, column.boolean = "category", kind == "ordinal", kind == "boolean"
        levels = fit_levels(values, most, ordered=column.ordered, order=given.get("order"))
        column.levels, column.counts, column.rare, column.rare_counts = levels
        said = given.get("order") is not None or column.ranked
        column.guessed = column.ordered and not said and any(isinstance(level, str) for level in column.levels)
        column.missing = dict(zip(column.levels, column.counts, strict=True)).get(None, 0)
        if column.boolean and any(str(level).lower() not in TRUTHS for level in column.levels if level is not None):
            strange = [level for level in column.levels if str(level).lower() not in TRUTHS and level is not None]
            raise UserError(
                f"column {name!r} is no boolean column: it has {strange[0]!r}; there are {', '.join(TRUTHS)}"
            )
    return column


def _categories(values: Series) -> list[Any]:
    """All that a column of pandas' categories can have, as plain values. Raises UserError for what are none."""
    there = values.cat.categories
    if there.dtype.kind not in "Obiuf" or pandas().api.types.infer_dtype(there) not in (
        "string", "integer", "floating", "boolean", "empty", "mixed-integer", "mixed",
    ):  # fmt: skip
        raise UserError(f"column {values.name!r} has categories that are {there.dtype}: make them text")
    return [each.item() if isinstance(each, np.generic) else each for each in there]


def _number_kind(values: Series) -> str:
    there = numbers(values, "continuous")
    there = there[np.isfinite(there)]
    return "integer" if len(there) and not (there % 1).any() else "continuous"


def infer(values: Series) -> str:
    """The kind of a column. Raises UserError for prose."""
    types = pandas().api.types
    if str(values.dtype).startswith(("period", "interval", "complex", "Sparse")):
        raise UserError(
            f"column {values.name!r} is of the type {values.dtype}, which is not modelled: turn it into another, "
            f"or leave it out with --set data.columns.{values.name}.kind=drop"
        )
    there = values.dropna()
    different = there.nunique()
    if different + (len(there) < len(values)) <= 1:
        return "constant"
    if isinstance(values.dtype, pandas().CategoricalDtype):
        return "ordinal" if values.cat.ordered else "category"
    if types.is_bool_dtype(values):
        return "boolean"
    if types.is_timedelta64_dtype(values):
        return "continuous"
    if types.is_datetime64_any_dtype(values):
        return "date"
    if types.is_numeric_dtype(values):
        if different <= 2:
            return "category"
        whole = types.is_integer_dtype(values)
        if whole and different == len(values) >= IDS and int(there.max()) - int(there.min()) == len(values) - 1:
            return "key"
        return "integer" if whole or bool((there % 1 == 0).all()) else "continuous"
    text = pandas().Series(there.unique()).astype(str)
    if text.str.match(r"\d{4}-\d\d-\d\d").all():
        try:
            pandas().to_datetime(text, format="ISO8601")
            return "date"
        except ValueError:
            pass
    if different > len(there) / 2 and len(there) >= IDS:
        if text.str.split().str.len().mean() >= WORDS:
            raise UserError(
                f"column {values.name!r} is free text, which is not modelled: "
                f"leave it out with --set data.columns.{values.name}.kind=drop, or say category"
            )
        if different == len(values):
            return "key"
    return "category"


def numbers(values: Series, kind: str, form: str = "") -> Floats:
    """Values as float64, dates in seconds since 1970 and durations in seconds; NaN for what is missing or infinite.

    form: of dates that are text, empty for ISO 8601. Raises UserError.
    """
    pd = pandas()
    try:
        if kind == "date":
            stamps = _stamps(values, form)
            found = np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64) / 1e6)
        elif values.dtype.kind == "m":
            found = values.dt.total_seconds().to_numpy(float, na_value=np.nan)
        else:
            found = pd.to_numeric(values).astype("Float64").to_numpy(float, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise UserError(f"column {values.name!r} is no {kind} column: {str(error).splitlines()[0]}") from None
    return np.where(np.isfinite(found), found, np.nan)


def _stamps(values: Series, form: str) -> NDArray[np.datetime64]:
    """Dates in microseconds of UTC, NaT for missing ones. Raises ValueError."""
    when = values if values.dtype.kind == "M" else pandas().to_datetime(values.astype(object), format=form or "ISO8601")
    if when.dtype.kind != "M":
        raise ValueError("its times are of several zones")
    return (when if when.dt.tz is None else when.dt.tz_convert(None)).to_numpy().astype("datetime64[us]")


def _bins(column: Column) -> Floats:
    """Edges of a histogram; of whole numbers as many to a bin everywhere, or there would be teeth that the data have not."""
    if column.kind != "integer":
        return (
            np.linspace(column.low, column.high, BINS + 1)
            if column.high > column.low
            else column.low + np.array([-0.5, 0.5])
        )
    width = max(1.0, np.ceil((column.high - column.low + 1) / BINS))
    return column.low - 0.5 + width * np.arange(np.ceil((column.high - column.low + 1) / width) + 1)


def _uniform(luck: NDArray[np.uint64], name: str) -> Floats:
    """Numbers in [0, 1) from those of rows and a column's name, by the mixing of SplitMix64 (Steele et al. 2014)."""
    mixed = luck + np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


def _objects(levels: list[Any]) -> NDArray[np.object_]:
    """Levels as an array of themselves, whatever they are."""
    array = np.empty(len(levels), object)
    array[:] = levels
    return array


def long_tailed(values: Floats) -> bool:
    """Whether numbers that are not the most frequent one are skewed by more than `TAIL`: a heap of zeros is a mode, and no tail."""
    points, counts = np.unique(values, return_counts=True)
    rest = values[values != points[counts.argmax()]]
    return len(points) > FEW and float(skew(rest)) > TAIL


def _fit_numbers(column: Column, values: Series, form: str, log: bool | None) -> None:
    given = numbers(values, column.kind, form)
    there = given[np.isfinite(given)]
    if not len(there):
        raise UserError(f"column {column.name!r} holds no number")
    column.missing = len(given) - len(there)
    column.low, column.high = float(there.min()), float(there.max())
    column.text, column.form = column.kind == "date" and values.dtype.kind != "M", form
    if column.text:
        zone = pandas().to_datetime(values.astype(object), format=form or "ISO8601").dt.tz
        column.zone = "" if zone is None else str(zone)
    if column.kind == "date":
        column.unit = next((unit for unit in UNITS if not (there % unit).any()), 1.0)
        column.decimals = 6 * bool((there % 1).any())
    if max(abs(column.low), abs(column.high)) > 2**53 and column.dtype.lower().startswith(("int", "uint")):
        column.limits = [int(values.min()), int(values.max())]
    if column.kind == "continuous":
        # As many decimals as the data are written in.
        sample = there[:1000]
        column.decimals = next((n for n in range(12) if np.allclose(np.round(sample, n), sample, rtol=1e-12, atol=0)), 12)  # fmt: skip
    column.log = column.kind != "date" and (long_tailed(there) if log is None else log)
    scaled = np.log1p(there - column.low) if column.log else there
    centres, deviations = fit_modes(scaled, MODES, LIGHTEST)
    column.centres, column.deviations = centres.tolist(), deviations.tolist()
    # No value may lie out of reach of all modes, or it would come back as another.
    number, place = column.code_numbers(there)
    if np.abs(place).max() >= 0.99:
        low, high = float(scaled.min()), float(scaled.max())
        column.centres.append((low + high) / 2)
        column.deviations.append(max((high - low) / (1.9 * WIDTH), 1e-9))
        number, _ = column.code_numbers(there)
    column.counts = np.bincount(number, minlength=len(column.centres)).tolist() + [column.missing] * (
        column.missing > 0
    )
    shares, bins = np.histogram(there, _bins(column))
    column.bins, column.shares = bins.tolist(), (shares / len(there)).tolist()
