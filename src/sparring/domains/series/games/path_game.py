"""What games share whose generators draw paths of any length."""

from __future__ import annotations

import torch
from torch import Tensor

from sparring.core import chance
from sparring.core.codes import truncate_latents
from sparring.core.game import Batch
from sparring.domains.series.games.shown_game import ShownGame
from sparring.domains.series.networks.paths import Unscaled


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
