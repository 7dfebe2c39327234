"""The networks of GauGAN (Park et al. 2019): a generator modulated by its label map, and an encoder of styles."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core import chance
from sparring.errors import UserError
from sparring.nn.layers import norm_layer, require_positive
from sparring.nn.spatial_norm import SpatiallyAdaptiveNorm

LEAK = 0.2
MOST = 16  # times the last width
SMALLEST_START = 4  # pixels of the shorter side


class SpadeGenerator(nn.Module):
    """Label maps (N, S, H, W) → images (N, C, H, W) in [-1, 1]; H and W are multiples of `stride`.

    Residual blocks whose norms the label map modulates, and between them enlargements by two; there is no encoder of the
    label map, which every block sees for itself (sec. 3, figs. 3 and 4).

    width: channels of the last block, doubled towards the first up to 16 times. doublings: enlargements; None: as many as
    leave 8 pixels of the shorter side, or 4 of small images (5 for 256 pixels, as in the paper).
    hidden: channels in which a norm sees the label map. norm: what it normalises over, see `SpatiallyAdaptiveNorm`.
    code: numbers of a style's code (256 in the paper), from which the first maps are made, and for which there is an
    `encoder`; 0: they are made from the label map itself, shrunk, as in the authors' published networks. encoder_width: of
    the encoder's first convolution; None: `width`.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 64, doublings: int | None = None, hidden: int = 128, norm: Literal["batch", "instance"] = "batch",
        code: int = 0, encoder_width: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, doublings=doublings, hidden=hidden, encoder_width=encoder_width)
        if code < 0:
            raise UserError(f"model.generator.code: a code has 1 number or more (0: there is none), not {code}")
        side = min(shape[1:])
        doublings = doublings or max(1, int(math.log2(side / (8 if side >= 128 else SMALLEST_START))))
        self.stride, self.code = 2**doublings, code
        widths = [width * min(MOST, 2**level) for level in range(doublings)][::-1]
        # Three blocks as wide as can be, around the first enlargement; then one after each further enlargement.
        pairs = [*[(widths[0], widths[0])] * 3, *pairwise(widths)]
        self.blocks = nn.ModuleList(SpadeBlock(*pair, source, hidden, norm) for pair in pairs)
        self.encoder: StyleEncoder | None = None
        if code:
            self.start = (math.ceil(shape[1] / self.stride), math.ceil(shape[2] / self.stride))
            self.begin: nn.Module = nn.Linear(code, widths[0] * math.prod(self.start))
            self.encoder = StyleEncoder(shape, code, encoder_width or width)
        else:
            self.begin = nn.Conv2d(source, widths[0], 3, padding=1)
        self.picture = nn.Conv2d(pairs[-1][1], shape[0], 3, padding=1)

    def forward(self, source: Tensor, code: Tensor | None = None) -> Tensor:
        size = (source.shape[2] // self.stride, source.shape[3] // self.stride)
        if self.code:
            code = chance.normal(len(source), self.code, device=source.device) if code is None else code
            x = self.begin(code).unflatten(1, (-1, *self.start))
            # A picture of another size than the training's begins from the same maps, stretched.
            x = x if self.start == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        else:
            x = self.begin(F.interpolate(source, size=size, mode="nearest"))
        for number, block in enumerate(self.blocks):
            # The third block follows the second without an enlargement.
            x = block(F.interpolate(x, scale_factor=2.0, mode="nearest") if number not in (0, 2) else x, source)
        return torch.tanh(self.picture(F.leaky_relu(x, LEAK)))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the styles of images (N, C, H, W): (N, code) each."""
        assert self.encoder is not None, "a generator without a code has no styles"
        mean, log_variance = self.encoder(images)
        return mean.float(), log_variance.float()


class SpadeBlock(nn.Module):
    """x + two 3×3 convolutions, each after a modulated norm and a leaky ReLU (sec. 3, fig. 4; appendix A).

    Where channels change, what is added is a 1×1 convolution of x, normalised and modulated too.
    """

    def __init__(
        self, before: int, after: int, labels: int, hidden: int, norm: Literal["batch", "instance"] = "batch"
    ) -> None:
        super().__init__()
        between = min(before, after)
        self.norms = nn.ModuleList(
            SpatiallyAdaptiveNorm(channels, labels, hidden=hidden, norm=norm) for channels in (before, between)
        )
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*channels, 3, padding=1) for channels in ((before, between), (between, after))
        )
        changes = before != after
        self.shortcut = nn.Conv2d(before, after, 1, bias=False) if changes else None
        self.shortcut_norm = SpatiallyAdaptiveNorm(before, labels, hidden=hidden, norm=norm) if changes else None

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(F.leaky_relu(norm(y, labels), LEAK))
        if self.shortcut is None or self.shortcut_norm is None:
            return x + y
        added: Tensor = self.shortcut(self.shortcut_norm(x, labels)) + y
        return added


class StyleEncoder(nn.Module):
    """Images (N, C, H, W) → mean and log variance of their styles, (N, code) each (sec. 3; appendix A, fig. 14).

    Convolutions of 3×3 that halve the image, 1, 2, 4, 8, 8, 8 times the width, instance norm and leaky ReLU after each.
    Of other sizes than `shape` images are brought to it: the map at the end is flattened.
    """

    def __init__(self, shape: tuple[int, int, int], code: int, width: int = 64) -> None:
        super().__init__()
        self.size = (shape[1], shape[2])
        halvings = max(1, min(6, int(math.log2(min(self.size))) - 1))
        widths = [shape[0], *(width * min(8, 2**level) for level in range(halvings))]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), norm_layer("instance", after), nn.LeakyReLU(LEAK)]
        self.body = nn.Sequential(*layers)
        left = math.prod(math.ceil(side / 2**halvings) for side in self.size) * widths[-1]
        self.mean, self.log_variance = nn.Linear(left, code), nn.Linear(left, code)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[2:] != self.size:
            images = F.interpolate(images, size=self.size, mode="bilinear", align_corners=False)
        seen = self.body(images).flatten(1)
        return self.mean(seen), self.log_variance(seen)
