"""DCGAN's 4×4 convolutions of stride 2 where an image is on one side: its few channels starve the usual kernels.

A convolution from 64 channels to one or three runs at a twentieth of a CPU's speed. The same sums are those of a 2×2
convolution of stride 1 on squares of 2×2 pixels folded into channels, which is three times as fast:

- up:   image = unfold(transposed 2×2 convolution), without its border
- down: maps  = 2×2 convolution of the folded image, with a border

Only the direction towards the image gains, so each layer's passes take whichever form is faster. All of it is
differentiable any number of times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 4  # channels of an image


class StridedConv2d(nn.Conv2d):
    """`nn.Conv2d(few, after, 4, 2, 1)`: the same parameters and values."""

    def forward(self, x: Tensor) -> Tensor:
        if not _fits(self, self.in_channels, x):
            return super().forward(x)
        return _Down.apply(*_cast(x, self.weight, self.bias))


class StridedConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d(before, few, 4, 2, 1)`: the same parameters and values."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        if output_size is not None or not _fits(self, self.out_channels, x):
            return super().forward(x, output_size)
        x, weight, bias = _cast(x, self.weight, self.bias)
        image = _Up.apply(x, weight) if torch.is_grad_enabled() else up(x, weight)
        return image if bias is None else image + bias[:, None, None]


def up(x: Tensor, weight: Tensor) -> Tensor:
    """`conv_transpose2d(x, weight, stride=2, padding=1)`; x: (N, A, H, W), weight: (A, B, 4, 4) → (N, B, 2H, 2W)."""
    before, after = weight.shape[:2]
    taps = weight.reshape(before, after, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(before, after * 4, 2, 2)
    return F.pixel_shuffle(F.conv_transpose2d(x, taps), 2)[:, :, 1:-1, 1:-1]


class _Up(torch.autograd.Function):
    """`up` forward, the usual kernels backward, which have many channels on their output's side."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(x, weight)
        return up(x, weight)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = context.saved_tensors
        for_x, for_weight = context.needs_input_grad
        return (
            _Down.apply(gradient, weight, None) if for_x else None,
            _weight_gradient(gradient, x, weight) if for_weight else None,
        )


class _Down(torch.autograd.Function):
    """The usual convolution forward, `up` for the gradient by the image."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, stride=2, padding=1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = context.saved_tensors
        for_x, for_weight, for_bias = context.needs_input_grad
        return (
            _Up.apply(gradient, weight) if for_x else None,
            _weight_gradient(x, gradient, weight) if for_weight else None,
            gradient.sum((0, 2, 3)) if for_bias else None,
        )


def _weight_gradient(image: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
    """By the weight of the convolution image → maps, and of the transposed one maps → image: the same sums."""
    _, by_weight, _ = torch.ops.aten.convolution_backward(
        maps, image, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
    )
    return by_weight


def _fits(layer: nn.Conv2d | nn.ConvTranspose2d, channels: int, x: Tensor) -> bool:
    usual = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    return channels <= FEW and usual == ((4, 4), (2, 2), (1, 1), (1, 1), 1) and x.device.type == "cpu"


def _cast(*values: Tensor | None) -> list[Any]:
    """As autocast would: a function of our own gets what it is given."""
    if not torch.is_autocast_enabled("cpu"):
        return list(values)
    half = torch.get_autocast_dtype("cpu")
    return [value.to(half) if value is not None and value.dtype == torch.float32 else value for value in values]
