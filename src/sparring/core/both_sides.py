"""Against a discriminator that learns few samples by heart: change all that it sees, real and generated alike.

A generator that is judged through a random change T learns the data and not T(data), as long as T could be undone on
average: of turned samples one cannot tell which were turned first if all turns are equally likely, but one can if most
samples were left alone (Karras et al. 2020a, section 3.1). So a change that is played with a probability p well below 1
does not leak into samples. How large p must be the discriminator itself tells: see `Strength`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparring.core import chance, processes

SMOOTHED = 512  # samples after which a measurement of r_t has lost half of its weight


class BothSides(nn.Module):
    """A random change of all samples that a discriminator sees. Subclasses override what they change."""

    def forward(self, samples: Tensor) -> Tensor:
        """Changed samples, in shape and type as `samples` (N, …), drawn afresh for each. Differentiable twice."""
        return samples

    def pretend(self, real: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """What the discriminator's turn takes for real samples. draw: gives as many generated ones, for the same labels."""
        return real

    def adapt(self, overfitting: Tensor, count: int) -> None:
        """Take note of the overfitting signal r_t after `count` more real samples."""

    def watch(self) -> dict[str, Tensor]:
        """Figures to log."""
        return {}

    def suited(self, count: int) -> BothSides:
        """What a data set of `count` samples wants of this."""
        return self


class Adaptive(BothSides):
    """A change that is played with a probability p, which follows the overfitting signal (Karras et al. 2020a, section 3.2).

    p: where it begins, in [0, 1]. target: of r_t: p grows while r_t is above it, and falls while below; none: p stays.
    speed: real samples in which p goes from 0 to 1 at most.
    """

    probability: Tensor

    def __init__(self, *, p: float = 0.0, target: float | None = 0.6, speed: int = 500_000) -> None:
        super().__init__()
        self.target, self.speed = target, speed
        self.register_buffer("probability", torch.tensor(float(p)))

    @torch.no_grad()
    def adapt(self, overfitting: Tensor, count: int) -> None:
        """One move of p, up or down."""
        if self.target is not None:
            move = torch.sign(overfitting - self.target) * (count / self.speed)
            self.probability.add_(move.to(self.probability.dtype)).clamp_(0, 1)

    def watch(self) -> dict[str, Tensor]:
        """The probability p."""
        return {"augment_p": self.probability.clone()}


class PseudoAugmentation(Adaptive):
    """APA (Jiang et al. 2021): real samples are replaced by generated ones with probability p, to deceive the discriminator.

    It knows no kind of data, and changes nothing that could leak.
    """

    def pretend(self, real: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """The pseudo-real batch (their eq. 4)."""
        chosen = chance.uniform(len(real), *[1] * (real.ndim - 1), device=real.device) < self.probability
        return torch.where(chosen, draw().to(real.dtype), real)


class Overfitting(nn.Module):
    """r_t, how far the discriminator has learnt its training samples by heart, and the running means of its logits.

    r_t = E[sign D(x)] over real samples x (Karras et al. 2020a, eq. 1): 0 while it cannot tell them, 1 where it is sure of
    every one. All is smoothed over the last samples, survives a restart, and is of all processes together.
    """

    signal: Tensor
    levels: Tensor
    taken: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("signal", torch.tensor(0.0))
        self.register_buffer("levels", torch.zeros(2))
        self.register_buffer("taken", torch.tensor(0.0))

    @torch.no_grad()
    def observe(self, real: Tensor, fake: Tensor, boundary: float | None) -> int:
        """Take note of logits (N, …) of both sides; returns how many real samples these were, of all processes.

        boundary: above it a logit means real; none: only differences mean something, and real ones are set against the
        fake ones that they were paired with.
        """
        difference = real - (fake if boundary is None else boundary)
        found = torch.stack([difference.sign().float().mean(), real.float().mean(), fake.float().mean()])
        sign, *levels = processes.mean(found)
        group = processes.current()
        count = len(real) * (1 if group is None else group.world)
        self.signal.lerp_(sign.to(self.signal.dtype), 1 - 0.5 ** (count / SMOOTHED))
        # A mean over turns, as LeCam's is, and from its first turn on: what is still missing of the weights is divided out.
        self.levels.lerp_(torch.stack(levels).to(self.levels.dtype), 1 - LEVEL_DECAY)
        self.taken.lerp_(torch.ones_like(self.taken), 1 - LEVEL_DECAY)
        return count

    @property
    def anchors(self) -> Tensor:
        """Running means of the logits: of real samples and of fakes, (2,)."""
        return self.levels / self.taken


LEVEL_DECAY = 0.99  # of the anchors, a turn (Tseng et al. 2021, section 3.2)
