"""The discriminators of SRGAN and ESRGAN: a stack of convolutions as VGG's, and two linear layers on all of its places."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from sparring.nn.layers import Norm, doubling, norm_layer, require_positive
from sparring.nn.residual import LEAK


class VggDiscriminator(nn.Module):
    """Images (N, C, H, W) of one size, and what they were made from (N, S, H, W) or None → logits (N, 1).

    Ledig et al. 2017 (fig. 4): `levels` pairs of a convolution that keeps the size and one that halves it, channels doubled
    from pair to pair up to 8 · width, all but the first normed; then `hidden` units and the logit. kernel: of the
    convolutions that halve, 3 there and 4 in ESRGAN's, which has 5 levels for its 128 pixels and 100 units.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 64, levels: int = 4, kernel: int = 3, hidden: int = 1024, norm: Norm = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, levels=levels, kernel=kernel, hidden=hidden)
        widths = doubling(width, levels)
        bias = norm in ("none", "layer", "group")
        layers: list[nn.Module] = [nn.Sequential(nn.Conv2d(source + shape[0], width, 3, padding=1), nn.LeakyReLU(LEAK))]
        for level, (before, after) in enumerate(pairwise([width, *widths])):
            if level:
                layers.append(normed(nn.Conv2d(before, after, 3, padding=1, bias=bias), norm, after))
            layers.append(normed(nn.Conv2d(after, after, kernel, 2, 1, bias=bias), norm, after))
        self.layers = nn.ModuleList(layers)
        height, wide = shape[1:]
        for _ in range(levels):
            height, wide = ((side + 2 - kernel) // 2 + 1 for side in (height, wide))
        require_positive(**{"data.size, halved model.discriminator.levels times,": min(height, wide)})
        self.judge = nn.Sequential(
            nn.Flatten(), nn.Linear(widths[-1] * height * wide, hidden), nn.LeakyReLU(LEAK), nn.Linear(hidden, 1)
        )

    def forward(self, samples: Tensor, source: Tensor | None = None) -> Tensor:
        return self.look(samples, source)[0]

    def look(self, samples: Tensor, source: Tensor | None = None) -> tuple[Tensor, list[list[Tensor]]]:
        """Logits, and the maps after each convolution, for feature matching."""
        x = samples if source is None else torch.cat([source, samples], dim=1)
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return self.judge(x), [maps]


def normed(convolution: nn.Conv2d, norm: Norm, channels: int) -> nn.Sequential:
    """A convolution, its norm, and a leaky ReLU."""
    return nn.Sequential(convolution, norm_layer(norm, channels), nn.LeakyReLU(LEAK))
