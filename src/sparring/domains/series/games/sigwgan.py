"""Sig-Wasserstein GAN (Ni, Szpruch, Sabate-Vidales, Xiao, Wiese & Liao 2021): no discriminator, but the expected signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparring.core import processes
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains.series.games.path_game import PathGame
from sparring.domains.series.games.series_game import require_one_length
from sparring.domains.series.networks.paths import Form, Unscaled, path_network, standardise
from sparring.domains.series.signature import augment, signature, size
from sparring.errors import UserError

CHUNK = 2048  # windows of the data whose signatures are taken at once
TINY = 1e-12  # keeps the slope of a root finite at 0
Augmentation = Literal["sum", "basepoint", "lead_lag", "time"]


class SigWGAN(PathGame):
    """A generator alone, which minimises ‖E[S(data)] − E[S(samples)]‖₂, S being the signature of an augmented window (eq. 11).

    Of all distances that are suprema over critics linear in S, this is the supremum: the best critic is known, and no
    second network has to be trained.

    noise, width, levels, form: of the generator, as for `quantgan`. depth: of signatures. augment: what is done to windows
    first, in this order, features being centred and in units of their spread over √T.
    """

    expected: Tensor

    def __init__(
        self, spec: DataSpec,
        *, noise: int = 3, width: int = 32, levels: int = 3, form: Form = "volatility", depth: int = 4,
        augment: Sequence[Augmentation] = ("sum", "basepoint", "lead_lag", "time"),
    ) -> None:  # fmt: skip
        super().__init__()
        require_one_length(spec.extra, type(self).__name__)
        if depth < 1:
            raise UserError(f"loss.depth={depth}: signatures have a depth of at least 1")
        self.window, features = spec.shape
        self.depth, self.augmentations = depth, tuple(augment)
        self.generator = Unscaled(path_network(form, noise, features, width, levels), features)
        self.stretch(self.window)
        dimensions = features * 2 ** self.augmentations.count("lead_lag") + self.augmentations.count("time")
        # Of the training's data: a resumed training has it from its checkpoint.
        self.register_buffer("expected", torch.zeros(size(dimensions, depth)))
        self.keep_shown(spec)

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Take the expected signature of all the data, and learn where features lie and how far they spread."""
        standardise(data, self.generator)
        total = torch.zeros_like(self.expected, dtype=torch.float64)
        for start in range(0, len(data), CHUNK):
            some = torch.arange(start, min(start + CHUNK, len(data)))
            total += self.signatures(data.batch(some, augment=False)["data"]).double().sum(0)
        self.expected.copy_(total / len(data))

    def signatures(self, data: Tensor) -> Tensor:
        """Of windows (N, T, F) with features between 0 and 1: (N, numbers)."""
        scale = self.generator.spread * data.shape[1] ** 0.5
        return signature(augment((data - self.generator.centre) / scale, self.augmentations), self.depth)

    def players(self) -> dict[str, nn.Module]:
        return {"generator": self.generator}

    def turns(self, step: int) -> Sequence[Turn]:
        """The generator's."""
        return (Turn("generator"),)

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """The distance of the batch's mean signature from the data's."""
        fake = processes.mean(self.signatures(self.generator(self.noise(batch.count))).mean(0))
        return Losses({"signature": ((fake - self.expected).square().sum() + TINY).sqrt()})
