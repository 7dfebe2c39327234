"""Layers with an equalised learning rate: the weight is N(0, 1), and He's constant is applied at run time.

Adam moves every parameter by about the same amount, however large it is. So where the constant is in the weight, layers
with few inputs learn slowly, relative to their range, and those with many fast; where it is applied at run time, all
learn alike (Karras et al. 2018, sec. 4.1).
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.residual import LEAK


class EqualisedLinear(nn.Linear):
    """(N, inputs) → (N, outputs), with unit variance for unit variance.

    lr_multiplier: the learning rate relative to the other layers': weight and bias are multiplied by it at run time, and
        the weight begins larger by its inverse, so that the output does not change (Karras et al. 2019, appendix C: 0.01
        in the mapping network). gain: of the output's deviation. start: the bias's first value, as the output sees it.
    """

    def __init__(
        self, inputs: int, outputs: int,
        *, bias: bool = True, lr_multiplier: float = 1.0, gain: float = 1.0, start: float = 0.0,
    ) -> None:  # fmt: skip
        self.lr_multiplier, self.start = lr_multiplier, start
        super().__init__(inputs, outputs, bias)
        self.scale = gain * lr_multiplier / math.sqrt(inputs)

    def reset_parameters(self) -> None:
        """As in the paper; PyTorch calls this when it builds the layer."""
        nn.init.normal_(self.weight, std=1 / self.lr_multiplier)
        if self.bias is not None:
            nn.init.constant_(self.bias, self.start / self.lr_multiplier)

    def initialize_own(self) -> None:
        """A recipe's initialiser leaves modules with this method alone."""
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias if self.bias is None or self.lr_multiplier == 1 else self.bias * self.lr_multiplier
        return F.linear(x, self.weight * self.scale, bias)


class EqualisedConv2d(nn.Conv2d):
    """Maps (N, inputs, H, W) → (N, outputs, H, W), with unit variance for unit variance (but at the edges).

    kernel: an odd size, padded so that H and W stay; or stride and padding as they are given. Else as `EqualisedLinear`.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int,
        *, stride: int = 1, padding: int | None = None, bias: bool = True, lr_multiplier: float = 1.0, gain: float = 1.0,
    ) -> None:  # fmt: skip
        self.lr_multiplier = lr_multiplier
        padding = kernel // 2 if padding is None else padding
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding, bias=bias)
        self.scale = gain * lr_multiplier / math.sqrt(inputs * kernel**2)

    def reset_parameters(self) -> None:
        """As in the paper; PyTorch calls this when it builds the layer."""
        nn.init.normal_(self.weight, std=1 / self.lr_multiplier)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def initialize_own(self) -> None:
        """A recipe's initialiser leaves modules with this method alone."""
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias if self.bias is None or self.lr_multiplier == 1 else self.bias * self.lr_multiplier
        return F.conv2d(x, self.weight * self.scale, bias, self.stride, self.padding)


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times √2, which keeps the scale of the signal (Karras et al. 2020, appendix B)."""
    return F.leaky_relu(x, LEAK) * math.sqrt(2)
