"""What a game's samples can be asked to be: a class, a mixture of classes, attributes, values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from sparring.core import chance
from sparring.errors import UserError, nearest

if TYPE_CHECKING:
    from sparring.core.game import DataSpec

LabelKind = Literal["classes", "soft", "attributes", "values"]
Wish = str | int | Mapping[str, float]
STEPS = 8  # of a value on a sample sheet, at most
TOLERANCE = 1e-3  # by which shares may miss a sum of 1, and values their range


@dataclass(frozen=True)
class Labels:
    """The labels of a data set.

    names: of the classes, attributes or values, in the order of their numbers.
    kind: `classes`: each sample has one, a number (N,). The others are vectors (N, K): `soft`: shares of K classes that
        sum to 1; `attributes`: K answers, 0 no and 1 yes; `values`: K numbers, which networks see with mean 0 and
        variance 1 and users in the data's units.
    counts: how often the data has each class (K,), of `classes`.
    rows: vectors of the data as networks see them, (M, K): what occurs together, and how often.
    mean, deviation, low, high: of each value in the data's units, (K,); for the other kinds 0, 1, 0 and 1.
    """

    names: tuple[str, ...]
    kind: LabelKind = "classes"
    counts: tuple[float, ...] = ()
    rows: Tensor = field(default_factory=lambda: torch.empty(0))
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @classmethod
    def of(cls, spec: DataSpec) -> Labels | None:
        """The labels of the data that `spec` describes, None where it has none. Without rows, names are independent."""
        names, extra = tuple(spec.classes), spec.extra
        if not names:
            return None
        kind = extra.get("label_kind", "classes")
        if kind not in get_args(LabelKind):
            raise UserError(f"the data's labels are {kind!r}; there are {', '.join(get_args(LabelKind))}")
        if kind == "classes":
            return cls(names, counts=tuple(extra.get("label_counts") or [1.0] * len(names)))
        size = len(names)
        mean, deviation, low, high = (
            tuple(map(float, extra.get(f"label_{key}") or [usual] * size))
            for key, usual in (("mean", 0.0), ("deviation", 1.0), ("low", 0.0), ("high", 1.0))
        )
        rows = torch.tensor(extra.get("label_rows") or [], dtype=torch.float32)
        if not len(rows):
            rows = _independent(kind, mean, deviation, low, high)
        if kind != "values":
            mean, deviation = (0.0,) * size, (1.0,) * size
        return cls(names, kind, (), rows, mean, deviation, low, high)

    def ask(self, wish: Wish) -> Tensor:
        """What a user asks for as a label: a class's number (), or a vector (K,) with NaN for what is left to the data.

        wish: a class or attribute by name or number, or what each name is to be: `{"smiling": 1}`, `"smiling=1,hat=0"`,
        `"cat=0.7,dog=0.3"` (shares of classes), `"age=35"` (in the data's units).
        Raises UserError for an unknown name and for a number that the data cannot have.
        """
        if isinstance(wish, str | int) and self.kind in ("classes", "soft"):
            if str(wish) in self.names:  # first, because a class may be called "a=b"
                number = self.names.index(str(wish))
                return torch.tensor(number) if self.kind == "classes" else _hot(number, len(self.names))
            if "=" not in str(wish):
                raise self._unknown("label", str(wish))
        given = {self._number(name): share for name, share in self._parts(wish).items()}
        vector = torch.full((len(self.names),), math.nan)
        for place, asked in given.items():
            self._require(place, asked)
            vector[place] = (asked - self._of(self.mean, place, 0.0)) / self._of(self.deviation, place, 1.0)
        if self.kind in ("classes", "soft"):
            if abs(sum(given.values()) - 1) > TOLERANCE:
                raise UserError(
                    f"the shares of classes in --label sum to {sum(given.values()):.4g}; they must sum to 1"
                )
            return vector.nan_to_num(0.0)
        return vector

    def open(self, condition: Tensor | None) -> bool:
        """Whether anything is left to the data in what is asked for."""
        return condition is None or (condition.is_floating_point() and bool(condition.isnan().any()))

    def draw_rows(
        self, count: int, condition: Tensor | None, device: torch.device, rng: torch.Generator | None = None
    ) -> Tensor:
        """Vectors as the data has them, (count, K), with what is asked for in `condition` (count, K), NaN where nothing is.

        They are drawn of those rows that agree with it; where none does, of all, and what is asked for is put in.
        """
        rows = self.rows.to(device)
        if condition is None:
            return rows[chance.choices(torch.ones(len(rows), device=device), count, rng)]
        label = condition.clone()
        wishes, which = condition.nan_to_num(math.inf).unique(dim=0, return_inverse=True)
        for number, wish in enumerate(wishes):
            drawn = rows[chance.choices(_agreeing(rows, wish), count, rng)]
            label = torch.where((which == number)[:, None] & condition.isnan(), drawn, label)
        return label

    def units(self, label: Tensor) -> Tensor:
        """Labels as users see them: values in the data's units, the rest as it is."""
        if self.kind != "values":
            return label
        return label * label.new_tensor(self.deviation) + label.new_tensor(self.mean)

    def sheet(self, count: int) -> tuple[Tensor, Tensor, list[str]]:
        """About `count` labels for a sheet to look at: the labels, the row (n,) that each belongs in, the rows' captions.

        A row for each class; for each attribute, of those in the data that have it; for each step of each value from its
        lowest to its highest, the others at their mean.
        """
        if self.kind in ("classes", "soft"):
            rows = torch.arange(len(self.names)).repeat_interleave(max(1, count // len(self.names)))
            shown = rows if self.kind == "classes" else torch.eye(len(self.names))[rows]
            return shown, rows, list(self.names)
        if self.kind == "attributes":
            each = max(1, count // len(self.names))
            labels = torch.cat([self._with_attribute(place, each) for place in range(len(self.names))])
            return labels, torch.arange(len(self.names)).repeat_interleave(each), list(self.names)
        steps = max(2, min(STEPS, count // len(self.names)))
        each = max(1, count // (steps * len(self.names)))
        captions: list[str] = []
        vectors: list[Tensor] = []
        for place, name in enumerate(self.names):
            for number in torch.linspace(self.low[place], self.high[place], steps).tolist():
                captions.append(f"{name} {number:.3g}")
                vector = torch.zeros(len(self.names))
                vector[place] = (number - self.mean[place]) / self.deviation[place]
                vectors.append(vector)
        rows = torch.arange(len(captions)).repeat_interleave(each)
        return torch.stack(vectors)[rows], rows, captions

    def _with_attribute(self, place: int, count: int) -> Tensor:
        wish = torch.full((len(self.names),), math.nan)
        wish[place] = 1.0
        chosen = self.rows[_agreeing(self.rows, wish.nan_to_num(math.inf)) > 0]
        spread = (
            torch.arange(count) * len(chosen) // count if count <= len(chosen) else torch.arange(count) % len(chosen)
        )
        return torch.where(wish.isnan(), chosen[spread], wish)

    def _parts(self, wish: Wish) -> dict[str, float]:
        if isinstance(wish, Mapping):
            return {str(name): float(number) for name, number in wish.items()}
        parts: dict[str, float] = {}
        for part in str(wish).split(","):
            name, equals, number = part.rpartition("=")
            if not equals and self.kind == "values":
                raise UserError(f"--label {part.strip()!r} says no number; write {self.names[0]}=NUMBER")
            name = name.strip() if equals else part.strip()
            try:
                parts[name] = float(number) if equals else 1.0
            except ValueError:
                raise UserError(f"--label {part.strip()!r}: {number.strip()!r} is no number") from None
        return parts

    def _number(self, name: str) -> int:
        if name not in self.names:
            what = {"attributes": "attribute", "values": "value"}.get(self.kind, "label")
            raise self._unknown(what, name)
        return self.names.index(name)

    def _require(self, place: int, number: float) -> None:
        low, high = self._of(self.low, place, 0.0), self._of(self.high, place, 1.0)
        margin = TOLERANCE * (high - low)
        if not low - margin <= number <= high + margin:
            what = "the data's are" if self.kind == "values" else "it must be"
            raise UserError(f"--label {self.names[place]}={number:.4g}: {what} from {low:.4g} to {high:.4g}")

    def _unknown(self, what: str, name: str) -> UserError:
        shown = ", ".join(self.names[:40]) + (", …" if len(self.names) > 40 else "")
        return UserError(f"unknown {what} {name!r}{nearest(name, self.names)}; there are {shown}")

    @staticmethod
    def _of(numbers: Sequence[float], place: int, usual: float) -> float:
        return numbers[place] if numbers else usual


def _agreeing(rows: Tensor, wish: Tensor) -> Tensor:
    """The weight of each row (M,): 1 where it agrees with the wish (K,), ∞ being none; everywhere if no row does."""
    agrees = ((rows == wish) | wish.isinf()).all(1).float()
    return agrees if agrees.any() else torch.ones_like(agrees)


def _hot(number: int, size: int) -> Tensor:
    return torch.eye(size)[number]


def _independent(
    kind: LabelKind, mean: Sequence[float], deviation: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> Tensor:
    """Rows (1024, K) with the means of each name alone, for a specification that keeps the data's own rows to itself."""
    rng = torch.Generator().manual_seed(0)
    average = torch.tensor(mean)
    if kind == "values":
        lowest, highest = ((torch.tensor(ends) - average) / torch.tensor(deviation) for ends in (low, high))
        return torch.randn(1024, len(mean), generator=rng).clamp(lowest, highest)
    if kind == "attributes":
        return (torch.rand(1024, len(mean), generator=rng) < average).float()
    return torch.eye(len(mean))[torch.multinomial(average + 1e-9, 1024, replacement=True, generator=rng)]
