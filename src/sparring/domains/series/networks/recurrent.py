"""Recurrent networks that read or write a series step by step."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sparring.domains.series.gru import GRU
from sparring.nn.layers import require_positive

Cell = Literal["gru", "lstm"]


class Recurrent(nn.Module):
    """Sequences (N, T, inputs) → (N, T, outputs): a recurrent network, and a linear layer of each step's state."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, cell: Cell = "gru") -> None:
        super().__init__()
        require_positive(width=width, depth=depth)
        self.states = GRU(inputs, width, depth) if cell == "gru" else nn.LSTM(inputs, width, depth, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.states(x)
        return self.head(states)
