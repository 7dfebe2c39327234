"""Layers with an equalised learning rate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sparring.core.initialize import initialize
from sparring.nn.equalised import EqualisedConv2d, EqualisedLinear, leaky

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_unit_variance_goes_in_and_comes_out(lr_multiplier: float) -> None:
    linear = EqualisedLinear(600, 500, lr_multiplier=lr_multiplier)
    assert linear(torch.randn(200, 600)).std().item() == pytest.approx(1, rel=0.05)
    conv = EqualisedConv2d(64, 48, 3, padding=0, lr_multiplier=lr_multiplier)
    assert conv(torch.randn(8, 64, 12, 12)).std().item() == pytest.approx(1, rel=0.05)
    assert leaky(torch.randn(10**5)).square().mean().item() == pytest.approx(1 + 0.2**2, rel=0.05)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_a_layer_is_the_plain_one_with_scaled_weight_and_bias(lr_multiplier: float) -> None:
    layer = EqualisedConv2d(5, 4, 3, stride=2, lr_multiplier=lr_multiplier, gain=3.0)
    nn.init.normal_(layer.bias)
    plain = nn.Conv2d(5, 4, 3, stride=2, padding=1)
    plain.load_state_dict({
        "weight": layer.weight * lr_multiplier * 3 / math.sqrt(5 * 9), "bias": layer.bias * lr_multiplier,
    })  # fmt: skip
    x = torch.randn(2, 5, 9, 8)
    torch.testing.assert_close(layer(x), plain(x))
    assert EqualisedLinear(3, 2, lr_multiplier=lr_multiplier, start=1.0)(torch.zeros(1, 3)).tolist() == [[1.0, 1.0]]


def test_an_adam_step_moves_the_output_as_the_learning_rate_multiplier_says() -> None:
    # Adam's first step moves each weight by its learning rate: the output of equal inputs by lr · multiplier · √inputs.
    for inputs, multiplier in ((16, 1.0), (256, 1.0), (256, 0.01)):
        layer = EqualisedLinear(inputs, 1, bias=False, lr_multiplier=multiplier)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
        x = torch.ones(1, inputs)
        before = layer(x)
        before.sum().backward()
        optimizer.step()
        assert (before - layer(x)).item() == pytest.approx(0.1 * multiplier * math.sqrt(inputs), rel=1e-3)


def test_a_recipes_initialiser_leaves_their_weights_as_wide_as_they_must_be() -> None:
    network = nn.Sequential(EqualisedLinear(300, 300, lr_multiplier=0.5), nn.Linear(300, 300))
    before = network[0].weight.clone()
    initialize(network, {"name": "normal", "std": 0.02})
    assert not torch.equal(network[0].weight, before)
    assert network[0].weight.std().item() == pytest.approx(2, rel=0.02)
    assert network[1].weight.std().item() == pytest.approx(0.02, rel=0.02)
