"""Weight initialisation by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from sparring.core.regularize import NORMS, TRANSPOSED, WEIGHTED
from sparring.options import choose, resolve

# Accesses after which the running estimate of a spectral norm fits weights that it has never seen; as many as PyTorch
# takes when it builds one.
SETTLE = 15


def initialize(module: nn.Module, spec: Mapping[str, Any], *, where: str = "model.initialize") -> None:
    """Draw the weights of `module` anew, in place, as `spec` says, e.g. `{"name": "normal", "std": 0.02}`.

    Convolutions, linear layers and embeddings get weights from the named initialiser and biases of 0. Norm layers get
    biases of 0 and weights of 1, or of N(1, std) with `normal`, as DCGAN has it. An empty spec changes nothing.
    A module that has a method `initialize_own()` decides for itself: the method is called, and neither the module nor
    what it holds is touched otherwise.
    Raises UserError for an unknown initialiser or option.
    """
    if not spec:
        return
    function = choose(INITIALIZERS, spec.get("name", ""), what="initialiser")
    options = resolve(function, {key: value for key, value in spec.items() if key != "name"}, where=where)
    with torch.no_grad():
        _initialize(module, function, options)


def normal(weight: Tensor, *, std: float = 0.02) -> None:
    """N(0, std²), the DCGAN initialisation (Radford et al. 2016, section 4)."""
    nn.init.normal_(weight, std=std)


def xavier(weight: Tensor, *, gain: float = 1.0) -> None:
    """N(0, gain² · 2 / (inputs + outputs)) (Glorot & Bengio 2010, eq. 12)."""
    nn.init.xavier_normal_(weight, gain=gain)


def he(weight: Tensor) -> None:
    """N(0, 2 / inputs), for rectified units (He et al. 2015, eq. 10)."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


def orthogonal(weight: Tensor, *, gain: float = 1.0) -> None:
    """Orthogonal rows or columns of length `gain` (Saxe et al. 2014), the initialisation of BigGAN."""
    nn.init.orthogonal_(weight, gain=gain)


# Each fills a tensor (outputs, inputs, …kernel) in place.
INITIALIZERS: dict[str, Callable[..., None]] = {
    "normal": normal,
    "xavier": xavier,
    "he": he,
    "orthogonal": orthogonal,
}


def _initialize(module: nn.Module, function: Callable[..., None], options: Mapping[str, Any]) -> None:
    own = getattr(module, "initialize_own", None)
    if callable(own):
        own()
        return
    if isinstance(module, WEIGHTED):
        _draw(module, function, options)
        _zero_bias(module)
    elif isinstance(module, NORMS):
        if isinstance(getattr(module, "weight", None), Tensor):
            nn.init.normal_(module.weight, mean=1.0, std=options.get("std", 0.0))
        _zero_bias(module)
    for child in module.children():
        _initialize(child, function, options)


def _draw(layer: nn.Module, function: Callable[..., None], options: Mapping[str, Any]) -> None:
    weight = layer.weight.detach()  # type: ignore[operator]
    transposed = isinstance(layer, TRANSPOSED)
    # Transposed convolutions keep (inputs, outputs, …); initialisers count fan-in on the second dimension.
    drawn = torch.empty_like(weight.transpose(0, 1) if transposed else weight, memory_format=torch.contiguous_format)
    function(drawn, **options)
    if transposed:
        drawn = drawn.transpose(0, 1)
    if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
        drawn[layer.padding_idx] = 0
    if is_parametrized(layer, "weight"):
        layer.weight = drawn.contiguous()
        training = layer.training
        layer.train()
        for _ in range(SETTLE):
            _ = layer.weight
        layer.train(training)
    else:
        layer.weight.copy_(drawn)  # type: ignore[operator]


def _zero_bias(layer: nn.Module) -> None:
    bias = getattr(layer, "bias", None)
    if isinstance(bias, Tensor):
        bias.zero_()
