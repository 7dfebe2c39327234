"""The encoder of BicycleGAN (Zhu et al. 2017b, sec. 4): an image becomes a normal distribution of codes."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.layers import Norm, norm_layer, require_positive

LEAK = 0.2
MOST = 4  # times the first width


class CodeEncoder(nn.Module):
    """Images (N, C, H, W) → mean and log variance of a code, (N, code) each.

    width: channels of the first convolution, which halves the image. blocks: residual blocks that halve it again, their
    channels 1, 2, 3, … times the width, at most 4 times; None: as many as leave 8 pixels of the shorter side (4 for 256
    pixels, as in the paper). Whatever is left is averaged, so images of any size have a code.
    """

    def __init__(
        self, shape: tuple[int, int, int], code: int, *, width: int = 64, blocks: int | None = None, norm: Norm = "instance"
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, blocks=blocks)
        blocks = blocks or max(1, int(math.log2(min(shape[1:]))) - 4)
        widths = [width * min(MOST, level + 1) for level in range(blocks + 1)]
        self.stem = nn.Conv2d(shape[0], width, 4, 2, 1)
        self.blocks = nn.Sequential(*(HalvingBlock(before, after, norm) for before, after in pairwise(widths)))
        self.mean = nn.Linear(widths[-1], code)
        self.log_variance = nn.Linear(widths[-1], code)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen = F.leaky_relu(self.blocks(self.stem(images)), LEAK).mean((2, 3))
        return self.mean(seen), self.log_variance(seen)


class HalvingBlock(nn.Module):
    """Two 3×3 convolutions, each after norm and leaky ReLU, beside a 1×1 one; both ways end in means of 2×2 pixels."""

    def __init__(self, before: int, after: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm_layer(norm, before), nn.LeakyReLU(LEAK), nn.Conv2d(before, before, 3, padding=1),
            norm_layer(norm, before), nn.LeakyReLU(LEAK), nn.Conv2d(before, after, 3, padding=1),
        )  # fmt: skip
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.body(x), 2) + self.shortcut(F.avg_pool2d(x, 2))
