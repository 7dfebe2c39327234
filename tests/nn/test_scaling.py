"""Residual blocks that change the size of maps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import _SpectralNorm

from sparring.core.regularize import spectral_norm
from sparring.nn.conditional_norm import ConditionalBatchNorm
from sparring.nn.scaling import DownBlock, UpBlock

torch.set_num_threads(1)


def up_as_written(block: UpBlock, x: Tensor) -> Tensor:
    """Miyato et al. 2018, fig. 8 (b): everything after the enlargement at the new size, the shortcut too."""
    y = F.interpolate(F.relu(block.norms[0](x)), scale_factor=2)
    y = block.convolutions[1](F.relu(block.norms[1](block.convolutions[0](y))))
    return y + block.shortcut(F.interpolate(x, scale_factor=2))


def up_deep_as_written(block: UpBlock, x: Tensor) -> Tensor:
    """Brock et al. 2019, fig. 16: 1×1, enlarged, 3×3, 3×3, 1×1; the shortcut drops channels."""
    y = F.relu(block.norms[1](block.convolutions[0](F.relu(block.norms[0](x)))))
    y = block.convolutions[1](F.interpolate(y, scale_factor=2))
    y = block.convolutions[2](F.relu(block.norms[2](y)))
    y = block.convolutions[3](F.relu(block.norms[3](y)))
    return y + F.interpolate(x[:, :4], scale_factor=2)


def down_as_written(block: DownBlock, x: Tensor) -> Tensor:
    """Miyato et al. 2018, fig. 8 (c): averaged at the very end of both ways."""
    y = block.convolutions[1](F.relu(block.convolutions[0](F.relu(x))))
    return F.avg_pool2d(y + block.shortcut(x), 2)


def down_deep_as_written(block: DownBlock, x: Tensor) -> Tensor:
    """Brock et al. 2019, fig. 16: averaged before the last 1×1; the shortcut adds channels."""
    y = x
    for convolve in block.convolutions[:3]:
        y = convolve(F.relu(y))
    y = block.convolutions[3](F.avg_pool2d(F.relu(y), 2))
    x = F.avg_pool2d(x, 2)
    return y + torch.cat([x, block.more(x)], dim=1)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor], int]] = {
    "up": (lambda: UpBlock(8, 4, (6, 10), ConditionalBatchNorm), up_as_written, 8),
    "up deep": (lambda: UpBlock(8, 4, (6, 10), ConditionalBatchNorm, bottleneck=4), up_deep_as_written, 8),
    "down": (lambda: DownBlock(4, 8, (2, 3)), down_as_written, 4),
    "down narrow": (lambda: DownBlock(4, 8, (2, 3), wide=False), down_as_written, 4),
    "down deep": (lambda: DownBlock(4, 8, (2, 3), bottleneck=4), down_deep_as_written, 4),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cheap_order_of_operations_has_the_values_of_the_order_in_the_papers(case: str) -> None:
    torch.manual_seed(0)
    build, as_written, channels = CASES[case]
    block = build().double().eval()
    x = torch.randn(2, channels, 3, 5, dtype=torch.float64)
    x = x if case.startswith("up") else torch.randn(2, channels, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(block(x), as_written(block, x))


def test_the_first_block_takes_the_image_as_it_is() -> None:
    torch.manual_seed(0)
    block = DownBlock(1, 4, (2, 2), first=True)
    dark = -torch.rand(2, 1, 4, 4)
    assert not block(dark).allclose(block(2 * dark), atol=1e-3), "what is below zero has been rectified away"
    inner = DownBlock(1, 4, (2, 2))
    with torch.no_grad():
        inner.shortcut.weight.zero_()
    assert inner(dark).allclose(inner(2 * dark))


@pytest.mark.parametrize(("wide", "inside"), [(True, 8), (False, 4)])
def test_sn_gan_widens_with_the_second_convolution_and_sagan_with_the_first(wide: bool, inside: int) -> None:
    first, second = DownBlock(4, 8, (2, 2), wide=wide).convolutions
    assert first.out_channels == second.in_channels == inside


def test_a_block_that_keeps_size_and_channels_has_a_shortcut_without_weights() -> None:
    block = DownBlock(4, 4, (3, 5), shrinks=False)
    assert [*block.shortcut.parameters()] == []
    for convolve in block.convolutions:
        nn.init.zeros_(convolve.weight), nn.init.zeros_(convolve.bias)
    x = torch.randn(2, 4, 3, 5)
    assert block(x).equal(x)


@pytest.mark.parametrize("bottleneck", [0, 4])
def test_odd_sizes_are_reached_exactly(bottleneck: int) -> None:
    norm = partial(ConditionalBatchNorm, classes=3)
    x = torch.randn(2, 8, 4, 7)
    assert UpBlock(8, 4, (7, 13), norm, bottleneck=bottleneck)(x, torch.tensor([0, 2])).shape == (2, 4, 7, 13)
    assert DownBlock(8, 16, (2, 4), bottleneck=bottleneck)(x).shape == (2, 16, 2, 4)


def test_second_derivatives_of_a_shrinking_block_are_right() -> None:
    torch.manual_seed(0)
    block = DownBlock(1, 2, (2, 2), first=True).double()
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: block(x).square().sum(), (x,))


@pytest.mark.parametrize("block", [UpBlock(4, 4, (4, 4), ConditionalBatchNorm), DownBlock(4, 4, (1, 1))])
def test_spectral_norm_moves_on_once_a_pass(block: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = spectral_norm(copy.deepcopy(block))
    iterations = []
    monkeypatch.setattr(
        _SpectralNorm, "_power_method", lambda self, weight, count: iterations.append(id(self)), raising=True
    )
    bounded(torch.randn(2, 4, 2, 2))
    assert len(iterations) == len({*iterations}) == 3
