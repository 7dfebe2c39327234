"""The deviation of a minibatch as planes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.core.adversarial import mixes_samples
from sparring.nn.minibatch import MinibatchStdDev

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_the_plane_is_the_mean_deviation_of_a_group() -> None:
    x = torch.randn(8, 6, 5, 3, dtype=torch.float64)
    out = MinibatchStdDev(4, channels=2)(x)
    torch.testing.assert_close(out[:, :6], x)
    for first in (0, 4):
        spread = x[first : first + 4].std(dim=0, correction=0)
        for plane, own in ((6, spread[:3]), (7, spread[3:])):
            torch.testing.assert_close(out[first : first + 4, plane], own.mean().expand(4, 5, 3), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("count", "groups"), [(3, [3]), (10, [5, 5]), (7, [7]), (11, [6, 5]), (1, [1])])
def test_every_batch_size_makes_groups_of_at_least_the_size_asked_for(count: int, groups: list[int]) -> None:
    x = torch.randn(count, 4, 2, 2)
    plane = MinibatchStdDev(4)(x)[:, 4, 0, 0]
    spreads = [part.std(dim=0, correction=0).mean().clamp(min=1e-4) for part in x.split(groups)]
    torch.testing.assert_close(plane, torch.cat([s.repeat(n) for s, n in zip(spreads, groups, strict=True)]))


def test_shares_of_whole_groups_are_seen_as_in_the_whole_batch() -> None:
    layer, x = MinibatchStdDev(4), torch.randn(16, 4, 3, 3)
    assert torch.equal(torch.cat([layer(share) for share in x.split(8)]), layer(x))
    assert not torch.equal(torch.cat([layer(share) for share in x.split(2)]), layer(x))


def test_its_second_derivative_is_right_and_finite_for_equal_samples() -> None:
    layer = MinibatchStdDev(2)
    x = torch.randn(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, x)
    same = torch.ones(4, 2, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(same).square().sum(), same, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), same)
    assert gradient.isfinite().all() and second.isfinite().all()


def test_a_network_with_it_mixes_samples() -> None:
    assert mixes_samples(nn.Sequential(nn.ReLU(), MinibatchStdDev()))
    assert not mixes_samples(nn.Sequential(nn.ReLU()))


def test_planes_that_do_not_divide_the_channels_are_an_error() -> None:
    with pytest.raises(ValueError, match="do not divide 5"):
        MinibatchStdDev(4, channels=2)(torch.zeros(4, 5, 2, 2))
