"""Terms on a player's weights, limits on its weights and gradients, and spectral normalisation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.nn.utils.parametrizations import spectral_norm as normalize_layer
from torch.nn.utils.parametrize import is_parametrized

if TYPE_CHECKING:
    from sparring.recipe import Regularize

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.Linear, nn.Embedding)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def weight_terms(module: nn.Module, options: Regularize) -> dict[str, Tensor]:
    """The weighted terms on the weights of `module` that `options` asks for: scalars by name, only those asked for.

    l1: Σ|w|. l2: ½Σw². orthogonal: the sum of `off_diagonal` over layers, embeddings left out.
    Biases and the parameters of norm layers are left out. Of a parametrised layer (spectral norm), the values under
    the parametrisation count, which are what the optimiser moves.
    """
    if not (options.l1 or options.l2 or options.orthogonal):
        return {}  # finding the weights takes 4 % of a step of small networks
    weights = list(_weights(module))
    terms: dict[str, Tensor] = {}
    if options.l1 and weights:
        terms["l1"] = options.l1 * torch.stack([weight.abs().sum() for _, weight in weights]).sum()
    if options.l2 and weights:
        terms["l2"] = options.l2 * 0.5 * torch.stack([weight.square().sum() for _, weight in weights]).sum()
    layers = [(owner, weight) for owner, weight in weights if not isinstance(owner, nn.Embedding)]
    if options.orthogonal and layers:
        rows = [weight.transpose(0, 1) if isinstance(owner, TRANSPOSED) else weight for owner, weight in layers]
        terms["orthogonal"] = options.orthogonal * torch.stack([off_diagonal(row.flatten(1)) for row in rows]).sum()
    return terms


def off_diagonal(filters: Tensor) -> Tensor:
    """Orthogonality without a constraint on length (BigGAN, Brock et al. 2019, eq. 3): ‖WᵀW ⊙ (1 − I)‖²_F.

    filters: (filters, inputs), one filter a row; the paper has one a column, so its WᵀW is WWᵀ here.
    """
    products = filters @ filters.T
    return products.square().sum() - products.diagonal().square().sum()


@torch.no_grad()
def clip_weights(parameters: Iterable[Tensor], bound: float) -> None:
    """Clamp every parameter to [−bound, bound] in place (WGAN, Arjovsky et al. 2017, algorithm 1)."""
    tensors = list(parameters)
    if tensors:
        torch._foreach_clamp_min_(tensors, -bound)
        torch._foreach_clamp_max_(tensors, bound)


def clip_gradients(parameters: Iterable[Tensor], norm: float | None = None, value: float | None = None) -> None:
    """Clamp every gradient to [−value, value], then scale all of them together to a global L2 norm of at most `norm`.

    Either may be None. Nothing is read back from the device.
    """
    tensors = list(parameters)
    if value is not None:
        clip_grad_value_(tensors, value)
    if norm is not None:
        clip_grad_norm_(tensors, norm)


@torch.no_grad()
def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """The global L2 norm of the gradients, a scalar on their device; parameters without a gradient count as 0."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    return torch.stack([norm.float() for norm in torch._foreach_norm(gradients)]).norm()


def spectral_norm(module: nn.Module, *, power_iterations: int = 1) -> nn.Module:
    """Divide every layer's weight by its largest singular value (SN-GAN, Miyato et al. 2018, eq. 8), in place.

    Layers: convolutions, transposed convolutions, linear layers and embeddings; those already parametrised are left,
    and those whose class says `unbounded = True`.
    power_iterations: steps of the running estimate at each forward pass in train mode.
    Returns the same module.
    """
    for layer in list(module.modules()):
        if isinstance(layer, WEIGHTED) and not (is_parametrized(layer, "weight") or getattr(layer, "unbounded", False)):
            normalize_layer(layer, n_power_iterations=power_iterations)
    return module


def _weights(module: nn.Module) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    """Every weight once, with the layer that it belongs to: parameters of two and more dimensions, norms left out."""
    owners: dict[nn.Module, nn.Module] = {}
    for layer in module.modules():
        if is_parametrized(layer):
            # The values lie one module further down, but it is the layer's type that says what they are.
            owners.update(dict.fromkeys(layer.parametrizations.children(), layer))  # type: ignore[union-attr]
    seen: set[nn.Parameter] = set()
    for layer in module.modules():
        owner = owners.get(layer, layer)
        for parameter in layer.parameters(recurse=False):
            if parameter.ndim >= 2 and not isinstance(owner, NORMS) and parameter not in seen:
                seen.add(parameter)
                yield owner, parameter
