"""Batch norm over the whole batch, where several processes hold a share of it each.

PyTorch's `SyncBatchNorm` does that on GPUs only, and by kernels whose gradient cannot be differentiated again, as
gradient penalties must. This one is plain arithmetic around `processes.mean`, and can.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparring.core import processes


def synchronise_batch_norm(module: nn.Module) -> None:
    """Let every batch norm in `module` take its statistics from all processes that play together, in place.

    Layers stay the objects that they are, with their parameters, buffers and names.
    """
    for layer in module.modules():
        if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            layer.__class__ = WholeBatchNorm  # whoever holds the layer holds this one then


class WholeBatchNorm(_BatchNorm):
    """Batch norm (Ioffe & Szegedy 2015) of (N, C, …) whose mean and variance are those of all processes' samples.

    All of them must hold as many samples. By itself, and in eval mode, it is PyTorch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        group = processes.current()
        if group is None or not self.training:
            return super().forward(x)
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        across = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        # Around the running mean, which all processes know: squares of large means would leave no digits for the variance.
        centre = 0 if self.running_mean is None else self.running_mean.clone()
        spread, middle = torch.var_mean(wide, across, correction=0)
        offset = middle - centre
        offset, square = processes.mean(torch.stack([offset, spread + offset.square()]))
        variance = (square - offset.square()).clamp_min(0)
        mean = centre + offset
        self._follow(mean.detach(), variance.detach(), group.world * wide.numel() // wide.shape[1])
        y = (wide - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics; the variance without bias, as PyTorch has it."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype) * count / max(count - 1, 1), weight)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm wants (N, C, …), not {tuple(input.shape)}")
