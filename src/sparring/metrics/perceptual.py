"""LPIPS: how different two images look (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features").

The towers are AlexNet and VGG16 in the layout of torchvision's weight files, the heads those published with LPIPS
version 0.1, which torchmetrics brings along.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.metrics.weights import digest_tensors, fill, find_weights, read_tensors

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's colours, for values in [-1, 1]


@dataclass(frozen=True)
class Tower:
    """A network of convolutions as torchvision lays it out under `features`.

    layers: (output channels, kernel, stride, padding) of a convolution with ReLU, or (kernel, stride) of a max pool.
    taps: after which convolutions, counted from 0, features are compared. files: names of the weights; url: of the first.
    smallest: pixels a side below which nothing would be left.
    """

    layers: tuple[tuple[int, ...], ...]
    taps: tuple[int, ...]
    files: tuple[str, ...]
    url: str
    smallest: int


def vgg(*depths: int) -> tuple[tuple[int, ...], ...]:
    """The layers of a VGG (Simonyan & Zisserman 2015): blocks of so many 3×3 convolutions, a pool between each two."""
    blocks = zip((64, 128, 256, 512, 512), depths, strict=True)
    return tuple(layer for width, depth in blocks for layer in ((2, 2), *[(width, 3, 1, 1)] * depth))[1:]


TOWERS = {
    "alex": Tower(
        layers=((64, 11, 4, 2), (3, 2), (192, 5, 1, 2), (3, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
        taps=(0, 1, 2, 3, 4),
        files=("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth"),
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        smallest=31,
    ),
    "vgg": Tower(
        layers=vgg(2, 2, 3, 3, 3),
        taps=(1, 3, 6, 9, 12),
        files=("vgg16-397923af.pth",),
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        smallest=16,
    ),
}


def open_lpips(
    tower: Literal["alex", "vgg"] = "vgg",
    *,
    weights: Path | None = None,
    heads: Path | None = None,
    device: torch.device | str | None = None,
    download: bool = False,
) -> Lpips:
    """LPIPS with pretrained weights. `vgg` is what path lengths are published in, `alex` what LPIPS recommends for pairs.

    weights: torchvision's file of the tower (`features.0.weight`, …); None looks where weights are looked for.
    heads: the published linear heads (`lin0.model.1.weight`, …); None takes those that torchmetrics brings.
    Raises Unavailable where the tower's weights are not here, UserError where a file holds something else.
    """
    chosen = TOWERS[tower]
    weights = weights or find_weights(chosen.files, purpose=f"LPIPS ({tower})", url=chosen.url, download=download)
    heads = heads or Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / f"{tower}.pth"
    # The classifier at the tower's end is not wanted; the published heads may come with the tower they were fitted to.
    features = {name: value for name, value in read_tensors(weights).items() if name.startswith("features.")}
    linear = {name: value for name, value in read_tensors(heads).items() if name.startswith("lin")}
    with torch.device("meta"):
        network = Lpips(chosen)
    fill(network.tower, features, path=weights, what=f"the tower {tower!r} in torchvision's layout")
    fill(network.heads, linear, path=heads, what=f"the heads of LPIPS for {tower!r}")
    network.name = f"lpips ({tower}, {weights.stem})"
    network.digest = digest_tensors({**features, **linear})
    return network.to(device or "cpu").eval()


class Lpips(nn.Module):
    """The distance of images (N, C, H, W) in [0, 1] by the features of a tower, weighted by linear heads.

    It grows with the square of a small change. Images are never rounded or resized; C is 1 (grey) or 3.
    name: with its weights, as it stands beside a figure. digest: of the weights.
    """

    name: str
    digest: str

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self._plan = tower
        features, taps = convolutions(tower)
        self.tower, self.heads = nn.ModuleDict({"features": features}), nn.Module()
        for number, channels in enumerate(taps):
            # The published files hold a dropout at .model.0, which measures nothing.
            head = nn.Module()
            head.model = nn.ModuleDict({"1": nn.Conv2d(channels, 1, 1, bias=False)})
            self.heads.add_module(f"lin{number}", head)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """d(a, b) of each pair, shape (N,), 0 for equal images (Zhang et al. 2018, eq. 1).

        Raises ValueError where shapes differ, or an image is too small for the tower.
        """
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] not in (1, 3):
            raise ValueError(f"pairs of grey or RGB images are needed, not {tuple(a.shape)} and {tuple(b.shape)}")
        if min(a.shape[2:]) < self._plan.smallest:
            raise ValueError(f"LPIPS needs images of {self._plan.smallest} pixels a side, not {tuple(a.shape[2:])}")
        total = a.new_zeros(len(a), dtype=torch.float32)
        stages = zip(self._stages(a), self._stages(b), self.heads.children(), strict=True)
        for one, other, head in stages:
            gaps = (F.normalize(one, dim=1, eps=1e-10) - F.normalize(other, dim=1, eps=1e-10)).square()
            total = total + head.model["1"](gaps).mean((1, 2, 3))  # type: ignore[index,operator]
        return total

    def _stages(self, images: Tensor) -> list[Tensor]:
        """The features after each tap."""
        x = as_imagenet(images.float().expand(-1, 3, -1, -1) * 2 - 1)
        return tapped(self.tower["features"].children(), x, self._plan.taps)


def as_imagenet(images: Tensor) -> Tensor:
    """RGB images (N, 3, H, W) in [-1, 1] with the mean and the spread that ImageNet's colours were trained with."""
    return (images - images.new_tensor(SHIFT).view(1, 3, 1, 1)) / images.new_tensor(SCALE).view(1, 3, 1, 1)


def tapped(layers: Iterable[nn.Module], x: Tensor, taps: Sequence[int]) -> list[Tensor]:
    """The maps after those ReLUs, counted from 0, that `taps` names, in order; what comes after the last is left out."""
    found: list[Tensor] = []
    seen = -1
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            seen += 1
            if seen in taps:
                found.append(x)
            if len(found) == len(taps):
                break
    return found


def convolutions(tower: Tower) -> tuple[nn.Sequential, list[int]]:
    """The tower's layers, numbered as torchvision does (each ReLU and pool counts), and the channels at its taps."""
    layers: list[nn.Module] = []
    widths = [3]
    for layer in tower.layers:
        if len(layer) == 2:
            layers.append(nn.MaxPool2d(layer[0], layer[1]))
        else:
            width, kernel, stride, padding = layer
            layers += [nn.Conv2d(widths[-1], width, kernel, stride, padding), nn.ReLU()]
            widths.append(width)
    return nn.Sequential(*layers), [widths[tap + 1] for tap in tower.taps]
