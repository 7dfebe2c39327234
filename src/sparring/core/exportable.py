"""A generator as a function of its inputs alone: what can leave the package and run elsewhere."""

from __future__ import annotations

from collections.abc import Callable
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


@dataclass(frozen=True)
class Picture:
    """An input of images, float32 (N, channels, H, W), for generators that make samples from others.

    size: H and W that it was trained on. stride: H and W are multiples of it. classes: names of channels that hold a 1
    at the places of a class; empty where channels are those of pictures in [−1, 1]. channels may be more than classes:
    the others hold 0 or 1 as well. hole: the last channel is 1 where the others are missing, which are 0 there.
    fixed: of no other size.
    """

    name: str
    channels: int
    size: tuple[int, int]
    stride: int = 1
    classes: tuple[str, ...] = ()
    hole: bool = False
    fixed: bool = False

    def draw(self, count: int, rng: torch.Generator, more: int = 0) -> Tensor:
        """Images for `count` samples, as smooth as photographs, on the CPU; `more` strides larger where sizes are free."""
        height, width = (side + (0 if self.fixed else more * self.stride) for side in self.size)
        if self.classes:
            regions = smooth(count, len(self.classes), height, width, rng).argmax(dim=1)
            hot = torch.nn.functional.one_hot(regions, len(self.classes)).permute(0, 3, 1, 2).float()
            if self.channels == len(self.classes):
                return hot
            others = (smooth(count, self.channels - len(self.classes), height, width, rng) > 0).float()
            return torch.cat([hot, others], dim=1)
        images = smooth(count, self.channels, height, width, rng)
        if not self.hole:
            return images.clamp(-1, 1)
        hole = (images[:, -1:] > 0.3).float()
        return torch.cat([images[:, :-1].clamp(-1, 1) * (1 - hole), hole], dim=1)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data. multiples_of: what height and width must be."""
        free = {} if self.fixed else {"multiples_of": self.stride}
        sides = list(self.size) if self.fixed else ["height", "width"]
        values = "images in [-1, 1]"
        if self.hole:
            values = "images in [-1, 1], 0 in the hole, and a channel that is 1 there"
        if self.classes:
            values = "1 in the channel of each place's class, 0 in the others"
        classes = {"channels": list(self.classes)} if self.classes else {}
        return {
            "name": self.name, "dtype": "float32", "shape": ["batch", self.channels, *sides], "values": values,
            "trained_on": list(self.size), **free, **classes,
        }  # fmt: skip


@dataclass(frozen=True)
class Past:
    """An input of what came before, float32 (N, steps, features), for generators that go on from it; numbers as data have them."""

    name: str
    steps: int
    features: int

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Walks between 0 and 1 for `count` samples, on the CPU."""
        steps = torch.randn(count, self.steps, self.features, generator=rng) / self.steps**0.5
        return (0.5 + 0.2 * steps.cumsum(1)).clamp(0, 1)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            "name": self.name, "dtype": "float32", "shape": ["batch", self.steps, self.features],
            "values": "the steps before, each feature as samples have it",
        }  # fmt: skip


def smooth(count: int, channels: int, height: int, width: int, rng: torch.Generator) -> Tensor:
    """Random images (count, channels, height, width) with a standard deviation of ½ whose detail grows with its size."""
    total = torch.zeros(count, channels, height, width)
    side = 2
    while side < 2 * max(height, width):
        coarse = torch.randn(count, channels, min(side, height), min(side, width), generator=rng)
        total += torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear") / side**0.5
        side *= 2
    return 0.5 * total / total.std().clamp(min=1e-6) if total.numel() > 1 else total


Input = Noise | Choice | Vector | Picture | Past


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

    def draw(self, count: int, *, seed: int, more: int = 0) -> dict[str, Tensor]:
        """Inputs for `count` samples by name, on the CPU; the same seed draws the same.

        more: strides that pictures are larger by than those trained on, where they may be.
        """
        rng = torch.Generator().manual_seed(seed)
        return {
            each.name: each.draw(count, rng, more) if isinstance(each, Picture) else each.draw(count, rng)
            for each in self.inputs
        }


class ImageFunction(Exportable):
    """A generator as a function of images: `source` (N, S, H, W) → images, as `Game.translate` gives them.

    finish: (inputs, what the generator makes of them) → images; None: these are they.
    """

    def __init__(
        self, generator: nn.Module, source: Picture, finish: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> None:
        super().__init__(generator, source)
        self.finish = finish

    def forward(self, source: Tensor) -> Tensor:  # type: ignore[override]
        """Images of inputs (N, S, H, W)."""
        made: Tensor = self.generator(source)
        return (made if self.finish is None else self.finish(source, made)).float()
