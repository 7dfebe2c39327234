"""Static attributes: what a sequence has once and for all, as numbers that networks see, and as a user asks for them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.core.labels import Labels, Wish
from sparring.errors import UserError, nearest

Kind = Literal["category", "number"]
MOST = 20  # whole numbers of at most so many kinds are categories
MISSING = "missing"  # the category of empty cells


@dataclass(frozen=True)
class Attribute:
    """A static attribute, plain JSON values.

    levels, counts: of a category, and how many sequences have each. mean, deviation, low, high: of numbers.
    """

    name: str
    kind: Kind
    levels: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    mean: float = 0.0
    deviation: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict, from which the constructor makes it again."""
        return asdict(self)

    @property
    def size(self) -> int:
        """Numbers that it is coded in: a one-hot, or one."""
        return len(self.levels) if self.kind == "category" else 1

    def code(self, cells: Sequence[str]) -> NDArray[np.float32]:
        """Cells as numbers (N, size). Raises UserError for a category that there was not, and for what is no number."""
        if self.kind == "number":
            return ((_numbers(self.name, cells) - self.mean) / self.deviation)[:, None].astype(np.float32)
        place = {level: number for number, level in enumerate(self.levels)}
        for cell in cells:
            if said(cell) not in place:
                raise UserError(f"attribute {self.name!r}: {said(cell)!r} is not among its categories")
        return np.eye(self.size, dtype=np.float32)[[place[said(cell)] for cell in cells]]

    def text(self, coded: NDArray[Any]) -> list[str]:
        """The cells of numbers (N, size)."""
        if self.kind == "category":
            levels = ["" if level == MISSING else level for level in self.levels]
            return [levels[number] for number in coded.argmax(1)]
        return [f"{value:.6g}" for value in coded[:, 0].astype(np.float64) * self.deviation + self.mean]


def fit_attribute(name: str, cells: Sequence[str], kind: str | None = None) -> Attribute:
    """Describe an attribute of which each sequence has a cell. kind: None tells it by the cells. Raises UserError."""
    if kind is None:
        kind = "category" if _few(cells) else "number"
    if kind == "category":
        counts = dict.fromkeys(sorted({said(cell) for cell in cells}, key=_order), 0)
        for cell in cells:
            counts[said(cell)] += 1
        return Attribute(name, "category", list(counts), list(counts.values()))
    values = _numbers(name, cells)
    return Attribute(
        name, "number", mean=float(values.mean()), deviation=float(values.std()) or 1.0,
        low=float(values.min()), high=float(values.max()),
    )  # fmt: skip


def attributes_of(extra: Mapping[str, Any]) -> list[Attribute]:
    """The attributes that a specification's `extra` holds."""
    return [Attribute(**each) for each in extra.get("attributes", [])]


class SeriesLabels(Labels):
    """All attributes as a vector (K,): a one-hot of each category, and numbers with mean 0 and deviation 1.

    names: `attribute=category`, or `attribute` for numbers. label: of which attribute the categories are the classes.
    """

    def __init__(self, attributes: Sequence[Attribute], label: str | None, rows: Tensor) -> None:
        names = [
            each.name if each.kind == "number" else f"{each.name}={level}"
            for each in attributes
            for level in (each.levels if each.kind == "category" else [""])
        ]
        super().__init__(tuple(names), kind="attributes", rows=rows if len(rows) else independent(attributes))
        self.attributes, self.label = list(attributes), label

    def places(self, name: str) -> slice:
        """Where in the vector an attribute is."""
        start = 0
        for each in self.attributes:
            if each.name == name:
                return slice(start, start + each.size)
            start += each.size
        raise UserError(f"there is no attribute {name!r} to ask for{nearest(name, self._known)}")

    def ask(self, wish: Wish) -> Tensor:
        """`"digit=3,speaker=theo"`, a mapping, or a category alone where only one attribute has it; NaN where nothing is asked.

        Raises UserError for an attribute or a category that there is not, and for a number that the data have not.
        """
        given = dict(wish) if isinstance(wish, Mapping) else self._read(str(wish))
        asked = torch.full((len(self.names),), math.nan)
        for name, level in given.items():
            place = self.places(str(name))
            attribute = next(each for each in self.attributes if each.name == name)
            if attribute.kind == "number":
                (number,) = _numbers(attribute.name, [str(level)])
                margin = 1e-3 * (attribute.high - attribute.low)
                if not attribute.low - margin <= number <= attribute.high + margin:
                    raise UserError(
                        f"--label {name}={number:.4g}: the data's are from {attribute.low:.4g} to {attribute.high:.4g}"
                    )
                asked[place] = (number - attribute.mean) / attribute.deviation
            elif str(level) in attribute.levels:
                asked[place] = torch.eye(attribute.size)[attribute.levels.index(str(level))]
            else:
                shown = ", ".join(attribute.levels)
                raise UserError(
                    f"attribute {name!r} has no {level!r}{nearest(str(level), attribute.levels)}; it has {shown}"
                )
        return asked

    def open(self, condition: Tensor | None) -> bool:
        """Whether anything is left to the data."""
        return condition is None or bool(condition.isnan().any())

    def sheet(self, count: int) -> tuple[Tensor, Tensor, list[str]]:
        """About `count` wishes: each category of the label equally often, the rest as the data have it."""
        if self.label is None:
            return torch.full((count, len(self.names)), math.nan), torch.zeros(count, dtype=torch.int64), ["sequences"]
        place = self.places(self.label)
        levels = next(each.levels for each in self.attributes if each.name == self.label)
        rows = torch.arange(len(levels)).repeat_interleave(max(1, count // len(levels)))
        asked = torch.full((len(rows), len(self.names)), math.nan)
        asked[:, place] = torch.eye(len(levels))[rows]
        return asked, rows, list(levels)

    def units(self, label: Tensor) -> Tensor:
        return label

    @property
    def _known(self) -> list[str]:
        return [each.name for each in self.attributes]

    def _read(self, wish: str) -> dict[str, str]:
        """`attribute=value,attribute=value`; a comma that no attribute's name follows belongs to a value."""
        owners = [each.name for each in self.attributes if wish in each.levels]
        if owners:
            if len(owners) > 1 and self.label not in owners:
                raise UserError(f"{wish!r} may be of {' or '.join(owners)}: write {owners[0]}={wish}")
            return {self.label if self.label in owners else owners[0]: wish}  # type: ignore[dict-item]
        starts = "|".join(map(re.escape, sorted(self._known, key=len, reverse=True)))
        given: dict[str, str] = {}
        for part in re.split(rf",\s*(?=(?:{starts})\s*=)", wish):
            name, equals, level = part.partition("=")
            if not equals:
                raise UserError(f"{part.strip()!r} is no category of {', '.join(self._known)}; write {self.names[0]}")
            given[name.strip()] = level.strip()
        return given


def independent(attributes: Sequence[Attribute], count: int = 1024) -> Tensor:
    """Rows (count, K) in which each attribute is as frequent as in the data, by itself: for want of the data's own rows."""
    rng = torch.Generator().manual_seed(0)
    parts = []
    for each in attributes:
        if each.kind == "category":
            drawn = torch.multinomial(torch.tensor(each.counts).float(), count, replacement=True, generator=rng)
            parts.append(torch.eye(each.size)[drawn])
        else:
            ends = [(end - each.mean) / each.deviation for end in (each.low, each.high)]
            parts.append(torch.randn(count, 1, generator=rng).clamp(*ends))
    return torch.cat(parts, 1) if parts else torch.zeros(0, 0)


def said(cell: str) -> str:
    """A category as users write it."""
    return cell or MISSING


def _few(cells: Sequence[str]) -> bool:
    """Whether cells are categories: words, or few kinds of whole numbers, each of several sequences."""
    try:
        numbers = [float(cell) for cell in cells if cell]
    except ValueError:
        return True
    kinds = set(numbers)
    return all(number.is_integer() for number in kinds) and len(kinds) <= min(MOST, max(2, len(cells) // 2))


def _order(level: str) -> tuple[int, float, str]:
    """Numbers by their size, then words."""
    try:
        return 0, float(level), level
    except ValueError:
        return 1, 0.0, level


def _numbers(name: str, cells: Sequence[str]) -> NDArray[np.float64]:
    try:
        values = np.array([float(cell) for cell in cells], np.float64)
    except ValueError:
        values = np.array([math.nan])
    if not np.isfinite(values).all():
        raise UserError(
            f"attribute {name!r} is to be a number, and not all of it is: say data.attributes={{{name}: category}} or drop"
        )
    return values
