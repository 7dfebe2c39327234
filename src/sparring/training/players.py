"""A player of a game, as the trainer sees it: parameters, and what moves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn, optim

from sparring.errors import UserError, nearest
from sparring.recipe import Recipe, Regularize
from sparring.training.engine import Engine
from sparring.training.optimizers import Betas, build_optimizer, scheduled_betas
from sparring.training.sharded import shard_optimizer


@dataclass
class PlayerState:
    """A player's parameters and what moves them.

    frozen: modules that stay as they are; their parameters are not among `parameters`.
    """

    module: nn.Module
    parameters: list[nn.Parameter]
    optimizer: optim.Optimizer
    regularize: Regularize
    base_rates: list[float]
    scaler: torch.amp.GradScaler | None
    betas: Callable[[int], Betas] | None = None
    frozen: Sequence[nn.Module] = ()

    def hold(self) -> None:
        """Keep what no optimiser moves from moving: running statistics, and the vectors of spectral norms."""
        for module in self.frozen:
            module.eval()

    def set_pace(self, step: int, multiplier: float) -> None:
        """Learning rates and betas of a step. multiplier: the factor on all learning rates."""
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * multiplier
            if self.betas is not None:
                group["betas"] = self.betas(step)


def build_player(name: str, module: nn.Module, recipe: Recipe, engine: Engine, length: int | None) -> PlayerState:
    """A player with the optimiser and the regularisation that the recipe gives it. length: in steps. Raises UserError."""
    spec, regularize = recipe.player(name)
    # Two players may own the same parameter (an encoder that reconstructs and fools): each moves it by its own rule.
    frozen, fixed = find_frozen(name, module, recipe)
    parameters = [each for each in module.parameters() if each.requires_grad and id(each) not in fixed]
    if not parameters:
        raise UserError(f"train.players.{name}.freeze leaves this player nothing to learn: freeze less")
    scaler = engine.scaler()
    if recipe.train.shard_optimizer and engine.world > 1:
        if scaler:
            raise UserError("train.shard_optimizer does not go with 16-bit floats: say --precision bf16 or 32")
        optimizer = shard_optimizer(
            parameters, lambda own: build_optimizer(name, own, spec), rank=engine.rank, world=engine.world
        )
    else:
        optimizer = build_optimizer(name, parameters, spec)
    rates = [group["lr"] for group in optimizer.param_groups]
    betas = scheduled_betas(spec, length)
    return PlayerState(module, parameters, optimizer, regularize, rates, scaler, betas, frozen)


def find_frozen(name: str, module: nn.Module, recipe: Recipe) -> tuple[list[nn.Module], set[int]]:
    """The modules that the recipe freezes of a player, and the ids of their parameters.

    A pattern is the dotted name of a module or parameter, in which `*` stands for anything. Of a player that is a list of
    networks, names are those in each. Raises UserError for one that matches nothing, with the nearest name.
    """
    networks = list(module) if isinstance(module, nn.ModuleList) else [module]
    modules = [pair for network in networks for pair in network.named_modules() if pair[0]]
    weights = [pair for network in networks for pair in network.named_parameters()]
    frozen: list[nn.Module] = []
    fixed: set[int] = set()
    for pattern in recipe.train.players[name].freeze if name in recipe.train.players else ():
        chosen = [each for key, each in modules if fnmatchcase(key, pattern)]
        single = [each for key, each in weights if fnmatchcase(key, pattern)]
        if not chosen and not single:
            known = [key for key, _ in [*modules, *weights]]
            tops = ", ".join(dict.fromkeys(key for key in known if "." not in key))
            raise UserError(
                f"train.players.{name}.freeze: {pattern!r} matches no module{nearest(pattern, known)}; there are {tops} and what they hold"
            )
        frozen += chosen
        fixed |= {id(each) for each in [*single, *(own for part in chosen for own in part.parameters())]}
    return frozen, fixed
