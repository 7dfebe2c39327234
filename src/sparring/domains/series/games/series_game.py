"""What the games on series share: how samples are drawn, a noise vector a step."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sparring.core import chance
from sparring.core.game import Batch, DataSpec, Game
from sparring.errors import UserError


class SeriesGame(Game):
    """Noise of `noise_size` numbers a step becomes a window (T, F). A code is the noise of all steps, flat."""

    shown: Tensor

    def __init__(self, spec: DataSpec, noise_size: int) -> None:
        super().__init__()
        self.steps, self.size = spec.shape
        self.noise_size = noise_size
        # The data's, and not the training's: checkpoints do not hold them.
        shown = torch.tensor(spec.extra.get("shown", [])).reshape(-1, self.steps, self.size)
        self.register_buffer("shown", shown, persistent=False)

    def noise(self, count: int, rng: torch.Generator | None = None) -> Tensor:
        """Noise (count, T, noise_size)."""
        raise NotImplementedError

    def decode(self, noise: Tensor) -> Tensor:
        """Windows (N, T, F) of noise (N, T, noise_size)."""
        raise NotImplementedError

    def typical(self, noise: Tensor, truncation: float) -> Tensor:
        """Noise drawn towards its mean: 1 leaves it."""
        raise NotImplementedError

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: float = 1.0,
    ) -> Batch:
        """Noise as `code` (count, T·noise_size); and `real`, windows of the data to show the samples beside."""
        if not 0 <= truncation <= 1:
            raise UserError(f"a truncation of {truncation} cannot be: it lies between 0 and 1")
        codes = Batch(code=self.typical(self.noise(count, rng), truncation).flatten(1))
        if len(self.shown):
            codes["real"] = self.shown[chance.integers(0, len(self.shown), count, device=self.device, rng=rng)]
        return codes

    def render(self, codes: Batch) -> Batch:
        """Windows as `data`, and `real`."""
        noise = codes["code"].unflatten(1, (self.steps, self.noise_size))
        return Batch({**{name: value for name, value in codes.items() if name == "real"}, "data": self.decode(noise)})

    @classmethod
    def spec_to_share(cls, spec: DataSpec) -> DataSpec:
        """Without the windows of the data that samples are shown beside."""
        return replace(spec, extra={key: value for key, value in spec.extra.items() if key != "shown"})


def repeat_lasting(drawn: Tensor, lasting: int) -> Tensor:
    """Noise (N, T, L) whose last `lasting` numbers are at every step those of the first."""
    own = drawn.shape[2] - lasting
    return torch.cat([drawn[..., :own], drawn[:, :1, own:].expand(-1, drawn.shape[1], -1)], dim=2)
