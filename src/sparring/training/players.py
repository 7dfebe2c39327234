"""A player of a game, as the trainer sees it: parameters, and what moves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn, optim

from sparring.errors import UserError
from sparring.recipe import Recipe, Regularize
from sparring.training.engine import Engine
from sparring.training.optimizers import Betas, build_optimizer, scheduled_betas
from sparring.training.sharded import shard_optimizer


@dataclass
class PlayerState:
    """A player's parameters and what moves them."""

    module: nn.Module
    parameters: list[nn.Parameter]
    optimizer: optim.Optimizer
    regularize: Regularize
    base_rates: list[float]
    scaler: torch.amp.GradScaler | None
    betas: Callable[[int], Betas] | None = None

    def set_pace(self, step: int, multiplier: float) -> None:
        """Learning rates and betas of a step. multiplier: the factor on all learning rates."""
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * multiplier
            if self.betas is not None:
                group["betas"] = self.betas(step)


def build_player(name: str, module: nn.Module, recipe: Recipe, engine: Engine) -> PlayerState:
    """A player with the optimiser and the regularisation that the recipe gives it. Raises UserError."""
    spec, regularize = recipe.player(name)
    # Two players may own the same parameter (an encoder that reconstructs and fools): each moves it by its own rule.
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
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
    betas = scheduled_betas(spec, recipe.train.steps)
    return PlayerState(module, parameters, optimizer, regularize, rates, scaler, betas)
