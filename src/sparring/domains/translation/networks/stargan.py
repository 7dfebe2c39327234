"""The networks of StarGAN (Choi et al. 2018, tables 4 and 5)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from sparring.nn.layers import Norm, norm_layer, require_positive

LEAK = 0.01
DEEPEST = 6


class StarGenerator(nn.Module):
    """Images and a map for each domain (N, S, H, W) → images (N, C, H, W) in [-1, 1]; H and W are multiples of `stride`.

    width: channels at full size. blocks: residual blocks. down: halvings before them.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 64, blocks: int = 6, down: int = 2, norm: Norm = "instance",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, blocks=blocks)
        self.stride = 2**down
        widths = [width * 2**level for level in range(down + 1)]
        bare = norm == "none"
        layers: list[nn.Module] = [nn.Conv2d(source, width, 7, 1, 3, bias=bare), norm_layer(norm, width), nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=bare), norm_layer(norm, after), nn.ReLU()]
        layers += [PlainBlock(widths[-1], norm) for _ in range(blocks)]
        for before, after in pairwise(widths[::-1]):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=bare), norm_layer(norm, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, shape[0], 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, source: Tensor) -> Tensor:
        return self.layers(source)


class PlainBlock(nn.Module):
    """x + two 3×3 convolutions, each followed by its norm, a ReLU between them."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        bare = norm == "none"
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=bare), norm_layer(norm, channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=bare), norm_layer(norm, channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class StarDiscriminator(nn.Module):
    """Images (N, C, H, W), and what they were made from or None → logits (N, 1, h, w), one for each patch. No norms.

    width: channels of the first level, doubled from level to level. depth: halvings; None: as many as leave two pixels of the
    shorter side, at most 6 (the paper's, for 128 pixels).
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int], *, width: int = 64, depth: int | None = None
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, depth=depth)
        depth = depth or max(1, min(DEEPEST, int(math.log2(min(shape[1:]))) - 1))
        widths = [source + shape[0], *(width * 2**level for level in range(depth))]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers.append(nn.Sequential(nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(LEAK)))
        self.trunk = nn.ModuleList(layers)
        self.logits = nn.Conv2d(widths[-1], 1, 3, 1, 1, bias=False)

    def forward(self, samples: Tensor, source: Tensor | None = None) -> Tensor:
        return self.look(samples, source)[0]

    def look(self, samples: Tensor, source: Tensor | None = None) -> tuple[Tensor, list[list[Tensor]]]:
        """Logits, and the maps after each level, as the one scale that there is."""
        x = samples if source is None else torch.cat([source, samples], dim=1)
        maps: list[Tensor] = []
        for level in self.trunk:
            x = level(x)
            maps.append(x)
        return self.logits(x), [maps]
