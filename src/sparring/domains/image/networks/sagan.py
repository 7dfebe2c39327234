"""Residual networks with batch norm in the generator: SN-GAN (Miyato et al. 2018) and, with self-attention, SAGAN.

One formula for all sizes and papers: from the image inwards channels double with each halving, up to `max_width`. At
128×128 with width 64 these are the networks of both papers; SN-GAN's have no attention, and narrower blocks in the
discriminator.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.condition import Condition, Head, append_label
from sparring.nn.conditional_norm import ConditionalBatchNorm
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import doubling, require_positive
from sparring.nn.resample import ladder
from sparring.nn.scaling import Base, UpBlock, convolution, down_blocks
from sparring.nn.self_attention import attention_at, require_side


class SaganGenerator(nn.Module):
    """Latent (N, latent) → image (N, *shape) in [−1, 1]. A label chooses gain and bias of the blocks' batch norms.

    width: channels at the image's size. max_width: the most channels of any stage; none: 16 × width.
    attention: self-attention on maps of about so many pixels a side; 0: none, which is SN-GAN's.
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int,
        *, width: int = 64, max_width: int | None = None, attention: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, max_width=max_width)
        require_side(attention)
        sizes = ladder(shape[1], shape[2], rungs=2)
        widths = doubling(width, len(sizes), max_width or 16 * width)[::-1]
        norm = partial(ConditionalBatchNorm, classes=classes)

        self.base = Base(latent, widths[0], sizes[0])
        self.blocks = nn.ModuleList(map(partial(UpBlock, norm=norm), widths, widths[1:], sizes[1:]))
        self.attention = attention_at(attention, sizes[1:], widths[1:])
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_image = convolution(widths[-1], shape[0], 3)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.base(latent)
        for block, attend in zip(self.blocks, self.attention, strict=True):
            x = attend(block(x, label))
        return self.to_image(F.relu(self.norm(x))).tanh()


class SaganDiscriminator(Discriminator):
    """Image (N, *shape) → logit (N,). The features are the last maps, rectified and summed over all places.

    width, max_width, attention: as in the generator.
    base: the image is halved as long as at least so many pixels a side are left.
    tail: blocks that follow at that size. wide: the first convolution of a block widens already, as in SAGAN; otherwise
    the second does, as in SN-GAN.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 64, max_width: int | None = None, attention: int = 32,
        base: int = 4, tail: int = 1, wide: bool = True, condition: Condition = "projection",
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, max_width=max_width, base=base, tail=tail)
        require_side(attention)
        sizes = ladder(shape[1], shape[2], base, rungs=2)[::-1]
        sizes += [sizes[-1]] * tail
        widths = doubling(width, len(sizes) - 1, max_width or 16 * width)

        self.blocks = down_blocks(shape[0] + self.label_inputs, widths, sizes, wide=wide)
        self.attention = attention_at(attention, sizes[1:], widths)
        self.feature_count = widths[-1]
        self.head = Head(self.feature_count, self.label_rows)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        x = append_label(x, label, self.label_inputs)
        for block, attend in zip(self.blocks, self.attention, strict=True):
            x = attend(block(x))
        return F.relu(x).sum((2, 3))
