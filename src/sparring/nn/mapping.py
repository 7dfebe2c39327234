"""From latents to the codes that steer a style-based generator (Karras et al. 2019, sec. 2)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from sparring.core import processes
from sparring.errors import UserError
from sparring.nn.condition import Head, embed
from sparring.nn.equalised import EqualisedLinear, leaky


class PixelNorm(nn.Module):
    """Each position's vector of channels divided by its root mean square (Karras et al. 2018, sec. 4.2): (N, C, …)."""

    def forward(self, x: Tensor) -> Tensor:
        return pixel_norm(x)


def pixel_norm(x: Tensor) -> Tensor:
    """Divide x by √(mean of x² over dimension 1): (N, C, …)."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class MappingNetwork(nn.Module):
    """Latents (N, latent), labels (N,) or (N, K) → codes (N, width).

    Latent and embedded label are normalised and go side by side through fully connected layers that learn 100 times
    slower than the rest (Karras et al. 2020; labels: StyleGAN2-ADA, Karras et al. 2020b, appendix).

    latent: 0 for a network that maps labels alone, as its conditional discriminator has. lr_multiplier: of all layers.
    mean_code: where codes lie on average, (width,): a buffer that follows them in training, for truncation.
        decay: how much of itself it keeps at each batch. None: the mean is not followed, and there is no such buffer.
    Raises UserError where there is neither a latent nor a label to map.
    """

    mean_code: Tensor

    def __init__(
        self, latent: int, classes: int, width: int,
        *, layers: int = 8, lr_multiplier: float = 0.01, decay: float | None = 0.998,
    ) -> None:  # fmt: skip
        super().__init__()
        inputs = latent + (width if classes else 0)
        if not inputs:
            raise UserError("a mapping network needs a latent or labels to map: model.latent is 0")
        self.latent, self.width, self.decay = latent, width, decay
        self.embedding = nn.Embedding(classes, width) if classes else None
        sizes = [inputs, *[width] * layers]
        self.layers = nn.ModuleList(
            EqualisedLinear(before, after, lr_multiplier=lr_multiplier) for before, after in pairwise(sizes)
        )
        if decay is not None:
            self.register_buffer("mean_code", torch.zeros(width))
        self.initialize_own()

    def initialize_own(self) -> None:
        """A recipe's initialiser leaves modules with this method alone."""
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator]
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight)

    def forward(self, latent: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        x = [] if latent is None or not self.latent else [pixel_norm(latent)]
        if self.embedding is not None:
            x.append(pixel_norm(embed(self.embedding, label)))
        code = torch.cat(x, dim=1)
        for layer in self.layers:
            code = leaky(layer(code))
        if self.training and self.decay is not None:
            self.follow(code.detach(), self.decay)
        return code

    @torch.no_grad()
    def follow(self, codes: Tensor, decay: float) -> None:
        """Move the mean towards that of these codes, of all processes."""
        mean = processes.mean(codes.float().mean(dim=0))
        self.mean_code.lerp_(mean.to(self.mean_code.dtype), 1 - decay)


class MappedHead(Head):
    """From features (N, features) to a logit (N,): w·φ + b, or with classes m(y)·φ′ / √F (StyleGAN2-ADA, appendix).

    m: a mapping network of labels alone, `layers` deep. φ′: a linear function of the features, (N, F = features).
    """

    def __init__(self, features: int, classes: int = 0, *, layers: int = 8) -> None:
        nn.Module.__init__(self)
        self.classes = classes
        self.linear = EqualisedLinear(features, features if classes else 1)
        self.mapping = MappingNetwork(0, classes, features, layers=layers, decay=None) if classes else None

    def forward(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        logits = self.linear(features)
        if self.mapping is None:
            return logits.squeeze(1)
        return (logits * self.mapping(None, label)).sum(dim=1) / math.sqrt(features.shape[1])
