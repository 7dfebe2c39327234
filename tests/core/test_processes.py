"""Means over processes, as one of two sees them; tests/training/test_many_processes.py lets real ones meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sparring.core import processes
from sparring.core.losses import LOSSES
from sparring.core.processes import Group, deviation, mean

torch.set_num_threads(1)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Group:
    """One of two processes; the other holds the same values plus 2."""

    def all_reduce(value: Tensor) -> None:
        value.copy_(value + value + 2)

    monkeypatch.setattr(processes.dist, "all_reduce", all_reduce)
    return Group(0, 2, torch.device("cpu"), 0)


def test_one_process_is_its_own_mean() -> None:
    value = torch.tensor([1.0, 5.0])
    assert mean(value) is value
    assert deviation(value) == 2


def test_a_mean_is_over_all_processes_and_leaves_its_argument_alone(pair: Group) -> None:
    value = torch.tensor([1.0, 5.0])
    with pair.playing():
        assert mean(value).tolist() == [2, 6]
    assert value.tolist() == [1, 5]


def test_the_gradient_of_a_mean_is_the_mean_of_the_gradients_in_every_order(pair: Group) -> None:
    x = torch.tensor(3.0, requires_grad=True)
    with pair.playing():
        y = mean(x**3)
        (first,) = torch.autograd.grad(y, x, create_graph=True)
        (second,) = torch.autograd.grad(first, x)
    assert y == 27 + 1
    assert first == 3 * 9 * (1 + 1)  # the gradient that arrives is 1 here and 3 there
    # That mean of gradients was taken of a constant: only x² is differentiated again.
    assert second == 2 * 3 * 3 * (1 + 1)


def test_backward_passes_meet_the_others_also_outside(pair: Group) -> None:
    x = torch.tensor(3.0, requires_grad=True)
    with pair.playing():
        y = mean(2 * x)
    y.backward()
    assert x.grad == 2 * (1 + 1)


def test_the_relativistic_average_is_that_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = torch.randn(8, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 2, 8)
    loss = LOSSES["relativistic_average"]
    whole = loss.discriminator(real, fake)
    parts = []
    for rank in range(2):
        own, other = slice(4 * rank, 4 * rank + 4), slice(4 - 4 * rank, 8 - 4 * rank)
        group = Group(rank, 2, torch.device("cpu"), None)
        there: Any = torch.stack([real[other].mean(), fake[other].mean()])
        monkeypatch.setattr(processes.dist, "all_reduce", lambda value, there=there: value.add_(there))
        with group.playing():
            parts.append(loss.discriminator(real[own], fake[own]))
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
