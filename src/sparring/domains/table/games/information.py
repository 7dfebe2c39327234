"""The information loss: fakes are to look to the discriminator, on average, as data do (Park et al. 2018, section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparring.core import processes
from sparring.core.passes import precise

TINY = 1e-12  # keeps the slope of a root finite at 0


def moments_of(features: Tensor) -> Tensor:
    """Mean and mean square of each feature, (N, F) → (2, F), over the whole batch."""
    features = precise(features)
    return processes.mean(torch.stack([features.mean(0), features.square().mean(0)]))


def information(real: Tensor, fake: Tensor, margins: Sequence[float] = (0.0, 0.0)) -> Tensor:
    """max(0, ‖μ(real) − μ(fake)‖ − margin) + max(0, ‖σ(real) − σ(fake)‖ − margin) (Park et al. 2018, eqs. 2 to 4).

    real, fake: `moments_of` features. margins: of means and of deviations. Below them samples may differ from the data, so that
    larger ones keep more of the data private.
    """
    means = (real[0] - fake[0]).square().sum()
    (real_spread, fake_spread) = ((side[1] - side[0].square()).clamp(min=0) + TINY for side in (real, fake))
    spreads = (real_spread.sqrt() - fake_spread.sqrt()).square().sum()
    distances = (torch.stack([means, spreads]) + TINY).sqrt()
    return torch.relu(distances - distances.new_tensor(margins)).sum()


class Running(nn.Module):
    """A running mean of figures that move, with the gradient of the newest at full strength.

    share: of the mean that stays when a figure comes in. The first figures weigh as much as each other, so that the mean
    does not begin at 0.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, *shape: int, share: float = 0.99) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("mean", torch.zeros(*shape))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, figure: Tensor) -> Tensor:
        """Take a figure in, and return the mean."""
        with torch.no_grad():
            self.count += 1
            self.mean.lerp_(figure.detach(), torch.clamp(1 / self.count, min=1 - self.share))
        return self.mean + figure - figure.detach()
