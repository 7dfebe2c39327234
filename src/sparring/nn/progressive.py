"""The blocks of progressive growing (Karras et al. 2018, table 2), and how far a growing network has come.

Of every size there is one block in each network. All convolutions have equalised learning rates; the generator's are
followed by pixel norm, the discriminator's by no norm at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.condition import embed
from sparring.nn.equalised import EqualisedConv2d, EqualisedLinear
from sparring.nn.mapping import PixelNorm
from sparring.nn.minibatch import MinibatchStdDev
from sparring.nn.resample import Size, enlarge, resize
from sparring.nn.residual import LEAK

GAIN = math.sqrt(2)  # the authors': He's of a plain ReLU


def convolution(before: int, after: int, kernel: int = 3) -> nn.Sequential:
    """A convolution that keeps the size, and leaky ReLU."""
    return nn.Sequential(EqualisedConv2d(before, after, kernel, gain=GAIN), nn.LeakyReLU(LEAK))


class FirstMaps(nn.Module):
    """Latents (N, latent), labels (N,) or (N, K) → the first maps (N, channels, *size).

    A linear layer with one bias a channel, and a convolution. A label becomes an embedding as long as the latent, and both
    are normalised: a bare one among the numbers of a latent would hardly be heard.
    """

    def __init__(self, latent: int, classes: int, channels: int, size: Size) -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(classes, latent) if classes else None
        inputs = latent * (2 if classes else 1)
        # The authors divide the gain by 4; the pixel norm after it makes up for that, but it learns as much slower.
        self.spread = EqualisedLinear(inputs, channels * size[0] * size[1], bias=False, gain=GAIN / 4)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = PixelNorm()
        self.finish = nn.Sequential(convolution(channels, channels), PixelNorm())

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        code = self.norm(latent)
        if self.embedding is not None:
            code = torch.cat([code, self.norm(embed(self.embedding, label))], dim=1)
        x = self.spread(code).unflatten(1, (-1, *self.size))
        return self.finish(self.norm(F.leaky_relu(x + self.bias[:, None, None], LEAK)))


class Rise(nn.Module):
    """Maps (N, before, …) → (N, after, *size): enlarged, then two convolutions with pixel norm."""

    def __init__(self, before: int, after: int, size: Size) -> None:
        super().__init__()
        self.size = size
        self.body = nn.Sequential(convolution(before, after), PixelNorm(), convolution(after, after), PixelNorm())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(enlarge(x, self.size))


class Fall(nn.Module):
    """Maps (N, inputs, …) → (N, after, *size): two convolutions, the first to `before` channels, then averaged."""

    def __init__(self, inputs: int, before: int, after: int, size: Size) -> None:
        super().__init__()
        self.size = size
        self.body = nn.Sequential(convolution(inputs, before), convolution(before, after))

    def forward(self, x: Tensor) -> Tensor:
        return resize(self.body(x), self.size)


class Verdict(nn.Module):
    """The last maps (N, inputs, *size) → features (N, channels): a convolution, and a linear layer over all positions.

    Before it the planes of the minibatch's deviation join the maps.
    """

    def __init__(self, inputs: int, channels: int, size: Size) -> None:
        super().__init__()
        self.deviation = MinibatchStdDev()
        self.body = convolution(inputs + 1, channels)
        self.gather = EqualisedLinear(channels * size[0] * size[1], channels, gain=GAIN)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.gather(self.body(self.deviation(x)).flatten(1)), LEAK)


class Synthesis(nn.ModuleList):
    """Latents and labels → maps of each size, coarse to fine: `FirstMaps`, and a `Rise` to each further size."""

    def __init__(self, latent: int, classes: int, widths: Sequence[int], sizes: Sequence[Size]) -> None:
        rises = [Rise(*each) for each in zip(widths, widths[1:], sizes[1:], strict=False)]
        super().__init__([FirstMaps(latent, classes, widths[0], sizes[0]), *rises])

    def forward(self, latent: Tensor, label: Tensor | None, levels: int) -> list[Tensor]:
        """The maps of the first so many sizes."""
        first, *rises = list(self)[:levels]
        maps = [first(latent, label)]
        for rise in rises:
            maps.append(rise(maps[-1]))
        return maps


class Growth(nn.Module):
    """How far a network that grows through `sizes` has come, and what that means for images.

    progress: 0 is the first size alone, 1 the second one; at 1.3 the third size fades in and has a weight of 0.3. A
        persistent buffer, so that whatever the weights go into knows it too. A network begins full-grown.
    level: the largest size in play, a position in `sizes`. fading: whether it has less than its full weight.
    """

    progress: Tensor

    def __init__(self, sizes: Sequence[Size]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.register_buffer("progress", torch.zeros(()))
        self.move_to(len(self.sizes) - 1)

    def move_to(self, progress: float) -> None:
        """Grow, or shrink, to here."""
        self.progress.fill_(progress)
        # As the buffer has it: what it says is 1 must not be called fading.
        self._read(float(np.float32(progress)))

    def blend(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """The fading size and the one before it, both at the same size, by their weights."""
        # Computed from the buffer: a number of Python's would be compiled anew for each of its values.
        weight = (self.progress - (self.level - 1)).to(fine.dtype)
        return coarse + weight * (fine - coarse)

    def shown(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) at the size in play; a fading size shows as much of its detail as it has weight (appendix A)."""
        fine = resize(images, self.sizes[self.level])
        if not self.fading:
            return fine
        return self.blend(enlarge(resize(images, self.sizes[self.level - 1]), self.sizes[self.level]), fine)

    def _read(self, progress: float) -> None:
        self.level = math.ceil(progress)
        self.fading = self.level != progress

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        # Here and not in the forward pass, which would make the device wait for its own answer.
        self._read(self.progress.item())
