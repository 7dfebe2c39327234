"""Convolutions that a code steers (Karras et al. 2020, sec. 2.2), and the layers of style-based generators from them.

The paper scales the weights for each sample, and gives each sample its own group of a grouped convolution. The same product
comes of scaling what goes in and what comes out around one convolution for all samples; a CPU takes a tenth of the
time for it, and so does its second derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core import chance
from sparring.nn.equalised import EqualisedLinear, leaky
from sparring.nn.filtered import convolve_larger
from sparring.nn.filters import binomial
from sparring.nn.resample import Size

NoiseKind = Literal["random", "constant"]


def modulated(
    x: Tensor, weight: Tensor, style: Tensor, convolve: Callable[[Tensor, Tensor], Tensor], *, demodulate: bool = True
) -> Tensor:
    """`convolve(x, w″)` with weights of each sample's own: w″ = w·s, or w·s / ‖w·s‖ (Karras et al. 2020, eqs. 1 and 3).

    x: maps (N, I, H, W). weight: (O, I, …). style: scales of the inputs, (N, I). convolve: (maps, weight) → maps
    (N, O, …), linear in both. demodulate: divide by the norm over the inputs and the kernel of each output.
    """
    y = convolve(x * style.to(x.dtype)[:, :, None, None], weight)
    if not demodulate:
        return y
    # In full precision: a rounded norm would scale whole maps.
    with torch.autocast(x.device.type, enabled=False):
        power = weight.to(style.dtype).square().flatten(2).sum(2)
        norms = (style.square() @ power.T + 1e-8).rsqrt()
    return y * norms.to(y.dtype)[:, :, None, None]


class NoiseInput(nn.Module):
    """Adds noise to maps (N, C, *size): one draw for all channels, times a learned number (Karras et al. 2020, appendix B).

    random: a new draw for each sample. constant: the same one, drawn when the layer is built: the buffer `constant`.
    """

    constant: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("constant", torch.randn(1, 1, *size))

    def forward(self, x: Tensor, kind: NoiseKind = "random") -> Tensor:
        if kind == "constant":
            noise = self.constant
        else:
            noise = chance.normal(len(x), *self.constant.shape[1:], device=x.device, dtype=self.constant.dtype)
        return x + (noise * self.strength).to(x.dtype)


class StyledConv(nn.Module):
    """Maps (N, inputs, h, w), codes (N, code) → (N, outputs, *size): modulated 3×3 convolution, noise, bias, leaky ReLU.

    size: that of the maps, or the next rung of a `ladder`; then low-pass filtered.
    """

    taps: Tensor

    def __init__(self, inputs: int, outputs: int, code: int, size: Size) -> None:
        super().__init__()
        self.size = size
        self.style = EqualisedLinear(code, inputs, start=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.noise = NoiseInput(size)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("taps", binomial(4), persistent=False)

    def forward(self, x: Tensor, code: Tensor, noise: NoiseKind = "random") -> Tensor:
        convolve = partial(convolve_larger, size=self.size, taps=self.taps)
        # The scale of the weight is lost in demodulation; this one keeps half precision in range.
        weight = self.weight / math.sqrt(self.weight[0].numel())
        x = self.noise(modulated(x, weight, self.style(code), convolve), noise)
        return leaky(x + self.bias.to(x.dtype)[:, None, None])


class ToImage(nn.Module):
    """Maps (N, inputs, H, W), codes (N, code) → an image (N, outputs, H, W): a modulated 1×1 convolution, not demodulated."""

    def __init__(self, inputs: int, outputs: int, code: int) -> None:
        super().__init__()
        self.style = EqualisedLinear(code, inputs, start=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        weight = self.weight / math.sqrt(self.weight.shape[1])
        image = modulated(x, weight, self.style(code), F.conv2d, demodulate=False)
        return image + self.bias.to(image.dtype)[:, None, None]
