"""Earlier samples of a generator, shown to its discriminator again, so that what it has unlearnt does not come back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.core import chance, processes

EXCHANGED = 0.5
"""How often a full buffer gives an earlier sample for a fresh one (Zhu et al. 2017, their code)."""


class Replay(nn.Module):
    """A history of generated samples (Shrivastava et al. 2017, section 2.3): the discriminator sees old ones among the fresh.

    Until `size` samples are kept, each fresh one is kept and shown. From then on each is, with probability ½, exchanged for
    a random one of those that are kept, which is shown in its place; otherwise it is shown and not kept.

    What is kept lives in buffers, so that a resumed training shows what the uninterrupted one would have. Of several
    processes all keep the same: what comes from the whole batch. shape: of a sample. size 0: every sample is shown as it is.
    """

    samples: Tensor
    count: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("samples", torch.zeros(size, *shape))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def forward(self, fresh: Tensor) -> Tensor:
        """What to show for fresh samples (N, *shape), without gradients."""
        if not self.size:
            return fresh.detach()
        drawn = processes.gather(chance.uniform(len(fresh), 2, device=fresh.device))
        whole = processes.gather(fresh).to(self.samples.dtype)
        shown = torch.cat([self._exchange(*each) for each in zip(whole.split(1), drawn.split(1), strict=True)])
        group = processes.current()
        return (shown if group is None else group.share(shown)).to(fresh.dtype)

    def _exchange(self, fresh: Tensor, drawn: Tensor) -> Tensor:
        """One sample's turn, (1, *shape), by two numbers in [0, 1); without a branch, which the device would have to wait for."""
        filling = self.count < self.size
        place = torch.where(filling, self.count, (drawn[:, 1] * self.size).long().clamp(max=self.size - 1))
        old = self.samples.index_select(0, place)
        exchanged = ~filling & (drawn[:, 0] < EXCHANGED)
        ones = (1,) * (fresh.ndim - 1)
        self.samples.index_copy_(0, place, torch.where((filling | exchanged).view(1, *ones), fresh, old))
        self.count += filling
        return torch.where(exchanged.view(1, *ones), old, fresh)
