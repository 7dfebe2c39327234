"""Between vectors and small maps: the first and the last layer of R3GAN (Huang et al. 2024, appendix)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.nn.resample import Size
from sparring.nn.residual import he_normal_


class GenerativeBasis(nn.Module):
    """Vectors (N, inputs) → maps (N, channels, *size): a learned picture for each channel, scaled by a linear layer."""

    def __init__(self, inputs: int, channels: int, size: Size) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, channels, bias=False)
        self.basis = nn.Parameter(torch.empty(channels, *size))
        self.initialize_own()

    def initialize_own(self) -> None:
        """Unit variance out for unit variance in."""
        he_normal_(self.linear.weight)
        nn.init.normal_(self.basis)

    def forward(self, x: Tensor) -> Tensor:
        return self.basis * self.linear(x)[:, :, None, None]


class DiscriminativeBasis(nn.Module):
    """Maps (N, channels, *size) → vectors (N, channels): a depthwise convolution as large as the map.

    Written as a weighted sum: a depthwise convolution's second derivative is a loop over channels on a CPU.
    """

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.empty(channels, *size))
        self.initialize_own()

    def initialize_own(self) -> None:
        """Unit variance out for unit variance in."""
        he_normal_(self.basis)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.basis).sum(dim=(2, 3))
