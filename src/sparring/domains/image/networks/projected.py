"""The projected discriminator (Sauer et al. 2021, arXiv 2111.01007): heads on the mixed maps of a frozen network.

What projects is frozen: a backbone that knows images, and random convolutions that mix its channels and its sizes, so
that no head can rest on a few of them. Only the heads learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.regularize import spectral_norm
from sparring.errors import UserError
from sparring.imaging.features.classifier import open_classifier
from sparring.imaging.features.compact import CompactNetwork, draw_weights, settle, working_size
from sparring.imaging.features.efficientnet import FILES, URL, EfficientNetLite0, as_rgb, draw_randomly
from sparring.metrics.weights import fill, find_weights, read_tensors
from sparring.nn.condition import embed
from sparring.nn.conditional_norm import FreeEmbedding
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import require_positive
from sparring.nn.resample import Size, resize

BackboneName = Literal["efficientnet_lite0", "compact"]
USUAL_RESOLUTION = 224  # pixels of the shorter side that EfficientNet learnt from
SMALLEST = 8  # pixels of the shorter side down to which a head halves its maps
CONDITION = 64  # numbers in which a head and a label are compared
MOST, BASE = 512, 4096  # a head's channels where its maps have `side` pixels: at most 512, and 4096 / side


class ProjectedDiscriminator(Discriminator):
    """Image (N, *shape) → logits (N, P): those of every position of every head, in a row.

    backbone: `efficientnet_lite0`, as in the paper, or `compact`, a small network for small images of any kind.
    weights: none: what the backbone is known for, a file of pretrained weights (see `FILES`) or, for `compact`, what is
        learnt from the training data without labels; `random`; or the path of a file. Until `prepare` they are random.
    resolution: pixels of the shorter side that the backbone sees; none: 224, or for `compact` the image's own, at most 64.
    width: channels of the largest mixed maps; twice as many at each smaller size, the smallest two alike.
    The features are the mixed maps, flattened, in a row. A label is compared with each position of each head (Miyato &
    Koyama 2018), as in the authors' code.
    """

    prepared: Tensor

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, backbone: BackboneName = "efficientnet_lite0", weights: str | None = None, resolution: int | None = None,
        width: int = 64,
    ) -> None:  # fmt: skip
        super().__init__(classes, "projection")
        require_positive(resolution=resolution, width=width)
        self.weights = weights
        self.projector = Projector(shape, backbone, resolution, width)
        self.shapes = self.projector.shapes
        self.feature_count = sum(math.prod(each) for each in self.shapes)
        self.heads = nn.ModuleList(ProjectedHead(each, classes) for each in self.shapes)
        spectral_norm(self.heads)
        # Whether the backbone holds its weights: a resumed run has them from its checkpoint.
        self.register_buffer("prepared", torch.tensor(weights == "random"))

    def train(self, mode: bool = True) -> ProjectedDiscriminator:
        """Train the heads; what is frozen stays as it is in eval mode."""
        super().train(mode)
        self.projector.eval()
        return self

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Give the backbone its weights, unless it has them. data: the training data.

        Raises UserError where a file is missing or holds something else.
        """
        if not self.prepared:
            self.projector.backbone.take(self.weights, data, progress)
            self.prepared.fill_(True)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.cat([maps.flatten(1) for maps in self.projector(x)], dim=1)

    def score(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        pieces = features.split([math.prod(each) for each in self.shapes], dim=1)
        logits = [
            head(piece.unflatten(1, shape), label)
            for head, piece, shape in zip(self.heads, pieces, self.shapes, strict=True)
        ]
        return torch.cat([each.flatten(1) for each in logits], dim=1)


class Projector(nn.Module):
    """Images → a list of mixed maps, the largest first, frozen: backbone, cross-channel and cross-scale mixing.

    Cross-channel mixing: a random 1×1 convolution of each size. Cross-scale mixing: from the smallest size up, a random
    3×3 convolution, bilinear upsampling to twice the size, and the sum with the next size's maps.
    shapes: of each of the mixed maps.
    """

    def __init__(self, shape: tuple[int, int, int], backbone: BackboneName, resolution: int | None, width: int) -> None:
        super().__init__()
        self.backbone = BACKBONES[backbone](shape, resolution)
        channels, sizes = self.backbone.channels, self.backbone.sizes  # the largest maps first
        mixed = [width * 2**number for number in range(len(channels))]
        self.across_channels = nn.ModuleList(nn.Conv2d(*pair, 1) for pair in zip(channels, mixed, strict=True))
        # The largest maps keep their channels, which fewer could not hold.
        after = [mixed[0], *mixed[:-1]]
        self.across_scales = nn.ModuleList(nn.Conv2d(*pair, 3, padding=1) for pair in zip(mixed, after, strict=True))
        height, wide = sizes[0]
        self.sizes: list[Size] = [(2 * height, 2 * wide), *sizes[:-1]]
        self.shapes = [(count, *size) for count, size in zip(after, self.sizes, strict=True)]
        self.initialize_own()
        self.requires_grad_(False)
        self.eval()

    def initialize_own(self) -> None:
        """Random mixing; a recipe's initialiser leaves modules with this method alone."""
        draw_randomly(self.across_channels)
        draw_randomly(self.across_scales)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [mix(each) for mix, each in zip(self.across_channels, self.backbone.maps(images), strict=True)]
        found: list[Tensor] = []
        for convolution, own, size in reversed([*zip(self.across_scales, maps, self.sizes, strict=True)]):
            x = convolution(own if not found else (own + found[-1]) / math.sqrt(2))
            found.append(F.interpolate(x, size=size, mode="bilinear", align_corners=False))
        return found[::-1]


class ProjectedHead(nn.Module):
    """Mixed maps (N, *shape) → logits (N, 1, h, w), by strided convolutions down to about 8 pixels and one of 4×4."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, *size = shape
        layers: list[nn.Module] = []
        while min(size) >= 2 * SMALLEST:
            size = [side // 2 for side in size]
            after = min(MOST, max(1, BASE // min(size)))
            after = min(after, 2 * channels)
            layers += [nn.Conv2d(channels, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
            channels = after
        self.body = nn.Sequential(*layers)
        kernel = (min(4, size[0]), min(4, size[1]))
        self.classify = nn.Conv2d(channels, CONDITION if classes else 1, kernel, bias=False)
        # Spectral norm is for the way of the maps; the label only says what they are compared with.
        self.embedding = FreeEmbedding(classes, CONDITION) if classes else None

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.classify(self.body(x))
        if self.embedding is None:
            return x
        named = F.leaky_relu(embed(self.embedding, label), 0.2)[:, :, None, None]
        return (x * named).sum(1, keepdim=True) / math.sqrt(CONDITION)


class EfficientNetBackbone(nn.Module):
    """EfficientNet-Lite0's maps of a quarter to a thirty-second of an image's size, of images made large enough."""

    channels = EfficientNetLite0.channels

    def __init__(self, shape: tuple[int, int, int], resolution: int | None) -> None:
        super().__init__()
        factor = (resolution or USUAL_RESOLUTION) / min(shape[1:])
        self.size: Size = (round(shape[1] * factor), round(shape[2] * factor))
        strides = EfficientNetLite0.strides
        self.sizes: list[Size] = [(-(-self.size[0] // each), -(-self.size[1] // each)) for each in strides]
        self.network = EfficientNetLite0()
        draw_randomly(self.network)

    def take(self, weights: str | None, data: Any, progress: Callable[[int, int], None] | None) -> None:
        """The weights of a file. Raises UserError where it is missing or holds something else."""
        path = (
            find_weights(FILES, purpose="the backbone efficientnet_lite0", url=URL)
            if weights is None
            else Path(weights)
        )
        fill(self.network, read_tensors(path.expanduser()), path=path, what="tf_efficientnet_lite0")

    def maps(self, images: Tensor) -> list[Tensor]:
        """From the largest to the smallest."""
        shown = F.interpolate(as_rgb(images), size=self.size, mode="bilinear", align_corners=False)
        return self.network.maps(shown)


class CompactBackbone(nn.Module):
    """The maps of each size of the network behind the features `classifier`, learnt from the data without labels."""

    def __init__(self, shape: tuple[int, int, int], resolution: int | None) -> None:
        super().__init__()
        self.shape = shape
        self.size = working_size(shape)
        if resolution is not None:
            raise UserError("model.discriminator.resolution: the backbone compact sees images at their own size")
        self.network = CompactNetwork(shape, 0) if self.size == shape[1:] else CompactNetwork((shape[0], *self.size), 0)
        convolutions = [layer for layer in self.network.body if isinstance(layer, nn.Conv2d)]
        # Convolutions of padded 3×3 kernels: sizes are divided by the stride, rounded up.
        sizes = [*accumulate(convolutions, lambda size, layer: half(size, layer.stride[0]), initial=self.size)]
        last = [before != after for before, after in pairwise(sizes[1:])] + [True]  # the last maps of a size
        self.taps = [number for number, each in enumerate(last) if each]
        self.channels = tuple(convolutions[tap].out_channels for tap in self.taps)
        self.sizes: list[Size] = [sizes[tap + 1] for tap in self.taps]
        draw_weights(self.network, torch.Generator().manual_seed(0))
        settle(self.network)

    def take(self, weights: str | None, data: Any, progress: Callable[[int, int], None] | None) -> None:
        """What is learnt from the data, or the weights of a file. Raises UserError where that holds something else."""
        if weights is not None:
            path = Path(weights).expanduser()
            fill(self.network, read_tensors(path), path=path, what="the compact network of such images")
            return
        learnt = open_classifier(data, use_labels=False, device=next(self.parameters()).device, progress=progress)
        self.network.load_state_dict(learnt.network.state_dict())

    def maps(self, images: Tensor) -> list[Tensor]:
        """From the largest to the smallest."""
        x, found, seen = resize(images, self.size), [], -1
        for layer in self.network.body:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                seen += 1
                if seen in self.taps:
                    found.append(x)
        return found


def half(size: Size, stride: int) -> Size:
    """A size divided by a stride, rounded up."""
    return -(-size[0] // stride), -(-size[1] // stride)


BACKBONES: dict[str, type[EfficientNetBackbone] | type[CompactBackbone]] = {
    "efficientnet_lite0": EfficientNetBackbone,
    "compact": CompactBackbone,
}
