"""The autoencoder of MUNIT (Huang et al. 2018, sec. 5.1 and appendix B): an image is a content, which is a map, and a style."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.domains.translation.networks.resnet import MirrorBlock
from sparring.nn.adaptive_norm import AdaptiveInstanceNorm
from sparring.nn.layers import Norm, norm_layer, require_positive

MOST = 4  # times the first width, of the style encoder


class StyledAutoencoder(nn.Module):
    """One side's images (N, C, H, W), H and W multiples of `stride`, to content and style and back.

    width: channels at full size, doubled with each of `down` halvings of the content. blocks: residual blocks of the
    content encoder, and as many of the decoder. style: numbers of a style. style_down: halvings before it is read.
    hidden: units of the layers between a style and the norms that it sets.
    """

    def __init__(
        self, channels: int,
        *, width: int = 64, down: int = 2, blocks: int = 4, style: int = 8, style_down: int = 4, hidden: int = 256,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, down=down, blocks=blocks, style=style, style_down=style_down, hidden=hidden)
        self.stride, self.style = 2 ** max(down, style_down), style
        content = width * 2**down
        self.content_encoder = nn.Sequential(
            *convolution(channels, width, 7, norm="instance"),
            *(
                layer
                for level in range(down)
                for layer in convolution(width * 2**level, width * 2 ** (level + 1), 4, stride=2, norm="instance")
            ),
            *(MirrorBlock(content, "instance") for _ in range(blocks)),
        )
        widths = [width * min(MOST, 2**level) for level in range(style_down + 1)]
        # No norm here: it would take away the means and variances that are the style (sec. 5.1).
        self.style_encoder = nn.Sequential(
            *convolution(channels, width, 7),
            *(layer for before, after in pairwise(widths) for layer in convolution(before, after, 4, stride=2)),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(widths[-1], style, 1),
            nn.Flatten(),
        )
        self.decoder = StyledDecoder(channels, width, down, blocks, style, hidden)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Contents (N, width · 2^down, H / 2^down, W / 2^down), and styles (N, style)."""
        return self.content_encoder(images), self.style_encoder(images)

    def decode(self, content: Tensor, style: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] of contents and styles."""
        return self.decoder(content, style)

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(*self.encode(images))


class StyledDecoder(nn.Module):
    """Contents and styles → images: residual blocks whose norms the style sets, then doublings with layer norm."""

    def __init__(self, channels: int, width: int, down: int, blocks: int, style: int, hidden: int) -> None:
        super().__init__()
        content = width * 2**down
        self.mapping = nn.Sequential(nn.Linear(style, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.blocks = nn.ModuleList(StyledBlock(content, hidden) for _ in range(blocks))
        layers: list[nn.Module] = []
        for level in reversed(range(down)):
            layers += [
                nn.Upsample(scale_factor=2),
                *convolution(width * 2 ** (level + 1), width * 2**level, 5, norm="layer"),
            ]
        self.up = nn.Sequential(*layers, nn.Conv2d(width, channels, 7, padding=3, padding_mode="reflect"), nn.Tanh())

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        seen = self.mapping(style)
        x = content
        for block in self.blocks:
            x = block(x, seen)
        return self.up(x)


class StyledBlock(nn.Module):
    """x + two 3×3 convolutions with mirrored borders, each followed by a norm that the style sets, a ReLU between them."""

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(channels, channels, 3, padding=1, bias=False, padding_mode="reflect") for _ in range(2)
        )
        self.first_norm, self.second_norm = (AdaptiveInstanceNorm(channels, inputs) for _ in range(2))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x), style))
        return x + self.second_norm(self.second(y), style)


def convolution(
    before: int, after: int, kernel: int, *, stride: int = 1, norm: Norm | None = None
) -> tuple[nn.Module, ...]:
    """A convolution with mirrored borders that keeps the size (or halves it), its norm, and a ReLU."""
    # A bias before a norm that takes each channel's mean away would be idle.
    layer = nn.Conv2d(
        before, after, kernel, stride, (kernel - stride + 1) // 2, bias=norm != "instance", padding_mode="reflect"
    )
    return (layer, *([norm_layer(norm, after)] if norm else []), nn.ReLU())
