"""A Laplacian pyramid of GANs (Denton et al. 2015): a pair of networks for each size, each on its own.

The coarsest pair makes and judges small images. Each of the others adds the detail that an enlarged image lacks: the
generator reads the enlarged image and a plane of noise, and the discriminator judges their sum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.nn.condition import Condition, Head, append_label
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import Dropout, require_dropout, require_positive
from sparring.nn.mlp import MLP
from sparring.nn.pyramid import Packing
from sparring.nn.resample import Size, ladder, resize


class LapganGenerator(nn.Module):
    """Latent (N, latent_size) → image (N, *shape), from coarse to fine.

    latent: numbers for the coarsest image alone; `latent_size` counts those of the planes of noise too.
    width: channels of the networks that add detail. hidden: units of the coarsest one's two layers.
    smallest: the fewest pixels a side of the coarsest image; small images are halved once all the same.
    """

    def __init__(
        self, shape: tuple[int, int, int], latent: int, classes: int,
        *, width: int = 128, hidden: int = 1200, smallest: int = 7,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, hidden=hidden, smallest=smallest)
        self.classes = classes
        sizes = ladder(shape[1], shape[2], smallest, rungs=2)
        self.packing = Packing(shape[0], sizes)
        self.shares = [latent, *(height * width for height, width in sizes[1:])]
        self.latent_size = sum(self.shares)
        self.coarsest = nn.Sequential(
            MLP(latent + classes, [hidden, hidden]), nn.Linear(hidden, self.packing.lengths[0]),
            nn.Unflatten(1, (shape[0], *sizes[0])),
        )  # fmt: skip
        self.details = nn.ModuleList(Detail(shape[0], classes, width, size) for size in sizes[1:])

    def forward(self, latent: Tensor, label: Tensor | None = None, *, real: Tensor | None = None) -> Tensor:
        """The finest image, of what each network made of the one before (eq. 4).

        real: a packed pyramid; given one, each network adds detail to the real image of the size before, and all that
        they make is packed.
        """
        first, *noises = latent.split(self.shares, dim=1)
        image = self.coarsest(append_label(first, label, self.classes))
        if real is None:
            for detail, noise in zip(self.details, noises, strict=True):
                image = detail(image, noise, label)
            return image
        coarser = self.packing.unpack(real)[:-1]
        fakes = [detail(*each, label) for detail, *each in zip(self.details, coarser, noises, strict=True)]
        return self.packing.pack([image, *fakes])


class LapganDiscriminator(Discriminator):
    """Packed pyramid, or image (N, *shape) that is averaged to the smaller sizes → logits (N, sizes), coarse to fine.

    Options as in the generator; dropout acts on each pair's last features.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 128, hidden: int = 600, smallest: int = 7,
        condition: Condition = "concat", dropout: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, hidden=hidden, smallest=smallest)
        require_dropout(dropout)
        sizes = ladder(shape[1], shape[2], smallest, rungs=2)
        self.packing = Packing(shape[0], sizes)
        self.coarsest = MLP(self.packing.lengths[0] + self.label_inputs, [hidden, hidden], dropout=dropout)
        self.judges = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(shape[0] + self.label_inputs, width, 5, padding=2), nn.ReLU(),
                nn.Conv2d(width, width, 5, stride=2, padding=2), nn.ReLU(),
                nn.Flatten(), Dropout(dropout),
            )
            for _ in sizes[1:]
        )  # fmt: skip
        halves = [-(-height // 2) * -(-breadth // 2) for height, breadth in sizes[1:]]
        self.shares = [hidden, *(width * positions for positions in halves)]
        self.feature_count = sum(self.shares)
        self.heads = nn.ModuleList(Head(count, self.label_rows) for count in self.shares)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        coarsest, *finer = self.packing.read(x)
        return torch.cat([
            self.coarsest(append_label(coarsest.flatten(1), label, self.label_inputs)),
            *(judge(append_label(image, label, self.label_inputs)) for judge, image in zip(self.judges, finer, strict=True)),
        ], dim=1)  # fmt: skip

    def score(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Features → logits (N, sizes): each of its own size's alone."""
        parts = features.split(self.shares, dim=1)
        return torch.stack([head(part, label) for head, part in zip(self.heads, parts, strict=True)], dim=1)


class Detail(nn.Module):
    """Images (N, channels, …) of the size before, and noise (N, H·W) → images (N, channels, *size): enlarged, with detail."""

    def __init__(self, channels: int, classes: int, width: int, size: Size) -> None:
        super().__init__()
        self.classes, self.size = classes, size
        self.body = nn.Sequential(
            nn.Conv2d(channels + 1 + classes, width, 7, padding=3), nn.ReLU(),
            nn.Conv2d(width, width, 7, padding=3), nn.ReLU(),
            nn.Conv2d(width, channels, 5, padding=2),
        )  # fmt: skip

    def forward(self, image: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        image = resize(image, self.size)
        # The noise is one more colour of the image (their sec. 4.1).
        seen = torch.cat([image, noise.unflatten(1, (1, *self.size))], dim=1)
        return image + self.body(append_label(seen, label, self.classes))
