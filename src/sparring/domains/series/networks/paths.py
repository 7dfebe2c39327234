"""Networks that make paths of any length of noise, and that see features as they spread."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sparring.domains.series.networks.tcn import TemporalConvolution

Form = Literal["volatility", "free"]
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
        self.past = TemporalConvolution(noise, 2 * size, width, levels)
        self.innovation = nn.Sequential(
            nn.Linear(noise, width), nn.PReLU(), nn.Linear(width, width), nn.PReLU(), nn.Linear(width, size)
        )
        self.before = self.past.receptive_field

    def forward(self, noise: Tensor) -> Tensor:
        spread, mean = self.past(noise[:, :-1]).chunk(2, dim=2)
        return softplus(spread) * self.innovation(noise[:, self.before :]) + mean


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
    """Flat noise (N, L) → paths (N, T, F) in the data's range."""

    def noise_of(self, steps: int) -> int:
        """Numbers of noise that a path of so many steps is made from."""
        return (steps + self.inner.before) * self.inner.noise  # type: ignore[operator, return-value]

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        return self.inner(noise.unflatten(1, (-1, self.inner.noise))) * self.spread + self.centre  # type: ignore[arg-type]


class Scaled(Standard):
    """Windows (N, T, F) in the data's range → logits (N, T − R + 1)."""

    def forward(self, data: Tensor, label: Tensor | None = None) -> Tensor:
        return self.inner((data - self.centre) / self.spread).squeeze(2)


def standardise(data: Any, *networks: Any) -> None:
    """Tell `Standard` networks where each feature of the data lies, and how far it spreads; 1 for what never varies."""
    values = data.batch(torch.arange(len(data)), augment=False)["data"].double()
    spread = values.std((0, 1), correction=0)
    for network in networks:
        network.centre.copy_(values.mean((0, 1)))
        network.spread.copy_(torch.where(spread > 0, spread, 1.0))
