"""Streams of several scales exchange what they know.

Each fusion takes and returns the streams' maps, coarse to fine: stream k is (N, channels[k], *sizes[k]).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Literal

import torch
from torch import Tensor, nn

from sparring.nn.attention import MultiHeadAttention, maps, position_code, tokens
from sparring.nn.conv_recurrent import ConvGRU
from sparring.nn.resample import Size, bounded, resize

Fusion = Literal["convolution", "attention", "recurrent"]


class ConvolutionFusion(nn.Module):
    """To each stream the sum of all others, resized, through a 1×1 convolution each (HRNet: Sun et al. 2019)."""

    def __init__(self, channels: Sequence[int], sizes: Sequence[Size]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.convolutions = nn.ModuleDict({
            f"{source}_to_{goal}": nn.Conv2d(channels[source], channels[goal], 1)
            for source, goal in permutations(range(len(channels)), 2)
        })  # fmt: skip

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        return [
            sum((self._carry(x, goal, source) for source, x in enumerate(streams) if source != goal), streams[goal])
            for goal in range(len(streams))
        ]

    def _carry(self, x: Tensor, goal: int, source: int) -> Tensor:
        # Resizing and a 1×1 convolution change places freely; the convolution works at the smaller of the two sizes.
        convolution = self.convolutions[f"{source}_to_{goal}"]
        size = self.sizes[goal]
        return resize(convolution(x), size) if source < goal else convolution(resize(x, size))


class AttentionFusion(nn.Module):
    """The tokens of each stream attend to the pooled tokens of all streams.

    A stream is pooled to at most 16×16 tokens that ask and 8×8 that are asked, so the cost does not grow with the
    image. What was read is resized back and added.
    """

    def __init__(self, channels: Sequence[int], sizes: Sequence[Size], *, asking: int = 16, asked: int = 8) -> None:
        super().__init__()
        self.asking = [bounded(size, asking) for size in sizes]
        self.asked = [bounded(size, asked) for size in sizes]
        shared = max(channels)
        self.into = nn.ModuleList(nn.Conv2d(count, shared, 1) for count in channels)
        # One norm a stream: its shift also tells the scales apart.
        self.context_norms = nn.ModuleList(nn.LayerNorm(shared) for _ in channels)
        self.query_norms = nn.ModuleList(nn.LayerNorm(count) for count in channels)
        self.attend = nn.ModuleList(MultiHeadAttention(count, shared) for count in channels)
        for index, count in enumerate(channels):
            self.register_buffer(f"asking_{index}", position_code(self.asking[index], count), persistent=False)
            self.register_buffer(f"asked_{index}", position_code(self.asked[index], shared), persistent=False)

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        context = torch.cat([
            norm(tokens(into(resize(x, size)))) + self.get_buffer(f"asked_{index}")
            for index, (x, size, into, norm) in enumerate(
                zip(streams, self.asked, self.into, self.context_norms, strict=True))
        ], dim=1)  # fmt: skip
        fused = []
        for index, (x, size) in enumerate(zip(streams, self.asking, strict=True)):
            query = self.query_norms[index](tokens(resize(x, size))) + self.get_buffer(f"asking_{index}")
            fused.append(x + resize(maps(self.attend[index](query, context), size), (x.shape[2], x.shape[3])))
        return fused


class RecurrentFusion(nn.Module):
    """A convolutional GRU walks along the scales, coarse to fine, another one back; each stream adds both states."""

    def __init__(self, channels: Sequence[int], sizes: Sequence[Size]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        state = min(channels)
        self.into = nn.ModuleList(nn.Conv2d(count, state, 1) for count in channels)
        self.finer = ConvGRU(state, state)
        self.coarser = ConvGRU(state, state)
        self.out = nn.ModuleList(nn.Conv2d(2 * state, count, 1) for count in channels)

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        entries = [into(x) for into, x in zip(self.into, streams, strict=True)]
        up = self._walk(self.finer, entries)
        down = self._walk(self.coarser, entries[::-1])[::-1]
        return [
            x + out(torch.cat(states, dim=1))
            for x, out, *states in zip(streams, self.out, up, down, strict=True)
        ]  # fmt: skip

    @staticmethod
    def _walk(cell: ConvGRU, entries: list[Tensor]) -> list[Tensor]:
        states = [cell(entries[0])]
        for entry in entries[1:]:
            states.append(cell(entry, resize(states[-1], (entry.shape[2], entry.shape[3]))))
        return states


def fusion_layer(fusion: Fusion, channels: Sequence[int], sizes: Sequence[Size]) -> nn.Module:
    """The fusion of that name for streams of those channels and sizes, coarse to fine."""
    return FUSIONS[fusion](channels, sizes)


FUSIONS: dict[str, type[nn.Module]] = {
    "convolution": ConvolutionFusion,
    "attention": AttentionFusion,
    "recurrent": RecurrentFusion,
}
