"""Normalisation that a map of labels modulates, place by place."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F


class FreeConv2d(nn.Conv2d):
    """A convolution that spectral norm leaves alone: it reads what is wanted, and is no step of the maps' own way."""

    unbounded = True


class SpatiallyAdaptiveNorm(nn.Module):
    """SPADE (Park et al. 2019, eq. 1): maps (N, channels, H, W), normalised, times 1 + γ and plus β of each place.

    γ and β are two layers of 3×3 convolutions on a map of labels (N, labels, H', W'), which is brought to H and W by
    taking the nearest place. A plain norm washes a region of one label out: all its values are one value, and become
    zero; here what it is comes back in every layer.

    hidden: channels between the two layers. norm: what normalises, without gain and bias of its own: `batch`, as in the
    paper, over all samples; `instance`, over each sample alone.
    """

    def __init__(
        self, channels: int, labels: int, *, hidden: int = 128, norm: Literal["batch", "instance"] = "batch"
    ) -> None:
        super().__init__()
        kind = nn.BatchNorm2d if norm == "batch" else nn.InstanceNorm2d
        self.norm = kind(channels, affine=False)
        self.shared = nn.Sequential(FreeConv2d(labels, hidden, 3, padding=1), nn.ReLU())
        self.gain = FreeConv2d(hidden, channels, 3, padding=1)
        self.bias = FreeConv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        seen = self.shared(F.interpolate(labels, size=x.shape[2:], mode="nearest").to(x.dtype))
        modulated: Tensor = self.norm(x) * (1 + self.gain(seen)) + self.bias(seen)
        return modulated
