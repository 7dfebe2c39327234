"""Layers that treat maps as samples of continuous signals (Karras et al. 2021, "Alias-Free GAN", sec. 3).

A map of rate s (samples per unit) can hold frequencies below s/2. Each layer filters what it makes down to a cutoff below
that, with a transition band of some width: so nothing folds back, and moving the input moves the output by as much,
between the pixels too. Lengths are in units, of which the image's longer side is one; maps reach beyond the image by a
margin, so that the borders have nothing to tell the network where it is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.equalised import EqualisedLinear
from sparring.nn.filters import upfirdn2d
from sparring.nn.resample import Size
from sparring.nn.residual import LEAK


class Signal(NamedTuple):
    """What maps are samples of.

    size: H and W in samples, the margins among them. rate: samples per unit. cutoff: the highest frequency kept, cycles
    per unit. half_width: from the cutoff to where the signal has vanished, half of the filter's transition band.
    """

    size: Size
    rate: float
    cutoff: float
    half_width: float


def lowpass(taps: int, cutoff: float, transition: float, rate: float) -> Tensor:
    """A low-pass filter by the Kaiser window, (taps,), float64, sum 1 (Karras et al. 2021, sec. 3.2 and appendix C.1).

    cutoff: where half of the amplitude is left; transition: width of the band around it; rate: samples, all per unit.
    """
    position = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    row = torch.sinc(2 * cutoff / rate * position) * _kaiser(taps, transition / (rate / 2))
    return row / row.sum()


def radial_lowpass(taps: int, cutoff: float, transition: float, rate: float) -> Tensor:
    """`lowpass` in two dimensions, the same in all directions, (taps, taps), sum 1: a jinc under a Kaiser window.

    A product of two filters keeps a square of frequencies, which a rotation turns; this one keeps a disc.
    """
    position = (torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2) / rate
    radius = torch.hypot(position[:, None], position[None, :])
    # J₁(2πcr) / πr, which is c in the middle.
    jinc = torch.where(radius > 0, torch.special.bessel_j1(2 * math.pi * cutoff * radius) / (math.pi * radius), cutoff)
    window = _kaiser(taps, transition / (rate / 2))
    square = jinc * window[:, None] * window[None, :]
    return square / square.sum()


def _kaiser(taps: int, transition: float) -> Tensor:
    """The window (Kaiser 1974) for a transition band of this share of the Nyquist frequency."""
    attenuation = 2.285 * (taps - 1) * math.pi * transition + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    else:
        over = max(0.0, attenuation - 21)
        beta = 0.5842 * over**0.4 + 0.07886 * over
    return torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)


class FilteredLeakyReLU(nn.Module):
    """Leaky ReLU of the continuous signal: upsample, bend, filter, downsample, (N, C, *before) → (N, C, *after.size).

    A nonlinearity makes frequencies without bound. At a higher rate most of them are still in order, and the filter takes
    away those above `after.cutoff` before the rate goes down (Karras et al. 2021, sec. 2.2 and 3.3).

    before, after: the signals. context: what the convolution ahead has added to each side of `before.size`, one in all
    for each tap beyond the first. bent: False leaves the nonlinearity out. reach: taps of a filter for each sample of the
    slower of its two rates. radial: filter down by a disc.
    """

    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(
        self,
        before: Signal,
        after: Signal,
        *,
        context: int = 0,
        bent: bool = True,
        radial: bool = False,
        reach: int = 6,
    ) -> None:
        super().__init__()
        rate = max(before.rate, after.rate) * (2 if bent else 1)
        self.up, self.down = round(rate / before.rate), round(rate / after.rate)
        self.bent = bent
        up_filter = down_filter = None
        if bent:
            up_filter = lowpass(reach * self.up, before.cutoff, 2 * before.half_width, rate).float()
            design = radial_lowpass if radial else lowpass
            down_filter = design(reach * self.down, after.cutoff, 2 * after.half_width, rate).float()
        # They follow from the options, so a checkpoint need not hold them.
        self.register_buffer("up_filter", up_filter, persistent=False)
        self.register_buffer("down_filter", down_filter, persistent=False)
        taps = reach * (self.up + self.down) - 2 if bent else 0
        self.padding: list[int] = []
        for here, there in zip(before.size, after.size, strict=True):
            # Together what both filters need for so many values; half in front, so that the middle stays in the middle.
            spare = (there - 1) * self.down + 1 + taps - (here + context) * self.up
            self.padding += [(spare + self.up) // 2, spare - (spare + self.up) // 2]

    def forward(self, x: Tensor) -> Tensor:
        if self.up_filter is None or self.down_filter is None:
            top, bottom, left, right = self.padding
            return F.pad(x, (left, right, top, bottom))
        x = upfirdn2d(x, self.up_filter, up=self.up, padding=self.padding, gain=self.up**2)
        x = F.leaky_relu(x, LEAK)
        # Here what keeps the signal's scale costs nothing.
        return upfirdn2d(x, self.down_filter, down=self.down, gain=math.sqrt(2))


class FourierFeatures(nn.Module):
    """Codes (N, code) → maps (N, channels, *signal.size): waves in a frame that the code turns and shifts.

    Frequencies are drawn once, evenly from the disc up to the signal's cutoff, and phases. The affine layer begins with
    the frame as it is, whatever the code (Karras et al. 2021, sec. 3.2 and appendix D.1).
    """

    frequencies: Tensor
    phases: Tensor
    grid: Tensor

    def __init__(self, code: int, channels: int, signal: Signal) -> None:
        super().__init__()
        self.signal = signal
        self.affine = EqualisedLinear(code, 4)
        self.weight = nn.Parameter(torch.empty(channels, channels))
        # Drawn, so a checkpoint must hold them.
        self.register_buffer("frequencies", torch.empty(channels, 2))
        self.register_buffer("phases", torch.empty(channels))
        rows, columns = ((torch.arange(size) - (size - 1) / 2) / signal.rate for size in signal.size)
        self.register_buffer("grid", torch.cartesian_prod(rows, columns).flip(1).T.contiguous(), persistent=False)
        self.initialize_own()

    @torch.no_grad()
    def initialize_own(self) -> None:
        """A recipe's initialiser leaves modules with this method alone."""
        drawn = torch.randn_like(self.frequencies)
        square = drawn.square().sum(1, keepdim=True)
        # r² exceeds −4·log m with probability m²: so the length exp(−r²/4) is even on the disc.
        self.frequencies.copy_(drawn * square.rsqrt() * (-square / 4).exp() * self.signal.cutoff)
        self.phases.copy_(torch.rand_like(self.phases) - 0.5)
        self.weight.normal_()
        self.affine.weight.zero_()
        self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))

    def forward(self, code: Tensor, transform: Tensor | None = None) -> Tensor:
        """transform: (2, 3) or (N, 2, 3), where each place of the image, (x, y, 1) in units from its middle, looks instead."""
        # Half precision would round the phase of a wave by a part of its length.
        with torch.autocast(code.device.type, enabled=False):
            matrix, offset = self.frame(code.to(self.weight.dtype), transform)
            waves = self.frequencies @ matrix
            phases = self.phases[:, None] + self.frequencies @ offset
            x = torch.sin(2 * math.pi * (waves @ self.grid + phases))
            # A transform may shrink the image, and with it move frequencies beyond what the rate can hold.
            over = (waves.norm(dim=2, keepdim=True) - self.signal.cutoff) / (self.signal.rate / 2 - self.signal.cutoff)
            mixed = self.weight @ (x * (1 - over).clamp(0, 1)) / math.sqrt(self.weight.shape[1])
        return mixed.unflatten(2, self.signal.size)

    def frame(self, code: Tensor, transform: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The matrix (N, 2, 2) and the offset (N, 2, 1) that take a place of the image to a place among the waves."""
        cosine, sine, right, down = self.affine(code).unbind(1)
        length = torch.hypot(cosine, sine)
        matrix = torch.stack([cosine, -sine, sine, cosine], dim=1).unflatten(1, (2, 2)) / length[:, None, None]
        # As in the paper: the image turns, then it moves, and last comes the transform.
        offset = -(matrix @ torch.stack([right, down], dim=1)[:, :, None] / length[:, None, None])
        if transform is None:
            return matrix, offset
        transform = transform.to(matrix)
        return matrix @ transform[..., :2], offset + matrix @ transform[..., 2:]
