"""Projection: the code whose sample is most like a given one, after Karras et al. 2020 (StyleGAN2), sec. 5, appendix D.

A code is descended by the gradient of a distance, Adam's rate rising over the first 5 % of the steps and falling over the
last 25 %, with noise on the code that dies away, so that it finds its place roughly before it does so exactly.

- Mapped latents begin at their mean, and, in further attempts, at the draws most like the target. For the first half of
  the steps all layers share one (W), then each has its own (W+: Abdal et al. 2019).
- Plain latents have no middle to begin at: all attempts begin at the draws most like the target. A normal latent of L
  numbers has a length near √L; the prior keeps it there: weight · log²(|z|²/L). Uniform ones are kept in [−1, 1].

The noise inputs of style-based generators stay constant: what is found is a code, which can be edited, and no picture
hidden in the noise maps. The paper descends them as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.domains.domain import Likeness
from sparring.errors import UserError
from sparring.exploring.walks import join
from sparring.trained import Label, Trained

CANDIDATES = 1000  # draws that the nearest are taken from
RATE = {"plain": 0.05, "styled": 0.1}  # of Adam, at its highest: the paper's for mapped latents
NOISE = 0.05  # of the codes' standard deviation, at the beginning; gone after 3/4 of the steps
PRIOR = 0.1  # weight of the latent's length
AT_ONCE = 32  # codes of a forward pass

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Projection:
    """What was found for N targets.

    codes: one for each, as `Trained.render` takes them. samples: what they make. figures: by name, (N,) each.
    distance: the name of what was descended. before: its value at the best draw, after: at the end, (N,).
    """

    codes: Batch
    samples: Batch
    figures: dict[str, Tensor]
    distance: str
    before: Tensor
    after: Tensor
    steps: int
    restarts: int
    seed: int

    def plain(self, number: int) -> dict[str, Any]:
        """What is known of one target, JSON-ready."""
        found = {name: float(value[number]) for name, value in self.figures.items()}
        return {
            **{name: value if math.isfinite(value) else None for name, value in found.items()},
            "distance": {"name": self.distance, "of_nearest_draw": float(self.before[number]), "found": float(self.after[number])},
            "steps": self.steps, "restarts": self.restarts, "seed": self.seed,
        }  # fmt: skip


def project(
    trained: Trained,
    target: Tensor,
    likeness: Likeness,
    *,
    steps: int = 400,
    restarts: int = 4,
    seed: int = 0,
    label: Label = None,
    progress: Tick | None = None,
) -> Projection:
    """The codes whose samples are most like `target` (N, …), as the training data is. The same seed finds the same.

    restarts: attempts at each, from different beginnings; the best is kept. label: the class that the samples are to be
    drawn for; None: an attempt takes that of the draw it begins at.
    Raises UserError for a game without codes, targets of another shape, or counts that cannot be.
    """
    if steps < 1 or restarts < 1:
        raise UserError(f"{steps} steps and {restarts} restarts cannot be: at least one of each")
    if tuple(target.shape[1:]) != tuple(trained.spec.shape):
        raise UserError(f"a target of shape {tuple(target.shape[1:])} for a generator of {tuple(trained.spec.shape)}")
    trained.require_codes()
    target = target.to(trained.game.device)
    pool = trained.codes(CANDIDATES, seed=seed, label=label)
    nearest, before = _nearest(trained, pool, target, likeness, restarts)
    starts = _beginnings(trained, pool, nearest, restarts)
    with _frozen(trained):
        found, after = [], []
        wanted = target.repeat_interleave(restarts, dim=0)
        portions = range(0, len(wanted), AT_ONCE)
        for number, first in enumerate(portions):
            part = Batch({name: value[first : first + AT_ONCE] for name, value in starts.items()})
            noise = torch.Generator(target.device).manual_seed(seed + number)

            def tick(done: int, number: int = number) -> None:
                if progress:
                    progress(number * steps + done, len(portions) * steps)

            ended, distance = _descend(
                trained, part, wanted[first : first + AT_ONCE], likeness, pool, steps, noise, tick
            )
            found.append(ended)
            after.append(distance)
    codes, distances = join(found), torch.cat(after).view(-1, restarts)
    best = distances.argmin(1) + torch.arange(len(target), device=distances.device) * restarts
    chosen = Batch({name: value[best.to(value.device)] for name, value in codes.items()})
    samples = trained.render(chosen)
    return Projection(
        chosen,
        samples,
        likeness.figures(samples["data"], target),
        likeness.name,
        before,
        distances.amin(1),
        steps,
        restarts,
        seed,
    )


def _nearest(trained: Trained, pool: Batch, target: Tensor, likeness: Likeness, count: int) -> tuple[Tensor, Tensor]:
    """For each target the numbers (N, count) of the draws most like it, and the distance of the first, (N,)."""
    drawn = trained.render(pool)["data"]
    numbers, best = [], []
    with torch.no_grad():
        for one in target:
            distances = torch.cat([likeness(part, one.expand_as(part)) for part in drawn.split(4 * AT_ONCE)])
            values, order = distances.topk(min(count, len(distances)), largest=False)
            numbers.append(order)
            best.append(values[0])
    return torch.stack(numbers), torch.stack(best)


def _beginnings(trained: Trained, pool: Batch, nearest: Tensor, restarts: int) -> Batch:
    """Where each attempt begins: codes (N · restarts, …), those of one target together."""
    starts = Batch({name: value[nearest.flatten()].clone() for name, value in pool.items()})
    if starts["code"].ndim == 3:
        starts["code"].view(len(nearest), restarts, *starts["code"].shape[1:])[:, 0] = _mean(pool)
    return starts


def _mean(pool: Batch) -> Tensor:
    """The mean of the mapped latents (layers, W), of these very conditions."""
    return pool["code"].mean(0)


def _descend(
    trained: Trained,
    starts: Batch,
    target: Tensor,
    likeness: Likeness,
    pool: Batch,
    steps: int,
    rng: torch.Generator,
    tick: Callable[[int], None],
) -> tuple[Batch, Tensor]:
    """The codes at the end of the descent, and how far their samples are from the target."""
    game, begin = trained.game, starts["code"]
    styled = begin.ndim == 3
    size = begin.shape[-1] if styled else int(getattr(game, "latent", begin.shape[1]))
    uniform = getattr(game, "latent_distribution", "normal") == "uniform" and not styled
    # What a game puts behind its latents (the codes of InfoGAN) stays as it was drawn.
    rest = begin[..., size:]
    free = (begin.mean(1, keepdim=True) if styled else begin[:, :size]).clone().requires_grad_()
    deviation = pool["code"][..., :size].flatten(0, -2).std(0).mean()
    rate = RATE["styled" if styled else "plain"]
    optimizer = torch.optim.Adam([free], lr=rate)
    with torch.enable_grad():
        for step in range(steps):
            if styled and free.shape[1] == 1 and 2 * step >= steps:
                free = free.detach().expand_as(begin).clone().requires_grad_()
                optimizer = torch.optim.Adam([free], lr=rate)
            share = step / steps
            strength = NOISE * deviation * max(0.0, 1 - share / 0.75) ** 2
            jitter = torch.randn(free.shape, generator=rng, device=free.device)
            if styled:
                jitter = jitter[:, :1]  # one for all layers: each its own would average out
            code = torch.cat([(free + strength * jitter).expand(*begin.shape[:-1], size), rest], dim=-1)
            made = game.render(Batch({**starts, "code": code}))["data"]
            # A sum, not a mean: what is beside it must not change the way of a code.
            loss = likeness(made, target).sum()
            if not styled and not uniform:
                loss = loss + PRIOR * free.square().mean(1).log().square().sum()
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (1 - share) / 0.25, (share + 1 / steps) / 0.05)
            optimizer.step()
            if uniform:
                with torch.no_grad():
                    free.clamp_(-1, 1)
            tick(step + 1)
    ended = Batch({**starts, "code": torch.cat([free.detach().expand(*begin.shape[:-1], size), rest], dim=-1)})
    with torch.no_grad():
        return ended, likeness(trained.render(ended)["data"], target)


@contextmanager
def _frozen(trained: Trained) -> Iterator[None]:
    """Inside, the game's weights want no gradients: they would cost as much as the codes'."""
    wanting = [each for each in trained.game.parameters() if each.requires_grad]
    for each in wanting:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in wanting:
            each.requires_grad_(True)
