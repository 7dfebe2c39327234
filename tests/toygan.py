"""A GAN of a user's own, in a file of the user's own: network, loss, game. Nothing in the package knows it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparring.core.game import Batch, DataSpec, Game, Losses, Turn


class Pixels(nn.Module):
    """Latent → image through one hidden layer."""

    def __init__(self, shape: tuple[int, ...], latent: int, hidden: int) -> None:
        super().__init__()
        self.shape = shape
        size = torch.Size(shape).numel()
        self.layers = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, size), nn.Tanh())

    def forward(self, latent: Tensor) -> Tensor:
        return self.layers(latent).unflatten(1, self.shape)


def cubic(logits: Tensor, target: float) -> Tensor:
    """A loss nobody has published."""
    return (logits - target).abs().pow(3).mean()


class ToyGame(Game):
    """Two discriminators and one generator, four turns a step: a structure that no packaged game has."""

    def __init__(self, spec: DataSpec, *, latent: int = 4, hidden: int = 8, sharpness: float = 1.0) -> None:
        super().__init__()
        size = torch.Size(spec.shape).numel()
        self.latent, self.sharpness = latent, sharpness
        self.generator = Pixels(spec.shape, latent, hidden)
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(size, 1))
        self.second = nn.Sequential(
            nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 1)
        )
        self.register_buffer("turns_played", torch.zeros((), dtype=torch.int64))

    def players(self) -> dict[str, nn.Module]:
        return {"first": self.first, "second": self.second, "generator": self.generator}

    def turns(self, step: int) -> Sequence[Turn]:
        return (
            Turn("first"),
            Turn("second", fresh=False),
            Turn("generator", phase="fool_first"),
            Turn("generator", phase="fool_second", fresh=False),
        )

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        fake = self.generator(torch.randn(batch.count, self.latent, device=self.device))
        judge = self.second if "second" in turn.name else self.first
        if turn.player == "generator":
            return Losses({"cubic": cubic(judge(fake), self.sharpness)})
        return Losses({"cubic": cubic(judge(batch["data"]), self.sharpness) + cubic(judge(fake.detach()), 0.0)})

    def after_turn(self, turn: Turn, step: int) -> None:
        self.turns_played += 1

    def generate(self, count: int, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        return Batch(data=self.generator(torch.randn(count, self.latent, device=self.device, generator=rng)))
