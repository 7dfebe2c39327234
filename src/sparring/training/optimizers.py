"""Optimisers by name; their keyword arguments are the recipe's options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn, optim

from sparring.core.schedules import anneal_cosine, length
from sparring.errors import UserError
from sparring.options import call, choose, resolve

Parameters = Iterable[nn.Parameter]


def adam(
    parameters: Parameters,
    *,
    lr: float,
    betas: tuple[float, float] = (0.5, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    final_betas: tuple[float, float] | None = None,
    over: int = 0,
) -> optim.Optimizer:
    """Adam (Kingma & Ba 2015); `weight_decay` is the L2 kind. final_betas, over: see `scheduled_betas`."""
    return optim.Adam(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)


def adamw(
    parameters: Parameters,
    *,
    lr: float,
    betas: tuple[float, float] = (0.5, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    final_betas: tuple[float, float] | None = None,
    over: int = 0,
) -> optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019). final_betas, over: see `scheduled_betas`."""
    return optim.AdamW(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)


def rmsprop(
    parameters: Parameters,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> optim.Optimizer:
    """RMSprop (Hinton 2012)."""
    return optim.RMSprop(
        parameters, lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay, foreach=True
    )


def sgd(
    parameters: Parameters, *, lr: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
) -> optim.Optimizer:
    """Stochastic gradient descent."""
    return optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=True)


OPTIMIZERS = {"adam": adam, "adamw": adamw, "rmsprop": rmsprop, "sgd": sgd}


def build_optimizer(player: str, parameters: list[nn.Parameter], spec: Mapping[str, Any]) -> optim.Optimizer:
    """The optimiser that `spec` (`name`, `lr`, …) describes. Raises UserError for unknown, missing or impossible options."""
    options = dict(spec)
    name = options.pop("name", None)
    if name is None:
        raise UserError(f"the optimiser of {player!r} has no name; there are {', '.join(OPTIMIZERS)}")
    try:
        return call(choose(OPTIMIZERS, name, what="optimiser"), options, parameters, where="train.optimizer")
    except ValueError as error:  # torch checks ranges: a learning rate below 0, a beta above 1
        raise UserError(f"train.optimizer of {player!r}: {error}") from error


Betas = tuple[float, float]


def scheduled_betas(spec: Mapping[str, Any], steps: int | None) -> Callable[[int], Betas] | None:
    """Adam's betas as a function of the step, where an optimiser's `spec` has `final_betas`; otherwise None.

    They move along half a cosine from `betas` to `final_betas`, reached after `over` steps (R3GAN, Huang et al. 2024), and
    stay there. steps: the length of the run, over which they move where `over` is 0.
    Raises UserError where neither is known, or a beta lies outside [0, 1).
    """
    if spec.get("final_betas") is None:
        return None
    where = "train.optimizer"
    function = choose(OPTIMIZERS, spec["name"], what="optimiser")
    options = resolve(function, {key: value for key, value in spec.items() if key != "name"}, where=where)
    first, final = options["betas"], options["final_betas"]
    if not all(0 <= beta < 1 for beta in final):
        raise UserError(f"{where}.final_betas: each is at least 0 and below 1, not {[*final]}")
    over = length(options["over"], steps, where=where)

    def betas(step: int) -> Betas:
        one, two = (anneal_cosine(begin, end, step, over) for begin, end in zip(first, final, strict=True))
        return one, two

    return betas
