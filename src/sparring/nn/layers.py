"""The small choices of a network, made once: which normalisation, how wide each stage."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from sparring.core import chance
from sparring.errors import UserError

Norm = Literal["batch", "layer", "instance", "group", "none"]


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Normalisation of maps (N, channels, H, W), with a learned scale and shift for each channel.

    batch: over N, H, W (Ioffe & Szegedy 2015). layer: over channels, H, W of each sample (Ba et al. 2016).
    instance: over H, W of each sample and channel (Ulyanov et al. 2016). group: up to 8 groups of channels of each
    sample (Wu & He 2018).
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if norm == "none":
        return nn.Identity()
    return nn.GroupNorm(1 if norm == "layer" else math.gcd(8, channels), channels)


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) whose masks do not depend on the number of processes, of samples (N, …)."""

    def forward(self, samples: Tensor) -> Tensor:
        return chance.dropout(samples, self.p) if self.training else samples


def doubling(width: int, count: int, max_width: int | None = None) -> list[int]:
    """Channel counts of `count` stages, from the image inwards: each twice the one before, at most `max_width`.

    max_width: None means 8 × width, as in DCGAN.
    """
    limit = 8 * width if max_width is None else max_width
    return [min(width * 2**stage, limit) for stage in range(count)]


def require_positive(**options: int | None) -> None:
    """Raise UserError for an option below 1; None passes."""
    for name, value in options.items():
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")


def require_dropout(dropout: float) -> None:
    """Raise UserError for a dropout probability outside [0, 1)."""
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is a probability: at least 0 and below 1, not {dropout}")
