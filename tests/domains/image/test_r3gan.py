"""R3GAN's presets: the published networks, layer by layer, and the published burn-in."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

import pytest
import torch

from sparring.core.game import DataSpec
from sparring.core.penalties import bind_penalties
from sparring.core.schedules import learning_rate
from sparring.domains import open_domain
from sparring.recipe import load_recipe
from sparring.training.optimizers import scheduled_betas

PUBLISHED = {
    "r3gan-32": (32, [768] * 4),
    "r3gan-64": (64, [384, *[768] * 4]),
    "r3gan-256": (256, [96, 192, 384, *[768] * 4]),
}


def block(channels: int) -> int:
    """1×1 to twice the channels, 3×3 in groups of 16, 1×1 back; the first two with biases."""
    inside = 2 * channels
    return (channels * inside + inside) + (inside * 16 * 9 + inside) + inside * channels


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_the_published_layers(name: str) -> None:
    size, widths = PUBLISHED[name]
    with torch.device("meta"):
        game = open_domain("image").build_game(load_recipe(name), DataSpec((3, size, size)))
    stages = sum(2 * block(width) for width in widths)
    between = sum(few * many for few, many in pairwise(widths) if few != many)
    basis = 16 * widths[-1]
    generator = 64 * widths[-1] + basis + stages + between + (3 * widths[0] + 3)
    discriminator = (3 * widths[0] + widths[0]) + stages + between + basis + (widths[-1] + 1)
    assert sum(each.numel() for each in game.generator.parameters()) == generator
    assert sum(each.numel() for each in game.discriminator.parameters()) == discriminator
    if name == "r3gan-32":  # 20.7 M each in the paper's table
        assert (round(generator / 1e5), round(discriminator / 1e5)) == (207, 207)


@pytest.mark.parametrize(
    ("name", "images", "burn_in", "gamma", "rate", "half_life"),
    [
        ("r3gan-32", 10e6, 2e6, (1.0, 0.1), (2e-4, 2e-4), 0.5e6),
        ("r3gan-64", None, 20e6, (2.0, 0.2), (2e-4, 5e-5), 0.5e6),
        ("r3gan-256", None, 20e6, (150.0, 15.0), (2e-4, 5e-5), 0.5e6),
    ],
)
def test_the_burn_in_is_the_published_one(
    name: str,
    images: float | None,
    burn_in: float,
    gamma: tuple[float, float],
    rate: tuple[float, float],
    half_life: float,
) -> None:
    train, loss = load_recipe(name).train, load_recipe(name).loss
    end = ceil(burn_in / train.batch_size)
    for penalty in bind_penalties(loss["penalties"], steps=train.steps):
        assert [penalty.weight_at(step) for step in (0, end)] == pytest.approx(gamma)
        assert penalty.weight_at(end // 2) == pytest.approx(sum(gamma) / 2, rel=1e-3)
    betas = scheduled_betas(train.optimizer, train.steps)
    assert betas is not None
    assert [betas(step)[1] for step in (0, end)] == pytest.approx([0.9, 0.99])
    rates = [train.optimizer["lr"] * learning_rate(train.schedule, step, train.steps) for step in (0, end)]
    assert rates == pytest.approx(rate)
    assert (train.ema.half_life, train.ema.final_half_life, train.ema.warmup) == (0, half_life, 0)
    assert train.ema.over * train.batch_size == pytest.approx(burn_in, rel=1e-3)
    if images:
        assert train.steps is not None and train.steps * train.batch_size == pytest.approx(images, rel=1e-3)
