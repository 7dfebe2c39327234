"""Gated recurrent units (Cho et al. 2014), with a backward pass of their own.

torch's GRU on a processor is some twenty small operations a step, each with a node of the graph, which for windows of
24 steps of 24 units is most of what it costs. Here a step is five operations forward and four backward, into memory that
is laid out beforehand; what does not depend on the step before is computed for all steps at once.

Gates are those of torch: r = σ(Wᵣx + Uᵣh + bᵣ), z = σ(W_z x + U_z h + b_z), n = tanh(Wₙx + bₙ + r ⊙ (Uₙh + cₙ)) and
h' = (1 − z) ⊙ n + z ⊙ h. Rows are gates and columns are samples, so that each gate is one piece of memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class GRU(nn.GRU):
    """torch's, batch first, whose training takes the backward pass below. Its weights and answers are the same; they begin Glorot-uniform
    and orthogonal.

    Differentiable once: a penalty on its gradients needs the finite-difference form. What starts from a state of its own, is
    exported or traced, or needs no slopes is left to torch.
    """

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__(inputs, width, depth, batch_first=True)
        for inward, onward, *_ in self.all_weights:
            for gate in inward.data.chunk(3):
                nn.init.xavier_uniform_(gate)
            # Orthogonal, so that what a state holds neither fades nor grows before it is learnt what to keep.
            for gate in onward.data.chunk(3):
                nn.init.orthogonal_(gate)

    def forward(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """States (N, T, width) of sequences (N, T, inputs), and the last of each layer (depth, N, width)."""
        if first is not None or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x, first)
        columns, last = x.permute(1, 2, 0), []
        for inward, onward, bias, onward_bias in self.all_weights:
            # cₙ stands inside of the reset gate, and the others beside the inputs'.
            outer = torch.cat([onward_bias[: 2 * self.hidden_size], torch.zeros_like(bias[2 * self.hidden_size :])])
            columns = gru(columns, inward, onward, bias + outer, onward_bias[2 * self.hidden_size :])
            last.append(columns[-1].T)
        return columns.permute(2, 0, 1), torch.stack(last)


def gru(x: Tensor, inward: Tensor, onward: Tensor, bias: Tensor, candidate_bias: Tensor) -> Tensor:
    """States (T, …, H, N) of inputs (T, …, F, N), the first after a state of 0.

    inward (…, 3H, F), onward (…, 3H, H), bias (…, 3H), candidate_bias (…, H): rows of r, z and n, in this order. Where there
    are dimensions in place of …, one R, they are R networks that know nothing of each other. Differentiable once.
    """
    return _Scan.apply(x, inward, onward, bias, candidate_bias)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, inward: Tensor, onward: Tensor, bias: Tensor, candidate_bias: Tensor) -> Tensor:
        width = onward.shape[-1]
        x = x.contiguous()
        wanted = _each(inward, x).add_(bias.unsqueeze(-1))
        # What is added to U h: the inputs of r and z, and c.
        gates = wanted.clone()
        gates[..., 2 * width :, :] = candidate_bias.unsqueeze(-1)
        wanted = wanted[..., 2 * width :, :]
        states = x.new_empty(len(x) + 1, *x.shape[1:-2], width, x.shape[-1])
        states[0] = 0
        candidates = torch.empty_like(states[1:])
        multiply = _multiply(onward)
        resets, updates, recurrent = gates.split(width, dim=-2)
        for gate, both, reset, update, inner, want, before, candidate, after in zip(
            gates.unbind(), gates[..., : 2 * width, :].unbind(), resets.unbind(), updates.unbind(), recurrent.unbind(),
            wanted.unbind(), states[:-1].unbind(), candidates.unbind(), states[1:].unbind(), strict=True,
        ):  # fmt: skip
            multiply(gate, onward, before)
            both.sigmoid_()
            torch.addcmul(want, reset, inner, out=candidate)
            candidate.tanh_()
            torch.lerp(candidate, before, update, out=after)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(x, gates, candidates, states, inward, onward)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, gates, candidates, states, inward, onward = ctx.saved_tensors
        width = onward.shape[-1]
        resets, updates, recurrent = gates.split(width, dim=-2)
        # The loss's slope by each gate's argument is its slope by the state after, times these.
        steep = (1 - updates).mul_(1 - candidates.square())
        factors = torch.empty_like(gates).unflatten(-2, (3, width))
        torch.mul(steep, resets, out=factors[..., 2, :, :])
        torch.mul(factors[..., 2, :, :], (1 - resets).mul_(recurrent), out=factors[..., 0, :, :])
        torch.mul((1 - updates).mul_(updates), states[:-1] - candidates, out=factors[..., 1, :, :])
        turned = onward.mT.contiguous()
        multiply = _multiply(onward)
        slopes = slope.clone(memory_format=torch.contiguous_format)  # by each state, of all that comes after
        arguments = factors.flatten(-3, -2)  # in place: from here on, by the arguments
        pieces = [each.unbind() for each in (slopes, slopes.unsqueeze(-3), factors, arguments, updates)]
        for step in range(len(x) - 1, -1, -1):
            here, spread, factor, argument, update = (piece[step] for piece in pieces)
            factor.mul_(spread)
            if step:
                before = pieces[0][step - 1]
                before.addcmul_(here, update)
                multiply(before, turned, argument)
        needs = ctx.needs_input_grad
        by_onward = (arguments @ states[:-1].mT).sum(0)
        by_candidate_bias = arguments[..., 2 * width :, :].sum(dim=(0, -1))
        torch.mul(slopes, steep, out=arguments[..., 2 * width :, :])  # n's own argument, without r
        by_x = _each(inward.mT, arguments) if needs[0] else None
        by_inward = (arguments @ x.mT).sum(0) if needs[1] else None
        return by_x, by_inward, by_onward, arguments.sum(dim=(0, -1)), by_candidate_bias


def _each(weight: Tensor, columns: Tensor) -> Tensor:
    """A product weight (…, M, K) times columns (T, …, K, N), at every step: as products of blocks, whose result lies as it is wanted."""
    return torch.bmm(
        weight.expand(*columns.shape[:-2], *weight.shape[-2:]).flatten(0, -3), columns.flatten(0, -3)
    ).unflatten(0, columns.shape[:-2])


def _multiply(weight: Tensor) -> Any:
    return torch.Tensor.addmm_ if weight.ndim == 2 else torch.Tensor.baddbmm_
