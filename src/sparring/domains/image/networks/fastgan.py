"""FastGAN (Liu et al. 2021, arXiv 2101.04775), for little data and little time, at every size.

The generator goes from size to size by one plain convolution, or by two with noise, in turn; maps of a small size weigh
the channels of one sixteen times as large (skip-layer excitation), a shortcut that costs nothing at full size. The
discriminator is held to see everything: from its maps of the two smallest sizes, decoders must draw real images again.
Both are spectrally normalised by the recipe.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.condition import append_label
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import require_positive
from sparring.nn.modulated import NoiseInput
from sparring.nn.resample import Size, bounded, ladder, resize, rung_kernel

SKIP = 4  # sizes from the maps that weigh to those that are weighed
LARGEST_MAP = 256  # pixels a side that a discriminator's residual block sees
LARGEST_DRAWING = 128  # pixels a side that a decoder draws


class FastganGenerator(nn.Module):
    """Latent (N, latent) → image (N, *shape) in [−1, 1]. In eval mode the noise is constant.

    width: channels of the sixth size, 128 pixels: twice as many at the fifth and fourth, 4, 8 and 16 times as many at the
    third, second and first, and half as many at each larger one.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int, classes: int, *, width: int = 64) -> None:
        super().__init__()
        require_positive(width=width)
        self.classes = classes
        sizes = ladder(shape[1], shape[2])
        widths = [max(1, int(width * 2 ** (4 - rung if rung < 4 else 5 - rung))) for rung in range(len(sizes))]
        self.skip = min(SKIP, len(sizes) - 1)

        first = nn.ConvTranspose2d(latent + classes, 2 * widths[0], sizes[0], bias=False)
        self.first = nn.Sequential(first, nn.BatchNorm2d(2 * widths[0]), nn.GLU(1))
        self.stages = nn.ModuleList(
            (TwiceUp if rung % 2 == 0 else Up)(before, after, size)
            for rung, ((before, after), size) in enumerate(zip(pairwise(widths), sizes[1:], strict=True))
        )
        self.excitations = nn.ModuleList(
            SkipExcitation(few, many) for few, many in zip(widths, widths[self.skip :], strict=False) if self.skip
        )
        self.to_image = nn.Conv2d(widths[-1], shape[0], 3, padding=1, bias=False)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.first(append_label(latent, label, self.classes)[:, :, None, None])
        maps = [x]
        for rung, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if rung >= self.skip:
                x = self.excitations[rung - self.skip](maps[rung - self.skip], x)
            maps.append(x)
        return torch.tanh(self.to_image(x))


class FastganDiscriminator(Discriminator):
    """Image (N, *shape) → logits (N, P) of overlapping patches. A label joins the image as constant planes.

    The features are the maps of the smallest size, 8 to 15 pixels a side, and of the one before, flattened, in a row.
    width: channels of the maps at 64 pixels; twice as many at each smaller size, half as many at each larger one.
    decoder_width: channels of the largest maps of the decoders, which are no part of the way to the logits.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, width: int = 64, decoder_width: int = 32) -> None:
        super().__init__(classes)
        require_positive(width=width, decoder_width=decoder_width)
        sizes = ladder(shape[1], shape[2], 8)[::-1]
        widths = [max(1, int(width * 2 ** (3 - rung))) for rung in range(len(sizes))][::-1]
        large = [size for size in sizes if max(size) > LARGEST_MAP]
        few = widths[len(large)]

        # The largest sizes cost most and say least: images enter by convolutions alone.
        kernels: list[tuple[int | Size, int | Size, int]] = [(3, 1, 1)]
        if large:
            kernels = [rung_kernel(small, size) for size, small in zip(large, sizes[1:], strict=False)]
        enter: list[nn.Module] = []
        for number, kernel in enumerate(kernels):
            before = widths[number] if number else shape[0] + self.label_inputs
            after = few if number == len(kernels) - 1 else widths[number + 1]
            enter += [nn.Conv2d(before, after, *kernel, bias=False), nn.LeakyReLU(0.2)]
        self.enter = nn.Sequential(*enter)
        sizes, widths = sizes[len(large) :], widths[len(large) :]
        self.stages = nn.ModuleList(
            TwiceDown(before, after, size, smaller)
            for (before, after), (size, smaller) in zip(pairwise(widths), pairwise(sizes), strict=True)
        )
        self.skip = min(3, len(sizes) - 1)
        self.excitations = nn.ModuleList(
            SkipExcitation(many, few) for many, few in zip(widths, widths[self.skip :], strict=False) if self.skip
        )

        self.last = (widths[-1], *sizes[-1])
        self.middle = (widths[-2], *sizes[-2]) if len(sizes) > 1 else self.last
        self.feature_count = sum(channels * height * width for channels, height, width in (self.last, self.middle))
        self.to_logits = nn.Sequential(
            nn.Conv2d(widths[-1], 2 * widths[-1], 1, bias=False),
            nn.BatchNorm2d(2 * widths[-1]),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * widths[-1], 1, 4, bias=False),
        )
        whole, part = (shape[1], shape[2]), (shape[1] // 2, shape[2] // 2)
        self.draw_whole = Decoder(self.last[0], shape[0], bounded(whole, LARGEST_DRAWING), width=decoder_width)
        self.draw_part = Decoder(self.middle[0], shape[0], bounded(part, LARGEST_DRAWING), width=decoder_width)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.enter(append_label(x, label, self.label_inputs))
        maps = [x]
        for rung, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if rung >= self.skip:
                x = self.excitations[rung - self.skip](maps[rung - self.skip], x)
            maps.append(x)
        return torch.cat([maps[-1].flatten(1), maps[-2 if len(maps) > 1 else -1].flatten(1)], dim=1)

    def score(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        last, _ = self.maps(features)
        return self.to_logits(last).flatten(1)

    def maps(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The maps of the smallest size and of the one before, (N, C, h, w)."""
        count = self.last[0] * self.last[1] * self.last[2]
        return features[:, :count].unflatten(1, self.last), features[:, count:].unflatten(1, self.middle)

    def reconstruct(self, features: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
        """Images drawn from features: whole ones from the smallest maps, quarters from as much of the larger ones.

        corner: which quarter, booleans (N, 2): the lower, the right one. Both are as large as `draw_whole` and
        `draw_part` make them: the image's own size or its half, at most 128 pixels a side.
        """
        last, middle = self.maps(features)
        return self.draw_whole(last), self.draw_part(quarter(middle, corner))


class Up(nn.Module):
    """Nearest-neighbour upsampling to `size`, a 3×3 convolution, batch norm, and a gate on half of the channels."""

    def __init__(self, before: int, after: int, size: Size) -> None:
        super().__init__()
        self.size = size
        convolution = nn.Conv2d(before, 2 * after, 3, padding=1, bias=False)
        self.body = nn.Sequential(convolution, nn.BatchNorm2d(2 * after), nn.GLU(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(F.interpolate(x, size=self.size, mode="nearest"))


class TwiceUp(nn.Module):
    """`Up` with noise before the norm, and once more at the same size."""

    def __init__(self, before: int, after: int, size: Size) -> None:
        super().__init__()
        self.size = size
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, 2 * after, 3, padding=1, bias=False) for channels in (before, after)
        )
        self.noises = nn.ModuleList(NoiseInput(size) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(2 * after) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, size=self.size, mode="nearest")
        for convolution, noise, norm in zip(self.convolutions, self.noises, self.norms, strict=True):
            x = F.glu(norm(noise(convolution(x), "random" if self.training else "constant")), dim=1)
        return x


class TwiceDown(nn.Module):
    """Half the size twice over, by a strided and a plain convolution and by averaging, and the mean of both."""

    def __init__(self, before: int, after: int, size: Size, smaller: Size) -> None:
        super().__init__()
        self.smaller = smaller
        self.convolve = nn.Sequential(
            nn.Conv2d(before, after, *rung_kernel(smaller, size), bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(0.2),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(0.2),
        )
        self.average = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        return (self.convolve(x) + self.average(resize(x, self.smaller))) / 2


class SkipExcitation(nn.Module):
    """Maps that weigh the channels of others (Liu et al. 2021, eq. 1): large · σ(F(small)), of any two sizes."""

    def __init__(self, weighing: int, weighed: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            nn.Conv2d(weighing, weighed, 4, bias=False),
            nn.SiLU(),
            nn.Conv2d(weighed, weighed, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, weighing: Tensor, weighed: Tensor) -> Tensor:
        return weighed * self.weigh(weighing)


class Decoder(nn.Module):
    """Maps (N, channels, h, w) → images (N, C, *size) in [−1, 1], by one convolution a size from 8 pixels up."""

    def __init__(self, channels: int, colours: int, size: Size, *, width: int) -> None:
        super().__init__()
        self.sizes = ladder(max(4, size[0]), max(4, size[1]), 8)
        self.size = size
        # 1, 2, 2, 4 times the width, from the image inwards.
        widths = [width * (1, 2, 2, 4)[min(rung, 3)] for rung in range(len(self.sizes) - 1)][::-1]
        stages = zip(pairwise([channels, *widths]), self.sizes[1:], strict=True)
        self.stages = nn.Sequential(*(Up(before, after, larger) for (before, after), larger in stages))
        self.to_image = nn.Conv2d([channels, *widths][-1], colours, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(F.adaptive_avg_pool2d(x, self.sizes[0]))
        return torch.tanh(resize(self.to_image(x), self.size))


def quarter(x: Tensor, corner: Tensor) -> Tensor:
    """A quarter of each image or map (N, C, H, W), ⌊H/2⌋ × ⌊W/2⌋; corner: the lower, the right one, booleans (N, 2)."""
    height, width = x.shape[2] // 2, x.shape[3] // 2
    lower, right = corner[:, :, None, None, None].unbind(1)
    x = torch.where(lower, x[:, :, -height:], x[:, :, :height])
    return torch.where(right, x[..., -width:], x[..., :width])
