"""Perceptual path lengths of a game's generator: how evenly its images change with its codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sparring.core.game import Batch, Game
from sparring.errors import UserError
from sparring.metrics.meter import Probed, Value, Values
from sparring.metrics.path_length import path_lengths, trimmed_mean
from sparring.metrics.perceptual import TOWERS, open_lpips
from sparring.metrics.weights import Unavailable

PATHS = 1000


def probe(game: Game, seed: int) -> Probed:
    """The lengths of random paths (Karras et al. 2019, sec. 4.1), each for one label at both ends.

    Codes of style-based generators go along straight lines, latents along great circles. Raises UserError for a game without
    codes.
    """
    if not game.has_codes:
        raise UserError(f"path_length needs codes to walk along, and {type(game).__name__} draws its samples without")
    rng = torch.Generator(game.device).manual_seed(seed)
    one = game.draw_codes(1, rng=rng)
    space: Literal["z", "w"] = "w" if one["code"].ndim == 3 else "z"
    distance, name = _distance(game.render(one)["data"])
    ends: list[Batch] = []

    def draw(count: int, _: torch.Generator) -> Tensor:
        """One end of a path, then the other one for the same labels."""
        condition = ends[0].get("label") if len(ends) == 1 else None
        ends[:] = [*(ends if len(ends) == 1 else []), game.draw_codes(count, condition=condition, rng=rng)]
        return ends[-1]["code"]

    def generate(codes: Tensor) -> Tensor:
        return game.render(Batch({**ends[0], "code": codes}))["data"]

    lengths = path_lengths(generate, distance, draw, space=space, count=PATHS, seed=seed)
    return Probed(Batch(features=lengths[:, None]), {"distance": name, "space": space})


def measure(real: Batch, fake: Batch, seed: int) -> Values:
    """The mean without the lowest and the highest percent, as it is published."""
    return {"path_length": Value(trimmed_mean(fake["features"][:, 0]))}


def _distance(like: Tensor) -> tuple[Callable[[Tensor, Tensor], Tensor], str]:
    """LPIPS where it can be had, otherwise pixels; never rounded, for steps are smaller than a byte's."""
    if like.shape[1] in (1, 3) and min(like.shape[2:]) >= TOWERS["vgg"].smallest:
        try:
            network = open_lpips("vgg", device=like.device)
        except Unavailable:
            pass
        else:
            return lambda one, other: network((one + 1) / 2, (other + 1) / 2), network.name
    return (
        lambda one, other: ((one - other) / 2).square().flatten(1).mean(1),
        "mean squared difference of pixels in [0, 1]",
    )
