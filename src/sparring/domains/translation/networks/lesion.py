"""Networks of the lesion game: one that paints into a region, and one that judges what is in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.domains.translation.networks.unet import LEAK, UNetGenerator
from sparring.nn.layers import Norm, doubling, require_positive


class LesionGenerator(nn.Module):
    """Images without a region, the region, what belongs in it and a code → images (N, C, H, W) in [-1, 1].

    A U-Net that paints, and the encoder of a variational autoencoder that finds the code of what is in a region.
    width, depth, norm: see `UNetGenerator`. code: numbers of a code.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 32, depth: int | None = None, norm: Norm = "instance", code: int = 8,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(code=code)
        # Beside the image: the region, and what belongs in it (1: a lesion).
        self.painter = UNetGenerator(
            source + 2, shape, width=width, depth=depth, norm=norm, dropout=0.0, code=code, inject="all"
        )
        self.encoder = RegionEncoder(source, width, code)
        self.code, self.stride = code, self.painter.stride

    def forward(self, context: Tensor, region: Tensor, kind: Tensor, code: Tensor) -> Tensor:
        """Contexts (N, C, H, W) are 0 in the region (N, 1, H, W). kind (N,): 1 paints a lesion, 0 tissue. code (N, L)."""
        return self.painter(torch.cat([context, region, plane(kind, region)], dim=1), code)

    def encode(self, images: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the codes of what is in the region, (N, L) each."""
        return self.encoder(images, region)


class RegionEncoder(nn.Module):
    """What is in a region of images (N, C, H, W), as mean and log-variance (N, code) each; what is beside it has no part."""

    def __init__(self, source: int, width: int, code: int, *, halvings: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = source + 1
        for after in doubling(width, halvings):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(LEAK)]
            before = after
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before, 2 * code)

    def forward(self, images: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.body(torch.cat([images * region, region], dim=1))
        mean, variance = self.head(within(maps, region)).chunk(2, dim=1)
        return mean, variance


class RegionDiscriminator(nn.Module):
    """Images (N, C, H, W), and beside them region and kind (N, 2, H, W) → logits (N, 2): of the region, and of the whole.

    The region's is the mean of the logits of its patches: all others show what no one has painted. width: channels of
    the first layer. halvings: of the size; a logit sees patches of 10, 22 or 46 pixels after 2, 3 or 4 of them.
    """

    def __init__(self, source: int, shape: tuple[int, int, int], *, width: int = 32, halvings: int = 3) -> None:
        super().__init__()
        require_positive(width=width, halvings=halvings)
        layers: list[nn.Module] = []
        before = shape[0] + source
        for after in doubling(width, halvings):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(LEAK)]
            before = after
        self.body = nn.Sequential(*layers)
        self.patches = nn.Conv2d(before, 1, 1)
        self.whole = nn.Linear(before, 1)

    def forward(self, samples: Tensor, beside: Tensor) -> Tensor:
        maps = self.body(torch.cat([samples, beside], dim=1))
        region = within(self.patches(maps), beside[:, :1])
        return torch.cat([region, self.whole(maps.mean((2, 3)))], dim=1)


def within(maps: Tensor, region: Tensor) -> Tensor:
    """Means (N, C) of maps (N, C, h, w) over a region (N, 1, H, W), whose size is brought to theirs; of all where it is empty."""
    weight = nn.functional.adaptive_avg_pool2d(region, (maps.shape[2], maps.shape[3]))
    weight = torch.where(weight.sum((2, 3), keepdim=True) > 0, weight, torch.ones_like(weight))
    return (maps * weight).sum((2, 3)) / weight.sum((2, 3))


def plane(kind: Tensor, like: Tensor) -> Tensor:
    """Numbers (N,) at each place of maps (N, 1, H, W)."""
    return kind.to(like.dtype)[:, None, None, None].expand_as(like)
