"""Standing statistics: what a generator's layers have followed of the live weights, found anew for the averaged ones.

Batch norm's running mean and variance are those of activations that the live weights made, and trail behind them.
Weights averaged over time make other activations. So before samples are drawn from an average, the statistics are taken
from passes of that average (BigGAN, Brock et al. 2019, appendix D: "standing statistics"; `update_bn` in weight
averaging, Izmailov et al. 2018, sec. 3.2). Spectral norm's estimate of the largest singular value trails likewise; it is
led on before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList

from sparring.core.game import Game

PASSES = 16
COUNT = 64  # samples of a pass
ITERATIONS = 15  # of spectral norm's estimate, as many as PyTorch takes for weights that it has never seen


@torch.no_grad()
def take_standing_statistics(game: Game, *, frozen: Iterable[nn.Module] = (), seed: int = 0) -> bool:
    """Set the statistics of all batch norms that `game.rehearse` passes to means over 1,024 samples, in place.

    The game is in eval mode, and stays so. The same weights and seed give the same statistics; random numbers outside
    are left as they are. frozen: modules that are left as they are, with all in them. Returns whether there was anything to do.
    """
    left = {part for module in frozen for part in module.modules()}
    parts = [part for module in game.averaged().values() for part in module.modules() if part not in left]
    norms = [part for part in parts if isinstance(part, _BatchNorm) and part.running_mean is not None]
    bounded = [part for part in parts if isinstance(part, ParametrizationList) and isinstance(part[0], _SpectralNorm)]
    for weight in bounded:
        weight.train()
        for _ in range(ITERATIONS):
            weight()
        weight.eval()
    if norms:
        _follow(game, norms, seed)
    return bool(norms or bounded)


def _follow(game: Game, norms: Sequence[_BatchNorm], seed: int) -> None:
    """Let batch norms take the statistics of what passes them while samples are drawn."""
    before = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    device = game.device
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean of all passes
            norm.train()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)  # for layers that draw noise of their own
            rng = torch.Generator(device).manual_seed(seed)
            for _ in range(PASSES):
                game.rehearse(COUNT, rng=rng)
    finally:
        for norm, momentum, values in zip(norms, momenta, before, strict=True):
            norm.eval()
            norm.momentum = momentum
            # How long training has followed is nothing that a pass found; and what no pass reached, stays.
            reached = norm.num_batches_tracked is not None and bool(norm.num_batches_tracked)
            for name in ["num_batches_tracked"] if reached else values:
                getattr(norm, name).copy_(values[name])
