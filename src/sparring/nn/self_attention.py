"""Self-attention on maps: every place looks at all others (SAGAN, Zhang et al. 2019, sec. 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.errors import UserError
from sparring.nn.attention import maps, tokens
from sparring.nn.resample import Size


class SelfAttention(nn.Module):
    """x + γ·o, where o (N, C, H, W) is at every place a mixture of all places' values; γ starts at 0.

    1×1 convolutions make queries and keys of C/8 channels and values of C/2; keys and values are pooled 2×2 by their
    maximum, which leaves a quarter of the products (as in the paper's code and in BigGAN). In the paper f makes keys, g
    queries, h values and v the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        few, half = max(1, channels // 8), max(1, channels // 2)
        self.query = nn.Conv2d(channels, few, 1, bias=False)
        self.key = nn.Conv2d(channels, few, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        self.out = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def weights(self, x: Tensor) -> Tensor:
        """How much each place takes of each pooled one, (N, H·W, ⌈H/2⌉·⌈W/2⌉); each row sums to 1."""
        # Written out: torch's fused attention has no second derivative, and gradient penalties need one.
        return (tokens(self.query(x)) @ pool(self.key(x)).flatten(2)).softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.weights(x) @ tokens(pool(self.value(x)))
        return x + self.gamma * self.out(maps(mixed, (x.shape[2], x.shape[3])))


def pool(x: Tensor) -> Tensor:
    """Maps of half the size, by the maximum; odd sides are rounded up, so that no place goes unseen."""
    return F.max_pool2d(x, 2, ceil_mode=True)


def attention_at(side: int, sizes: Sequence[Size], channels: Sequence[int]) -> nn.ModuleList:
    """For maps of these sizes and channels, one after another: self-attention at one of them, nothing at the others.

    side: attention is where the longer side comes closest to so many pixels, as a ratio; 0: nowhere.
    """
    distance = [abs(math.log(max(size) / side)) if side else math.inf for size in sizes]
    nearest = distance.index(min(distance)) if side else -1
    return nn.ModuleList(
        SelfAttention(count) if index == nearest else nn.Identity() for index, count in enumerate(channels)
    )


@contextmanager
def attention_maps(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside, each pass of `network` leaves what its self-attention looked at: layer name → (N, H, W, ⌈H/2⌉, ⌈W/2⌉).

        with attention_maps(game.generator) as seen:
            game.generator(latent, label)

    At [n, row, column] lies the map of a place's weights over the pooled places, which sums to 1. They are computed for
    the asking, without gradients: training pays nothing for them. Empty where the network has no self-attention.
    """
    seen: dict[str, Tensor] = {}
    with ExitStack() as after:
        for name, layer in network.named_modules():
            if isinstance(layer, SelfAttention):
                after.callback(layer.register_forward_hook(partial(_leave, seen, name)).remove)
        yield seen


@torch.no_grad()
def _leave(seen: dict[str, Tensor], name: str, layer: SelfAttention, args: tuple[Tensor], output: Tensor) -> None:
    height, width = args[0].shape[-2:]
    # In eval mode, or spectral norm would move on by another iteration.
    training = layer.training
    weights = layer.eval().weights(args[0])
    layer.train(training)
    seen[name] = weights.unflatten(2, (-(-height // 2), -(-width // 2))).unflatten(1, (height, width))


def require_side(attention: int) -> None:
    """Raise UserError for a negative number of pixels."""
    if attention < 0:
        raise UserError(f"attention is a number of pixels a side, or 0 for none, and not {attention}")
