"""Adaptive discriminator augmentation, ADA (Karras et al. 2020a, appendix B): the pipeline.

Every operation is played with probability p, on its own, and in the paper's order; what moves pixels is gathered into one
warp, what changes colours into one matrix. Each is drawn so that it can be undone on average as long as p is below about
0.8, and then does not leak into samples. `core.both_sides.Adaptive` moves p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sparring.core import chance
from sparring.core.both_sides import Adaptive
from sparring.errors import UserError, nearest
from sparring.nn.warp import mirrored, scale_matrix, shift_matrix, turn_matrix, warp

GROUPS = {
    "blit": ("flip", "quarter_turn", "shift"),
    "geometry": ("scale", "rotate", "stretch", "slide"),
    "colour": ("brightness", "contrast", "invert", "hue", "saturation"),
    "filter": ("filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
OPERATIONS = tuple(operation for group in GROUPS.values() for operation in group)

SHIFT, SLIDE = (
    0.125,
    0.125,
)  # of the size: the largest shift by whole pixels, the deviation of the one by parts of pixels
SCALE = 0.2  # deviations of log₂ of factors
CONTRAST, SATURATION, BAND = 0.5, 1.0, 1.0
BRIGHTNESS, NOISE = 0.2, 0.1  # deviations, in units of [−1, 1]
CUTOUT = 0.5  # of the size
BAND_POWER = torch.tensor([10, 1, 1, 1]) / 13  # of natural images, low frequencies first
GREY = torch.full((3,), 3**-0.5)  # the direction of luma among colours


class AdaptiveAugmentation(Adaptive):
    """ADA for images (N, C, H, W) in [−1, 1] of one to four channels; results may leave the range, as in the paper.

    operations: which are played, single ones or groups of `GROUPS`; the default is the paper's choice ("bgc").
    Colours are those of grey or RGB; the alpha channel of two or four is moved, and keeps its values.
    p, target, speed: see `core.both_sides.Adaptive`. Raises UserError for an unknown operation, naming the nearest.
    """

    def __init__(
        self, *, operations: Sequence[str] = ("blit", "geometry", "colour"),
        p: float = 0.0, target: float | None = 0.6, speed: int = 500_000,
    ) -> None:  # fmt: skip
        super().__init__(p=p, target=target, speed=speed)
        self.operations = chosen_operations(operations)

    def forward(self, samples: Tensor) -> Tensor:
        """Changed images, in full precision."""
        if not self.operations:
            return samples
        with torch.autocast(samples.device.type, enabled=False):
            images = samples if samples.dtype == torch.float64 else samples.float()
            play = Draws(self, len(images), images.device)
            height, width = images.shape[2:]
            if self.playing("blit") or self.playing("geometry"):
                images = warp(images, self.place(play, height, width)[:, :2])
            if self.playing("colour"):
                images = recolour(images, self.colour(play))
            if self.playing("filter"):
                images = amplify_bands(images, play)
            if self.playing("noise"):
                strength = (play.normal() * NOISE).abs() * play.mask(1)
                images = images + strength.to(images.dtype)[:, None, None, None] * chance.normal_like(images)
            if self.playing("cutout"):
                images = images * ~(play.box(height, width) & play.mask(1)[:, None, None, None])
        return images

    def playing(self, group: str) -> bool:
        """Whether an operation of this group is."""
        return any(operation in self.operations for operation in GROUPS[group])

    def place(self, play: Draws, height: int, width: int) -> Tensor:
        """From positions of the result to positions of the image, (N, 3, 3): the inverses of all moves, last one innermost."""
        place = torch.eye(3, device=play.device).expand(play.count, 3, 3)

        def then(operation: str, inverse: Tensor, share: float | Tensor = 1.0) -> None:
            nonlocal place
            if operation in self.operations:
                place = place @ play.often(share, inverse)

        ones = torch.ones(play.count, device=play.device)
        zeros = torch.zeros_like(ones)
        if "flip" in self.operations:
            then("flip", scale_matrix(torch.where(play.uniform() < 0.5, -1.0, 1.0), ones))
        if "quarter_turn" in self.operations:
            then("quarter_turn", turn_matrix((play.uniform() * 4).floor() * (math.pi / 2)))
        if "shift" in self.operations:
            x, y = ((play.uniform() * 2 - 1) * SHIFT for _ in range(2))
            then("shift", shift_matrix((x * width).round(), (y * height).round()))
        if "scale" in self.operations:
            factor = torch.exp2(play.normal() * SCALE)
            then("scale", scale_matrix(factor, factor))
        # A turn before the stretch and one after: that any of them is played has probability p.
        half = 1 - (1 - self.probability).clamp(0, 1).sqrt()
        if "rotate" in self.operations:
            then("rotate", turn_matrix((play.uniform() * 2 - 1) * math.pi), half)
        if "stretch" in self.operations:
            factor = torch.exp2(play.normal() * SCALE)
            then("stretch", scale_matrix(factor, 1 / factor))
        if "rotate" in self.operations:
            then("rotate", turn_matrix((play.uniform() * 2 - 1) * math.pi), half)
        if "slide" in self.operations:
            x, y = (play.normal() * SLIDE for _ in range(2))
            then("slide", shift_matrix(x * width + zeros, y * height + zeros))
        return place

    def colour(self, play: Draws) -> Tensor:
        """From colours (r, g, b, 1) to colours, (N, 4, 4)."""
        device = play.device
        colour = torch.eye(4, device=device).expand(play.count, 4, 4)
        grey = GREY.to(device)
        luma = torch.zeros(4, 4, device=device)
        luma[:3, :3] = grey[:, None] * grey
        keep, last = torch.eye(4, device=device), torch.zeros(4, 4, device=device)
        last[3, 3] = 1
        chroma = keep - luma - last

        def then(change: Tensor) -> None:
            nonlocal colour
            colour = play.often(1.0, change) @ colour

        if "brightness" in self.operations:
            offset = torch.zeros(play.count, 4, 4, device=device)
            offset[:, :3, 3] = (play.normal() * BRIGHTNESS)[:, None]
            then(keep + offset)
        if "contrast" in self.operations:
            then(torch.exp2(play.normal() * CONTRAST)[:, None, None] * (keep - last) + last)
        if "invert" in self.operations:
            then(keep - 2 * luma * (play.uniform() < 0.5)[:, None, None])
        if "hue" in self.operations:
            angle = ((play.uniform() * 2 - 1) * math.pi)[:, None, None]
            # Rodrigues' formula, around the direction of grey: what is across to it turns.
            across = torch.zeros(4, 4, device=device)
            across[:3, :3] = torch.linalg.cross(torch.eye(3, device=device), grey.expand(3, 3), dim=1)
            then(luma + last + angle.cos() * chroma + angle.sin() * across)
        if "saturation" in self.operations:
            then(luma + last + torch.exp2(play.normal() * SATURATION)[:, None, None] * chroma)
        return colour


class Draws:
    """The random numbers of one pass, each of N samples."""

    def __init__(self, of: Adaptive, count: int, device: torch.device) -> None:
        self.probability, self.count, self.device = of.probability, count, device

    def uniform(self) -> Tensor:
        """U[0, 1), (N,)."""
        return chance.uniform(self.count, device=self.device)

    def normal(self) -> Tensor:
        """N(0, 1), (N,)."""
        return chance.normal(self.count, device=self.device)

    def mask(self, share: float | Tensor = 1.0) -> Tensor:
        """Which samples an operation is played on, (N,): each with probability p, or the given one."""
        return self.uniform() < (share if isinstance(share, Tensor) else share * self.probability)

    def often(self, share: float | Tensor, matrix: Tensor) -> Tensor:
        """The matrix where it is played and the identity elsewhere, (N, K, K)."""
        keep = torch.eye(matrix.shape[-1], device=self.device)
        return torch.where(self.mask(share)[:, None, None], matrix, keep)

    def box(self, height: int, width: int) -> Tensor:
        """A box around a random point of each image, (N, 1, H, W)."""
        inside = torch.ones((), dtype=torch.bool, device=self.device)
        for size, view in ((width, (1, 1, 1, width)), (height, (1, 1, height, 1))):
            centre = self.uniform()[:, None, None, None]
            places = ((torch.arange(size, device=self.device) + 0.5) / size).view(view)
            inside = inside & ((places - centre).abs() < CUTOUT / 2)
        return inside


def recolour(images: Tensor, colour: Tensor) -> Tensor:
    """Images (N, C, H, W) with their colours mapped by matrices (N, 4, 4); grey is the colour of three equal parts."""
    colour = colour.to(images.dtype)
    channels = images.shape[1]
    inked = 3 if channels >= 3 else 1
    pixels = images[:, :inked].flatten(2)
    matrix, offset = colour[:, :3, :3], colour[:, :3, 3:]
    if inked == 1:
        matrix, offset = matrix.sum(2, keepdim=True).mean(1, keepdim=True), offset.mean(1, keepdim=True)
    changed = (matrix @ pixels + offset).view_as(images[:, :inked])
    return changed if inked == channels else torch.cat([changed, images[:, inked:]], dim=1)


def chosen_operations(names: Sequence[str]) -> frozenset[str]:
    """Single operations and groups of them, as operations. Raises UserError for an unknown one, naming the nearest."""
    known = [*GROUPS, *OPERATIONS]
    for name in names:
        if name not in known:
            raise UserError(
                f"unknown operation {name!r} in loss.augment.operations{nearest(name, known)}; "
                f"there are {', '.join(dict.fromkeys(known))}"
            )
    return frozenset(operation for name in names for operation in GROUPS.get(name, (name,)))


def amplify_bands(images: Tensor, play: Draws) -> Tensor:
    """Each of four octaves of frequencies amplified at random, the expected power kept (appendix B, image-space filtering)."""
    bands = octaves().to(images)
    power = BAND_POWER.to(images.device)
    gains = torch.ones(play.count, len(bands), device=images.device)
    for band in range(len(bands)):
        factor = torch.where(play.mask(), torch.exp2(play.normal() * BAND), 1.0)
        own = torch.ones_like(gains)
        own[:, band] = factor
        gains = gains * own / (power * own.square()).sum(1, keepdim=True).sqrt()
    kernels = gains.to(images.dtype) @ bands
    # Laid out as everything else, or random numbers would fill it in another order.
    return filter_rows(filter_rows(images, kernels).transpose(2, 3), kernels).transpose(2, 3).contiguous()


def filter_rows(images: Tensor, kernels: Tensor) -> Tensor:
    """Each image (N, C, H, W) convolved along its rows with a symmetrical kernel of its own, (N, odd); edges mirrored."""
    count, channels, height, width = images.shape
    reach = kernels.shape[1] // 2
    columns = torch.arange(-reach, width + reach, device=images.device)
    rows = images[..., mirrored(columns, width)].reshape(1, count, channels * height, width + 2 * reach)
    return torch.nn.functional.conv2d(rows, kernels[:, None, None], groups=count).view_as(images)


def octaves() -> Tensor:
    """Four symmetrical filters (4, K), of [0, π/8], [π/8, π/4], [π/4, π/2] and [π/2, π], that add up to the identity.

    From the half-band filter L of the least asymmetric wavelet with two moments: L at rate 1, 2 and 4 halves the band each time.
    """
    root = math.sqrt(3)
    wavelet = torch.tensor([1 + root, 3 + root, 3 - root, 1 - root], dtype=torch.float64) / (4 * math.sqrt(2))
    half = _convolve(wavelet, wavelet.flip(0)) / 2
    low, bands = torch.ones(1, dtype=torch.float64), []
    for rate in (1, 2, 4):
        wide = torch.zeros((len(half) - 1) * rate + 1, dtype=torch.float64)
        wide[::rate] = half
        lower = _convolve(low, wide)
        bands.append(_centred(low, len(lower)) - lower)
        low = lower
    length = len(low)
    return torch.stack([_centred(band, length) for band in (low, *bands[::-1])])


def _convolve(left: Tensor, right: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(left, (len(right) - 1,) * 2)
    return torch.nn.functional.conv1d(padded[None, None], right.flip(0)[None, None])[0, 0]


def _centred(kernel: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(kernel, ((length - len(kernel)) // 2,) * 2)
