"""Temporal convolutional networks (Oord et al. 2016; Wiese et al. 2020, section 3): causal, dilated, of a fixed reach."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.nn.layers import require_positive

PRELU = 0.25  # the slope that PReLU begins with


class TemporalConvolution(nn.Module):
    """Sequences (N, T + R − 1, inputs) → (N, T, outputs): each step sees the R steps up to its own, and no other.

    Blocks with dilations 1, 2, 4, …, 2^(levels − 1), whose last states are summed by linear layers (the paper's skip
    connections), so that near and far past reach the output as directly as each other. No step is padded: what has not
    seen R steps is not put out.

    width: channels. levels: blocks of dilated convolutions, after one that sees a step alone; `receptive_field` gives R.
    smooth: begin with means over all of the reach. With independent taps the outputs of neighbouring steps begin
    uncorrelated, and the slope of an autocorrelation is 0 there: a generator hardly finds away from it.
    """

    def __init__(self, inputs: int, outputs: int, width: int, levels: int, *, smooth: bool = False) -> None:
        super().__init__()
        require_positive(width=width, levels=levels)
        self.alone = nn.Sequential(nn.Linear(inputs, width), nn.PReLU(), nn.Linear(width, width), nn.PReLU())
        self.blocks = nn.ModuleList(Block(width, smooth) for _ in range(levels))
        self.skips = nn.ModuleList(nn.Linear(width, width) for _ in range(levels + 1))
        self.head = nn.Linear(width, outputs)
        self.receptive_field = receptive_field(levels)

    def forward(self, x: Tensor) -> Tensor:
        # Time first: what a dilation leaves out is then at one end of the memory, and products need no copies.
        states = self.alone(x.transpose(0, 1).contiguous())
        steps = len(states) - self.receptive_field + 1
        total = self.skips[0](states[-steps:])
        dilation = 1
        for block, skip in zip(self.blocks, self.skips[1:], strict=True):
            states = block(states, dilation)
            total = total + skip(states[-steps:])
            if steps == 1:
                # One step looks at every second state alone: of those left the next dilation is 1 again.
                states = states[::2]
            else:
                dilation *= 2
        return self.head(total).transpose(0, 1)


class Block(nn.Module):
    """Two causal convolutions with PReLU (definition 3.10 of the paper), and past them what came in (Bai et al. 2018)."""

    def __init__(self, width: int, smooth: bool) -> None:
        super().__init__()
        self.first, self.second = Causal(width, smooth), Causal(width, smooth)
        self.first_slope, self.second_slope = nn.PReLU(), nn.PReLU()

    def forward(self, x: Tensor, dilation: int) -> Tensor:
        states = self.first_slope(self.first(x, dilation))
        return self.second_slope(self.second(states, dilation)) + x[2 * dilation :]


class Causal(nn.Module):
    """A convolution of two taps over time: states (T, N, C) → (T − dilation, N, C), of each step and one before it."""

    def __init__(self, width: int, smooth: bool) -> None:
        super().__init__()
        self.now = nn.Linear(width, width)
        self.before = nn.Linear(width, width, bias=False)
        if smooth:
            with torch.no_grad():
                # Both taps alike, of a size that the sum of two uncorrelated steps keeps theirs (He et al. 2015).
                self.now.weight.normal_(std=(2 / (1 + PRELU**2) / (2 * width)) ** 0.5)
                self.before.weight.copy_(self.now.weight)

    def forward(self, x: Tensor, dilation: int) -> Tensor:
        return self.now(x[dilation:]) + self.before(x[:-dilation])


def receptive_field(levels: int) -> int:
    """Steps that an output of so many levels depends on: two convolutions of two taps a level, 127 for 6."""
    return 1 + 2 * (2**levels - 1)
