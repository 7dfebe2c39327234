"""A steady game on windows: a recurrent generator against convolutions over time, by the loss of R3GAN (Huang et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.core.losses import relativistic_pairing_discriminator, relativistic_pairing_generator
from sparring.core.passes import Played
from sparring.core.penalties import r1, r2
from sparring.domains.series.games.series_game import SeriesGame, repeat_lasting
from sparring.domains.series.networks import Recurrent
from sparring.nn.layers import require_positive


class Steady(SeriesGame):
    """RGAN's generator, which also hears noise that stays the same all window long, against a judge of whole windows.

    latent: numbers of noise anew at each step; lasting: and of a window, which each step hears again. All are N(0, 1).
    width: of the generator's state. channels: of the judge's convolutions.
    penalty: weight of R1 and R2 each, played every `lazy`-th step with `lazy` times the weight.
    """

    def __init__(
        self, spec: DataSpec, *, latent: int = 4, lasting: int = 16, width: int = 64, channels: int = 64,
        penalty: float = 0.5, lazy: int = 4,
    ) -> None:  # fmt: skip
        require_positive(lazy=lazy)
        super().__init__(spec, noise_size=latent + lasting)
        self.lasting, self.penalty, self.lazy = lasting, penalty, lazy
        self.generator = Recurrent(latent + lasting, self.size, width, 1)
        self.discriminator = Judge(self.steps, self.size, channels)

    def players(self) -> dict[str, nn.Module]:
        return {"discriminator": self.discriminator, "generator": self.generator}

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """Relativistic pairing, with R1 and R2 in the discriminator's turn."""
        real = 2 * batch["data"] - 1
        if turn.player == "generator":
            fake = self._paths(self.noise(batch.count))
            real_logits, fake_logits = self.discriminator(torch.cat([real, fake])).chunk(2)
            return Losses({"adversarial": relativistic_pairing_generator(real_logits, fake_logits)})
        with torch.no_grad():
            fake = self._paths(self.noise(batch.count))
        real_logits, fake_logits = self.discriminator(torch.cat([real, fake])).chunk(2)
        parts = {"adversarial": relativistic_pairing_discriminator(real_logits, fake_logits)}
        if self.penalty > 0 and step % self.lazy == 0:
            played = Played(self.discriminator, real, fake)
            parts |= {each.__name__: self.lazy * self.penalty * each(played) for each in (r1, r2)}
        return Losses(parts, watch={"margin": (real_logits - fake_logits).detach().mean()})

    def decode(self, noise: Tensor) -> Tensor:
        """Cut to what data can be. The judge sees it uncut, for there is a slope beyond the edge as well."""
        return ((self._paths(noise) + 1) / 2).clamp(0, 1)

    def _paths(self, noise: Tensor) -> Tensor:
        """Windows between −1 and 1, or a little beyond."""
        return self.generator(repeat_lasting(noise, self.lasting))


class Judge(nn.Module):
    """Windows (N, T, F) between −1 and 1 → logits (N,): three convolutions over time, of which the last two halve it."""

    def __init__(self, steps: int, size: int, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(size, channels, 5, padding=2), nn.LeakyReLU(0.2),
            nn.Conv1d(channels, channels, 5, stride=2, padding=2), nn.LeakyReLU(0.2),
            nn.Conv1d(channels, channels, 5, stride=2, padding=2), nn.LeakyReLU(0.2),
        )  # fmt: skip
        left = (steps + 3) // 4  # twice halved, rounded up
        self.head = nn.Linear(channels * left, 1)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.convolutions(x.transpose(1, 2))
        return self.head(features.flatten(1)).squeeze(1)
