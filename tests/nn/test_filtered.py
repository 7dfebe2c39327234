"""Convolutions from rung to rung, against the steps that they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.nn.filtered import ShrinkingConv2d, convolve_larger, convolve_smaller
from sparring.nn.filters import binomial
from sparring.nn.resample import Size

torch.set_num_threads(1)
TAPS = binomial(4).double()
RUNGS = [((4, 4), (8, 8)), ((5, 4), (9, 8)), ((5, 7), (5, 13)), ((6, 4), (12, 4)), ((3, 5), (3, 5))]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("small", "large"), RUNGS)
def test_larger_is_zeros_between_then_the_convolution_then_the_filter(small: Size, large: Size) -> None:
    x, weight = draw(2, 3, *small), draw(5, 3, 3, 3)
    up = [1 + (after > before) for before, after in zip(small, large, strict=True)]
    # A canvas with a margin of zeros, on which nothing is cut before its time.
    stuffed = torch.zeros(2, 3, up[0] * small[0], up[1] * small[1], dtype=torch.float64)
    stuffed[..., :: up[0], :: up[1]] = x.detach()
    y = F.conv2d(F.pad(stuffed, (4, 4, 4, 4)), weight)
    rows, columns = (TAPS * 2 if grow == 2 else torch.ones(1).double() for grow in up)
    y = F.conv2d(y.flatten(0, 1)[:, None], torch.outer(rows, columns)[None, None])[:, 0].unflatten(0, (2, 5))
    start = [1 if grow == 2 else 3 for grow in up]
    y = y[..., start[0] : start[0] + large[0], start[1] : start[1] + large[1]]
    torch.testing.assert_close(convolve_larger(x, weight, large, TAPS), y)


@pytest.mark.parametrize(("large", "small"), [((8, 8), (4, 4)), ((9, 8), (5, 4)), ((5, 13), (5, 7)), ((12, 4), (6, 4))])
def test_smaller_is_the_filter_then_every_second_value_of_the_convolution(large: Size, small: Size) -> None:
    x, weight = draw(2, 3, *large), draw(5, 3, 3, 3)
    down = [1 + (after < before) for before, after in zip(large, small, strict=True)]
    rows, columns = (TAPS if shrink == 2 else torch.tensor([0.0, 1, 0, 0]).double() for shrink in down)
    y = F.pad(x, (3, 4, 3, 4)).flatten(0, 1)[:, None]
    y = F.conv2d(y, torch.outer(rows, columns)[None, None])[:, 0].unflatten(0, (2, 3))
    y = F.conv2d(y, weight)
    y = y[..., 1 :: down[0], 1 :: down[1]][..., : small[0], : small[1]]
    torch.testing.assert_close(convolve_smaller(x, weight, small, TAPS), y)


def test_a_smooth_image_keeps_its_values_in_both_directions() -> None:
    x, weight = torch.ones(1, 1, 16, 16, dtype=torch.float64), torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    weight[..., 1, 1] = 1
    for y in (convolve_larger(x, weight, (32, 32), TAPS), convolve_smaller(x, weight, (8, 8), TAPS)):
        torch.testing.assert_close(y[..., 3:-3, 3:-3], torch.ones_like(y[..., 3:-3, 3:-3]))


def test_a_layer_keeps_unit_variance_but_for_what_the_filter_takes() -> None:
    layer = ShrinkingConv2d(32, 64, (16, 16))
    torch.nn.init.normal_(layer.bias)
    y = layer(torch.randn(4, 32, 32, 32)) - layer.bias[:, None, None]
    kept = (binomial(4).square().sum() ** 2).sqrt()
    assert y.std().item() == pytest.approx(kept.item(), rel=0.1)


@pytest.mark.parametrize("function", [convolve_larger, convolve_smaller])
def test_second_derivatives_are_right(function: object) -> None:
    size = (5, 8) if function is convolve_larger else (2, 2)
    assert torch.autograd.gradgradcheck(lambda x, w: function(x, w, size, TAPS), (draw(1, 2, 3, 4), draw(2, 2, 3, 3)))
