"""Generators of inpainting: the image with its hole and the mask, 1 in the hole, → an image of which the hole is used.

- `context`: the context encoder (Pathak et al. 2016), all of which one layer sees; for the size it was built for alone.
- `partial`: a U-Net of partial convolutions (Liu et al. 2018), which look past the hole and close it from layer to layer.
- `gated`: gated convolutions (Yu et al. 2019), which learn what to look at; coarse, then fine.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.errors import UserError
from sparring.nn.layers import Norm, doubling, norm_layer, require_positive

LEAK = 0.2


class ContextEncoder(nn.Module):
    """(N, C + 1, H, W) → (N, C, H, W) in [-1, 1] (Pathak et al. 2016, secs. 3.1 and 3.3).

    Halvings down to about 4 pixels (`depth`: how many; None: so), a layer that joins all places of each channel and a 1×1
    convolution that joins the channels, and the way back. The first layer is as wide as `width`, doubled up to 8 times. What
    joins all places knows one size.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int], *, width: int = 64, depth: int | None = None, norm: Norm = "batch"
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, depth=depth)
        self.size = (shape[1], shape[2])
        if shape[1] == shape[2]:
            self.stride = shape[1]  # smaller inputs are continued by mirroring
        depth = depth or max(2, int(math.log2(min(self.size))) - 2)
        if any(side % 2**depth for side in self.size):
            raise UserError(f"data.size: a context encoder of {depth} halvings needs multiples of {2**depth} pixels")
        widths = doubling(width, depth)
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for level, (before, after) in enumerate(zip([source, *widths], widths, strict=False)):
            normed = [] if level == 0 else [norm_layer(norm, after)]
            down += [nn.Conv2d(before, after, 4, 2, 1), *normed, nn.LeakyReLU(LEAK)]
            outer = level == 0
            back = shape[0] if outer else before
            tail = [nn.Tanh()] if outer else [norm_layer(norm, back), nn.ReLU()]
            up = [nn.ConvTranspose2d(after, back, 4, 2, 1), *tail, *up]
        self.encoder = nn.Sequential(*down)
        places = (self.size[0] >> depth) * (self.size[1] >> depth)
        self.channelwise = ChannelwiseLinear(widths[-1], places)
        self.joined = nn.Sequential(nn.ReLU(), nn.Conv2d(widths[-1], widths[-1], 1), nn.ReLU())
        self.decoder = nn.Sequential(*up)

    def forward(self, source: Tensor) -> Tensor:
        if source.shape[2:] != self.size:
            (h, w), (own_h, own_w) = source.shape[2:], self.size
            raise UserError(
                f"a context encoder paints images of {own_w}×{own_h} pixels alone, and this one is {w}×{h}: resize it, or "
                "train with model.generator.name=gated"
            )
        return self.decoder(self.joined(self.channelwise(self.encoder(source))))


class ChannelwiseLinear(nn.Module):
    """Joins all places of each channel, with weights of its own: m·n⁴ of them for m maps of n×n (Pathak et al. 2016, sec. 3.1)."""

    def __init__(self, channels: int, places: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, places, places))
        self.bias = nn.Parameter(torch.zeros(channels, 1, places))
        nn.init.normal_(self.weight, std=places**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.einsum("ncp,cpq->ncq", x.flatten(2), self.weight) + self.bias[:, 0]
        return joined.view_as(x)


class PartialUNet(nn.Module):
    """(N, C + 1, H, W) → (N, C, H, W) (Liu et al. 2018, sec. 3.2 and table 4); H and W are multiples of `stride`.

    width: of the first level, doubled up to 8 times. depth: levels, 8 for the paper's 512 pixels; None: as many as leave two
    pixels. Kernels of 7, 5, 5, then 3. Upwards values and masks are repeated, and joined with those of the way down.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int], *, width: int = 64, depth: int | None = None, norm: Norm = "batch"
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, depth=depth)
        depth = depth or max(2, min(8, int(math.log2(min(shape[1:]))) - 1))
        self.stride = 2**depth
        channels = source - 1
        widths = doubling(width, depth)
        kernels = [7, 5, 5, *([3] * depth)]
        self.down = nn.ModuleList(
            PartialBlock(before, after, kernel, 2, norm if level else "none", nn.ReLU())
            for level, (before, after, kernel) in enumerate(zip([channels, *widths], widths, kernels, strict=False))
        )
        self.up = nn.ModuleList()
        for level in range(depth - 1, -1, -1):
            skip = widths[level - 1] if level else channels
            after = skip if level else shape[0]
            last = level == 0
            self.up.append(
                PartialBlock(
                    widths[level] + skip,
                    after,
                    3,
                    1,
                    "none" if last else norm,
                    nn.Identity() if last else nn.LeakyReLU(LEAK),
                )
            )

    def forward(self, source: Tensor) -> Tensor:
        known = 1 - source[:, -1:]
        maps = [(source[:, :-1], known.expand(-1, source.shape[1] - 1, -1, -1))]
        for block in self.down:
            maps.append(block(*maps[-1]))
        x, seen = maps.pop()
        for block in self.up:
            before, seen_before = maps.pop()
            x = torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), before], dim=1)
            seen = torch.cat([F.interpolate(seen, scale_factor=2, mode="nearest"), seen_before], dim=1)
            x, seen = block(x, seen)
        return x


class PartialBlock(nn.Module):
    """A partial convolution (Liu et al. 2018, eqs. 1 and 2), its norm and its activation.

    Values x and a mask of what is known, both (N, C, H, W). Where a window sees anything known:
    Wᵀ(x ⊙ m) · |m|₁-of-all / |m|₁ + b, and the place is known from there on; elsewhere 0.
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int, norm: Norm, activation: nn.Module) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            before, after, kernel, stride, kernel // 2, bias=norm in ("none", "layer", "group")
        )
        self.norm, self.activation = norm_layer(norm, after), activation

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        layer = self.convolution
        # All channels of a map have one mask; joined maps have two, so that the sum over channels is what counts.
        window = known.new_ones(1, 1, *layer.kernel_size)
        with torch.no_grad():
            total = known.sum(1, keepdim=True).float()
            seen = F.conv2d(total, window.float(), stride=layer.stride, padding=layer.padding)
            every = F.conv2d(
                torch.full_like(total[:1], known.shape[1]), window.float(), stride=layer.stride, padding=layer.padding
            )
            found = (seen > 0).to(x.dtype)
            factor = (every / seen.clamp(min=1e-6) * found).to(x.dtype)
        y = F.conv2d(x * known, layer.weight, None, layer.stride, layer.padding) * factor
        if layer.bias is not None:
            y = (y + layer.bias[:, None, None]) * found
        y = self.activation(self.norm(y))
        return y, found.expand(-1, y.shape[1], -1, -1)


class GatedNetwork(nn.Module):
    """(N, C + 1, H, W) → (N, C, H, W) in [-1, 1] (Yu et al. 2019, sec. 3.2 and fig. 3), without the branch of contextual attention.

    Two networks of one build, the second of which sees what the first has painted: down to a fourth, convolutions with gaps of
    2, 4, 8 and 16, and up. width: of the first layer, 48 in the paper. coarse: false leaves the first network out. dilations: how
    many of the gaps. smooth: begin with holes that are closed smoothly (`closed`), and paint what differs from that: colours
    pass many gates of about a half on their way into a hole, which a short training does not make up for. `stages` gives the
    images of both.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int], *, width: int = 48, coarse: bool = True, dilations: int = 4,
        smooth: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, dilations=dilations)
        self.stride = 4
        self.coarse = gated_stage(source, shape[0], width, dilations) if coarse else None
        self.fine = gated_stage(source, shape[0], width, dilations)
        self.smooth = smooth

    def forward(self, source: Tensor) -> Tensor:
        return self.stages(source)[-1]

    def stages(self, source: Tensor) -> list[Tensor]:
        """What each of the networks paints, the last one's last."""
        image, mask = source[:, :-1], source[:, -1:]
        if self.smooth:
            image = closed(image, mask)
        painted: list[Tensor] = []
        for network in (self.coarse, self.fine):
            if network is None:
                continue
            if painted:
                image = torch.where(mask > 0.5, painted[-1], image)
            made = network(torch.cat([image, mask], dim=1))
            painted.append(image + made if self.smooth else made)
        return painted


def closed(image: Tensor, mask: Tensor) -> Tensor:
    """Images (N, C, H, W) whose holes, where masks (N, 1, H, W) are 1, hold means of what is known around, finer near the rim.

    A pyramid of means of known pixels, down to one; on the way back each hole gets what the coarser level has
    (Gortler et al. 1996, sec. 3.4.3: pull and push). All unknown: 0.
    """
    known = (mask <= 0.5).to(image.dtype)
    image = image * known
    if max(image.shape[2:]) > 1:
        small_known, small = (F.avg_pool2d(each, 2, ceil_mode=True) for each in (known, image))
        small = small / small_known.clamp(min=1e-6)
        small = closed(small, (small_known == 0).to(image.dtype))
        image = image + (1 - known) * F.interpolate(small, size=image.shape[2:], mode="bilinear", align_corners=False)
    return image


def gated_stage(source: int, channels: int, width: int, dilations: int) -> nn.Sequential:
    """One of the two networks."""
    return nn.Sequential(
        Gated(source, width, 5),
        Gated(width, 2 * width, stride=2), Gated(2 * width, 2 * width),
        Gated(2 * width, 4 * width, stride=2), Gated(4 * width, 4 * width), Gated(4 * width, 4 * width),
        *(Gated(4 * width, 4 * width, dilation=2**power) for power in range(1, dilations + 1)),
        Gated(4 * width, 4 * width), Gated(4 * width, 4 * width),
        nn.Upsample(scale_factor=2), Gated(4 * width, 2 * width), Gated(2 * width, 2 * width),
        nn.Upsample(scale_factor=2), Gated(2 * width, width), Gated(width, max(1, width // 2)),
        nn.Conv2d(max(1, width // 2), channels, 3, padding=1), nn.Tanh(),
    )  # fmt: skip


class Gated(nn.Module):
    """ELU(features) ⊙ σ(gates), both of convolutions of the same maps (Yu et al. 2019, eq. 3)."""

    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            before, 2 * after, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation
        )

    def forward(self, x: Tensor) -> Tensor:
        features, gates = self.convolution(x).chunk(2, dim=1)
        return F.elu(features) * torch.sigmoid(gates)
