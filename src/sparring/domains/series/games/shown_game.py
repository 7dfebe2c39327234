"""What games share whose samples are shown beside windows of the data."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from sparring.core import chance
from sparring.core.game import DataSpec, Game


class ShownGame(Game):
    """A specification's `shown` are windows of the data (N, T, F), of which some go with each sample.

    of_samples: what of a specification's `extra` are samples of the data.
    """

    of_samples: ClassVar[tuple[str, ...]] = ("shown",)
    shown: Tensor

    def keep_shown(self, spec: DataSpec) -> None:
        """Take over the windows. They are the data's, and not the training's: checkpoints do not hold them."""
        shown = torch.tensor(spec.extra.get("shown", [])).reshape(-1, *spec.shape)
        self.register_buffer("shown", shown, persistent=False)

    def some_shown(self, count: int, rng: torch.Generator | None) -> Tensor:
        """Numbers (count,) of windows that samples are shown beside."""
        return chance.integers(0, len(self.shown), count, device=self.device, rng=rng)

    @classmethod
    def spec_to_share(cls, spec: DataSpec) -> DataSpec:
        """Without windows of the data, and what they have besides."""
        return replace(spec, extra={key: value for key, value in spec.extra.items() if key not in cls.of_samples})
