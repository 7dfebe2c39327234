"""Networks that make paths of any length of noise, and that see features as they spread."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from sparring.domains.series.networks.tcn import TemporalConvolution

Form = Literal["volatility", "free"]
ONE = 0.5413  # the softplus of which is 1
BEGIN_SPREAD, BEGIN_MEAN = 0.5, 0.05  # deviations, over time, of what σ is the softplus of, and of μ
UNSEEN = (0.5, 0.25)  # centre and spread of features between 0 and 1, before any are seen


def path_network(form: Form, noise: int, size: int, width: int, levels: int) -> Free | Volatility:
    """The network of that form."""
    return (Volatility if form == "volatility" else Free)(noise, size, width, levels)


class Free(nn.Module):
    """Noise (N, T + before, noise) → paths (N, T, F): one network of all (the paper's section 5, "pure TCN")."""

    def __init__(self, noise: int, size: int, width: int, levels: int) -> None:
        super().__init__()
        self.noise = noise
        self.convolution = TemporalConvolution(noise, size, width, levels)
        self.before = self.convolution.receptive_field - 1

    def forward(self, noise: Tensor) -> Tensor:
        return self.convolution(noise)


class Volatility(nn.Module):
    """Noise (N, T + before, noise) → paths (N, T, F): σ·ε + μ (section 5.1).

    σ and μ are of the noise before a step, ε of that of the step alone: so ε is independent of both, and of other steps.
    """

    def __init__(self, noise: int, size: int, width: int, levels: int) -> None:
        super().__init__()
        self.noise = noise
        self.past = TemporalConvolution(noise, 2 * size, width, levels, smooth=True)
        # Whatever the convolutions begin with, the volatility begins around 1 and moves by about a half, and μ hardly.
        self.level = nn.BatchNorm1d(2 * size, momentum=0.05)
        with torch.no_grad():
            self.level.weight.copy_(torch.tensor([BEGIN_SPREAD, BEGIN_MEAN]).repeat_interleave(size))
        self.innovation = Innovation(noise, size, width)
        self.before = self.past.receptive_field

    def forward(self, noise: Tensor) -> Tensor:
        spread, mean = self.moments(noise[:, :-1])
        return spread * self.innovation(noise[:, self.before :]) + mean

    def moments(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """σ and μ (N, T, F) of the noise before each step, (N, T + before − 1, noise)."""
        levels = self.level(self.past(past).transpose(1, 2)).transpose(1, 2)
        spread, mean = levels.chunk(2, dim=2)
        return softplus(spread + ONE), mean


class Innovation(nn.Module):
    """Noise (N, T, noise) → (N, T, F), step by step; it begins near N(0, 1)."""

    def __init__(self, noise: int, size: int, width: int) -> None:
        super().__init__()
        self.straight = nn.Linear(noise, size, bias=False)
        self.bent = nn.Sequential(
            nn.Linear(noise, width), nn.PReLU(), nn.Linear(width, width), nn.PReLU(), nn.Linear(width, size)
        )
        with torch.no_grad():
            self.straight.weight.copy_(normalize(torch.randn(size, noise), dim=1))

    def forward(self, noise: Tensor) -> Tensor:
        return self.straight(noise) + self.bent(noise)


class Standard(nn.Module):
    """Where features between 0 and 1 lie, and how far they spread."""

    centre: Tensor
    spread: Tensor

    def __init__(self, inner: nn.Module, size: int) -> None:
        super().__init__()
        self.inner = inner
        for name, value in zip(("centre", "spread"), UNSEEN, strict=True):
            self.register_buffer(name, torch.full((size,), value))


class Unscaled(Standard):
    """Flat noise (N, L) → paths (N, T, F) in the data's range, whose mean is the data's."""

    def __init__(self, inner: nn.Module, size: int) -> None:
        super().__init__(inner, size)
        self.centred = Centred(size)

    def noise_of(self, steps: int) -> int:
        """Numbers of noise that a path of so many steps is made from."""
        return (steps + self.inner.before) * self.inner.noise  # type: ignore[operator, return-value]

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        made = self.inner(noise.unflatten(1, (-1, self.inner.noise)))
        return self.centred(made) * self.spread + self.centre


class Centred(nn.BatchNorm1d):
    """Paths (N, T, F) less their running mean, and no more: a batch norm of means alone (Salimans & Kingma 2016, section 3).

    A mean that is off by a hundredth of a deviation is too little for a discriminator to see, and a year's drift in prices.
    As a batch norm it is given standing statistics, so that averaged weights have a mean of their own.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, affine=False, momentum=0.02)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                super().forward(x.flatten(0, 1))  # to follow the mean
        return x - self.running_mean  # type: ignore[operator]


class Scaled(Standard):
    """Windows (N, T, F) in the data's range → logits (N, T − R + 1), of values and their sizes (N, T, 2·F)."""

    def forward(self, data: Tensor, label: Tensor | None = None) -> Tensor:
        values = (data - self.centre) / self.spread
        # Large changes that come together show in sizes at once, where in values they are a product of two.
        return self.inner(torch.cat([values, values.abs()], 2)).squeeze(2)


def standardise(data: Any, *networks: Any) -> None:
    """Tell `Standard` networks where each feature of the data lies, and how far it spreads; 1 for what never varies."""
    values = data.batch(torch.arange(len(data)), augment=False)["data"].double()
    spread = values.std((0, 1), correction=0)
    for network in networks:
        network.centre.copy_(values.mean((0, 1)))
        network.spread.copy_(torch.where(spread > 0, spread, 1.0))
