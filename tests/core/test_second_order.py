"""Cheap second derivatives against PyTorch's own, and against numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sparring.core.second_order import BENT, SecondOrder

torch.set_num_threads(1)
torch.manual_seed(0)

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 5, 6)),
    "strided": (lambda: nn.Conv2d(4, 3, (4, 3), stride=(2, 1), padding=1, dilation=(1, 2)), (4, 8, 7)),
    "no bias": (lambda: nn.Conv2d(4, 3, 1, bias=False), (4, 3, 3)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 3, 4, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 4, 3)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(2, 3, 4, stride=2), (2, 5)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 3, 2, stride=2), (2, 2, 2, 3)),
    "same": (lambda: nn.Conv2d(2, 3, 3, padding="same"), (2, 5, 5)),
    "reflected": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 5, 5)),
    "leaky relu": (lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.LeakyReLU(0.2)), (2, 3, 3)),
    "relu": (lambda: nn.Sequential(nn.Conv2d(2, 8, 1), nn.ReLU()), (2, 3, 3)),
    "pooled": (lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.Conv2d(2, 3, 1)), (2, 6, 7)),
    "pooled ceil": (
        lambda: nn.Sequential(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), nn.Conv2d(2, 3, 1)),
        (2, 5, 5),
    ),
    "adaptive": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d((None, 2)), nn.Conv2d(2, 3, 1)), (2, 5, 7)),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def squared_slopes(network: nn.Module, samples: Tensor, order: SecondOrder | None) -> Tensor:
    """The mean squared gradient of a curved function of the network's outputs by its samples."""
    samples = samples.detach().requires_grad_()
    if order is None:
        (gradient,) = torch.autograd.grad(network(samples).square().sum(), samples, create_graph=True)
    else:
        with order:
            output = network(samples).square()
        gradient = order.gradient(output, samples)
    return gradient.square().sum()


def build(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    make, shape = LAYERS[name]
    return make().to(dtype), torch.randn(3, *shape, dtype=dtype)


@each_layer
def test_values_and_second_derivatives_are_pytorchs(name: str) -> None:
    network, samples = build(name)
    values, slopes = [], []
    for order in (None, SecondOrder(), SecondOrder(shared=True)):
        value = squared_slopes(network, samples, order)
        values.append(value)
        slopes.append(torch.autograd.grad(value, list(network.parameters()), allow_unused=True))
    for own in (1, 2):
        torch.testing.assert_close(values[own], values[0], rtol=1e-12, atol=0)
        for one, other in zip(slopes[own], slopes[0], strict=True):
            assert one is not None and other is not None
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["conv2d", "transposed 1d", "strided", "pooled", "leaky relu"])
def test_third_derivatives_are_pytorchs(name: str) -> None:
    network, samples = build(name)
    found = []
    for order in (None, SecondOrder()):
        parameters = list(network.parameters())
        slopes = torch.autograd.grad(squared_slopes(network, samples, order), parameters, create_graph=True)
        bend = sum((slope.square().sum() for slope in slopes), torch.zeros(()))
        found.append(torch.autograd.grad(bend, parameters))
    for plain, own in zip(*found, strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-10, atol=1e-10)


@each_layer
def test_first_derivatives_by_the_weights_are_there_beside(name: str) -> None:
    network, samples = build(name)
    samples.requires_grad_()
    with SecondOrder() as order:
        output = network(samples).square()
    order.gradient(output, samples)
    own = torch.autograd.grad(output.sum(), list(network.parameters()))
    plain = torch.autograd.grad(network(samples).square().sum(), list(network.parameters()))
    for one, other in zip(own, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


class Calls(TorchDispatchMode):
    """Counts convolutions and what goes back through them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        wanted = {"aten.convolution_backward": sum(args[-1][:2]) if args and isinstance(args[-1], list) else 1}
        self.count += {"aten.convolution": 1, **wanted}.get(str(function).removesuffix(".default"), 0)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.2), nn.ReLU()])
def test_a_penalty_costs_four_passes_a_convolution(activation: nn.Module) -> None:
    # There, back to the samples, there again with what moves them, and back to the weights.
    layers = [nn.Conv2d(2, 4, 3, padding=1), activation, nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1, groups=4)]
    network = nn.Sequential(*layers, activation, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    samples = torch.randn(2, 2, 8, 8, requires_grad=True)
    counts = []
    for order in (None, SecondOrder()):
        with Calls() as calls:
            if order is None:
                (slopes,) = torch.autograd.grad(network(samples).sum(), samples, create_graph=True)
            else:
                with order:
                    logits = network(samples)
                slopes = order.gradient(logits, samples)
            slopes.square().sum().backward(inputs=list(network.parameters()))
        counts.append(calls.count)
    assert counts[1] == 8 < counts[0]


def test_what_is_outside_is_left_alone() -> None:
    network, samples = build("conv2d")
    with SecondOrder():
        inside = network(samples.requires_grad_())
    assert "Convolve" in type(inside.grad_fn).__name__
    assert "Convolve" not in type(network(samples).grad_fn).__name__


def test_every_replaced_operation_is_one_of_pytorchs() -> None:
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    for function in (F.relu, torch.relu, F.leaky_relu):
        assert function in BENT
        with SecondOrder():
            torch.testing.assert_close(function(x), function(x.detach()))
