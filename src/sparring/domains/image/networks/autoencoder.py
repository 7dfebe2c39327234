"""Autoencoders as discriminators: an image is as real as it is well reconstructed.

What comes out is minus the energy, the error of the reconstruction (EBGAN, Zhao et al. 2017, section 2.3), so that a
larger logit means a more real image, as everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.core.passes import precise
from sparring.domains.image.networks.began import BeganEncoder, BeganGenerator
from sparring.domains.image.networks.dcgan import DcganDiscriminator, DcganGenerator
from sparring.errors import UserError
from sparring.nn.discriminator import Discriminator
from sparring.nn.layers import Norm, require_positive


class AutoencoderDiscriminator(Discriminator):
    """Image (N, *shape) → minus its energy (N,), the mean of |x − Dec(Enc(x))|^power over all its values.

    The features are the code, and the energy's negative beside it, (N, code + 1).
    encoder: (images, label) → codes (N, code). decoder: (codes, label) → images.
    power: 1 or 2. Raises UserError for another.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, code: int, power: int) -> None:
        super().__init__(0)
        if power not in (1, 2):
            raise UserError(f"power is that of the reconstruction's error: 1 or 2, not {power}")
        self.encoder, self.decoder = encoder, decoder
        self.power = power
        self.feature_count = code + 1

    def reconstruct(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """What the autoencoder makes of images, in their shape."""
        return self.decoder(self.encoder(x, label), label)

    def features(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        code = self.encoder(x, label)
        gap = precise(x - self.decoder(code, label))
        energy = (gap.abs() if self.power == 1 else gap.square()).flatten(1).mean(1)
        return torch.cat([code.to(energy.dtype), -energy[:, None]], dim=1)

    def score(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        return features[:, -1]

    @staticmethod
    def codes(features: Tensor) -> Tensor:
        """The codes among the features, (N, code)."""
        return features[:, :-1]


class DcganAutoencoder(AutoencoderDiscriminator):
    """DCGAN's discriminator down to a code and its generator up again, as in EBGAN (Zhao et al. 2017, appendix).

    width, max_width, norm, patch: as in the two networks. code: numbers in a code.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 64, max_width: int | None = None, norm: Norm = "batch", patch: int = 1, code: int = 64,
        power: int = 2,
    ) -> None:  # fmt: skip
        require_positive(code=code)
        body = DcganDiscriminator(shape, classes, width=width, max_width=max_width, norm=norm, patch=patch)
        decoder = DcganGenerator(shape, code, classes, width=width, max_width=max_width, norm=norm, patch=patch)
        super().__init__(Encoder(body, nn.Linear(body.feature_count, code)), decoder, code=code, power=power)


class BeganDiscriminator(AutoencoderDiscriminator):
    """BEGAN's encoder, and its generator once more as the decoder (Berthelot et al. 2017, figure 1).

    width, layers: as in `BeganGenerator`. code: numbers in a code, N_h in the paper.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int,
        *, width: int = 64, layers: int = 2, code: int = 64, power: int = 1,
    ) -> None:  # fmt: skip
        require_positive(code=code)
        encoder = BeganEncoder(shape, code, classes, width=width, layers=layers)
        decoder = BeganGenerator(shape, code, classes, width=width, layers=layers)
        super().__init__(encoder, decoder, code=code, power=power)


class Encoder(nn.Module):
    """A discriminator's body with a linear head: images (N, C, H, W) and labels → codes (N, L)."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head
        body.head = nn.Identity()  # the one for logits, which would never learn

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """The code."""
        return self.head(self.body.features(images, label))  # type: ignore[operator]
