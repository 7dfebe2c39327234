"""RGAN and its kind (Esteban, Hyland & Rätsch 2017): recurrent networks that make and judge a window step by step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparring.core import chance
from sparring.core.game import Batch, DataSpec, Losses, Turn, Unseen
from sparring.core.losses import logistic_discriminator, non_saturating_generator
from sparring.core.private import RowLoss, Rows
from sparring.domains.series.games.series_game import SeriesGame
from sparring.domains.series.networks import Recurrent


class RCGAN(SeriesGame):
    """LSTM against LSTM, a logit at each step (section 3). Without labels, which series have not here, it is the paper's RGAN.

    latent: numbers of noise a step, N(0, 1). width: of both networks.
    """

    def __init__(self, spec: DataSpec, *, latent: int = 5, width: int = 100) -> None:
        super().__init__(spec, noise_size=latent)
        self.generator = Recurrent(latent, self.size, width, 1, "lstm")
        self.discriminator = Recurrent(self.size, 1, width, 1, "lstm")

    private_players = ("discriminator",)

    def players(self) -> dict[str, nn.Module]:
        return {"discriminator": self.discriminator, "generator": self.generator}

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """Cross entropy, its mean over steps (eqs. 1 and 2)."""
        if turn.player == "generator":
            fake = self.decode(self.noise(batch.count))
            return Losses({"adversarial": non_saturating_generator(None, self._judge(fake))})
        with torch.no_grad():
            fake = self.decode(self.noise(batch.count))
        return Losses({"adversarial": logistic_discriminator(self._judge(batch["data"]), self._judge(fake))})

    def row_loss(self, turn: Turn, unseen: Unseen, step: int) -> RowLoss:
        """A window's share of the cross entropy, and a fake one's (their section 5)."""
        with torch.no_grad():
            fake = self.decode(self.noise(unseen.count))

        def loss(judge: Callable[..., Tensor], own: Rows, fakes: Rows) -> Tensor:
            return logistic_discriminator(judge(*own), judge(*fakes))

        return RowLoss(self.discriminator, (2 * fake - 1,), lambda batch: (2 * batch["data"] - 1,), loss)

    def noise(self, count: int, rng: torch.Generator | None = None) -> Tensor:
        """N(0, 1), anew at each step."""
        return chance.normal(count, self.steps, self.noise_size, device=self.device, rng=rng)

    def typical(self, noise: Tensor, truncation: float) -> Tensor:
        return truncation * noise

    def decode(self, noise: Tensor) -> Tensor:
        """tanh, brought to [0, 1]."""
        return (self.generator(noise).tanh() + 1) / 2

    def _judge(self, data: Tensor) -> Tensor:
        """Logits (N, T) of data between 0 and 1, which the network sees between −1 and 1."""
        return self.discriminator(2 * data - 1).squeeze(2)
