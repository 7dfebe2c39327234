"""What a discriminator is told of the variety of its batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MinibatchStdDev(nn.Module):
    """Maps (N, C, H, W) → (N, C + channels, H, W): how much the samples of a group differ, as constant planes.

    The deviation over the samples of a group, at each position, averaged over positions and over each of `channels`
    equal parts of the C channels (Karras et al. 2018, sec. 3; in groups of 4: Karras et al. 2020). Constant fakes give
    themselves away by it.

    A group is `group_size` samples in a row. So the groups are the same for every number of processes, as long as the
    share of each holds whole groups. Where the batch is no multiple of the group, groups are larger, by as little as can
    be; a smaller batch is one group. `group_size` 0: the whole batch.
    Raises ValueError where `channels` does not divide C.
    """

    mixes_samples = True

    def __init__(self, group_size: int = 4, channels: int = 1) -> None:
        super().__init__()
        self.group_size, self.channels = group_size, channels

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % self.channels:
            raise ValueError(f"{self.channels} planes of deviations do not divide {x.shape[1]} channels")
        groups = max(1, len(x) // self.group_size) if self.group_size else 1
        if len(x) % groups:
            deviations = torch.cat([self.deviations(part, 1) for part in x.tensor_split(groups)])
        else:
            deviations = self.deviations(x, groups)
        planes = deviations[:, :, None, None].to(x.dtype).expand(-1, -1, *x.shape[2:])
        return torch.cat([x, planes], dim=1)

    def deviations(self, x: Tensor, groups: int) -> Tensor:
        """The figures of each sample's group, (N, channels), for equal groups."""
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        grouped = wide.unflatten(0, (groups, -1))
        variance = (grouped - grouped.mean(1, keepdim=True)).square().mean(1)
        # The root's slope at 0 is infinite: the small number keeps it finite for equal samples.
        deviation = (variance + 1e-8).sqrt().unflatten(1, (self.channels, -1)).mean(dim=(2, 3, 4))
        return deviation.repeat_interleave(len(x) // groups, dim=0)
