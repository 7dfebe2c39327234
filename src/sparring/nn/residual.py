"""Residual blocks (N, C, H, W) → (N, C, H, W)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.errors import UserError
from sparring.nn.layers import Norm, norm_layer

LEAK = 0.2
LEAKY_GAIN = math.sqrt(2 / (1 + LEAK**2))
"""The gain after which a leaky ReLU of slope 0.2 keeps the variance (He et al. 2015, eq. 14)."""


class ResidualBlock(nn.Sequential):
    """x + two 3×3 convolutions, each after norm and leaky ReLU (He et al. 2016, full pre-activation)."""

    def __init__(self, channels: int, norm: Norm = "none") -> None:
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [norm_layer(norm, channels), nn.LeakyReLU(LEAK), nn.Conv2d(channels, channels, 3, padding=1)]
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class InvertedResidual(nn.Module):
    """The block of R3GAN (Huang et al. 2024, sec. 4.2): 1×1 expand, 3×3 in groups, 1×1 project; nothing after the sum.

    group_size: channels per group of the 3×3 convolution; 0 puts all in one group.
    depth: residual blocks in the whole network. Without norm layers the variance grows with each block, so the last
    convolution starts at zero and the two others shrink by depth^(−1/4) (Fixup: Zhang et al. 2019, sec. 3, for m = 3
    layers a block: L^(−1/(2m−2))). The biases of the two activations are those of the convolutions before them.
    """

    def __init__(self, channels: int, *, depth: int, expansion: int = 2, group_size: int = 0) -> None:
        super().__init__()
        hidden = channels * expansion
        group_size = group_size or hidden
        if hidden % group_size:
            raise UserError(
                f"group_size {group_size} does not divide the {hidden} channels inside a residual block "
                f"({expansion} × width); choose another width, or group_size 0"
            )
        self.depth = depth
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.spatial = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden // group_size)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.initialize_own()

    def initialize_own(self) -> None:
        """Fixup initialisation; a recipe's initialiser leaves modules with this method alone."""
        for layer in (self.expand, self.spatial):
            he_normal_(layer.weight, gain=LEAKY_GAIN * self.depth**-0.25)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.project.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.expand(x), LEAK)
        y = F.leaky_relu(self.spatial(y), LEAK)
        return x + self.project(y)


@torch.no_grad()
def he_normal_(weight: Tensor, gain: float = 1.0) -> Tensor:
    """Fill with N(0, gain² / fan_in) (He et al. 2015); fan_in counts all dimensions but the first."""
    return weight.normal_(0, gain / math.sqrt(weight[0].numel()))
