"""FIR resampling computes what scipy does, in both of its forms, to any derivative."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d, upfirdn
from torch import Tensor

from sparring.nn import filters
from sparring.nn.filters import binomial, blur, downsample, to_size, upfirdn2d, upsample
from sparring.nn.resample import ladder

torch.set_num_threads(1)

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
factors = st.tuples(st.integers(1, 4), st.integers(1, 4))
sides = st.tuples(*[st.integers(-2, 6)] * 4)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def along(x: np.ndarray, taps: np.ndarray, up: int, down: int, before: int, after: int, axis: int) -> np.ndarray:
    """What scipy computes of values that are padded, behind the zeros that `up` adds to the last of them too."""
    length = x.shape[axis] * up + before + after - len(taps) + 1
    # scipy's output begins where the taps first touch a value, and may end before the zeros do.
    full = upfirdn(taps, x, up=up, axis=axis)
    full = np.moveaxis(full, axis, -1)
    start = len(taps) - 1 - before
    taken = np.zeros((*full.shape[:-1], length))
    for index in range(length):
        if 0 <= start + index < full.shape[-1]:
            taken[..., index] = full[..., start + index]
    return np.moveaxis(taken[..., ::down], -1, axis)


@settings(max_examples=150, deadline=None)
@given(size=sizes, taps=st.integers(1, 8), up=factors, down=factors, padding=sides, limit=st.sampled_from([0, 4, 128]))
def test_a_filter_of_one_dimension_is_scipys_along_both_axes(size, taps, up, down, padding, limit) -> None:  # type: ignore[no-untyped-def]
    lengths = [n * u + a + b - taps + 1 for n, u, a, b in zip(size, up, padding[::2], padding[1::2], strict=True)]
    x, row = random(2, 3, *size), random(taps)
    before, filters.MATRIX_LIMIT = filters.MATRIX_LIMIT, limit
    try:
        if min(lengths) < 1:
            with pytest.raises(ValueError, match="fewer than"):
                upfirdn2d(x, row, up, down, padding)
            return
        ours = upfirdn2d(x, row, up, down, padding, gain=1.5)
    finally:
        filters.MATRIX_LIMIT = before
    theirs = along(x.numpy(), row.numpy(), up[0], down[0], padding[0], padding[1], axis=2)
    theirs = 1.5 * along(theirs, row.numpy(), up[1], down[1], padding[2], padding[3], axis=3)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(size=sizes, taps=st.tuples(st.integers(1, 5), st.integers(1, 5)), up=factors, down=factors, padding=sides)
def test_a_filter_of_two_dimensions_is_scipys_convolution(size, taps, up, down, padding) -> None:  # type: ignore[no-untyped-def]
    lengths = [n * u + a + b - t + 1 for n, u, t, a, b in zip(size, up, taps, padding[::2], padding[1::2], strict=True)]
    if min(lengths) < 1:
        return
    x, square = random(1, 2, *size), random(*taps)
    ours = upfirdn2d(x, square, up, down, padding, gain=0.5)
    stuffed = np.zeros((2, size[0] * up[0], size[1] * up[1]))
    stuffed[:, :: up[0], :: up[1]] = x[0].numpy()
    # Room for any padding, from which what is wanted is cut.
    roomy = np.pad(stuffed, ((0, 0), (6, 6), (6, 6)))
    rows = slice(6 - padding[0], 6 + stuffed.shape[1] + padding[1])
    columns = slice(6 - padding[2], 6 + stuffed.shape[2] + padding[3])
    theirs = np.stack([convolve2d(plane[rows, columns], square.numpy(), mode="valid") for plane in roomy])
    np.testing.assert_allclose(ours[0].numpy(), 0.5 * theirs[:, :: down[0], :: down[1]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [0, 128], ids=["phases", "matrix"])
@pytest.mark.parametrize("square", [False, True])
def test_second_derivatives_are_right(limit: int, square: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "MATRIX_LIMIT", limit)
    x = random(1, 2, 4, 5).requires_grad_()
    taps = (random(3, 4) if square else random(4)).requires_grad_()

    def bent(x: Tensor, taps: Tensor) -> Tensor:
        return upfirdn2d(x, taps, (2, 1), (1, 2), (2, 1)).tanh()

    assert torch.autograd.gradcheck(bent, (x, taps))
    assert torch.autograd.gradgradcheck(bent, (x, taps))


def test_the_filter_of_stylegan2_is_1_3_3_1() -> None:
    torch.testing.assert_close(binomial(4), torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8)


@pytest.mark.parametrize("taps", [2, 3, 4, 5, 12])
@pytest.mark.parametrize("factor", [1, 2, (1, 2)])
def test_resampling_keeps_a_constant_and_the_middle(taps: int, factor: int | tuple[int, int]) -> None:
    row = binomial(taps).double()
    tall, wide = (factor, factor) if isinstance(factor, int) else factor
    flat = torch.ones(1, 1, 40, 40, dtype=torch.float64)
    for grown in (blur(flat, row), downsample(flat, row, factor), upsample(flat, row, factor)):
        torch.testing.assert_close(grown[..., 14:-14, 14:-14], torch.ones_like(grown[..., 14:-14, 14:-14]))
    # A slope stays one, and turns about the same point of the image for even taps; odd ones have a value in their middle.
    if taps % 2 == 0 and factor != 1:
        slope = torch.linspace(-1, 1, 40, dtype=torch.float64).expand(1, 1, 40, 40)
        up = upsample(slope, row, factor)
        assert up.shape == (1, 1, 40 * tall, 40 * wide)
        torch.testing.assert_close(up[..., 20 * tall, 30:50], -up[..., 20 * tall, 30:50].flip(-1))
        down = downsample(slope, row, factor)
        torch.testing.assert_close(down[..., 10, 6:14], -down[..., 10, 6:14].flip(-1))


@pytest.mark.parametrize("size", [(28, 28), (25, 44), (37, 16), (64, 9)])
def test_any_ladder_can_be_climbed_both_ways(size: tuple[int, int]) -> None:
    rungs = ladder(*size)
    x = random(1, 2, *rungs[0])
    for rung in rungs[1:]:
        x = to_size(x, binomial(), rung)
        assert x.shape[-2:] == rung
    for rung in reversed(rungs[:-1]):
        x = to_size(x, binomial(), rung)
        assert x.shape[-2:] == rung


def test_a_size_that_is_no_rung_is_refused() -> None:
    with pytest.raises(ValueError, match="no rung"):
        to_size(random(1, 1, 8, 8), binomial(), (24, 8))
