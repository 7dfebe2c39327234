"""Modulated convolutions, against the grouped convolution of the paper, and to the second derivative."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core import chance
from sparring.nn.modulated import NoiseInput, StyledConv, ToImage, modulated

torch.set_num_threads(1)
convolve = partial(F.conv2d, padding=1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("demodulate", [True, False])
def test_each_sample_is_convolved_with_weights_of_its_own(demodulate: bool) -> None:
    x, weight, style = draw(4, 3, 6, 5), draw(7, 3, 3, 3), draw(4, 3)
    own = weight[None] * style[:, None, :, None, None]
    if demodulate:
        own = own / own.square().sum(dim=(2, 3, 4), keepdim=True).add(1e-8).sqrt()
    grouped = F.conv2d(x.reshape(1, 12, 6, 5), own.reshape(28, 3, 3, 3), padding=1, groups=4).reshape(4, 7, 6, 5)
    torch.testing.assert_close(modulated(x, weight, style, convolve, demodulate=demodulate), grouped)


@pytest.mark.parametrize("demodulate", [True, False])
def test_first_and_second_derivatives_are_right(demodulate: bool) -> None:
    inputs = (draw(2, 2, 3, 3), draw(3, 2, 3, 3), draw(2, 2))
    function = partial(modulated, convolve=convolve, demodulate=demodulate)
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_a_layers_second_derivative_is_right_by_the_code() -> None:
    layer = StyledConv(2, 3, 4, (6, 5)).double()
    torch.nn.init.constant_(layer.noise.strength, 0.3)
    assert torch.autograd.gradgradcheck(lambda x, code: layer(x, code, "constant"), (draw(2, 2, 3, 3), draw(2, 4)))


def test_maps_keep_unit_variance_whatever_the_scale_of_the_code() -> None:
    layer, code = StyledConv(64, 64, 16, (16, 16)), torch.randn(8, 16)
    x = torch.randn(8, 64, 16, 16)
    for scale in (1.0, 30.0):
        assert layer(x, scale * code).square().mean().item() == pytest.approx(1.04, rel=0.15)


def test_noise_is_one_draw_for_all_channels_times_the_strength() -> None:
    noise, x = NoiseInput((6, 5)), torch.zeros(4, 3, 6, 5)
    assert torch.equal(noise(x), x)
    torch.nn.init.constant_(noise.strength, 0.5)
    out = noise(x)
    assert torch.equal(out[:, :1].expand_as(out), out)
    assert out.std().item() == pytest.approx(0.5, rel=0.2)
    assert not torch.equal(noise(x), out)
    assert torch.equal(noise(x, "constant"), (noise.constant * 0.5).expand_as(x))
    assert "constant" in noise.state_dict()


def test_noise_is_drawn_as_for_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(chance, "normal", lambda *shape, **_: asked.append(shape) or torch.zeros(shape))
    NoiseInput((6, 5))(torch.zeros(4, 3, 6, 5))
    assert asked == [(4, 1, 6, 5)]


def test_half_precision_gives_what_full_precision_does_but_for_rounding() -> None:
    layer, image = StyledConv(16, 16, 8, (8, 8)), ToImage(16, 3, 8)
    x, code = torch.randn(2, 16, 4, 4), torch.randn(2, 8)
    exact = image(layer(x, code, "constant"), code)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = image(layer(x, code, "constant"), code)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.05)
