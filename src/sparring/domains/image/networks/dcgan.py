"""Strided convolutions: DCGAN (Radford et al. 2016), for every size.

At 64×64 with width 64 these are the published networks, parameter for parameter. Channels double with each halving
of the image; images too small for two halvings to 4×4 start from a smaller base.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from sparring.nn.condition import Condition, Head, append_label
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import Dropout, Norm, doubling, norm_layer, require_dropout, require_positive
from sparring.nn.resample import fold, folded, ladder, rung_kernel, unfold
from sparring.nn.strided import StridedConv2d, StridedConvTranspose2d


class DcganGenerator(nn.Module):
    """Latent (N, latent) → image (N, *shape) in [−1, 1].

    width: channels of the last hidden stage. max_width: the most channels of any stage; none: 8 × width.
    norm: after each stage but the last; without one the convolutions have biases.
    patch: the last layer writes so many pixels a side from each position, so that the largest and dearest stage is
    left out; 1 is DCGAN's.
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int,
        *, width: int = 64, max_width: int | None = None, norm: Norm = "batch", patch: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, max_width=max_width, patch=patch)
        self.classes = classes
        self.size, self.patch = (shape[1], shape[2]), patch
        sizes = ladder(*folded(self.size, patch), rungs=3)
        bias = norm == "none"
        widths = doubling(width, len(sizes) - 1, max_width)[::-1]

        layers: list[nn.Module] = [nn.ConvTranspose2d(latent + classes, widths[0], sizes[0], bias=bias)]
        for (before, after), (small, large) in zip(
            pairwise([*widths, shape[0] * patch**2]), pairwise(sizes), strict=True
        ):
            layers += [norm_layer(norm, before), nn.ReLU()]
            layers.append(StridedConvTranspose2d(before, after, *rung_kernel(small, large), bias=bias))
        self.body = nn.Sequential(*layers, nn.Tanh())

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.body(append_label(latent, label, self.classes)[:, :, None, None])
        return unfold(x, self.patch, self.size)


class DcganDiscriminator(Discriminator):
    """Image (N, *shape) → logit (N,). The features are the last stage's maps, flattened.

    width: channels of the first stage. max_width: the most channels of any stage; none: 8 × width.
    norm: after each stage but the first; without one the convolutions have biases.
    patch: the first layer takes squares of so many pixels a side as one position with patch² times the channels.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 64, max_width: int | None = None, norm: Norm = "batch",
        patch: int = 1, condition: Condition = "concat", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, max_width=max_width, patch=patch)
        require_dropout(dropout)
        self.patch = patch
        sizes = ladder(*folded((shape[1], shape[2]), patch), rungs=3)[::-1]
        bias = norm == "none"
        widths = doubling(width, len(sizes) - 1, max_width)

        layers: list[nn.Module] = []
        channels = [(shape[0] + self.label_inputs) * patch**2, *widths]
        for (before, after), (large, small) in zip(pairwise(channels), pairwise(sizes), strict=True):
            layers.append(StridedConv2d(before, after, *rung_kernel(small, large), bias=bias))
            if len(layers) > 1:
                layers.append(norm_layer(norm, after))
            layers.append(nn.LeakyReLU(0.2))
            if dropout:
                layers.append(Dropout(dropout))
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.feature_count = widths[-1] * sizes[-1][0] * sizes[-1][1]
        self.head = Head(self.feature_count, self.label_rows, bias=bias)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.body(fold(append_label(x, label, self.label_inputs), self.patch))
