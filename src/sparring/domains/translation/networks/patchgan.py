"""Discriminators that judge patches (Isola et al. 2017, sec. 3.2.2), at one scale or several (Wang et al. 2018, sec. 3.2)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.errors import UserError
from sparring.nn.layers import Norm, norm_layer, require_positive

LEAK = 0.2
DEPTHS = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
"""Pixels a side that a logit sees → halvings. One pixel has 1×1 convolutions (sec. 6.1.2)."""
HALVINGS = {10: 2, 22: 3, 46: 4, 94: 5}
"""The same of layers that all halve, followed by logits of 1×1 convolutions (Huang et al. 2018, appendix B)."""
MOST = 8  # times the first width


class PatchDiscriminator(nn.Module):
    """Images (N, C, H, W), and what they were made from (N, S, H, W) or None → logits (N, scales, h, w), one for each patch.

    field: pixels a side that a logit sees: 1, 16, 34, 70, 142 or 286; 10, 22, 46 or 94 of the layers of MUNIT. scales: discriminators of equal build, each of an
    image half the size of the one before's. Their maps are repeated to the largest one's size, so that in every mean
    all scales weigh the same.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 64, field: int = 70, norm: Norm = "batch", scales: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, scales=scales)
        fields = {**DEPTHS, **HALVINGS}
        if field not in fields:
            raise UserError(
                f"model.discriminator.field: {field} pixels cannot be; there are {', '.join(map(str, sorted(fields)))}"
            )
        # What is left after the halvings passes two more layers of 4×4, each of which takes a pixel.
        least = 2 ** (fields[field] + 1) if field in HALVINGS else 3 * 2 ** fields[field] if fields[field] else 1
        self.smallest = (least - 1) * 2 ** (scales - 1) + 1
        """Pixels of the shorter side of an image below which its smallest scale has no patch."""
        if min(shape[1:]) < self.smallest:
            raise UserError(
                f"model.discriminator: patches of {field} pixels at {scales} scale{'s' * (scales > 1)} need images of "
                f"{self.smallest} pixels a side, not {min(shape[1:])}: say a smaller field or fewer scales"
            )
        layers = halving_layers if field in HALVINGS else patch_layers
        self.scales = nn.ModuleList(layers(source + shape[0], width, fields[field], norm) for _ in range(scales))

    def forward(self, samples: Tensor, source: Tensor | None = None) -> Tensor:
        return self.look(samples, source)[0]

    def look(self, samples: Tensor, source: Tensor | None = None) -> tuple[Tensor, list[list[Tensor]]]:
        """Logits, and for each scale the maps after each of its layers but the last, for feature matching."""
        x = samples if source is None else torch.cat([source, samples], dim=1)
        logits: list[Tensor] = []
        maps: list[list[Tensor]] = []
        for number, layers in enumerate(self.scales):
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False) if number else x
            y, own = x, []
            for layer in layers:  # type: ignore[attr-defined]
                y = layer(y)
                own.append(y)
            logits.append(y)
            maps.append(own[:-1])
        size = logits[0].shape[2:]
        whole = [each if each.shape[2:] == size else F.interpolate(each, size) for each in logits]
        return torch.cat(whole, dim=1), maps


def patch_layers(channels: int, width: int, depth: int, norm: Norm) -> nn.Sequential:
    """The layers of one scale: `depth` halvings, a layer at the last size, and the logits."""
    pixel = depth == 0
    kernel: dict[str, Any] = {"kernel_size": 1} if pixel else {"kernel_size": 4, "padding": 1}
    bare = norm in ("none", "layer", "group")
    layers = [nn.Sequential(nn.Conv2d(channels, width, stride=1 if pixel else 2, **kernel), nn.LeakyReLU(LEAK))]
    before = width
    for level in range(1, max(depth, 1) + 1):
        after = width * min(2**level, MOST)
        stride = 1 if level >= depth else 2
        convolution = nn.Conv2d(before, after, stride=stride, bias=bare, **kernel)
        layers.append(nn.Sequential(convolution, norm_layer(norm, after), nn.LeakyReLU(LEAK)))
        before = after
    return nn.Sequential(*layers, nn.Conv2d(before, 1, **kernel))


def halving_layers(channels: int, width: int, depth: int, norm: Norm) -> nn.Sequential:
    """The layers of one scale of MUNIT's discriminator: `depth` halvings with mirrored borders, no norm after the first."""
    bare = norm in ("none", "layer", "group")
    widths = [channels, *(width * min(2**level, MOST) for level in range(depth))]
    layers = [
        nn.Sequential(
            nn.Conv2d(before, after, 4, 2, 1, bias=bare or not level, padding_mode="reflect"),
            *([norm_layer(norm, after)] if level else []),
            nn.LeakyReLU(LEAK),
        )
        for level, (before, after) in enumerate(pairwise(widths))
    ]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))
