"""Codes: what a trained generator turns into a sample, drawn closer to what is typical.

A code is a latent (N, L), or, for style-based generators, one mapped latent for each layer (N, layers, W).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from sparring.errors import UserError

Truncation = float | Sequence[float]


def truncate_latents(latents: Tensor, truncation: float, distribution: Literal["normal", "uniform"]) -> Tensor:
    """Independent draws as draws of the truncated distribution: the truncation trick (Brock et al. 2019, sec. 3.1).

    truncation: the share of the standard deviation that is left, in [0, 1]; 1 changes nothing, and `threshold` says
    beyond which value nothing comes. Each value moves to the same quantile of the truncated distribution, where the
    paper draws values beyond the threshold anew: the same distribution, but the same draw stays the same sample, only
    more typical. Uniform draws shrink: so does a uniform distribution that is cut. Raises UserError.
    """
    if not 0 <= truncation <= 1:
        raise UserError(f"a truncation of {truncation:g} cannot be: from 0 (all samples the same) to 1 (as trained)")
    if truncation == 1:
        return latents
    if distribution == "uniform" or truncation == 0:
        return latents * truncation
    scaled = latents.double() / math.sqrt(2)
    share = math.erf(threshold(truncation) / math.sqrt(2))
    # Φ(z) = (1 + erf(z/√2))/2, so quantiles of the cut distribution are those of erf, shrunk.
    return (math.sqrt(2) * (scaled.erf() * share).erfinv()).to(latents.dtype)


def threshold(truncation: float) -> float:
    """Beyond which value a standard normal must be cut for this standard deviation in (0, 1): BigGAN's threshold.

    The cut variance is 1 − 2tφ(t)/(2Φ(t) − 1). 0.88 → 2.0, 0.7 → 1.38, 0.54 → 1.0, 0.284 → 0.5.
    """
    low, high = 0.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        density = math.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi)
        # Below 10⁻³ the formula is a difference of equal numbers; there the distribution is flat: t²/3.
        variance = middle**2 / 3 if middle < 1e-3 else 1 - 2 * middle * density / math.erf(middle / math.sqrt(2))
        low, high = (middle, high) if variance < truncation**2 else (low, middle)
    return (low + high) / 2


def pull_to_mean(codes: Tensor, mean: Tensor, truncation: Truncation, layers: int | None = None) -> Tensor:
    """w̄ + ψ(w − w̄) in the first `layers` layers, all where None (Karras et al. 2019, sec. 2.2, appendix B).

    codes: (N, layers, W). mean: (W,), or (N, W) where it depends on the class. truncation: ψ, one number or one for each
    layer. Raises UserError.
    """
    count = codes.shape[1]
    if layers is not None and not 0 <= layers <= count:
        raise UserError(f"truncation in {layers} layers cannot be: this generator has {count}")
    if truncation == 1 or layers == 0:
        return codes
    psi = torch.as_tensor(truncation, dtype=codes.dtype, device=codes.device)
    if psi.ndim and psi.shape != (count,):
        raise UserError(f"truncation: give one number, or one for each of the {count} layers, not {psi.numel()}")
    centre = mean.to(codes.dtype).reshape(-1, 1, mean.shape[-1])
    inside = torch.arange(count, device=codes.device)[:, None] < (count if layers is None else layers)
    return torch.where(inside, centre.lerp(codes, psi.expand(count)[:, None]), codes)
