"""EfficientNet-Lite0 (Tan & Le 2019; the Lite variants without squeeze-and-excitation): maps of an image at four sizes.

Tensors are named as in the files that timm publishes of `tf_efficientnet_lite0`, so these load as they are. The weights
come from TensorFlow, and with them its padding, which puts the odd pixel behind, and its ε of batch norm.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FILES = ("tf_efficientnet_lite0.safetensors", "tf_efficientnet_lite0-0aa007d2.pth")
URL = "https://huggingface.co/timm/tf_efficientnet_lite0.in1k/resolve/main/model.safetensors"
STEM, HEAD, CLASSES = 32, 1280, 1000
# (repeats, kernel, stride, expansion, channels) of each stage.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
TAPS = (1, 2, 4, 6)  # the last stage of each size from a quarter of the image on


class EfficientNetLite0(nn.Module):
    """RGB images (N, 3, H, W) in [−1, 1] → logits (N, 1000); `maps` are what lies on the way. 4.65 M parameters."""

    channels = tuple(STAGES[tap][4] for tap in TAPS)
    strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, STEM, 3, 2)
        self.bn1 = norm(STEM)
        widths = [STEM, *(stage[4] for stage in STAGES)]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    *(
                        block(before if first else after, after, kernel, stride if first else 1, expansion)
                        for first in (number == 0 for number in range(repeats))
                    )
                )
                for (before, after), (repeats, kernel, stride, expansion, _) in zip(
                    pairwise(widths), STAGES, strict=True
                )
            )
        )
        self.conv_head = nn.Conv2d(widths[-1], HEAD, 1, bias=False)
        self.bn2 = norm(HEAD)
        self.classifier = nn.Linear(HEAD, CLASSES)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Maps (N, channels, H / stride, W / stride), sizes rounded up, of each of `strides`."""
        x, found = F.relu6(self.bn1(self.conv_stem(images))), []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in TAPS:
                found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(self.bn2(self.conv_head(self.maps(images)[-1])))
        return self.classifier(x.mean((2, 3)))


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow does: ⌈size / stride⌉ positions, the odd pixel of padding behind."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        extra = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:]]
        (top, bottom), (left, right) = ((each // 2, each - each // 2) for each in extra)
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, None, self.stride, (top, left), 1, self.groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, None, self.stride, 0, 1, self.groups)


class Separable(nn.Module):
    """A depthwise convolution and a 1×1 convolution; each with batch norm, the first with ReLU6."""

    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(before, before, kernel, stride, groups=before)
        self.bn1 = norm(before)
        self.conv_pw = nn.Conv2d(before, after, 1, bias=False)
        self.bn2 = norm(after)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))


class Inverted(nn.Module):
    """1×1 expand, depthwise, 1×1 project (Sandler et al. 2018), and a shortcut where the shape stays."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = before * expansion
        self.shortcut = stride == 1 and before == after
        self.conv_pw = nn.Conv2d(before, hidden, 1, bias=False)
        self.bn1 = norm(hidden)
        self.conv_dw = SameConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self.bn2 = norm(hidden)
        self.conv_pwl = nn.Conv2d(hidden, after, 1, bias=False)
        self.bn3 = norm(after)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv_pw(x)))
        y = F.relu6(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.shortcut else y


def block(before: int, after: int, kernel: int, stride: int, expansion: int) -> nn.Module:
    """The kind of block that an expansion asks for."""
    return (
        Separable(before, after, kernel, stride)
        if expansion == 1
        else Inverted(before, after, kernel, stride, expansion)
    )


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with TensorFlow's ε."""
    return nn.BatchNorm2d(channels, eps=1e-3)


def as_rgb(images: Tensor) -> Tensor:
    """Images of one to four channels in [−1, 1] as RGB (N, 3, H, W); alpha is laid over mid-grey. Differentiable."""
    if images.shape[1] in (2, 4):
        images = images[:, :-1] * ((images[:, -1:] + 1) / 2)
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


@torch.no_grad()
def draw_randomly(network: nn.Module) -> None:
    """Fill a frozen network with random weights that keep the variance (He et al. 2015); norms as at their start."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            layer.reset_parameters()
