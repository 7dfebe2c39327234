"""StyleGAN2 (Karras et al. 2020), with the conditions of StyleGAN2-ADA (Karras et al. 2020b).

A mapping network turns the latent into a code; a synthesis network turns the code, one for each layer, into an image. The
discriminator is residual and sees how much the samples of a batch differ.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sparring.nn.condition import Condition, append_label
from sparring.nn.discriminator import Discriminator
from sparring.nn.equalised import EqualisedConv2d, EqualisedLinear, leaky
from sparring.nn.filtered import ShrinkingConv2d
from sparring.nn.filters import binomial, to_size
from sparring.nn.layers import doubling, require_positive
from sparring.nn.mapping import MappedHead, MappingNetwork
from sparring.nn.minibatch import MinibatchStdDev
from sparring.nn.modulated import NoiseKind, StyledConv, ToImage
from sparring.nn.resample import Size, ladder

Architecture = Literal["skip", "resnet", "orig"]


class Stylegan2Generator(nn.Module):
    """Latent (N, latent) → image (N, *shape), unbounded as in the paper: it learns the range [−1, 1] from the data.

    width: channels at the largest stage; each smaller one has twice as many, at most `max_width`; none: 8 × width.
    code: numbers in a code. mapping: fully connected layers from latent to code.
    architecture: how stages make the image: `skip` sums an image of each, `resnet` sums maps, `orig` takes the last.

    For steering: `mapping(latent, label)` → (N, code); `synthesis(codes (N, layers, code), noise)` → image; `mean_code`.
    In eval mode the noise inputs are constant: a latent is one image.
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int,
        *, width: int = 64, max_width: int | None = None, code: int = 512, mapping: int = 8, architecture: Architecture = "skip",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, max_width=max_width, code=code, mapping=mapping)
        self.mapping = MappingNetwork(latent, classes, code, layers=mapping)
        self.synthesis = Synthesis(shape, code, width=width, max_width=max_width, architecture=architecture)
        self.layers = self.synthesis.layers

    @property
    def mean_code(self) -> Tensor:
        """Where codes lie on average, (code,)."""
        return self.mapping.mean_code

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        codes = self.mapping(latent, label)[:, None].expand(-1, self.layers, -1)
        return self.synthesis(codes, "random" if self.training else "constant")


class Synthesis(nn.Module):
    """Codes (N, layers, code) → image (N, *shape).

    layers: one for each convolution, and one for the last image. The image of another stage takes the code of the
    convolution that follows it.
    """

    taps: Tensor

    def __init__(
        self, shape: tuple[int, int, int], code: int, *, width: int, max_width: int | None, architecture: Architecture
    ) -> None:
        super().__init__()
        sizes = ladder(shape[1], shape[2])
        widths = doubling(width, len(sizes), max_width)[::-1]
        self.layers = 2 * len(sizes)
        self.sizes, self.architecture = sizes, architecture

        self.constant = nn.Parameter(torch.randn(widths[0], *sizes[0]))
        self.first = StyledConv(widths[0], widths[0], code, sizes[0])
        steps = list(zip(widths, widths[1:], sizes[1:], strict=False))
        self.enlarge = nn.ModuleList(StyledConv(before, after, code, size) for before, after, size in steps)
        self.refine = nn.ModuleList(StyledConv(after, after, code, size) for _, after, size in steps)
        self.past = nn.ModuleList(
            EqualisedConv2d(before, after, 1, bias=False) for before, after, _ in steps if architecture == "resnet"
        )
        pictured = widths if architecture == "skip" else widths[-1:]
        self.to_image = nn.ModuleList(ToImage(width, shape[0], code) for width in pictured)
        self.register_buffer("taps", binomial(4), persistent=False)

    def forward(self, codes: Tensor, noise: NoiseKind = "random") -> Tensor:
        code = codes.unbind(dim=1)
        x = self.first(self.constant.expand(codes.shape[0], -1, -1, -1), code[0], noise)
        image = self.to_image[0](x, code[1]) if self.architecture == "skip" else None
        for stage, (enlarge, refine) in enumerate(zip(self.enlarge, self.refine, strict=True)):
            size = self.sizes[stage + 1]
            y = refine(enlarge(x, code[2 * stage + 1], noise), code[2 * stage + 2], noise)
            if self.architecture == "resnet":
                y = (y + to_size(self.past[stage](x), self.taps, size)) * math.sqrt(0.5)
            x = y
            if image is not None:
                image = to_size(image, self.taps, size) + self.to_image[stage + 1](x, code[2 * stage + 3])
        return self.to_image[-1](x, code[-1]) if image is None else image


class Stylegan2Discriminator(Discriminator):
    """Image (N, *shape) → logit (N,). The features are those of the last hidden layer.

    width, max_width: as in the generator. condition: `projection` on the mapped label (StyleGAN2-ADA), or `concat`.
    mapping: fully connected layers from label to code. minibatch: samples in a group whose deviation the network sees
    (a plane of `MinibatchStdDev`); 0: it does not, and judges samples one by one.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 64, max_width: int | None = None, mapping: int = 8, minibatch: int = 4, condition: Condition = "projection",
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, max_width=max_width, mapping=mapping)
        sizes = ladder(shape[1], shape[2])[::-1]
        widths = doubling(width, len(sizes), max_width)

        self.from_image = EqualisedConv2d(shape[0] + self.label_inputs, widths[0], 1)
        self.stages = nn.ModuleList(
            ShrinkingBlock(before, after, size)
            for before, after, size in zip(widths, widths[1:], sizes[1:], strict=False)
        )
        self.deviation = MinibatchStdDev(minibatch) if minibatch else nn.Identity()
        self.last = EqualisedConv2d(widths[-1] + bool(minibatch), widths[-1], 3)
        self.hidden = EqualisedLinear(widths[-1] * math.prod(sizes[-1]), widths[-1])
        self.feature_count = widths[-1]
        self.head = MappedHead(self.feature_count, self.label_rows, layers=mapping)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        x = leaky(self.from_image(append_label(x, label, self.label_inputs)))
        for stage in self.stages:
            x = stage(x)
        x = leaky(self.last(self.deviation(x)))
        return leaky(self.hidden(x.flatten(1)))


class ShrinkingBlock(nn.Module):
    """Maps (N, before, H, W) → (N, after, *size): two 3×3 convolutions, the second to the next rung, and a way past them."""

    taps: Tensor

    def __init__(self, before: int, after: int, size: Size) -> None:
        super().__init__()
        self.size = size
        self.first = EqualisedConv2d(before, before, 3)
        self.second = ShrinkingConv2d(before, after, size)
        self.past = EqualisedConv2d(before, after, 1, bias=False)
        self.register_buffer("taps", binomial(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = leaky(self.second(leaky(self.first(x))))
        return (y + self.past(to_size(x, self.taps, self.size))) * math.sqrt(0.5)
