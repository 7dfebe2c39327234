"""An optimiser whose state is spread over the processes: each moves its own slice of the weights, and sends it to the others.

This is the first stage of ZeRO (Rajbhandari et al. 2020): Adam's two moments take 8/W bytes a weight instead of 8. Weights
and gradients stay whole in every process, so any game can be played so, with second derivatives and whatever else. It
costs one all-gather of the weights a turn beside the all-reduce of their gradients: half as much traffic again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn, optim

from sparring.errors import UserError


def shard_optimizer(
    parameters: Sequence[nn.Parameter],
    build: Callable[[list[nn.Parameter]], optim.Optimizer],
    *,
    rank: int,
    world: int,
) -> optim.Optimizer:
    """The optimiser that `build` makes, on this process's slice of all `parameters` in a row.

    build: parameters → an optimiser that treats each number by itself, as all of ours do. rank, world: this process, and
    how many there are. Its state dict is that of an optimiser of the whole, so checkpoints do not depend on the sharding.
    Raises UserError for parameters of several types.
    """
    # It has all of an optimiser's methods that a training and a checkpoint use, and none of the machinery behind them.
    return cast(optim.Optimizer, ShardedOptimizer(parameters, build, rank=rank, world=world))


class ShardedOptimizer:
    """See `shard_optimizer`. All numbers of a slice have one count of steps."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        build: Callable[[list[nn.Parameter]], optim.Optimizer],
        *,
        rank: int,
        world: int,
    ) -> None:
        if len({(each.dtype, each.device) for each in parameters}) != 1:
            raise UserError("train.shard_optimizer needs a player whose weights are all of one type: leave it out")
        self.parameters, self.world = list(parameters), world
        self.count = sum(each.numel() for each in parameters)
        self.size = -(-self.count // world)
        self.start = rank * self.size
        self.own = nn.Parameter(parameters[0].new_zeros(self.size))
        self.inner = build([self.own])

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Where learning rates are set."""
        return self.inner.param_groups

    @property
    def state(self) -> Any:
        """The state of the own slice."""
        return self.inner.state

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the own slice, and take over the others'. Every process calls it, with the same gradients."""
        self.own.grad = torch.zeros_like(self.own)
        for parameter, own, part in self._pieces():
            self.own[own].copy_(parameter.flatten()[part])
            if parameter.grad is not None:
                self.own.grad[own].copy_(parameter.grad.flatten()[part])
        self.inner.step()
        self.own.grad = None
        for parameter, values in zip(self.parameters, self._cut(self._whole(self.own.detach())), strict=True):
            parameter.copy_(values)

    def state_dict(self) -> dict[str, Any]:
        """The state as an optimiser of all parameters would have it. Every process calls it."""
        inner = self.inner.state_dict()
        state: dict[int, dict[str, Any]] = {index: {} for index in range(len(self.parameters))}
        for name, value in inner["state"].get(0, {}).items():
            sliced = isinstance(value, Tensor) and value.shape == self.own.shape
            whole = self._cut(self._whole(value)) if sliced else [value] * len(self.parameters)
            for index, part in enumerate(whole):
                state[index][name] = part
        groups = [{**group, "params": list(range(len(self.parameters)))} for group in inner["param_groups"]]
        return {"state": state if inner["state"] else {}, "param_groups": groups}

    def load_state_dict(self, whole: dict[str, Any]) -> None:
        """Keep of an optimiser's state for all parameters what concerns the own slice."""
        numbers = {id(parameter): index for index, parameter in enumerate(self.parameters)}
        # The largest tells best which entries hold a value for each weight. Weights that never had a gradient have none.
        largest = max(range(len(self.parameters)), key=lambda index: self.parameters[index].numel())
        state: dict[str, Any] = dict(whole["state"].get(largest, {}))
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == self.parameters[largest].shape:
                state[name] = torch.zeros_like(self.own.detach(), dtype=value.dtype)
                for parameter, own, part in self._pieces():
                    values = whole["state"].get(numbers[id(parameter)], {}).get(name)
                    if values is not None:
                        state[name][own].copy_(values.flatten()[part])
        groups = [{**group, "params": [0]} for group in whole["param_groups"]]
        self.inner.load_state_dict({"state": {0: state} if state else {}, "param_groups": groups})

    def _pieces(self) -> Iterator[tuple[nn.Parameter, slice, slice]]:
        """Each parameter that the own slice has part in: where in the slice, and which part of the parameter."""
        before = 0
        for parameter in self.parameters:
            first, last = max(before, self.start), min(before + parameter.numel(), self.start + self.size)
            if first < last:
                yield parameter, slice(first - self.start, last - self.start), slice(first - before, last - before)
            before += parameter.numel()

    def _whole(self, own: Tensor) -> Tensor:
        """The slices of all processes in a row."""
        whole = own.new_empty(self.size * self.world)
        dist.all_gather(list(whole.split(self.size)), own.contiguous())
        return whole[: self.count]

    def _cut(self, whole: Tensor) -> list[Tensor]:
        """A row of all values as tensors in the parameters' shapes."""
        pieces = whole.split([each.numel() for each in self.parameters])
        return [piece.view(each.shape) for piece, each in zip(pieces, self.parameters, strict=True)]
