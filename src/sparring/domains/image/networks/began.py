"""Plain convolutions between a code and an image: BEGAN (Berthelot et al. 2017, section 3.5), for every size.

No normalisation, no transposed convolutions: a size is two 3×3 convolutions with ELU, sizes differ by nearest-neighbour
upsampling or by a convolution of stride 2, and the smallest has 8 to 15 pixels a side.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.nn.condition import append_label
from sparring.nn.layers import require_positive
from sparring.nn.resample import Size, ladder

SMALLEST = 8


class BeganGenerator(nn.Module):
    """Latent (N, latent) → image (N, *shape), unbounded as in the paper; also the discriminator's decoder.

    width: channels of every convolution. layers: convolutions at each size.
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int, *, width: int = 64, layers: int = 2
    ) -> None:
        super().__init__()
        require_positive(width=width, layers=layers)
        self.classes, self.width = classes, width
        self.sizes = ladder(shape[1], shape[2], SMALLEST)
        self.project = nn.Linear(latent + classes, width * self.sizes[0][0] * self.sizes[0][1])
        self.stages = nn.ModuleList(convolutions([width] * (layers + 1)) for _ in self.sizes)
        self.to_image = nn.Conv2d(width, shape[0], 3, padding=1)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.project(append_label(latent, label, self.classes)).unflatten(1, (self.width, *self.sizes[0]))
        for size, stage in zip(self.sizes, self.stages, strict=True):
            x = stage(enlarge(x, size))
        return self.to_image(x)


class BeganEncoder(nn.Module):
    """Image (N, *shape) → code (N, code). Channels grow by `width` with each halving."""

    def __init__(
        self, shape: tuple[int, int, int], code: int, classes: int, *, width: int = 64, layers: int = 2
    ) -> None:
        super().__init__()
        require_positive(width=width, layers=layers)
        self.classes = classes
        sizes = ladder(shape[1], shape[2], SMALLEST)[::-1]
        widths = [width * (stage + 1) for stage in range(len(sizes))]
        stages: list[nn.Module] = [nn.Conv2d(shape[0] + classes, width, 3, padding=1), nn.ELU()]
        stages += [convolutions([width] * (layers + 1))]
        for before, after, size, smaller in zip(widths, widths[1:], sizes, sizes[1:], strict=False):
            stages += [halve(before, after, size, smaller), nn.ELU(), convolutions([after] * layers)]
        self.stages = nn.Sequential(*stages, nn.Flatten())
        self.project = nn.Linear(widths[-1] * sizes[-1][0] * sizes[-1][1], code)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.project(self.stages(append_label(x, label, self.classes)))


def convolutions(channels: list[int]) -> nn.Sequential:
    """A 3×3 convolution with ELU from each channel count to the next."""
    pairs = [(nn.Conv2d(before, after, 3, padding=1), nn.ELU()) for before, after in pairwise(channels)]
    return nn.Sequential(*(layer for pair in pairs for layer in pair))


def halve(before: int, after: int, size: Size, smaller: Size) -> nn.Conv2d:
    """A 3×3 convolution whose stride is 2 along each side that gets smaller."""
    stride = (1 if size[0] == smaller[0] else 2, 1 if size[1] == smaller[1] else 2)
    return nn.Conv2d(before, after, 3, stride, padding=1)


def enlarge(x: Tensor, size: Size) -> Tensor:
    """Maps at a larger size, each position repeated."""
    return x if tuple(x.shape[-2:]) == tuple(size) else F.interpolate(x, size=size, mode="nearest")
