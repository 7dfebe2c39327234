"""Alias-free layers: filters as designed, maps that stay in place, and nothing that folds back."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.signal import firwin, kaiser_atten, kaiser_beta
from scipy.signal.windows import kaiser
from scipy.special import j1
from torch import Tensor
from torch.nn import functional as F

from sparring.nn.alias_free import FilteredLeakyReLU, FourierFeatures, Signal, lowpass, radial_lowpass
from sparring.nn.filters import upfirdn2d

torch.set_num_threads(1)


@pytest.mark.parametrize(("taps", "cutoff", "transition"), [(12, 4.0, 8.0), (24, 3.1, 20.0), (13, 6.0, 2.0)])
def test_the_lowpass_is_scipys_design(taps: int, cutoff: float, transition: float) -> None:
    theirs = firwin(taps, cutoff, width=transition, fs=64.0)
    torch.testing.assert_close(
        lowpass(taps, cutoff, transition, 64.0), torch.from_numpy(theirs), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("taps", [12, 13])
def test_the_radial_lowpass_is_a_jinc_under_a_kaiser_window(taps: int) -> None:
    ours = radial_lowpass(taps, 4.0, 8.0, 64.0)
    window = kaiser(taps, kaiser_beta(kaiser_atten(taps, 8.0 / 32.0)))
    expected = torch.zeros(taps, taps, dtype=torch.float64)
    for row in range(taps):
        for column in range(taps):
            radius = math.hypot(row - (taps - 1) / 2, column - (taps - 1) / 2) / 64.0
            wave = j1(2 * math.pi * 4.0 * radius) / (math.pi * radius) if radius else 4.0
            expected[row, column] = wave * window[row] * window[column]
    torch.testing.assert_close(ours, expected / expected.sum(), rtol=1e-10, atol=1e-12)


def test_the_radial_lowpass_passes_and_stops_alike_in_all_directions() -> None:
    def response(square: Tensor, frequency: float, angle: float) -> float:
        position = (torch.arange(24, dtype=torch.float64) - 11.5) / 64
        along = position[None, :] * math.cos(angle) + position[:, None] * math.sin(angle)
        return float((square * torch.cos(2 * math.pi * frequency * along)).sum())

    disc = radial_lowpass(24, 6.0, 8.0, 64.0)
    row = lowpass(24, 6.0, 8.0, 64.0)
    product = row[:, None] * row[None, :]
    for frequency in (2.0, 6.0, 10.0):
        assert abs(response(disc, frequency, 0) - response(disc, frequency, math.pi / 4)) < 0.02
    # A product of filters lets 6·√2 pass along the diagonal: what rotations turn into aliases.
    assert response(product, 6.0, math.pi / 4) - response(product, 6.0, 0) > 0.15


def signals(before: tuple[float, int], after: tuple[float, int], cutoff: float = 3.0) -> tuple[Signal, Signal]:
    (slow, few), (fast, many) = before, after
    return Signal((few, few + 3), slow, cutoff, slow / 2 - cutoff), Signal(
        (many, many + 6), fast, cutoff, fast / 2 - cutoff
    )


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize(
    ("before", "after"), [((16, 24), (16, 24)), ((16, 24), (32, 41)), ((16, 21), (64, 80)), ((32, 40), (16, 25))]
)
def test_a_slope_stays_a_slope_about_the_same_middle(
    before: tuple[float, int], after: tuple[float, int], radial: bool, context: int
) -> None:
    first, second = signals(before, after)
    layer = FilteredLeakyReLU(first, second, context=context, radial=radial).double()
    # Above zero everywhere, where a leaky ReLU is the identity: what is left is the change of rate.
    size = [side + context for side in first.size]
    height, width = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / first.rate for n in size)
    y = layer((10 + height[:, None] - 2 * width[None, :])[None, None]) / math.sqrt(2)
    assert y.shape == (1, 1, *second.size)
    height, width = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / second.rate for n in second.size)
    expected = 10 + height[:, None] - 2 * width[None, :]
    inner = tuple(slice(n // 3, n - n // 3) for n in second.size)
    torch.testing.assert_close(y[0, 0][inner], expected[inner], rtol=0, atol=4e-3)


def test_the_nonlinearity_follows_a_shift_between_the_pixels() -> None:
    signal = Signal((3, 96), 16.0, 3.0, 5.0)
    layer = FilteredLeakyReLU(signal, signal)
    torch.manual_seed(0)
    amplitude, phase, frequency = torch.randn(20), torch.rand(20), 3 * torch.rand(20)

    def waves(shift: float) -> Tensor:
        place = (torch.arange(96) - shift) / 16.0
        at = torch.sin(2 * math.pi * (frequency[:, None] * place + phase[:, None]))
        return (amplitude[:, None] * at).sum(0).expand(1, 1, 3, 96)

    def shifted(x: Tensor) -> Tensor:
        """Half a sample to the right: the values between, by a long filter."""
        between = upfirdn2d(x, lowpass(65, 8.0, 0.8, 32.0)[None], up=(1, 2), padding=(0, 0, 32, 32), gain=2)
        return between[..., 23:-25:2]

    def error(bend: Callable[[Tensor], Tensor]) -> float:
        there, from_here = bend(waves(0.5))[..., 1, :], shifted(bend(waves(0.0)))[..., 1, :]
        there = there[..., 12:-12]
        return float((there - from_here).square().mean() / there.square().mean())

    assert error(layer) < 1e-4
    assert error(lambda x: F.leaky_relu(x, 0.2)) > 30 * error(layer)


@pytest.mark.parametrize("radial", [False, True])
def test_second_derivatives_of_the_filtered_nonlinearity_are_right(radial: bool) -> None:
    first, second = Signal((4, 3), 4.0, 1.0, 1.0), Signal((5, 3), 4.0, 1.2, 0.8)
    layer = FilteredLeakyReLU(first, second, context=2, radial=radial, reach=3).double()
    torch.manual_seed(1)
    x = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    # A leaky ReLU's own second derivative is zero: the square around it makes one that is not.
    assert torch.autograd.gradgradcheck(lambda x: layer(x).square(), x)


def features(cutoff: float = 2.0) -> FourierFeatures:
    torch.manual_seed(0)
    return FourierFeatures(5, 400, Signal((22, 34), 16.0, cutoff, 3.0))


def test_frequencies_are_even_on_the_disc() -> None:
    radius = features().frequencies.norm(dim=1)
    assert float(radius.max()) <= 2.0
    # Of an even disc a quarter lies within half of the radius.
    assert float((radius < 1.0).float().mean()) == pytest.approx(0.25, abs=0.07)


def test_features_do_not_depend_on_the_code_before_training() -> None:
    layer = features()
    one, other = layer(torch.randn(2, 5)).detach()
    torch.testing.assert_close(one, other)
    assert float(one.square().mean()) == pytest.approx(0.5, abs=0.1)


def test_a_code_turns_and_shifts_the_features_and_a_transform_looks_elsewhere() -> None:
    layer = features()
    plain = layer(torch.zeros(1, 5))
    # Two samples to the right: each place sees what was two samples to its left.
    with torch.no_grad():
        layer.affine.bias.copy_(torch.tensor([1.0, 0.0, 2 / 16.0, 0.0]))
    moved = layer(torch.zeros(1, 5))
    torch.testing.assert_close(moved[..., 2:], plain[..., :-2], rtol=0, atol=1e-4)
    back = layer(torch.zeros(1, 5), torch.tensor([[1.0, 0.0, 2 / 16.0], [0.0, 1.0, 0.0]]))
    torch.testing.assert_close(back, plain, rtol=0, atol=1e-4)
    # A quarter turn: the pair need not be of length one.
    with torch.no_grad():
        layer.affine.bias.copy_(torch.tensor([0.0, 3.0, 0.0, 0.0]))
    turned = layer(torch.zeros(1, 5))
    torch.testing.assert_close(turned[..., 6:-6], plain[..., 6:-6].rot90(1, (-2, -1)), rtol=0, atol=1e-4)


def test_waves_keep_their_phases_in_half_precision() -> None:
    layer = features()
    code = torch.randn(2, 5)
    with torch.no_grad():
        layer.affine.weight.normal_()
        expected = layer(code)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(layer(code), expected)
