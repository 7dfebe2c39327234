"""What games share whose samples are shown beside windows of the data, and whose generators draw paths of any length."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from sparring.core import chance
from sparring.core.codes import truncate_latents
from sparring.core.game import Batch, DataSpec, Game
from sparring.domains.series.networks.paths import Unscaled


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


class PathGame(ShownGame):
    """A code is noise N(0, 1), flat, of which the generator makes as many steps as there is noise for."""

    generator: Unscaled
    latent: int
    window: int

    def stretch(self, steps: int) -> None:
        """Draw paths of so many steps from now on."""
        self.latent = self.generator.noise_of(steps)

    def noise(self, count: int, rng: torch.Generator | None = None) -> Tensor:
        """N(0, 1), (count, L)."""
        return chance.normal(count, self.latent, device=self.device, rng=rng)

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: float = 1.0,
    ) -> Batch:
        """Noise as `code` (count, L); and `real`, windows of the data to show samples of their length beside."""
        codes = Batch(code=truncate_latents(self.noise(count, rng), truncation, "normal"))
        if len(self.shown) and self.latent == self.generator.noise_of(self.window):
            codes["real"] = self.shown[self.some_shown(count, rng)]
        return codes

    def render(self, codes: Batch) -> Batch:
        """Windows as `data`, and `real`."""
        return Batch(data=self.generator(codes["code"]).float(), **{k: v for k, v in codes.items() if k == "real"})
