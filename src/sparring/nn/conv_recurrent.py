"""Recurrence over maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvGRU(nn.Module):
    """A gated recurrent cell whose products are convolutions (Ballas et al. 2016, eq. 5–8).

    x (N, inputs, H, W), state (N, hidden, H, W) → new state (N, hidden, H, W). The cell does not ask for a size, so
    the state may be resized between steps.
    """

    def __init__(self, inputs: int, hidden: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(inputs + hidden, 2 * hidden, kernel, padding=kernel // 2)
        self.candidate = nn.Conv2d(inputs + hidden, hidden, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """One step; no state means zeros."""
        if state is None:
            state = x.new_zeros(x.shape[0], self.hidden, *x.shape[2:])
        update, reset = self.gates(torch.cat([x, state], dim=1)).sigmoid().chunk(2, dim=1)
        candidate = self.candidate(torch.cat([x, reset * state], dim=1)).tanh()
        return (1 - update) * state + update * candidate
