"""BigGAN and BigGAN-deep (Brock et al. 2019, appendix B): the latent and a shared class embedding enter every block.

At 128×128 and 1000 classes, with width 96, latent 120 and embedding 128 these are the published networks; of
BigGAN-deep with width 128 and latent 128.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.errors import UserError
from sparring.nn.condition import Condition, Head, append_label, embed
from sparring.nn.conditional_norm import ConditionalBatchNorm, FreeEmbedding
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import doubling, require_positive
from sparring.nn.resample import Size, ladder
from sparring.nn.scaling import Base, DownBlock, UpBlock, convolution, down_blocks
from sparring.nn.self_attention import attention_at, require_side

RATIO = 4
"""How many times fewer channels the bottlenecks of BigGAN-deep have inside."""


class BigganGenerator(nn.Module):
    """Latent (N, latent) → image (N, *shape) in [−1, 1].

    The latent is cut into chunks: the first makes the base, each other one enters the batch norms of a block beside the
    label's embedding, which all blocks share. In the deep form there is one chunk, which enters everywhere.

    width: channels at the image's size. max_width: the most channels of any stage; none: 16 × width.
    embedding: length of the class embedding. attention: self-attention on maps of about so many pixels a side; 0: none.
    deep: BigGAN-deep: `blocks` bottlenecks a stage, of which the last one enlarges.
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int,
        *, width: int = 96, max_width: int | None = None, attention: int = 64, embedding: int = 128,
        deep: bool = False, blocks: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, max_width=max_width, embedding=embedding, blocks=blocks)
        require_side(attention)
        sizes = ladder(shape[1], shape[2], rungs=2)
        widths = doubling(width, len(sizes), max_width or 16 * width)[::-1]
        self.deep = deep
        self.chunks = [latent] if deep else chunk_sizes(latent, len(sizes))
        shared = embedding if classes else 0

        def norm(chunk: int, channels: int) -> nn.Module:
            return ConditionalBatchNorm(channels, inputs=chunk + shared)

        self.embedding = FreeEmbedding(classes, embedding) if classes else None
        self.base = Base(latent + shared if deep else self.chunks[0], widths[0], sizes[0])
        self.stages = nn.ModuleList()
        for stage, ((before, after), (small, large)) in enumerate(
            zip(pairwise(widths), pairwise(sizes), strict=True), start=1
        ):
            build = partial(UpBlock, norm=partial(norm, self.chunks[0 if deep else stage]))
            keep = [build(before, before, small, bottleneck=RATIO) for _ in range(blocks - 1)] if deep else []
            self.stages.append(nn.ModuleList([*keep, build(before, after, large, bottleneck=RATIO if deep else 0)]))
        self.attention = attention_at(attention, sizes[1:], widths[1:])
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_image = convolution(widths[-1], shape[0], 3)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        shared = [] if self.embedding is None else [embed(self.embedding, label)]
        first, *conditions = self.conditions(latent, shared)
        x = self.base(first)
        for blocks, attend, condition in zip(self.stages, self.attention, conditions, strict=True):
            for block in blocks.children():
                x = block(x, condition)
            x = attend(x)
        return self.to_image(F.relu(self.norm(x))).tanh()

    def conditions(self, latent: Tensor, shared: Sequence[Tensor]) -> list[Tensor]:
        """What the base is made of, and what enters each stage."""
        if self.deep:
            return [torch.cat([latent, *shared], dim=1)] * (1 + len(self.stages))
        first, *chunks = latent.split(self.chunks, dim=1)
        return [first, *(torch.cat([chunk, *shared], dim=1) for chunk in chunks)]


class BigganDiscriminator(Discriminator):
    """Image (N, *shape) → logit (N,). The features are the last maps, rectified and summed over all places.

    Options as in the generator. The plain form is SAGAN's; the deep one begins with a convolution, and the first of the
    bottlenecks of a stage shrinks.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 96, max_width: int | None = None, attention: int = 64, deep: bool = False, blocks: int = 2,
        condition: Condition = "projection",
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, max_width=max_width, blocks=blocks)
        require_side(attention)
        channels = shape[0] + self.label_inputs
        sizes = ladder(shape[1], shape[2], rungs=2)[::-1]
        widths = doubling(width, len(sizes), max_width or 16 * width)

        self.from_image = convolution(channels, widths[0], 3) if deep else nn.Identity()
        if deep:
            widths, before = widths[1:], widths
            self.stages = nn.ModuleList(map(partial(deep_stage, blocks=blocks), before, widths, sizes[1:]))
        else:
            sizes.append(sizes[-1])
            self.stages = down_blocks(channels, widths, sizes)
        self.attention = attention_at(attention, sizes[1:], widths)
        self.feature_count = widths[-1]
        self.head = Head(self.feature_count, self.label_rows)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.from_image(append_label(x, label, self.label_inputs))
        for stage, attend in zip(self.stages, self.attention, strict=True):
            x = attend(stage(x))
        return F.relu(x).sum((2, 3))


def deep_stage(before: int, after: int, size: Size, *, blocks: int) -> nn.Sequential:
    """Maps (N, before, …) → (N, after, *size) by the first block, which the others keep."""
    return nn.Sequential(
        DownBlock(before, after, size, bottleneck=RATIO),
        *(DownBlock(after, after, size, shrinks=False, bottleneck=RATIO) for _ in range(blocks - 1)),
    )


def chunk_sizes(latent: int, parts: int) -> list[int]:
    """The latent cut into parts as even as can be; the first takes what is left over. Raises UserError where it is too short."""
    if latent < parts:
        raise UserError(
            f"biggan cuts the latent into {parts} chunks: model.latent must be at least {parts}, not {latent}"
        )
    return [latent // parts + latent % parts, *[latent // parts] * (parts - 1)]
