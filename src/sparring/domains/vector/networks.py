"""The networks that make and judge vectors, by the names that recipes use.

A row (N, size) has a mean square of 1 in all, and not in each column: see `games.VectorGame`.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sparring.errors import UserError
from sparring.nn.condition import Condition, Head, append_label
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import require_dropout, require_positive
from sparring.nn.mlp import MLP

Activation = Literal["tanh", "leaky_relu"]
SHARPNESS = 48.0


class MlpGenerator(nn.Module):
    """Latent (N, latent) → vector (N, size), any real numbers: `depth` hidden layers of `width` and a linear one.

    activation: data often lies in clusters, and a generator must send a whole region of latents to nearly one place:
        a tanh saturates there and is flat, where the pieces of a leaky ReLU (slope 0.2) must cancel each other.
    sharpness: what latents are multiplied by. What lies between two clusters is an error of the generator's, in
        proportion to how slowly it crosses from one to the other, and of few inputs a network learns what changes fast
        last of all (Tancik et al. 2020). None: `SHARPNESS` shared among the latents, at least 1, the plain network.
    """

    def __init__(
        self, size: int, latent: int, classes: int,
        *, width: int = 128, depth: int = 3, activation: Activation = "tanh", sharpness: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, depth=depth)
        if sharpness is not None and not sharpness > 0:
            raise UserError(f"sharpness must be above 0, not {sharpness}")
        self.classes = classes
        self.sharpness = max(1.0, SHARPNESS / latent) if sharpness is None else sharpness
        self.row = size**-0.5  # the layers see and make columns of variance 1
        layers: list[nn.Module] = []
        inputs = latent + classes
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), nn.Tanh() if activation == "tanh" else nn.LeakyReLU(0.2)]
            inputs = width
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(width, size)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        return self.row * self.out(self.body(append_label(self.sharpness * latent, label, self.classes)))


class MlpDiscriminator(Discriminator):
    """Vector (N, size) → logit (N,): `depth` hidden layers of `width` and a linear one."""

    def __init__(
        self, size: int, classes: int,
        *, width: int = 128, depth: int = 3, condition: Condition = "projection", dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(classes, condition)
        require_positive(width=width, depth=depth)
        require_dropout(dropout)
        self.row = size**-0.5
        self.body = MLP(size + self.label_inputs, [width] * depth, dropout=dropout)
        self.feature_count = width
        self.head = Head(width, self.label_rows)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.body(append_label(x / self.row, label, self.label_inputs))


class PacganGenerator(nn.Module):
    """Latent (N, latent) → vector (N, size), as PacGAN has it for its mixtures (Lin et al. 2018, section 4.1).

    Each hidden layer: linear without bias, batch norm, ReLU.
    """

    def __init__(self, size: int, latent: int, classes: int, *, width: int = 400, depth: int = 4) -> None:
        super().__init__()
        require_positive(width=width, depth=depth)
        self.classes = classes
        layers: list[nn.Module] = []
        inputs = latent + classes
        for _ in range(depth):
            layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
            inputs = width
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(width, size)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        return self.out(self.body(append_label(latent, label, self.classes)))


class PacganDiscriminator(Discriminator):
    """Vector (N, size) → logit (N / pack,), as PacGAN has it for its mixtures (Lin et al. 2018, section 4.1).

    Maxout layers (Goodfellow et al. 2013): each of `width` units is the largest of `pieces` linear functions.
    pack: so many samples are judged together, their features side by side; 1 is the plain GAN.
    """

    def __init__(
        self, size: int, classes: int,
        *, width: int = 200, depth: int = 3, pieces: int = 5, pack: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(classes, "concat")
        require_positive(width=width, depth=depth, pieces=pieces, pack=pack)
        self.pack = pack
        inputs = (size + self.label_inputs) * pack
        self.body = nn.Sequential(*(Maxout(inputs if not layer else width, width, pieces) for layer in range(depth)))
        self.feature_count = width
        self.head = Head(width)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        if len(x) % self.pack:
            raise UserError(
                f"{len(x)} samples cannot be judged {self.pack} at a time: choose a train.batch_size that "
                f"model.discriminator.pack={self.pack} divides"
            )
        return self.body(append_label(x, label, self.label_inputs).reshape(len(x) // self.pack, -1))


class Maxout(nn.Module):
    """(N, inputs) → (N, width): each unit the largest of `pieces` linear functions (Goodfellow et al. 2013, section 3)."""

    def __init__(self, inputs: int, width: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, width * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(dim=2)


GENERATORS: dict[str, type[nn.Module]] = {"mlp": MlpGenerator, "pacgan": PacganGenerator}
DISCRIMINATORS: dict[str, type[nn.Module]] = {"mlp": MlpDiscriminator, "pacgan": PacganDiscriminator}
