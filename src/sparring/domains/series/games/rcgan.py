"""RGAN and RCGAN (Esteban, Hyland & Rätsch 2017): recurrent networks that make and judge a window step by step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparring.core.game import Batch, DataSpec, Losses, Turn, Unseen
from sparring.core.losses import logistic_discriminator, non_saturating_generator
from sparring.core.private import RowLoss, Rows
from sparring.domains.series.games.series_game import SeriesGame, own_steps
from sparring.domains.series.networks import Recurrent


class RCGAN(SeriesGame):
    """LSTM against LSTM, a logit at each step (section 3).

    Attributes and calendar, where data have them, are told both networks at each step (section 3.2); fakes are made for
    those of the batch, and judged on as many steps.
    latent: numbers of noise a step, N(0, 1). width: of both networks.
    """

    pads = conditional = True

    def __init__(self, spec: DataSpec, *, latent: int = 5, width: int = 100) -> None:
        super().__init__(spec, noise_size=latent)
        self.generator = Recurrent(latent + self.given_size, self.size, width, 1, "lstm")
        self.discriminator = Recurrent(self.size + self.given_size, 1, width, 1, "lstm")

    private_players = ("discriminator",)

    def players(self) -> dict[str, nn.Module]:
        return {"discriminator": self.discriminator, "generator": self.generator}

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """Cross entropy, its mean over steps (eqs. 1 and 2)."""
        given, mask = self.given_of(batch), batch.get("mask")
        with torch.set_grad_enabled(turn.player == "generator"):
            noise = self.noise(batch.count)
            fake = self.decode(noise if given is None else torch.cat([noise, given], 2))
        fake_logits = own_steps(self._judge(fake, given), mask)
        if turn.player == "generator":
            return Losses({"adversarial": non_saturating_generator(None, fake_logits)})
        real_logits = own_steps(self._judge(batch["data"], given), mask)
        return Losses({"adversarial": logistic_discriminator(real_logits, fake_logits)})

    def row_loss(self, turn: Turn, unseen: Unseen, step: int) -> RowLoss:
        """A window's share of the cross entropy, and a fake one's (their section 5)."""
        with torch.no_grad():  # a private game is told nothing: see `SeriesDomain.describe_privately`
            fake = self.decode(self.noise(unseen.count))

        def loss(judge: Callable[..., Tensor], own: Rows, fakes: Rows) -> Tensor:
            return logistic_discriminator(judge(*own), judge(*fakes))

        return RowLoss(self.discriminator, (2 * fake - 1,), lambda batch: (2 * batch["data"] - 1,), loss)

    def decode(self, noise: Tensor) -> Tensor:
        """tanh, brought to [0, 1]."""
        return (self.generator(noise).tanh() + 1) / 2

    def _judge(self, data: Tensor, given: Tensor | None) -> Tensor:
        """Logits (N, T) of data between 0 and 1, which the network sees between −1 and 1."""
        seen = 2 * data - 1
        return self.discriminator(seen if given is None else torch.cat([seen, given], 2)).squeeze(2)
