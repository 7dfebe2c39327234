"""Batch norm whose gain and bias depend on a condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.nn.condition import embed


class FreeEmbedding(nn.Embedding):
    """An embedding that spectral norm leaves alone: it is read as what a label is, and not as a step of a network."""

    unbounded = True


class Table(FreeEmbedding):
    """A row for each class, which starts at zero: at first all classes are alike."""

    def initialize_own(self) -> None:
        """Zeros; a recipe's initialiser leaves modules with this method alone."""
        nn.init.zeros_(self.weight)

    def reset_parameters(self) -> None:
        self.initialize_own()


class ConditionalBatchNorm(nn.Module):
    """Batch norm of maps (N, channels, H, W) with gain 1 + γ and bias β for each sample, linear in a condition.

    classes: the condition is a label, of which γ and β are read off a table (de Vries et al. 2017; Miyato & Koyama 2018,
    sec. 4): class numbers (N,), or float vectors (N, classes), which mix the rows.
    inputs: the condition is a vector (N, inputs) (BigGAN, Brock et al. 2019, appendix B).
    Neither: plain batch norm with a learned gain and bias.

    What normalises is an `nn.BatchNorm2d` inside, without gain and bias of its own, so whatever is done to batch norm
    (statistics of all processes, standing statistics) is done to this too.
    """

    def __init__(self, channels: int, *, classes: int = 0, inputs: int = 0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not (classes or inputs))
        self.gain: nn.Module | None = None
        self.bias: nn.Module | None = None
        if inputs:
            self.gain, self.bias = (nn.Linear(inputs, channels, bias=False) for _ in range(2))
        elif classes:
            self.gain, self.bias = (Table(classes, channels) for _ in range(2))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        x = self.norm(x)
        if self.gain is None or self.bias is None:
            return x
        gain, bias = (_read(layer, condition)[:, :, None, None] for layer in (self.gain, self.bias))
        return torch.addcmul(bias, x, 1 + gain)


def _read(layer: nn.Module, condition: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Embedding):
        return embed(layer, condition)
    if condition is None:
        raise ValueError("this batch norm was built for a condition: give it a vector for each sample")
    return layer(condition)
