"""StyleGAN3, the alias-free generator (Karras et al. 2021); its discriminator is StyleGAN2's.

What the network shows moves and turns with its input, as if it painted a continuous surface: configuration T for
translations, R for rotations as well.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core import processes
from sparring.errors import UserError
from sparring.nn.alias_free import FilteredLeakyReLU, FourierFeatures, Signal
from sparring.nn.equalised import EqualisedLinear
from sparring.nn.layers import require_positive
from sparring.nn.mapping import MappingNetwork
from sparring.nn.modulated import NoiseKind, modulated

Equivariance = Literal["translation", "rotation"]

FIRST_CUTOFF, FIRST_STOP = 2.0, 2.0**2.1  # cycles per image; fixed for all sizes (appendix C.1)
LAST_STOP = 2.0**0.3  # of the image's own bandwidth
OUTPUT_SCALE = 0.25  # images have about this deviation where maps have 1


class Stylegan3Generator(nn.Module):
    """Latent (N, latent) → image (N, *shape), unbounded as in the paper: it learns the range [−1, 1] from the data.

    equivariance: `translation` has 3×3 convolutions (configuration T), `rotation` 1×1 ones and filters that are alike in
        all directions (configuration R; the paper doubles its channels).
    width: channels of layers that keep all frequencies of the image; those that keep half as many have twice as many
        channels, at most `max_width`; none: 8 × width.
    code: numbers in a code. mapping: fully connected layers from latent to code.
    convolutions: how many; the last `critical` of them work at the image's whole bandwidth.
    margin: samples that maps have beyond each border. half_life: images after which half of a layer's measured
        magnitude is forgotten.

    For steering: `mapping(latent, label)` → (N, code); `synthesis(codes (N, layers, code), noise, transform)` → image;
    `mean_code`. Raises UserError for numbers that make no network.
    """

    movable = True  # `synthesis` takes a transform

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int,
        *, equivariance: Equivariance = "translation", width: int = 128, max_width: int | None = 512,
        code: int = 512, mapping: int = 2, convolutions: int = 14, critical: int = 2, margin: int = 10, half_life: int = 20000,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, max_width=max_width, code=code, mapping=mapping, half_life=half_life)
        self.mapping = MappingNetwork(latent, classes, code, layers=mapping)
        self.synthesis = AliasFreeSynthesis(
            shape, code, equivariance=equivariance, width=width, max_width=max_width,
            convolutions=convolutions, critical=critical, margin=margin, half_life=half_life,
        )  # fmt: skip
        self.layers = self.synthesis.layers

    @property
    def mean_code(self) -> Tensor:
        """Where codes lie on average, (code,)."""
        return self.mapping.mean_code

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        codes = self.mapping(latent, label)[:, None].expand(-1, self.layers, -1)
        return self.synthesis(codes)


class AliasFreeSynthesis(nn.Module):
    """Codes (N, layers, code) → image (N, *shape). layers: one for the input, one for each convolution, one for the image."""

    def __init__(
        self, shape: tuple[int, int, int], code: int, *, equivariance: Equivariance,
        width: int, max_width: int | None, convolutions: int, critical: int, margin: int, half_life: int,
    ) -> None:  # fmt: skip
        super().__init__()
        signals = schedule((shape[1], shape[2]), convolutions=convolutions, critical=critical, margin=margin)
        limit = 8 * width if max_width is None else max_width
        widths = [round(min(width * signals[-1].cutoff / signal.cutoff, limit)) for signal in signals]
        turns = equivariance == "rotation"

        self.layers = convolutions + 2
        self.input = FourierFeatures(code, widths[0], signals[0])
        self.convolutions = nn.ModuleList(
            AliasFreeConv(
                widths[max(index - 1, 0)], widths[index], code, signals[max(index - 1, 0)], signals[index],
                kernel=1 if turns else 3, radial=turns and index < convolutions - critical, half_life=half_life,
            )
            for index in range(convolutions)
        )  # fmt: skip
        self.to_image = AliasFreeConv(
            widths[-2], shape[0], code, *signals[-2:], kernel=1, bent=False, half_life=half_life
        )

    def forward(self, codes: Tensor, noise: NoiseKind = "constant", transform: Tensor | None = None) -> Tensor:
        """noise: there is none, and the word changes nothing. transform: (2, 3) or (N, 2, 3), as `FourierFeatures` takes it."""
        first, *others, last = codes.unbind(dim=1)
        x = self.input(first, transform)
        for convolution, code in zip(self.convolutions, others, strict=True):
            x = convolution(x, code)
        return self.to_image(x, last) * OUTPUT_SCALE


class AliasFreeConv(nn.Module):
    """Maps (N, inputs, *before.size), codes (N, code) → (N, outputs, *after.size): modulated convolution, filtered leaky ReLU.

    What comes in is divided by its usual magnitude, which a moving average over the images seen in training knows
    (Karras et al. 2021, appendix D.1): so no layer depends on the scale of the ones before, and the code alone decides.
    bent: False for the last layer, which makes an image of maps: neither demodulated nor bent.
    """

    power: Tensor

    def __init__(
        self, inputs: int, outputs: int, code: int, before: Signal, after: Signal,
        *, kernel: int, radial: bool = False, bent: bool = True, half_life: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.bent, self.half_life = bent, half_life
        self.style = EqualisedLinear(code, inputs, start=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.activate = FilteredLeakyReLU(before, after, context=kernel - 1, bent=bent, radial=radial)
        # The convolution reaches beyond the border, and `activate` cuts off what that has spoilt.
        self.convolve = partial(F.conv2d, padding=kernel - 1)
        # The mean square of what comes in.
        self.register_buffer("power", torch.ones(()))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        if self.training:
            self.follow(x.detach())
        # The demodulated convolution forgets the weight's scale; this one keeps half precision in range.
        weight = self.weight / math.sqrt(self.weight[0].numel())
        y = modulated(x, weight, self.style(code), self.convolve, demodulate=self.bent)
        return self.activate(torch.addcmul(self.bias.to(y.dtype)[:, None, None], y, self.power.rsqrt().to(y.dtype)))

    @torch.no_grad()
    def follow(self, x: Tensor) -> None:
        """Move the mean square towards that of these maps, of all processes, by how many there are."""
        group = processes.current()
        images = len(x) * (group.world if group else 1)
        power = processes.mean(x.float().square().mean())
        self.power.lerp_(power.to(self.power.dtype), 1 - 0.5 ** (images / self.half_life))


def schedule(size: tuple[int, int], *, convolutions: int, critical: int, margin: int) -> list[Signal]:
    """The signal after the input, and after each convolution and the last layer: convolutions + 1, of an image of `size`.

    Cutoffs and stopbands rise in geometric progression up to the last `critical` layers (Karras et al. 2021, appendix
    C.1). The unit is the image's longer side; rates are the image's own, divided by a power of two. The signals of one
    layer's output and of the next one's input are the same, so the first convolution keeps the input's.
    """
    if not 1 <= critical < convolutions:
        raise UserError(f"critical is at least 1 and below convolutions ({convolutions}), not {critical}")
    if margin < 0:
        raise UserError(f"margin is at least 0, not {margin}")
    resolution = max(size)
    if min(size) < 4:
        raise UserError(f"images of {size[0]}×{size[1]} pixels are too small: a network needs at least 4 a side")
    last_cutoff = resolution / 2
    signals = []
    for index in range(convolutions + 1):
        progress = min(index / (convolutions - critical), 1)
        cutoff = FIRST_CUTOFF * (last_cutoff / FIRST_CUTOFF) ** progress
        stop = FIRST_STOP * (last_cutoff * LAST_STOP / FIRST_STOP) ** progress
        halvings = math.floor(math.log2(resolution / min(2 * stop, resolution)))
        rate = resolution / 2**halvings
        # The last two layers see no more than the image: what is beyond would be cut off behind them.
        around = 0 if index >= convolutions - 1 else 2 * margin
        rows, columns = (-(-side // 2**halvings) + around for side in size)
        signals.append(Signal((rows, columns), rate, cutoff, max(stop, rate / 2) - cutoff))
    return signals
