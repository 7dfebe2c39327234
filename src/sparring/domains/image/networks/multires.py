"""Networks that look at several scales at once and fuse them after every block.

Parallel streams at the image's size, half of it, a quarter, … keep their sizes from beginning to end, as in HRNet
(Sun et al. 2019); what differs is how they exchange: by convolution, attention or recurrence (`sparring.nn.fusion`).
The generator adds up an image of each scale (skip connections: Karras et al. 2020, sec. 4.2); the discriminator reads
an image pyramid (Denton et al. 2015).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.basis import DiscriminativeBasis, GenerativeBasis
from sparring.nn.condition import Condition, Head, append_label
from sparring.nn.discriminator import Discriminator
from sparring.nn.fusion import Fusion, fusion_layer
from sparring.nn.layers import Dropout, Norm, doubling, norm_layer, require_dropout, require_positive
from sparring.nn.pyramid import pyramid
from sparring.nn.resample import Size, bounded, ladder, resize
from sparring.nn.residual import LEAK, ResidualBlock


class MultiresGenerator(nn.Module):
    """Latent (N, latent) → image (N, *shape) in [−1, 1].

    width: channels of the finest stream; each coarser one has twice as many. scales: streams, fewer where the image is
    too small. rounds: how often each stream has a block and all are fused.
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int,
        *, width: int = 32, scales: int = 3, rounds: int = 2, fusion: Fusion = "convolution", norm: Norm = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, scales=scales, rounds=rounds)
        self.classes = classes
        self.rungs = ladder(shape[1], shape[2], rungs=scales)
        self.sizes = self.rungs[-scales:]
        widths = doubling(width, len(self.rungs), max_width=width * 2 ** (scales - 1))[::-1]
        channels = widths[-scales:]

        self.basis = GenerativeBasis(latent + classes, widths[0], self.rungs[0])
        self.climb = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=norm == "none"), norm_layer(norm, after),
                          nn.LeakyReLU(LEAK))
            for before, after in zip([widths[0], *widths], widths, strict=False)
        )  # fmt: skip
        self.rounds = nn.ModuleList(Round(channels, self.sizes, fusion, norm) for _ in range(rounds))
        self.to_image = nn.ModuleList(nn.Conv2d(count, shape[0], 1) for count in channels)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.basis(append_label(latent, label, self.classes))
        streams = []
        for size, step in zip(self.rungs, self.climb, strict=True):
            x = step(resize(x, size))
            streams.append(x)
        streams = streams[-len(self.sizes) :]
        for play in self.rounds:
            streams = play(streams)
        image = self.to_image[0](streams[0])
        for x, size, to_image in zip(streams[1:], self.sizes[1:], self.to_image[1:], strict=True):
            image = resize(image, size) + to_image(x)
        return image.tanh()


class MultiresDiscriminator(Discriminator):
    """Image (N, *shape) → logit (N,). Options as in the generator, no batch norm: samples do not see each other.

    The features are each stream's, read off by a learned basis of at most 4×4, one after another.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 32, scales: int = 3, rounds: int = 2, fusion: Fusion = "convolution",
        condition: Condition = "concat", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, scales=scales, rounds=rounds)
        require_dropout(dropout)
        self.sizes = ladder(shape[1], shape[2], rungs=scales)[-scales:]
        channels = doubling(width, len(self.sizes), max_width=width * 2 ** (scales - 1))[::-1]
        inputs = shape[0] + self.label_inputs

        self.from_image = nn.ModuleList(nn.Conv2d(inputs, count, 3, padding=1) for count in channels)
        self.rounds = nn.ModuleList(Round(channels, self.sizes, fusion, "none") for _ in range(rounds))
        self.dropout = Dropout(dropout)
        self.grids = [bounded(size, 4) for size in self.sizes]
        self.bases = nn.ModuleList(map(DiscriminativeBasis, channels, self.grids))
        self.feature_count = sum(channels)
        self.head = Head(self.feature_count, self.label_rows)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        x = append_label(x, label, self.label_inputs)
        streams = [from_image(each) for each, from_image in zip(pyramid(x, self.sizes), self.from_image, strict=True)]
        for play in self.rounds:
            streams = play(streams)
        return torch.cat([
            basis(resize(self.dropout(F.leaky_relu(x, LEAK)), grid))
            for x, grid, basis in zip(streams, self.grids, self.bases, strict=True)
        ], dim=1)  # fmt: skip


class Round(nn.Module):
    """A residual block in each stream, then the fusion of all; one stream alone has nothing to fuse."""

    def __init__(self, channels: Sequence[int], sizes: Sequence[Size], fusion: Fusion, norm: Norm) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(count, norm) for count in channels)
        self.fusion = fusion_layer(fusion, channels, sizes) if len(channels) > 1 else nn.Identity()

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        return self.fusion([block(x) for block, x in zip(self.blocks, streams, strict=True)])
