"""Losses of labels that compare the samples of a batch with each other: embeddings and proxies → a scalar.

All take unit vectors: `embeddings` (N, D) of samples and `proxies` (N, D), the embedding of each sample's label; and
`same` (N, N), whether two samples have the same label. They see one batch: of several processes, or of micro-batches,
each compares its own samples alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.errors import UserError


def conditional_contrastive(embeddings: Tensor, proxies: Tensor, same: Tensor, *, temperature: float = 1.0) -> Tensor:
    """2C loss of ContraGAN (Kang & Park 2020, section 3.2), the mean over i of

    −log [ (e^{lᵢᵀeᵢ/t} + Σ_{k≠i, y_k=y_i} e^{lᵢᵀl_k/t}) / (e^{lᵢᵀeᵢ/t} + Σ_{k≠i} e^{lᵢᵀl_k/t}) ].
    """
    _require_temperature(temperature)
    to_proxy, to_samples = _similarities(embeddings, proxies)
    other = ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    positive = _log_sum(to_proxy / temperature, to_samples / temperature, same & other)
    everything = _log_sum(to_proxy / temperature, to_samples / temperature, other)
    return (everything - positive).mean()


def data_to_data_cross_entropy(
    embeddings: Tensor, proxies: Tensor, same: Tensor,
    *, temperature: float = 0.5, positive_margin: float = 0.98, negative_margin: float | None = None,
) -> Tensor:  # fmt: skip
    """D2D-CE of ReACGAN (Kang et al. 2021, section 3.3), the mean over i of −log [ pᵢ / (pᵢ + Σ_{y_j≠y_i} e^{[fᵢᵀf_j − m_n]₊/τ}) ],

    pᵢ = e^{[fᵢᵀvᵢ − m_p]₋/τ}: samples that are near enough to their proxy, or far enough from other classes, pull and push
    no more. negative_margin: m_n; none: 1 − m_p, as the authors' code has it.
    """
    _require_temperature(temperature)
    if negative_margin is None:
        negative_margin = 1 - positive_margin
    to_proxy, to_samples = _similarities(embeddings, proxies)
    pull = (to_proxy - positive_margin).clamp(max=0) / temperature
    push = (to_samples - negative_margin).clamp(min=0) / temperature
    return (_log_sum(pull, push, ~same) - pull).mean()


Contrast = Callable[..., Tensor]
CONTRASTS: dict[str, Contrast] = {"2c": conditional_contrastive, "d2d_ce": data_to_data_cross_entropy}


def same_label(label: Tensor) -> Tensor:
    """Which samples have the same label, (N, N); label: (N,), or (N, K), where all K agree."""
    pairs = label[:, None] == label[None]
    return pairs if label.dim() == 1 else pairs.all(2)


def unit(vectors: Tensor) -> Tensor:
    """Vectors (N, D) of length 1, in float32 at least."""
    return F.normalize(vectors if vectors.dtype == torch.float64 else vectors.float(), dim=1)


def _similarities(embeddings: Tensor, proxies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of each sample with its proxy (N,), and with all samples (N, N)."""
    # Cosines in half precision would lose the margins.
    with torch.autocast(embeddings.device.type, enabled=False):
        return (embeddings * proxies).sum(1), embeddings @ embeddings.T


def _log_sum(first: Tensor, others: Tensor, among: Tensor) -> Tensor:
    """log(e^firstᵢ + Σ_j e^othersᵢⱼ) over the pairs `among` (N, N)."""
    return torch.cat([first[:, None], others.masked_fill(~among, -torch.inf)], dim=1).logsumexp(1)


def _require_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise UserError(f"model.contrast.temperature must be above 0, not {temperature:g}")
