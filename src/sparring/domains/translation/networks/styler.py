"""The networks of Sanakoyeu et al. 2018: an encoder and a decoder of styled images, and a discriminator that looks at all depths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.domains.translation.networks.resnet import MirrorBlock
from sparring.errors import UserError
from sparring.nn.layers import Norm, norm_layer, require_positive

LEAK = 0.2
FIRST = (1, 1, 2, 4, 8)  # times the width: the layers of the encoder, of which the first keeps the size
DEEP = (1, 1, 2, 4, 4, 8, 8)  # times the width: the layers of the discriminator


class Styler(nn.Module):
    """Inputs (N, S, H, W) → images (N, C, H, W) in [-1, 1]; H and W are multiples of `stride`.

    `encoder` makes the map in which contents are compared, (N, 2^(down − 1) · width, H / 2^down, W / 2^down); `blocks` and
    `decoder` make an image of it. width: channels at full size. down: halvings. blocks: residual blocks, 9 in the paper.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 32, down: int = 4, blocks: int = 9, norm: Norm = "instance",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, down=down, blocks=blocks)
        self.stride = 2**down
        bare = norm in (
            "none",
            "layer",
            "group",
        )  # a bias before a norm that takes each channel's mean away would be idle
        widths = [width, *(width * 2**level for level in range(down))]
        # The norm of the image itself takes away its brightness and contrast.
        layers: list[nn.Module] = [norm_layer(norm, source)]
        for level, (before, after) in enumerate(pairwise([source, *widths])):
            mirrored = nn.Conv2d(before, after, 3, 1 if level == 0 else 2, 1, bias=bare, padding_mode="reflect")
            layers += [mirrored, norm_layer(norm, after), nn.ReLU()]
        self.encoder = nn.Sequential(*layers)
        self.blocks = nn.Sequential(*(MirrorBlock(widths[-1], norm) for _ in range(blocks)))
        layers = []
        for before, after in pairwise([widths[-1], *widths[:0:-1]]):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(before, after, 3, padding=1, bias=bare),
                norm_layer(norm, after),
                nn.ReLU(),
            ]
        self.decoder = nn.Sequential(
            *layers, nn.Conv2d(widths[1], shape[0], 7, padding=3, padding_mode="reflect"), nn.Tanh()
        )

    def forward(self, source: Tensor) -> Tensor:
        return self.decoder(self.blocks(self.encoder(source)))


class DeepDiscriminator(nn.Module):
    """Images (N, C, H, W), and what they were made from or None → logits (N, heads, h, w): a map of logits at several depths.

    width: of the first of `depth` layers of 5×5 that halve; the later ones have 1, 2, 4, 4, 8 and 8 times as much. heads:
    after which layers, counted from 1, logits are read, by convolutions of 5×5 (the released code's are of 3 to 10, for 768
    pixels). Their maps are repeated to the largest one's size, so that in every mean all depths weigh the same.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 128, depth: int = 7, heads: Sequence[int] = (1, 2, 4, 6, 7), norm: Norm = "instance",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, depth=depth)
        if depth > len(DEEP) or min(shape[1:]) < 2 ** (depth + 1):
            raise UserError(
                f"model.discriminator.depth: there are 1 to {len(DEEP)} layers, each halves the image, and 2 pixels must be left of "
                f"{shape[1]}×{shape[2]}; not {depth}"
            )
        if not heads or any(not 1 <= head <= depth for head in heads):
            raise UserError(f"model.discriminator.heads: logits are read after layers 1 to {depth}, not {list(heads)}")
        bare = norm in ("none", "layer", "group")
        widths = [source + shape[0], *(width * factor for factor in DEEP[:depth])]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 5, 2, 2, bias=bare), norm_layer(norm, after), nn.LeakyReLU(LEAK))
            for before, after in pairwise(widths)
        )
        self.heads = nn.ModuleDict({str(head): nn.Conv2d(widths[head], 1, 5, padding=2) for head in heads})

    def forward(self, samples: Tensor, source: Tensor | None = None) -> Tensor:
        return self.look(samples, source)[0]

    def look(self, samples: Tensor, source: Tensor | None = None) -> tuple[Tensor, list[list[Tensor]]]:
        """Logits, and the maps after each layer."""
        x = samples if source is None else torch.cat([source, samples], dim=1)
        logits: list[Tensor] = []
        maps: list[Tensor] = []
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x)
            maps.append(x)
            if str(number) in self.heads:
                logits.append(self.heads[str(number)](x))
        size = logits[0].shape[2:]
        whole = [each if each.shape[2:] == size else F.interpolate(each, size) for each in logits]
        return torch.cat(whole, dim=1), [maps]
