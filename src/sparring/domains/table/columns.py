"""Columns of a table: what kind each is, and how its values become numbers that networks make, and values again.

A column is *coded* as a whole number a row, its level or mode, and for continuous ones a place within the mode, in
[−1, 1]. A row of the encoded table has, column by column, the place and a one-hot of the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparring.data.frames import pandas
from sparring.domains.table.mixtures import fit_modes
from sparring.errors import UserError

if TYPE_CHECKING:
    from pandas import Series

KINDS = ("continuous", "integer", "date", "category", "constant", "key", "drop")
NUMBERS = ("continuous", "integer", "date")
MODES, LIGHTEST = 10, 0.005
WIDTH = 4.0  # deviations of a mode that a place of 1 lies from its centre (Xu et al. 2019, section 4.2)
FAR = 1e9  # deviations
BINS = 30  # of the histogram of a column of numbers
IDS, WORDS = 20, 4  # rows from which different values are ids, words of a cell from which it is prose

UNITS = (86400.0, 3600.0, 60.0)  # seconds that dates may be multiples of
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class Column:
    """A fitted column, plain JSON values.

    rows: that it was fitted on.
    levels, counts: of a category, None being the missing ones; the last stands for all `rare` ones, if there are any.
    centres, deviations: of the modes of numbers, 0 of those that are one value; missing ones have one more mode, of `missing` rows.
    text: dates that were text. unit: seconds that all dates are multiples of, which 32 bits would lose. bins, shares: a histogram of numbers, for pictures.
    """

    name: str
    kind: str
    dtype: str
    rows: int = 0
    levels: list[Any] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    rare: list[Any] = field(default_factory=list)
    rare_counts: list[int] = field(default_factory=list)
    centres: list[float] = field(default_factory=list)
    deviations: list[float] = field(default_factory=list)
    missing: int = 0
    low: float = 0.0
    high: float = 0.0
    decimals: int = 0
    text: bool = False
    unit: float = 1.0
    bins: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict, from which the constructor makes it again."""
        return asdict(self)

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
            return self.code_numbers(numbers(values, self.kind))
        number = {level: place for place, level in enumerate(self.levels)}
        number |= {level: len(self.levels) - 1 for level in self.rare}
        places, there = _factorized(values)
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
        away = np.where(there, given, 0.0)[:, None] - centres
        far = np.where(single, np.where(away == 0, 0.0, FAR + np.abs(away)), away / np.where(single, 1.0, deviations))
        # The nearest mode, in its own deviations: every value is decoded to itself, if within its reach.
        number = np.abs(far).argmin(1)
        place = np.take_along_axis(far, number[:, None], 1)[:, 0] / WIDTH
        placed = there & ~single[number]
        return np.where(there, number, len(centres)), np.where(placed, place.clip(-0.99, 0.99), 0.0)

    def decode(self, number: Ints, place: Floats, rng: np.random.Generator, start: int = 0) -> Series:
        """Values of the column's own dtype. start: rows before these, for keys, which count on."""
        pd = pandas()
        if self.kind == "constant":
            return pd.Series([self.levels[0]] * len(number)).astype(self.dtype)
        if self.kind == "key":
            ids = np.arange(start, start + len(number))
            return pd.Series(ids + int(self.low) if self.dtype.startswith(("int", "uint")) else [f"{self.name}-{i}" for i in ids]).astype(self.dtype)  # fmt: skip
        if self.kind == "category":
            values = _objects(self.levels)[number]
            if self.rare:
                bucket = number == len(self.levels) - 1
                share = np.array(self.rare_counts) / sum(self.rare_counts)
                values[bucket] = _objects(self.rare)[rng.choice(len(self.rare), int(bucket.sum()), p=share)]
            return pd.Series(values, dtype=object).astype(self.dtype)
        here = number < len(self.centres)
        safe = np.where(here, number, 0)
        value = np.array(self.centres)[safe] + WIDTH * place * np.array(self.deviations)[safe]
        value = (self.unit * np.round(value / self.unit, self.decimals)).clip(self.low, self.high)
        if self.kind == "date":
            when = pd.Series(pd.to_datetime(value, unit="s").round("s" if self.decimals == 0 else "ns"))
            when[~here] = pd.NaT
            form = "%Y-%m-%d" if self.low % 86400 == 0 and self.high % 86400 == 0 else "%Y-%m-%dT%H:%M:%S"
            return when.dt.strftime(form).astype(self.dtype) if self.text else when.astype(self.dtype)
        if self.dtype.lower().startswith(("int", "uint")):
            if here.all():
                return pd.Series(value.round().astype(np.int64)).astype(self.dtype)
            whole = pd.Series(value.round()).astype("Int64")
            whole[~here] = pd.NA
            return whole.astype(self.dtype)
        return pd.Series(np.where(here, value, np.nan)).astype(self.dtype)


def fit_column(values: Series, options: Mapping[str, Any], most: int) -> Column | None:
    """Describe a column; None for one that is left out. options: `kind`. most: levels at most. Raises UserError."""
    name = str(values.name)
    kind = options.get("kind") or infer(values)
    if kind not in KINDS:
        raise UserError(f"data.columns.{name}.kind is {kind!r}; there are {', '.join(KINDS)}")
    if kind == "drop":
        return None
    column = Column(name, kind, str(values.dtype), len(values))
    if kind == "key" and column.dtype.startswith(("int", "uint")):
        column.low = float(values.min())
    elif kind == "constant":
        column.levels = _factorized(values)[1]
    elif kind == "category":
        _fit_levels(column, values, most)
    elif kind in NUMBERS:
        _fit_numbers(column, values)
    return column


def infer(values: Series) -> str:
    """The kind of a column. Raises UserError for prose."""
    types = pandas().api.types
    there = values.dropna()
    different = there.nunique()
    if different + (len(there) < len(values)) <= 1:
        return "constant"
    if types.is_bool_dtype(values):
        return "category"
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


def numbers(values: Series, kind: str) -> Floats:
    """Values as float64, dates in seconds since 1970; NaN for what is missing or infinite. Raises UserError."""
    pd = pandas()
    try:
        if kind == "date":
            when = pd.to_datetime(values, format="ISO8601") if values.dtype.kind not in "M" else values
            found = (when - pd.Timestamp(0, tz=when.dt.tz)).dt.total_seconds().to_numpy(float, na_value=np.nan)
        else:
            found = pd.to_numeric(values).astype("Float64").to_numpy(float, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise UserError(f"column {values.name!r} is no {kind} column: {str(error).splitlines()[0]}") from None
    return np.where(np.isfinite(found), found, np.nan)


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


def _objects(levels: list[Any]) -> NDArray[np.object_]:
    """Levels as an array of themselves, whatever they are."""
    array = np.empty(len(levels), object)
    array[:] = levels
    return array


def _factorized(values: Series) -> tuple[Ints, list[Any]]:
    """Of each value the number of its level, and the levels as plain values, in the order in which they come; None: missing."""
    places, there = pandas().factorize(values, use_na_sentinel=True)
    levels = [each.item() if isinstance(each, np.generic) else each for each in there]
    if (places < 0).any():
        places = np.where(places < 0, len(levels), places)
        levels.append(None)
    return places, levels


def _fit_levels(column: Column, values: Series, most: int) -> None:
    places, there = _factorized(values)
    counts = dict(zip(there, np.bincount(places).tolist(), strict=True))
    # Most frequent first, equal ones by name; what is too rare for a level of its own shares the last.
    order = sorted(counts, key=lambda level: (-counts[level], str(level)))
    column.missing = counts.get(None, 0)
    kept, rare = (order, []) if len(order) <= most else (order[: most - 1], order[most - 1 :])
    column.levels, column.counts = list(kept), [counts[level] for level in kept]
    if rare:
        column.rare, column.rare_counts = rare, [counts[level] for level in rare]
        column.levels.append("(rare)")
        column.counts.append(sum(column.rare_counts))


def _fit_numbers(column: Column, values: Series) -> None:
    given = numbers(values, column.kind)
    there = given[np.isfinite(given)]
    if not len(there):
        raise UserError(f"column {column.name!r} holds no number")
    column.missing = len(given) - len(there)
    column.low, column.high = float(there.min()), float(there.max())
    column.text = column.kind == "date" and values.dtype.kind != "M"
    if column.kind == "date":
        column.unit = next((unit for unit in UNITS if not (there % unit).any()), 1.0)
    if column.kind == "continuous":
        # As many decimals as the data are written in.
        sample = there[:1000]
        column.decimals = next((n for n in range(12) if np.allclose(np.round(sample, n), sample, rtol=1e-12, atol=0)), 12)  # fmt: skip
    centres, deviations = fit_modes(there, MODES, LIGHTEST)
    column.centres, column.deviations = centres.tolist(), deviations.tolist()
    # No value may lie out of reach of all modes, or it would come back as another.
    _, place = column.code_numbers(there)
    if np.abs(place).max() >= 0.99:
        column.centres.append((column.low + column.high) / 2)
        column.deviations.append(max((column.high - column.low) / (1.9 * WIDTH), 1e-9))
    shares, bins = np.histogram(there, _bins(column))
    column.bins, column.shares = bins.tolist(), (shares / len(there)).tolist()
