"""Forecasts as samples (ForGAN, Koochali et al. 2019): what may come after a past, drawn by a conditional generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparring.core import chance
from sparring.core.exportable import Exportable, Noise, Past
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.core.losses import logistic_discriminator, non_saturating_generator
from sparring.domains.series.games.series_game import SeriesGame
from sparring.errors import UserError
from sparring.nn.layers import require_positive
from sparring.recipe import Recipe

PATHS = 100  # that are drawn of a past, to measure and to show
LEAST = 1e-6  # of the size of changes, which divides


class Changes(nn.Module):
    """What both networks see of steps (N, T, F): values between −1 and 1, and the changes that led there, in their usual size."""

    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        changes = torch.cat([torch.zeros_like(x[:, :1]), x.diff(dim=1)], 1) / self.scale
        return torch.cat([2 * x - 1, changes], 2)


class Continuation(nn.Module):
    """A past (N, P, F) and noise (N, h, noise) → the h steps after it: changes, each of which sees past and noise so far."""

    def __init__(self, size: int, noise: int, width: int) -> None:
        super().__init__()
        require_positive(width=width)
        self.changes = Changes(size)
        self.reader = nn.GRU(2 * size, width, batch_first=True)
        self.writer = nn.GRU(noise, width, batch_first=True)
        self.head = nn.Linear(width, size)

    def forward(self, past: Tensor, noise: Tensor) -> Tensor:
        _, state = self.reader(self.changes(past))
        steps, _ = self.writer(noise, state)
        return past[:, -1:] + (self.head(steps) * self.changes.scale).cumsum(1)


class Judge(nn.Module):
    """Windows (N, T, F) → a logit for each of the last `horizon` steps, (N, horizon)."""

    def __init__(self, size: int, horizon: int, width: int) -> None:
        super().__init__()
        self.changes, self.horizon = Changes(size), horizon
        self.reader = nn.GRU(2 * size, width, batch_first=True)
        self.head = nn.Linear(width, 1)

    def forward(self, window: Tensor) -> Tensor:
        steps, _ = self.reader(self.changes(window))
        return self.head(steps[:, -self.horizon :]).squeeze(2)


class Forecast(SeriesGame):
    """The last `horizon` steps of a window, given those before.

    The paper foretells one step; here a path is drawn step by step, as changes in units of the data's usual change. The
    discriminator sees past and future together, and judges each step of the future.
    horizon: steps to foretell. latent: numbers of noise a step, N(0, 1). width: of both networks.
    energy: weight of the energy score of `draws` paths for each past, which is least where they are distributed as the future is
    (Gneiting & Raftery 2007, eq. 22); 0: only the game, as in the paper.
    """

    def __init__(
        self, spec: DataSpec,
        *, horizon: int = 10, latent: int = 4, width: int = 64, energy: float = 1.0, draws: int = 4,
    ) -> None:  # fmt: skip
        super().__init__(spec, noise_size=latent)
        if "returns" in spec.extra:
            raise UserError(
                "data.returns: forecasts go on from values as they are: leave it out, or use the recipe quantgan"
            )
        if not 1 <= horizon <= self.steps - 2:
            raise UserError(f"model.horizon={horizon}: a window of {self.steps} steps has room for 1 to {self.steps - 2}, after a past of two")  # fmt: skip
        if energy and draws < 2:
            raise UserError(f"loss.draws={draws}: the energy score compares at least two paths; set loss.energy=0 to do without it")  # fmt: skip
        self.judgements = 1
        self.horizon, self.energy, self.draws = horizon, energy, draws if energy else 1
        self.generator = Continuation(self.size, latent, width)
        self.discriminator = Judge(self.size, horizon, width)

    @classmethod
    def from_recipe(cls, recipe: Recipe, spec: DataSpec) -> Game:
        game = super().from_recipe(recipe, spec)
        assert isinstance(game, Forecast)
        game.judgements = recipe.train.turns.discriminator
        return game

    def turns(self, step: int) -> Sequence[Turn]:
        """The discriminator's, as many as the recipe's `train.turns` say, then the generator's on the last batch."""
        return (*[Turn("discriminator")] * self.judgements, Turn("generator", fresh=False))

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Learn how large changes from step to step are."""
        every = torch.arange(len(data)).split(4096)
        squares = sum(data.batch(part)["data"].double().diff(dim=1).square().mean(1).sum(0) for part in every)
        scale = (squares / len(data)).sqrt().clamp(min=LEAST).float()
        for module in (self.generator, self.discriminator):
            module.changes.scale.copy_(scale)

    def players(self) -> dict[str, nn.Module]:
        return {"discriminator": self.discriminator, "generator": self.generator}

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        """Cross entropy, its mean over steps of the future; the generator's with the energy score."""
        window = batch["data"]
        past, future = window[:, : -self.horizon], window[:, -self.horizon :]
        generating = turn.player == "generator"
        draws = self.draws if generating else 1
        with torch.set_grad_enabled(generating):
            pasts = past.repeat_interleave(draws, 0)
            paths = self.generator(pasts, self._noise(len(pasts)))
        fake_logits = self.discriminator(torch.cat([pasts, paths], 1))
        if not generating:
            return Losses({"adversarial": logistic_discriminator(self.discriminator(window), fake_logits)})
        losses = Losses({"adversarial": non_saturating_generator(None, fake_logits)})
        if self.energy:
            scale = self.generator.changes.scale
            losses["energy"] = (
                self.energy * energy_score(paths.unflatten(0, (-1, draws)) / scale, future / scale).mean()
            )
        return losses

    def translate(self, given: Batch, *, condition: Tensor | None = None, rng: torch.Generator | None = None) -> Batch:
        """Pasts continued: of windows `data` (N, T, F), or of `source` (N, P, F) alone.

        Returns `data` (N, T, F), the past and one path; `paths` (N, PATHS, horizon, F); `source`; and `real`, the window, where
        it is known. `latent` (N, horizon·noise_size) in `given` is the noise of the first path.
        """
        past = given["source"] if "source" in given else given["data"][:, : -self.horizon]
        count = len(past)
        noise = self._noise(count * PATHS, rng).unflatten(0, (count, PATHS))
        if "latent" in given:
            noise[:, 0] = given["latent"].unflatten(1, (self.horizon, self.noise_size))
        paths = self.generator(past.repeat_interleave(PATHS, 0), noise.flatten(0, 1)).unflatten(0, (count, PATHS))
        made = Batch(data=torch.cat([past, paths[:, 0]], 1), source=past, paths=paths)
        if "data" in given:
            made["real"] = given["data"]
        return made

    def exportable(self) -> Exportable:
        """Windows of a past and noise."""
        past = Past("source", self.steps - self.horizon, self.size)
        return ContinuedPast(self.generator, past, Noise("latent", self.horizon * self.noise_size))

    def _noise(self, count: int, rng: torch.Generator | None = None) -> Tensor:
        return chance.normal(count, self.horizon, self.noise_size, device=self.device, rng=rng)


class ContinuedPast(Exportable):
    """A past (N, P, F) and flat noise → the past and the path after it, (N, T, F)."""

    def forward(self, source: Tensor, latent: Tensor) -> Tensor:  # type: ignore[override]
        size: int = self.generator.writer.input_size  # type: ignore[union-attr, assignment]
        path = self.generator(source, latent.unflatten(1, (-1, size)))
        return torch.cat([source, path], 1).float()


def energy_score(paths: Tensor, future: Tensor) -> Tensor:
    """E‖x − y‖ − ½ E‖x − x′‖ of draws (N, m, h, F) and what came (N, h, F), per number of a path: (N,).

    Unbiased: draws are not compared with themselves. Source: Gneiting & Raftery 2007, eq. 22, with β = 1.
    """
    draws = paths.shape[1]
    flat, came = paths.flatten(2), future.flatten(1)
    apart = (flat - came[:, None]).square().sum(2).add(LEAST).sqrt().mean(1)
    first, second = torch.triu_indices(draws, draws, 1, device=paths.device)
    among = (flat[:, first] - flat[:, second]).square().sum(2).add(LEAST).sqrt().mean(1)
    return (apart - among / 2) / flat.shape[2] ** 0.5
