"""The generator of CycleGAN (Zhu et al. 2017, sec. 7.1; after Johnson et al. 2016): down, residual blocks, up."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from sparring.errors import UserError
from sparring.nn.layers import Dropout, Norm, norm_layer, require_dropout, require_positive


class ResnetGenerator(nn.Module):
    """Inputs (N, S, H, W) → images (N, C, H, W) in [-1, 1]; H and W are multiples of `stride`.

    width: channels at full size. blocks: residual blocks, 9 for 256 pixels and 6 for 128 in the paper. down: halvings
    before them. dropout: inside the blocks, in training.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 64, blocks: int = 9, down: int = 2, norm: Norm = "instance", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width)
        if blocks < 0:
            raise UserError(f"blocks must be 0 or more, not {blocks}")
        require_dropout(dropout)
        self.stride = 2**down
        widths = [width * 2**level for level in range(down + 1)]
        bare = needs_bias(norm)
        layers: list[nn.Module] = [
            nn.Conv2d(source, width, 7, padding=3, padding_mode="reflect", bias=bare),
            norm_layer(norm, width),
            nn.ReLU(),
        ]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=bare), norm_layer(norm, after), nn.ReLU()]
        self.encoder = nn.Sequential(*layers)
        self.blocks = nn.Sequential(*(MirrorBlock(widths[-1], norm, dropout) for _ in range(blocks)))
        layers = []
        for before, after in zip(widths[:0:-1], widths[-2::-1], strict=True):
            convolution = nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1, bias=bare)
            layers += [convolution, norm_layer(norm, after), nn.ReLU()]
        self.decoder = nn.Sequential(
            *layers, nn.Conv2d(width, shape[0], 7, padding=3, padding_mode="reflect"), nn.Tanh()
        )

    def forward(self, source: Tensor) -> Tensor:
        picture: Tensor = self.picture(self.maps(source))
        return picture

    def maps(self, source: Tensor) -> Tensor:
        """What the picture is made from, (N, width, H, W)."""
        maps: Tensor = self.decoder[:-2](self.blocks(self.encoder(source)))
        return maps

    def picture(self, maps: Tensor) -> Tensor:
        """The last layer."""
        picture: Tensor = self.decoder[-2:](maps)
        return picture


class MirrorBlock(nn.Module):
    """x + two 3×3 convolutions with mirrored borders, each followed by its norm, a ReLU between them."""

    def __init__(self, channels: int, norm: Norm, dropout: float = 0.0) -> None:
        super().__init__()
        bare = needs_bias(norm)
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=bare), norm_layer(norm, channels), nn.ReLU(),
            *([Dropout(dropout)] if dropout else []),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=bare), norm_layer(norm, channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def needs_bias(norm: Norm) -> bool:
    """Whether a bias before this norm does anything: one that takes away the mean of each channel takes it away too."""
    return norm in ("none", "layer", "group")
