"""TimeGAN (Yoon, Jarrett & van der Schaar 2019): a game in the space of an autoencoder that is learnt along with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from sparring.core import chance, processes
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains.series.games.series_game import SeriesGame, repeat_lasting
from sparring.domains.series.networks import Recurrent

TINY = 1e-6  # keeps the slope of a root finite at 0
NEAR = 0.01  # how far states are moved to see how steep the discriminator is; they lie between 0 and 1


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

    width, depth: of the networks. lasting: numbers of noise that stay the same all window long, beside as many anew at each
    step as there are features (the paper's noise of static features, also where there are none).
    embedding, supervising: steps of the first two phases; the game is played after them.
    gamma: weight of what the supervisor has not seen. enough: the discriminator rests where its loss is below this.
    pairs: turns of the generator and the autoencoder a step. supervised, moments: weights in the generator's turn.
    penalty: weight of R1, by finite differences, at states of data and of fakes.
    """

    uniform = True

    discriminator_loss: Tensor

    def __init__(
        self, spec: DataSpec,
        *, width: int = 24, depth: int = 3, lasting: int = 0, embedding: int = 1000, supervising: int = 1000, pairs: int = 2,
        gamma: float = 1.0, enough: float = 0.15, supervised: float = 100.0, moments: float = 100.0, penalty: float = 0.0,
    ) -> None:  # fmt: skip
        size = spec.shape[1]
        super().__init__(spec, noise_size=size + lasting)
        self.lasting, self.embedding, self.supervising, self.pairs = lasting, embedding, supervising, pairs
        self.gamma, self.enough, self.penalty = gamma, enough, penalty
        self.supervised, self.moments = supervised, moments
        self.autoencoder = Autoencoder(size, width, depth)
        self.generator = Generator(size + lasting, width, depth)
        self.discriminator = Recurrent(width, 1, width, depth)
        # As its last turn saw it, at first that of a judge who knows nothing. A buffer, so that a resumed run lets the
        # discriminator rest as well.
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
        pair = (Turn("generator"), Turn("autoencoder", fresh=False))
        return (*judged, *pair * self.pairs)

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """What the turn's phase minimises (eqs. 7 to 9)."""
        data = batch["data"]
        if turn.name == "embed":
            return Losses({"reconstruction": 10 * _root(mse_loss(self._reconstructed(data), data))})
        if turn.name == "autoencoder":
            states = self.autoencoder.embed(data)
            parts = {
                "reconstruction": 10 * _root(mse_loss(self.autoencoder.recover(states), data)),
                "supervised": 0.1 * _lag(states, self.generator.supervise(states)),
            }
            # Only where the discriminator rests must somebody look whether it has seen enough.
            if float(self.discriminator_loss) < self.enough:
                with torch.no_grad():
                    self.discriminator_loss.copy_(processes.mean(self._judge(states)))
            return Losses(parts, watch={"discriminator": self.discriminator_loss.clone()})
        # Where no part of the loss moves the embedder, no graph is needed.
        with torch.no_grad():
            states = self.autoencoder.embed(data)
        if turn.name == "supervise":
            return Losses({"supervised": _lag(states, self.generator.supervise(states))})
        if turn.name == "discriminator":
            return self._judged(states)
        raw = self._states(self.noise(batch.count))
        # One pass of the supervisor for both, and one of the discriminator.
        foretold, following = self.generator.supervise(torch.cat([raw, states])).chunk(2)
        fakes = self.discriminator(torch.cat([foretold, raw]) if self.gamma else foretold).split(len(raw))
        adversarial = [weight * _as_real(each) for weight, each in zip((1, self.gamma), fakes, strict=False)]
        return Losses({
            "adversarial": torch.stack(adversarial).sum(),
            "supervised": self.supervised * _root(_lag(states, following)),
            "moments": self.moments * moment_distance(self.autoencoder.recover(foretold), data),
        })  # fmt: skip

    def decode(self, noise: Tensor) -> Tensor:
        return self.autoencoder.recover(self.generator.supervise(self._states(noise)))

    def _states(self, noise: Tensor) -> Tensor:
        """What the generator makes of noise, before the supervisor has seen it."""
        return self.generator(repeat_lasting(noise, self.lasting))

    def _reconstructed(self, data: Tensor) -> Tensor:
        return self.autoencoder.recover(self.autoencoder.embed(data))

    def _judged(self, states: Tensor) -> Losses:
        """The discriminator's turn, and how much its logits change where states are moved a little."""
        lots = self._lots(states)
        looked = self.discriminator(torch.cat(lots))
        adversarial = self._cross_entropy(looked)
        self.discriminator_loss.copy_(processes.mean(adversarial.detach()))
        parts = {"adversarial": adversarial}
        if self.penalty:
            near = torch.cat(lots[:2])
            moved = near + NEAR * chance.normal(*near.shape, device=near.device)
            slopes = (self.discriminator(moved) - looked[: len(near)]).mean(dim=(1, 2)) / NEAR
            parts["r1"] = self.penalty * slopes.square().mean()
        return Losses(parts)

    def _judge(self, states: Tensor) -> Tensor:
        return self._cross_entropy(self.discriminator(torch.cat(self._lots(states))))

    def _lots(self, states: Tensor) -> list[Tensor]:
        """States of data and of fakes, foretold and, where they count, as they are."""
        with torch.no_grad():
            raw = self._states(self.noise(len(states)))
            return [states.detach(), self.generator.supervise(raw), *([raw] if self.gamma else [])]

    def _cross_entropy(self, looked: Tensor) -> Tensor:
        """Of the discriminator, on logits of those lots."""
        real, *fakes = looked.chunk(3 if self.gamma else 2)
        wrong = [weight * _as_fake(each) for weight, each in zip((1, self.gamma), fakes, strict=False)]
        return torch.stack([_as_real(real), *wrong]).sum()


def _lag(states: Tensor, following: Tensor) -> Tensor:
    """How far each state is from what the one before it foretells."""
    return mse_loss(following[:, :-1], states[:, 1:])


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
