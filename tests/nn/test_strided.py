"""The layers beside an image compute what PyTorch's do, to any derivative."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparring.nn.strided import StridedConv2d, StridedConvTranspose2d, up

torch.set_num_threads(1)


def twins(transposed: bool, channels: int = 3, bias: bool = True) -> tuple[nn.Module, nn.Module, Tensor]:
    """Our layer, PyTorch's with the same weights, and what they take; in float64."""
    torch.manual_seed(0)
    ours: nn.Module
    theirs: nn.Module
    if transposed:
        ours, theirs = (kind(5, channels, 4, 2, 1, bias=bias) for kind in (StridedConvTranspose2d, nn.ConvTranspose2d))
        x = torch.randn(2, 5, 4, 6)
    else:
        ours, theirs = (kind(channels, 5, 4, 2, 1, bias=bias) for kind in (StridedConv2d, nn.Conv2d))
        x = torch.randn(2, channels, 8, 12)
    theirs.load_state_dict(ours.state_dict())
    return ours.double(), theirs.double(), x.double().requires_grad_()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("channels", "bias"), [(1, False), (3, True)])
def test_values_and_gradients_are_pytorchs(transposed: bool, channels: int, bias: bool) -> None:
    ours, theirs, x = twins(transposed, channels, bias)
    results = []
    for layer in (ours, theirs):
        y = layer(x)
        results.append([y, *torch.autograd.grad(y.sin().sum(), [x, *layer.parameters()])])
    for our, their in zip(*results, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("transposed", [False, True])
def test_second_and_third_derivatives_are_right(transposed: bool) -> None:
    ours, _, x = twins(transposed)

    def slope(x: Tensor, weight: Tensor) -> Tensor:
        y = torch.func.functional_call(ours, {"weight": weight}, (x,))
        (gradient,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        return gradient

    weight = ours.get_parameter("weight").detach().requires_grad_()
    assert torch.autograd.gradcheck(slope, (x, weight))
    assert torch.autograd.gradgradcheck(slope, (x[:1, :, :4, :4].detach().requires_grad_(), weight))


def test_without_gradients_the_image_is_the_same() -> None:
    ours, theirs, x = twins(transposed=True)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(up(x, torch.zeros(5, 1, 4, 4).double()), torch.zeros(2, 1, 8, 12).double())


def test_under_autocast_they_work_in_half_precision_and_weights_stay_whole() -> None:
    ours, theirs, x = twins(transposed=False)
    ours, theirs, x = ours.float(), theirs.float(), x.detach().float()
    with torch.autocast("cpu", torch.bfloat16):
        mine, other = ours(x), theirs(x)
    assert mine.dtype == other.dtype == torch.bfloat16
    torch.testing.assert_close(mine, other)
    mine.float().square().sum().backward()
    assert ours.get_parameter("weight").grad.dtype == torch.float32


def test_other_shapes_are_left_to_pytorch() -> None:
    layer = StridedConv2d(64, 8, 3, 1, 1)
    x = torch.randn(1, 64, 4, 4)
    assert torch.equal(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias, padding=1))
