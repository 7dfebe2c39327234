"""Progressive growing (Karras et al. 2018): networks that begin with the smallest images and grow a block for each larger size.

At 1024×1024, with width 16 and latent 512, these are the published networks, parameter for parameter. How far they
have grown is the game's to say (`games.growing`); a network that no game grows is full-grown.
"""

from __future__ import annotations

from torch import Tensor, nn

from sparring.nn.condition import Condition, Head, append_label
from sparring.nn.discriminator import Discriminator
from sparring.nn.equalised import EqualisedConv2d
from sparring.nn.layers import doubling, require_positive
from sparring.nn.progressive import Fall, Growth, Synthesis, Verdict, convolution
from sparring.nn.resample import enlarge, ladder, resize


class ProganGenerator(nn.Module):
    """Latent (N, latent) → image (N, *shape), unbounded as in the paper: it learns the range [−1, 1] from the data.

    width: channels at the largest size. max_width: the most channels of any size.
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int, *, width: int = 16, max_width: int = 512
    ) -> None:
        super().__init__()
        require_positive(width=width, max_width=max_width)
        self.sizes = ladder(shape[1], shape[2], rungs=2)
        widths = doubling(width, len(self.sizes), max_width)[::-1]
        self.synthesis = Synthesis(latent, classes, widths, self.sizes)
        self.to_image = nn.ModuleList(EqualisedConv2d(count, shape[0], 1) for count in widths)
        self.growth = Growth(self.sizes)

    def forward(self, latent: Tensor, label: Tensor | None = None, *, grown: bool = True) -> Tensor:
        """Images at the full size, enlarged where the network is smaller; without `grown` at the size in play."""
        level = self.growth.level
        maps = self.synthesis(latent, label, level + 1)
        image = self.to_image[level](maps[level])
        if self.growth.fading:
            coarse = self.to_image[level - 1](maps[level - 1])
            image = self.growth.blend(enlarge(coarse, self.sizes[level]), image)
        return enlarge(image, self.sizes[-1]) if grown else image


class ProganDiscriminator(Discriminator):
    """Image (N, C, H, W) at the size in play → logit (N,). Options as in the generator; larger images are averaged."""

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 16, max_width: int = 512, condition: Condition = "concat",
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, max_width=max_width)
        self.sizes = ladder(shape[1], shape[2], rungs=2)
        widths = doubling(width, len(self.sizes), max_width)[::-1]
        self.growth = Growth(self.sizes)
        inputs = shape[0] + self.label_inputs
        self.from_image = nn.ModuleList(convolution(inputs, count, kernel=1) for count in widths)
        # The fall from each size to the one before it; the last word is spoken of the smallest.
        self.falls = nn.ModuleList(
            Fall(large, large, small, size) for large, small, size in zip(widths[1:], widths, self.sizes, strict=False)
        )
        self.verdict = Verdict(widths[0], widths[0], self.sizes[0])
        self.feature_count = widths[0]
        self.head = Head(self.feature_count, self.label_rows, equalised=True)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        level = self.growth.level
        image = append_label(resize(x, self.sizes[level]), label, self.label_inputs)
        x = self.from_image[level](image)
        for step in range(level, 0, -1):
            x = self.falls[step - 1](x)
            if step == level and self.growth.fading:
                coarse = self.from_image[level - 1](resize(image, self.sizes[level - 1]))
                x = self.growth.blend(coarse, x)
        return self.verdict(x)
