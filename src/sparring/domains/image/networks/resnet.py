"""Residual networks without any normalisation: the modern baseline of R3GAN (Huang et al. 2024, arXiv 2501.05441).

The two networks mirror each other. They initialise themselves, because a network without norms depends on it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.nn.basis import DiscriminativeBasis, GenerativeBasis
from sparring.nn.condition import Condition, Head, append_label, embed
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import Dropout, doubling, require_dropout, require_positive
from sparring.nn.resample import Size, fold, folded, ladder, resize, unfold
from sparring.nn.residual import InvertedResidual, he_normal_


class ResnetGenerator(nn.Module):
    """Latent (N, latent) → image (N, *shape), unbounded as in the paper: it learns the range [−1, 1] from the data.

    A label becomes an embedding as long as the latent, beside it.
    width: channels at the largest stage. max_width: the most channels of any stage; none: 8 × width.
    blocks: residual blocks a stage. group_size: channels per group of the 3×3 convolutions, 16 as in the paper; 0: one
    group, which a CPU takes three times as long for at width 64.
    patch: the last layer writes so many pixels a side from each position, so that no stage works at the image's full
    size, which costs as much as all others together; 1 is the paper's. None: 2 for images of more than 16 pixels on both sides.
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int,
        *, width: int = 64, max_width: int | None = None, blocks: int = 2, group_size: int = 16, patch: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, max_width=max_width, blocks=blocks, patch=patch)
        self.size = (shape[1], shape[2])
        self.patch = patch or usual_patch(self.size)
        sizes = ladder(*folded(self.size, self.patch))
        widths = doubling(width, len(sizes), max_width)[::-1]
        depth = blocks * len(sizes)

        self.embedding = nn.Embedding(classes, latent) if classes else None
        self.basis = GenerativeBasis(latent * (2 if classes else 1), widths[0], sizes[0])
        stages: list[nn.Module] = []
        for before, after, size in zip([widths[0], *widths], widths, sizes, strict=False):
            stages += [match_channels(before, after), Resize(size)]
            stages += [InvertedResidual(after, depth=depth, group_size=group_size) for _ in range(blocks)]
        self.stages = nn.Sequential(*stages)
        self.to_image = nn.Conv2d(widths[-1], shape[0] * self.patch**2, 1)
        self.initialize_own()

    def initialize_own(self) -> None:
        """Keep the variance from layer to layer. A recipe's initialiser leaves modules with this method alone."""
        initialize_without_norms(self)
        if self.embedding is not None:
            # As large as the latent beside it.
            nn.init.normal_(self.embedding.weight)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            latent = torch.cat([latent, embed(self.embedding, label)], dim=1)
        return unfold(self.to_image(self.stages(self.basis(latent))), self.patch, self.size)


class ResnetDiscriminator(Discriminator):
    """Image (N, *shape) → logit (N,). The features are the last basis layer's, before the linear one.

    Options as in the generator; dropout acts on the features.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 64, max_width: int | None = None, blocks: int = 2, group_size: int = 16, patch: int | None = None,
        condition: Condition = "projection", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, max_width=max_width, blocks=blocks, patch=patch)
        require_dropout(dropout)
        self.patch = patch or usual_patch((shape[1], shape[2]))
        sizes = ladder(*folded((shape[1], shape[2]), self.patch))[::-1]
        widths = doubling(width, len(sizes), max_width)
        depth = blocks * len(sizes)

        self.from_image = nn.Conv2d((shape[0] + self.label_inputs) * self.patch**2, widths[0], 1)
        stages: list[nn.Module] = []
        for before, after, size in zip(widths, [*widths[1:], widths[-1]], [*sizes[1:], sizes[-1]], strict=True):
            stages += [InvertedResidual(before, depth=depth, group_size=group_size) for _ in range(blocks)]
            stages += [Resize(size), match_channels(before, after)]
        self.stages = nn.Sequential(*stages)
        self.basis = DiscriminativeBasis(widths[-1], sizes[-1])
        self.dropout = Dropout(dropout)
        self.feature_count = widths[-1]
        self.head = Head(self.feature_count, self.label_rows)
        self.initialize_own()

    def initialize_own(self) -> None:
        """Keep the variance from layer to layer. A recipe's initialiser leaves modules with this method alone."""
        initialize_without_norms(self)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.from_image(fold(append_label(x, label, self.label_inputs), self.patch))
        return self.dropout(self.basis(self.stages(x)))


def usual_patch(size: Size) -> int:
    """2 for images of more than 16 pixels on both sides, otherwise 1."""
    return 2 if min(size) > 16 else 1


class Resize(nn.Module):
    """Maps at another size."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return resize(x, self.size)


def match_channels(before: int, after: int) -> nn.Module:
    """A 1×1 convolution where the channel counts differ, nothing where they agree."""
    return nn.Identity() if before == after else nn.Conv2d(before, after, 1, bias=False)


def initialize_without_norms(network: nn.Module) -> None:
    """Blocks and bases as they wish; each other linear layer with gain 1, since no activation follows it."""
    for layer in network.children():
        own = getattr(layer, "initialize_own", None)
        if callable(own):
            own()
        elif isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            he_normal_(layer.weight)
            if getattr(layer, "bias", None) is not None:
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        else:
            initialize_without_norms(layer)
