"""A generator as a function of its inputs alone: what can leave the package and run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparring.core.labels import Labels

DISTRIBUTIONS = {"normal": "standard normal", "uniform": "uniform on [-1, 1]"}


@dataclass(frozen=True)
class Noise:
    """An input of random numbers, float32 (N, size), independent of each other.

    name: of the generator's argument. distribution: `normal` has mean 0 and variance 1, `uniform` lies on [−1, 1].
    """

    name: str
    size: int
    distribution: Literal["normal", "uniform"] = "normal"

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Values for `count` samples, on the CPU."""
        if self.distribution == "uniform":
            return torch.rand(count, self.size, generator=rng) * 2 - 1
        return torch.randn(count, self.size, generator=rng)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        shape = ["batch", self.size]
        return {
            "name": self.name, "dtype": "float32", "shape": shape, "distribution": DISTRIBUTIONS[self.distribution],
        }  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """An input of one int64 number a sample, (N,), from 0 to K − 1; names: what each number means."""

    name: str
    names: tuple[str, ...]

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Numbers for `count` samples, each equally often in the long run, on the CPU."""
        return torch.randint(len(self.names), (count,), generator=rng)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {"name": self.name, "dtype": "int64", "shape": ["batch"], "names": list(self.names)}


@dataclass(frozen=True)
class Vector:
    """An input of K numbers a sample, float32 (N, K); labels: what each number means."""

    name: str
    labels: Labels

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Numbers for `count` samples, as the data has them together, on the CPU."""
        return self.labels.rows[torch.randint(len(self.labels.rows), (count,), generator=rng)]

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data. values: (x − mean) / deviation is what the network takes."""
        size, units = len(self.labels.names), {}
        if self.labels.kind == "values":
            units = {"mean": list(self.labels.mean), "deviation": list(self.labels.deviation)}
        return {
            "name": self.name, "dtype": "float32", "shape": ["batch", size], "names": list(self.labels.names),
            "kind": self.labels.kind, **units,
        }  # fmt: skip


Input = Noise | Choice | Vector


class Exportable(nn.Module):
    """The generator, from its inputs to samples as `Game.generate` gives them as `data`, float32 (N, …).

    It holds nothing else of the game, so that what is exported holds nothing else either. A game that treats the latent
    or the samples in a way of its own derives from this class and overrides `forward`.

    inputs: in the order of `forward`'s arguments, which have their names; those that are left out stay None.
    """

    def __init__(self, generator: nn.Module, *inputs: Input) -> None:
        super().__init__()
        self.generator = generator
        self.inputs = inputs

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Samples of latents (N, L) and, for a conditional game, labels (N,) or (N, K)."""
        samples: Tensor = self.generator(latent) if label is None else self.generator(latent, label)
        return samples.float()

    def draw(self, count: int, *, seed: int) -> dict[str, Tensor]:
        """Inputs for `count` samples by name, on the CPU; the same seed draws the same."""
        rng = torch.Generator().manual_seed(seed)
        return {each.name: each.draw(count, rng) for each in self.inputs}
