"""The Inception network that FID and the Inception Score are defined by.

It is Inception-v3 (Szegedy et al. 2016, "Rethinking the Inception Architecture") as Google released its weights on
2015-12-05, which Heusel et al. 2017 measured with. The file that the field reads in PyTorch,
`pt_inception-2015-12-05-6726825d.pth`, names its tensors as the classes below do. That release departs from the paper
in ways that move the figure: average pools leave the padding out of the mean, the pool of the very last block takes
the maximum, the classifier knows 1008 classes, and images are stretched to 299×299 without antialiasing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.imaging.features.network import NetworkFeatures
from sparring.metrics.weights import digest_tensors, fill, find_weights, read_tensors

FILE = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
FILES = (FILE, FILE.replace("pt_", "weights-"))  # the same bytes, as torch-fidelity names them
CLASSES, WIDTH, SIZE = 1008, 2048, 299


def open_inception(
    path: Path | None = None, *, device: torch.device | str | None = None, download: bool = False, batch: int = 32
) -> NetworkFeatures:
    """The space that FID is measured in: `features` (N, 2048) after the last pool, `logits` (N, 1008) for the IS.

    path: the file of weights; None looks where weights are looked for.
    Raises Unavailable where there is none, UserError where it holds something else.
    """
    path = path or find_weights(FILES, purpose="inception", url=URL, download=download)
    tensors = read_tensors(path)
    with torch.device("meta"):
        network = FidInception()
    fill(network, tensors, path=path, what="the FID Inception network")
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU

    def embed(images: Tensor) -> dict[str, Tensor]:
        return network(2 * stretch(images) - 1)

    return NetworkFeatures(
        network,
        embed,
        name=f"inception ({path.stem}, {WIDTH})",
        digest=f"inception-1-{digest_tensors(tensors)}",
        resizer=f"bilinear, not antialiased, to {SIZE}×{SIZE}",
        batch=batch,
        device=device,
    )


def stretch(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) of any proportions at 299×299: the reference's resizer, whose aliasing is part of FID."""
    if tuple(images.shape[2:]) == (SIZE, SIZE):
        return images
    return F.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=False)


class FidInception(nn.Module):
    """Inception-v3 with the peculiarities of the 2015-12-05 release; images (N, 3, 299, 299) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = Square(192, pool_width=32)
        self.Mixed_5c = Square(256, pool_width=64)
        self.Mixed_5d = Square(288, pool_width=64)
        self.Mixed_6a = ShrinkTo17(288)
        self.Mixed_6b = Factorised(768, width=128)
        self.Mixed_6c = Factorised(768, width=160)
        self.Mixed_6d = Factorised(768, width=160)
        self.Mixed_6e = Factorised(768, width=192)
        self.Mixed_7a = ShrinkTo8(768)
        self.Mixed_7b = Expanded(1280, pool=average)
        # The release takes the maximum here where the paper has a mean; every published FID includes it.
        self.Mixed_7c = Expanded(2048, pool=partial(F.max_pool2d, kernel_size=3, stride=1, padding=1))
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`features` (N, 2048): the spatial mean of the last block. `logits` (N, 1008), without the bias, as the IS has them."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # 288 × 35 × 35
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # 768 × 17 × 17
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # 2048 × 8 × 8
        features = x.mean((2, 3))
        return {"features": features, "logits": features @ self.fc.weight.T}


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → (N, width, H′, W′)."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


def average(x: Tensor) -> Tensor:
    """The 3×3 mean at every place, over what lies inside the image."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def chain(x: Tensor, *convolutions: nn.Module) -> Tensor:
    """One after the other."""
    for convolution in convolutions:
        x = convolution(x)
    return x


class Square(nn.Module):
    """The 35×35 block (Szegedy et al. 2016, figure 5), with one 5×5 kept whole."""

    def __init__(self, channels: int, *, pool_width: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(channels, 64, 1)
        self.branch5x5_1 = Conv(channels, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(channels, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(channels, pool_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → (N, 224 + pool_width, H, W)."""
        five = chain(x, self.branch5x5_1, self.branch5x5_2)
        double = chain(x, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3)
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(average(x))], 1)


class ShrinkTo17(nn.Module):
    """35×35 to 17×17 (figure 10)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(channels, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, 35, 35) → (N, channels + 480, 17, 17)."""
        double = chain(x, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3)
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class Factorised(nn.Module):
    """The 17×17 block: 7×7 convolutions as 1×7 and 7×1 (figure 6)."""

    def __init__(self, channels: int, *, width: int) -> None:
        super().__init__()
        wide, tall = partial(Conv, kernel=(1, 7), padding=(0, 3)), partial(Conv, kernel=(7, 1), padding=(3, 0))
        self.branch1x1 = Conv(channels, 192, 1)
        self.branch7x7_1 = Conv(channels, width, 1)
        self.branch7x7_2 = wide(width, width)
        self.branch7x7_3 = tall(width, 192)
        self.branch7x7dbl_1 = Conv(channels, width, 1)
        self.branch7x7dbl_2 = tall(width, width)
        self.branch7x7dbl_3 = wide(width, width)
        self.branch7x7dbl_4 = tall(width, width)
        self.branch7x7dbl_5 = wide(width, 192)
        self.branch_pool = Conv(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → (N, 768, H, W)."""
        seven = chain(x, self.branch7x7_1, self.branch7x7_2, self.branch7x7_3)
        double = chain(
            x, self.branch7x7dbl_1, self.branch7x7dbl_2, self.branch7x7dbl_3, self.branch7x7dbl_4, self.branch7x7dbl_5
        )
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average(x))], 1)


class ShrinkTo8(nn.Module):
    """17×17 to 8×8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(channels, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(channels, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, 17, 17) → (N, channels + 512, 8, 8)."""
        three = chain(x, self.branch3x3_1, self.branch3x3_2)
        seven = chain(x, self.branch7x7x3_1, self.branch7x7x3_2, self.branch7x7x3_3, self.branch7x7x3_4)
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], 1)


class Expanded(nn.Module):
    """The 8×8 block, whose filter banks spread out (figure 7). pool: what the last branch pools with, 3×3."""

    def __init__(self, channels: int, *, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        wide, tall = partial(Conv, kernel=(1, 3), padding=(0, 1)), partial(Conv, kernel=(3, 1), padding=(1, 0))
        self.pool = pool
        self.branch1x1 = Conv(channels, 320, 1)
        self.branch3x3_1 = Conv(channels, 384, 1)
        self.branch3x3_2a = wide(384, 384)
        self.branch3x3_2b = tall(384, 384)
        self.branch3x3dbl_1 = Conv(channels, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = wide(384, 384)
        self.branch3x3dbl_3b = tall(384, 384)
        self.branch_pool = Conv(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → (N, 2048, H, W)."""
        three = self.branch3x3_1(x)
        double = chain(x, self.branch3x3dbl_1, self.branch3x3dbl_2)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(three),
                self.branch3x3_2b(three),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(self.pool(x)),
            ],
            1,
        )
