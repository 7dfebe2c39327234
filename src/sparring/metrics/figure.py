"""What a measurement says: a figure with everything that comparing it needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sparring.core.game import Batch

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Figure:
    """One measured value.

    metric: its name, e.g. `fid`. value: the number. interval: a 95 % interval for it, None where none could be had.
    features: the space that it was measured in, by full name. real, fake: how many samples of each side it saw.
    facts: what else belongs to the number (seed, resizer, reference, floor, standard deviation, …), JSON-ready.
    """

    metric: str
    value: float
    features: str
    real: int
    fake: int
    interval: tuple[float, float] | None = None
    higher_is_better: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data; a value that is not finite is None, which JSON can hold."""
        own = {key: value for key, value in vars(self).items() if key not in ("metric", "facts", "interval")}
        own["value"] = self.value if math.isfinite(self.value) else None
        return {**own, "interval": list(self.interval) if self.interval else None, **self.facts}


class Features(Protocol):
    """A space to compare samples in.

    name: what stands beside every figure, weights and training included (`inception (pt_inception-2015-12-05, 2048)`).
    digest: changes whenever equal samples would get other features; caches are keyed by it.
    resizer: how samples reach the size that the features want, in words; `none` where they are taken as they are.
    """

    name: str
    digest: str
    resizer: str

    def __call__(self, samples: Batch) -> Batch:
        """`features` float32 (N, D) of `data` as games draw it, and `logits` (N, K) where the network is a classifier."""
        ...
