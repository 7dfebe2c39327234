from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sparring.metrics.path_length import path_length, path_lengths, slerp, trimmed_mean

torch.set_num_threads(1)
WIDTH = 16


def draw(count: int, random: torch.Generator) -> Tensor:
    return torch.randn(count, WIDTH, generator=random)


def linear(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(WIDTH, 48, generator=torch.Generator().manual_seed(9)).double()


def squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).sum(1)


def test_a_linear_generator_over_straight_lines_has_the_closed_form() -> None:
    matrix = linear()
    lengths = path_lengths(lambda w: w.double() @ matrix, squared, draw, space="w", count=64, batch=64, epsilon=1e-2)
    random = torch.Generator().manual_seed(0)
    one, other = draw(64, random), draw(64, random)
    expected = ((other - one).double() @ matrix).square().sum(1)
    torch.testing.assert_close(lengths, expected, rtol=1e-4, atol=0)


def test_great_circles_have_the_closed_form_for_latents_that_are_normalised() -> None:
    # On the unit sphere the path moves at the angle between its ends: d/ε² is that angle squared.
    def generate(z: Tensor) -> Tensor:
        return z.double() / z.double().norm(dim=1, keepdim=True)

    lengths = path_lengths(generate, squared, draw, count=50, batch=50, epsilon=1e-3)
    random = torch.Generator().manual_seed(0)
    one, other = generate(draw(50, random)), generate(draw(50, random))
    angle = (one * other).sum(1).acos()
    torch.testing.assert_close(lengths, angle.square(), rtol=1e-3, atol=0)


def test_length_of_a_smooth_generator_does_not_depend_on_epsilon() -> None:
    matrix = linear(0.2).float()
    figures = [
        path_length(lambda z: (z @ matrix).tanh(), squared, draw, count=200, epsilon=eps) for eps in (1e-4, 1e-3)
    ]
    assert figures[0] == pytest.approx(figures[1], rel=0.01)


def test_rounding_to_bytes_would_have_ruined_it() -> None:
    matrix = linear(0.2).float()
    exact = path_length(lambda z: (z @ matrix).tanh(), squared, draw, count=200)
    rounded = path_length(lambda z: ((z @ matrix).tanh() * 127.5).round() / 127.5, squared, draw, count=200)
    assert rounded > 20 * exact


def test_rougher_generators_have_longer_paths() -> None:
    def figure(frequency: float) -> float:
        matrix = linear(0.2).float()
        return path_length(lambda z: (frequency * z @ matrix).sin(), squared, draw, count=100)

    assert figure(0.5) < figure(1) < figure(2) < figure(4)


def test_end_points_are_the_drawn_latents_and_full_paths_are_not() -> None:
    seen: list[Tensor] = []

    def generate(z: Tensor) -> Tensor:
        seen.append(z)
        return z

    first = draw(8, torch.Generator().manual_seed(0))
    for sampling, equal in (("end", True), ("full", False)):
        seen.clear()
        path_lengths(generate, squared, draw, sampling=sampling, count=8, batch=8)  # type: ignore[arg-type]
        assert torch.allclose(seen[0], first, atol=1e-5) is equal
        assert not torch.equal(seen[0], seen[1])


def test_slerp_keeps_the_length_of_normal_latents_where_a_line_shortens_it() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(200, 256, generator=random, dtype=torch.float64) for _ in range(2))
    middle = slerp(a, b, torch.full((200, 1), 0.5, dtype=torch.float64))
    assert float(middle.norm(dim=1).mean()) == pytest.approx(16, rel=0.01)
    assert float(torch.lerp(a, b, 0.5).norm(dim=1).mean()) == pytest.approx(16 / math.sqrt(2), rel=0.02)


def test_slerp_begins_and_ends_at_its_ends_and_turns_evenly() -> None:
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[0.0, 3.0]], dtype=torch.float64)
    for t in (0.0, 0.25, 0.5, 1.0):
        angle, length = t * math.pi / 2, 1 + 2 * t
        expected = length * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        torch.testing.assert_close(slerp(a, b, torch.tensor([[t]], dtype=torch.float64)), expected)


def test_slerp_of_parallel_latents_and_of_latent_maps_is_finite() -> None:
    a = torch.ones(2, 3, 4, 4, dtype=torch.float64)
    t = torch.full((2, 1, 1, 1), 0.5, dtype=torch.float64)
    torch.testing.assert_close(slerp(a, 3 * a, t), 2 * a)


def test_trimming_is_the_published_one() -> None:
    values = torch.from_numpy(np.random.default_rng(0).lognormal(size=537))
    low = np.percentile(values, 1, method="lower")
    high = np.percentile(values, 99, method="higher")
    kept = values[(values >= low) & (values <= high)]
    assert trimmed_mean(values) == pytest.approx(float(kept.mean()))
    assert len(kept) < len(values)
    assert trimmed_mean(torch.tensor([4.0])) == 4


def test_figure_repeats_with_its_seed_and_leaves_global_randomness_alone() -> None:
    matrix = linear(0.2).float()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    figures = [path_length(lambda z: z @ matrix, squared, draw, count=20, seed=seed) for seed in (1, 1, 2)]
    assert figures[0] == figures[1] != figures[2]
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_paths_and_no_step_are_refused() -> None:
    for wrong in ({"count": 0}, {"epsilon": 0.0}):
        with pytest.raises(ValueError, match="path length"):
            path_length(lambda z: z, squared, draw, **wrong)  # type: ignore[arg-type]
