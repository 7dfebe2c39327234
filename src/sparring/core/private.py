"""Differentially private turns: gradients sample by sample, clipped, summed, and drowned in noise (Abadi et al. 2016).

What a turn learns of a sample is the gradient of one real sample's loss, set against a generated one: pairs are clipped
together, so that the two sides keep their balance. All that other players learn of the data, they learn of the networks
that these turns move; so the guarantee is theirs too.

Opacus finds gradients of samples by hooks on layers, which do not see a gradient penalty (the gradient of a gradient);
`torch.func` differentiates a loss as it is written. What a gradient costs in privacy, opacus counts: `core.accounting`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils.parametrize import is_parametrized

from sparring.core.compiled import eager
from sparring.core.game import Batch

ROOM = 1 << 23  # numbers that the gradients of the samples of a pass may have: more leave a processor's caches

Rows = tuple[Tensor, ...]
Named = dict[str, Tensor]


@dataclass(frozen=True)
class RowLoss:
    """What a network minimises at each sample of the data.

    judge: the network. fakes: what it judges beside, each (M, …), made without the data.
    own: a batch of data → what the loss takes of it, each (N, …), of which row n depends on sample n alone.
    loss: (judge, one row of `own` and of `fakes`, each (1, …)) → a scalar. It may draw, but must not change anything.
    """

    judge: nn.Module
    fakes: Rows
    own: Callable[[Batch], Rows]
    loss: Callable[[Callable[..., Tensor], Rows, Rows], Tensor]


def clipped_sum(row_loss: RowLoss, own: Rows, fakes: Rows, parameters: Mapping[str, Tensor], clip: float) -> Named:
    """Σ over samples of their gradients, each no longer than `clip`: by name, as `parameters`. (Abadi et al. 2016, algorithm 1.)

    own, fakes: a row a sample, each (N, …). parameters: those of `row_loss.judge` that move, by name.
    A sample whose gradient is not finite has no part in it.
    """
    judge = row_loss.judge

    def one(values: Named, real: Rows, fake: Rows) -> Tensor:
        def judged(*inputs: Tensor | None) -> Tensor:
            return functional_call(judge, values, inputs)

        rows = (tuple(each[None] for each in side) for side in (real, fake))
        return row_loss.loss(judged, *rows)

    gradients = vmap(grad(one), in_dims=(None, 0, 0), randomness="different")
    values = {name: value.detach() for name, value in parameters.items()}
    total = {name: torch.zeros_like(value) for name, value in values.items()}
    size = max(1, ROOM // max(1, sum(value.numel() for value in values.values())))
    with torch.autocast(own[0].device.type, enabled=False), still(judge), eager():
        for start in range(0, len(own[0]), size):
            found = gradients(values, *(tuple(each[start : start + size] for each in side) for side in (own, fakes)))
            lengths = torch.stack([each.flatten(1).square().sum(1) for each in found.values()]).sum(0).sqrt()
            finite = torch.isfinite(lengths)
            if not finite.all():
                found = {name: each[finite] for name, each in found.items()}
                lengths = lengths[finite]
            shares = clip / lengths.clamp(min=clip)
            for name, each in found.items():
                total[name] += torch.tensordot(shares, each, dims=1)
    return total


def noisy_mean(total: Named, count: int, deviation: float, *, secure: bool = False) -> Named:
    """A sum of gradients with Gaussian noise of `deviation` on every number, over `count`, which must not be told by the data."""
    return {
        name: (value + deviation * gaussian(value.shape, value.device, secure=secure).to(value.dtype)) / count
        for name, value in total.items()
    }


def gaussian(
    shape: Iterable[int], device: torch.device, *, secure: bool = False, rng: torch.Generator | None = None
) -> Tensor:
    """Draws of N(0, 1): of torch's generator (None: the global one), or, `secure`, of the system's cryptographic one."""
    shape = tuple(shape)
    if not secure:
        return torch.randn(shape, device=device, generator=rng)
    from scipy.special import ndtri

    bits = np.frombuffer(os.urandom(8 * int(np.prod(shape))), np.uint64)
    # 53 bits, in the middle of their interval: never 0 or 1, where the quantile is infinite.
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return torch.from_numpy(ndtri(uniform).astype(np.float32)).reshape(shape).to(device)


def partners(fakes: Rows, count: int) -> Rows:
    """For each of `count` samples a row of `fakes`, drawn on its own.

    By its place in the batch, a sample would be told another partner when one before it is left out, and the sum would
    change by more than that one's gradient.
    """
    chosen = torch.randint(0, len(fakes[0]), (count,), device=fakes[0].device)
    return tuple(each[chosen] for each in fakes)


@contextmanager
def still(module: nn.Module) -> Iterator[None]:
    """Inside, spectral norms stand still, after a step of their estimates: nothing changes while samples are differentiated."""
    layers = [layer for layer in module.modules() if is_parametrized(layer)]
    rules = [each for layer in layers for each in layer.parametrizations.modules() if each.training]  # type: ignore[union-attr]
    with torch.no_grad():
        for layer in layers:
            for name in layer.parametrizations:  # type: ignore[union-attr]
                getattr(layer, name)
    for each in rules:
        each.training = False
    try:
        yield
    finally:
        for each in rules:
            each.training = True
