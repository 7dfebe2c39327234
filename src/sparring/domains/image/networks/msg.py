"""Multi-scale gradients (Karnewar & Wang 2020): the generator shows an image of each size, and the discriminator sees them all.

So each of the generator's blocks hears directly what is wrong at its size, and nothing needs to grow. The blocks are
those of progressive growing (`sparring.nn.progressive`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from sparring.nn.condition import Condition, Head, append_label
from sparring.nn.discriminator import Discriminator
from sparring.nn.equalised import EqualisedConv2d
from sparring.nn.layers import doubling, require_positive
from sparring.nn.minibatch import MinibatchStdDev
from sparring.nn.progressive import Fall, Synthesis, Verdict, convolution
from sparring.nn.pyramid import Packing
from sparring.nn.resample import ladder

Combine = Literal["simple", "lin_cat", "cat_lin"]


class MsgGenerator(nn.Module):
    """Latent (N, latent) → image (N, *shape), unbounded as in the paper: it learns the range [−1, 1] from the data.

    width: channels at the largest size. max_width: the most channels of any size.
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int, *, width: int = 16, max_width: int = 512
    ) -> None:
        super().__init__()
        require_positive(width=width, max_width=max_width)
        sizes = ladder(shape[1], shape[2], rungs=2)
        widths = doubling(width, len(sizes), max_width)[::-1]
        self.packing = Packing(shape[0], sizes)
        self.synthesis = Synthesis(latent, classes, widths, sizes)
        self.to_image = nn.ModuleList(EqualisedConv2d(count, shape[0], 1) for count in widths)

    def forward(self, latent: Tensor, label: Tensor | None = None, *, pyramid: bool = False) -> Tensor:
        """The largest image; with `pyramid` those of all sizes, packed."""
        maps = self.synthesis(latent, label, len(self.to_image))
        if not pyramid:
            return self.to_image[-1](maps[-1])
        return self.packing.pack([to_image(x) for to_image, x in zip(self.to_image, maps, strict=True)])


class MsgDiscriminator(Discriminator):
    """Packed pyramid, or image (N, *shape) that is averaged to the smaller sizes → logit (N,).

    Options as in the generator. combine: how an image joins the maps of its size: `simple` beside them, `lin_cat` through
    a 1×1 convolution beside them, `cat_lin` both through a 1×1 convolution (their sec. 3).
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 16, max_width: int = 512, combine: Combine = "lin_cat", condition: Condition = "concat",
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, max_width=max_width)
        sizes = ladder(shape[1], shape[2], rungs=2)[::-1]  # fine to coarse, as they are read
        widths = doubling(width, len(sizes), max_width)
        inputs = shape[0] + self.label_inputs
        self.packing = Packing(shape[0], sizes[::-1])

        self.from_image = convolution(inputs, widths[0], kernel=1)
        self.falls, self.joins = nn.ModuleList(), nn.ModuleList()
        channels = widths[0]
        for (before, after), size in zip(pairwise(widths), sizes[1:], strict=True):
            join = Join(inputs, after, combine)
            self.falls.append(nn.Sequential(MinibatchStdDev(), Fall(channels + 1, before, join.maps, size)))
            self.joins.append(join)
            channels = join.channels
        self.verdict = Verdict(channels, widths[-1], sizes[-1])
        self.feature_count = widths[-1]
        self.head = Head(self.feature_count, self.label_rows, equalised=True)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        image, *smaller = [append_label(each, label, self.label_inputs) for each in self.packing.read(x)[::-1]]
        x = self.from_image(image)
        for fall, join, image in zip(self.falls, self.joins, smaller, strict=True):
            x = join(image, fall(x))
        return self.verdict(x)


class Join(nn.Module):
    """An image (N, inputs, …) and maps (N, maps, …) of its size → (N, channels, …), as `combine` says.

    width: channels that the result has, but for `simple`, which adds the image's own to them.
    """

    def __init__(self, inputs: int, width: int, combine: Combine) -> None:
        super().__init__()
        self.combine = combine
        self.maps = width - width // 2 if combine == "lin_cat" else width
        self.channels = width + inputs if combine == "simple" else width
        if combine == "lin_cat":
            self.linear = EqualisedConv2d(inputs, width // 2, 1)
        elif combine == "cat_lin":
            self.linear = EqualisedConv2d(inputs + width, width, 1)

    def forward(self, image: Tensor, x: Tensor) -> Tensor:
        if self.combine == "lin_cat":
            return torch.cat([self.linear(image), x], dim=1)
        both = torch.cat([image, x], dim=1)
        return self.linear(both) if self.combine == "cat_lin" else both
