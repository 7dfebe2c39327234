"""Perceptual and style losses: how far two images are by the maps of a network that stays as it is.

Differences of pixels punish a texture that is right but moved by a pixel as hard as one that is wrong; differences of
maps do not (Johnson et al. 2016; Dosovitskiy & Brox 2016). What they need is a network that knows images:

- `vgg19` or `vgg16`, learnt from ImageNet, where torchvision's files are found (`metrics.weights.weight_folders`);
- `own`, a small one that learns from the training data themselves, without labels, before the first step (see
  `imaging.features.classifier`). It takes a minute or two, needs no download, and knows scans as well as photographs.

`auto` is the first of them that is at hand. A recipe that was resolved names the one that it means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.errors import UserError
from sparring.imaging.features.classifier import open_classifier
from sparring.imaging.features.compact import CompactNetwork, draw_weights, settle, working_size
from sparring.imaging.features.efficientnet import as_rgb
from sparring.metrics.perceptual import Tower, as_imagenet, convolutions, tapped, vgg
from sparring.metrics.weights import Unavailable, fill, find_weights, read_tensors

NetworkName = Literal["auto", "vgg19", "vgg16", "own"]

# The first convolution of each block, as pix2pixHD takes them (Wang et al. 2018, sec. 3.3, with its authors' weights).
TOWERS = {
    "vgg19": Tower(
        layers=vgg(2, 2, 4, 4, 4),
        taps=(0, 2, 4, 8, 12),
        files=("vgg19-dcbb9e9d.pth",),
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        smallest=16,
    ),
    "vgg16": Tower(
        layers=vgg(2, 2, 3, 3, 3),
        taps=(0, 2, 4, 7, 10),
        files=("vgg16-397923af.pth",),
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        smallest=16,
    ),
}
VGG_SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


def network_at_hand(which: NetworkName) -> NetworkName:
    """`auto` as the name of what it means on this machine; any other name as it is."""
    if which != "auto":
        return which
    for name in TOWERS:
        try:
            _weights_of(name)
        except Unavailable:
            continue
        return name  # type: ignore[return-value]
    return "own"


class PerceptualNetwork(nn.Module):
    """Images (N, C, H, W) in [-1, 1] → maps of several sizes, the largest first. Nothing in it ever learns.

    which: see `NetworkName`. shape: (C, H, W) of the training data; images of any other size may be compared too.
    Until `prepare` its weights are random. They are in its state, so a resumed training has them without the files.
    shares: how much the difference of each of the maps counts.
    Raises UserError for images that are too small.
    """

    prepared: Tensor

    def __init__(self, which: NetworkName, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.which = network_at_hand(which)
        if self.which == "own":
            size = working_size(shape)
            # Of the network behind the features `classifier` the convolutions: what follows knows one size only.
            self.body = CompactNetwork((shape[0], *size), 0).body
            draw_weights(self.body, torch.Generator().manual_seed(0))
            count = sum(isinstance(layer, nn.ReLU) for layer in self.body)
            self.taps: tuple[int, ...] = tuple(range(count))
            self.shares = tuple(2.0 ** (1 + tap - count) for tap in self.taps)
        else:
            tower = TOWERS[self.which]
            if min(shape[1:]) < tower.smallest:
                raise UserError(
                    f"loss.perceptual_network: {self.which} needs images of {tower.smallest} pixels a side: say own"
                )
            self.body, _ = convolutions(tower)
            self.taps, self.shares = tower.taps, VGG_SHARES
        settle(self.body)
        # Whether it holds its weights: a resumed run has them from its checkpoint.
        self.register_buffer("prepared", torch.tensor(False))

    def prepare(self, data: Any, progress: Callable[[int, int], None] | None = None) -> None:
        """Load the weights, or learn them from the training data, unless they are there.

        Raises UserError where a file is missing or holds something else.
        """
        if self.prepared:
            return
        device = self.prepared.device
        if self.which == "own":
            learnt = open_classifier(data, use_labels=False, device=device, progress=progress)
            self.body.load_state_dict(learnt.network.body.state_dict())
        else:
            path = _weights_of(self.which)
            given = {
                name.removeprefix("features."): value
                for name, value in read_tensors(path).items()
                if name.startswith("features.")
            }
            fill(self.body, given, path=path, what=f"{self.which} in torchvision's layout")
            self.body.to(device)
        self.prepared.fill_(True)

    def train(self, mode: bool = True) -> PerceptualNetwork:
        """It stays in eval mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps. What is `own` was learnt of images of at most 64 pixels, and looks at these at their own size."""
        x = images if self.which == "own" else as_imagenet(as_rgb(images))
        return tapped(self.body, x, self.taps)


def perceptual_loss(real: Sequence[Tensor], fake: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Σₖ shareₖ · E|φₖ(x) − φₖ(y)| over the maps φₖ of a network (Wang et al. 2018, sec. 3.3; Johnson et al. 2016, eq. 2).

    real, fake: maps (N, Cₖ, Hₖ, Wₖ) of targets and outputs. Returns a scalar.
    """
    terms = [
        share * F.l1_loss(mine.float(), theirs.float()) for share, mine, theirs in zip(shares, fake, real, strict=True)
    ]
    return torch.stack(terms).sum()


def style_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Σₖ E‖Gₖ(x) − Gₖ(y)‖²_F of Gram matrices (Gatys et al. 2016; Johnson et al. 2016, eq. 4), mean over samples.

    real, fake: maps (N, Cₖ, Hₖ, Wₖ). Where things are makes no difference, which textures there are does.
    """
    terms = [(gram(mine) - gram(theirs)).square().sum((1, 2)).mean() for mine, theirs in zip(fake, real, strict=True)]
    return torch.stack(terms).sum()


def gram(maps: Tensor) -> Tensor:
    """Products of channels, Σ over places φ_c φ_c' / (C·H·W) (Johnson et al. 2016, eq. 3): (N, C, C), float32."""
    # Sums over thousands of places do not fit a half-precision mantissa.
    with torch.autocast(maps.device.type, enabled=False):
        rows = maps.float().flatten(2)
        return rows @ rows.transpose(1, 2) / (rows.shape[1] * rows.shape[2])


def _weights_of(name: str) -> Any:
    tower = TOWERS[name]
    return find_weights(tower.files, purpose=f"the perceptual loss in maps of {name}", url=tower.url)
