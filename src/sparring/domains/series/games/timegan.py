"""TimeGAN (Yoon, Jarrett & van der Schaar 2019): a game in the space of an autoencoder that is learnt along with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from sparring.core import processes
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains.series.games.series_game import SeriesGame
from sparring.domains.series.networks import Recurrent

TINY = 1e-6  # keeps the slope of a root finite at 0


class Autoencoder(nn.Module):
    """Windows (N, T, F) ↔ states (N, T, width), both between 0 and 1."""

    def __init__(self, size: int, width: int, depth: int) -> None:
        super().__init__()
        self.embedder = Recurrent(size, width, width, depth)
        self.recovery = Recurrent(width, size, width, depth)

    def embed(self, data: Tensor) -> Tensor:
        return self.embedder(data).sigmoid()

    def recover(self, states: Tensor) -> Tensor:
        return self.recovery(states).sigmoid()


class Generator(nn.Module):
    """Noise (N, T, noise) → states (N, T, width), and states → what each is followed by."""

    def __init__(self, noise: int, width: int, depth: int) -> None:
        super().__init__()
        self.generator = Recurrent(noise, width, width, depth)
        self.supervisor = Recurrent(width, width, width, max(1, depth - 1))

    def forward(self, noise: Tensor) -> Tensor:
        return self.generator(noise).sigmoid()

    def supervise(self, states: Tensor) -> Tensor:
        return self.supervisor(states).sigmoid()


class TimeGAN(SeriesGame):
    """Five recurrent networks in three phases: windows are learnt to be coded; codes, to be foretold; then all play.

    width, depth: of the networks. embedding, supervising: steps of the first two phases; the game is played after them.
    gamma: weight of what the supervisor has not seen. enough: the discriminator rests where its loss is below this.
    """

    uniform = True

    discriminator_loss: Tensor

    def __init__(
        self, spec: DataSpec,
        *, width: int = 24, depth: int = 3, embedding: int = 1000, supervising: int = 1000,
        gamma: float = 1.0, enough: float = 0.15,
    ) -> None:  # fmt: skip
        size = spec.shape[1]
        super().__init__(spec, noise_size=size)
        self.embedding, self.supervising, self.gamma, self.enough = embedding, supervising, gamma, enough
        self.autoencoder = Autoencoder(size, width, depth)
        self.generator = Generator(size, width, depth)
        self.discriminator = Recurrent(width, 1, width, depth)
        # As the last turn of a step saw it, at first that of a judge who knows nothing. A buffer, so that a resumed run lets
        # the discriminator rest as well.
        self.register_buffer("discriminator_loss", torch.tensor((2 + gamma) * math.log(2)))

    def players(self) -> dict[str, nn.Module]:
        return {
            "autoencoder": self.autoencoder,
            "generator": self.generator,
            "discriminator": self.discriminator,
        }

    def averaged(self) -> dict[str, nn.Module]:
        """Samples are recovered by the autoencoder."""
        return {"generator": self.generator, "autoencoder": self.autoencoder}

    def turns(self, step: int) -> Sequence[Turn]:
        """The phases (section 4.3; algorithm 1 of the supplement). The discriminator begins: the order is a circle."""
        if step < self.embedding:
            return (Turn("autoencoder", "embed"),)
        if step < self.embedding + self.supervising:
            return (Turn("generator", "supervise"),)
        judged = (Turn("discriminator"),) if float(self.discriminator_loss) >= self.enough else ()
        twice = (Turn("generator"), Turn("autoencoder", fresh=False)) * 2
        return (*judged, *twice)

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """What the turn's phase minimises (eqs. 7 to 9; weights as in the authors' code)."""
        data = batch["data"]
        if turn.name == "embed":
            return Losses({"reconstruction": 10 * _root(self._reconstruction(data))})
        states = self.autoencoder.embed(data)
        if turn.name == "supervise":
            return Losses({"supervised": self._supervised(states)})
        if turn.name == "autoencoder":
            parts = {
                "reconstruction": 10 * _root(mse_loss(self.autoencoder.recover(states), data)),
                "supervised": 0.1 * self._supervised(states),
            }
            with torch.no_grad():
                self.discriminator_loss.copy_(processes.mean(self._judge(states)))
            return Losses(parts, watch={"discriminator": self.discriminator_loss.clone()})
        if turn.name == "discriminator":
            return Losses({"adversarial": self._judge(states)})
        raw = self.generator(self.noise(batch.count))
        foretold = self.generator.supervise(raw)
        return Losses({
            "adversarial": _as_real(self.discriminator(foretold)) + self.gamma * _as_real(self.discriminator(raw)),
            "supervised": 100 * _root(self._supervised(states)),
            "moments": 100 * moment_distance(self.autoencoder.recover(foretold), data),
        })  # fmt: skip

    def decode(self, noise: Tensor) -> Tensor:
        return self.autoencoder.recover(self.generator.supervise(self.generator(noise)))

    def _reconstruction(self, data: Tensor) -> Tensor:
        return mse_loss(self.autoencoder.recover(self.autoencoder.embed(data)), data)

    def _supervised(self, states: Tensor) -> Tensor:
        """How far each state is from what the one before it foretells."""
        return mse_loss(self.generator.supervise(states)[:, :-1], states[:, 1:])

    def _judge(self, states: Tensor) -> Tensor:
        """The discriminator's cross entropy, on states of data and of fakes, foretold and as they are."""
        with torch.no_grad():
            raw = self.generator(self.noise(len(states)))
            foretold = self.generator.supervise(raw)
        judge = self.discriminator
        return _as_real(judge(states)) + _as_fake(judge(foretold)) + self.gamma * _as_fake(judge(raw))


def moment_distance(fake: Tensor, real: Tensor) -> Tensor:
    """Mean over steps and features of |Δ deviation| + |Δ mean| between batches (N, T, F), over the whole batch."""
    moments = processes.mean(torch.stack([each for x in (fake, real) for each in (x.mean(0), x.square().mean(0))]))
    fake_mean, fake_square, real_mean, real_square = moments
    fake_spread = (fake_square - fake_mean.square()).clamp(min=0) + TINY
    real_spread = (real_square - real_mean.square()).clamp(min=0) + TINY
    return (fake_spread.sqrt() - real_spread.sqrt()).abs().mean() + (fake_mean - real_mean).abs().mean()


def _as_real(logits: Tensor) -> Tensor:
    return softplus(-logits).mean()


def _as_fake(logits: Tensor) -> Tensor:
    return softplus(logits).mean()


def _root(error: Tensor) -> Tensor:
    return (error + TINY**2).sqrt()
