from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparring.core.initialize import INITIALIZERS, initialize
from sparring.core.regularize import spectral_norm
from sparring.errors import UserError

torch.set_num_threads(1)

LAYERS = {
    "linear": lambda: nn.Linear(200, 100),
    "convolution": lambda: nn.Conv2d(20, 50, 4),
    "transposed": lambda: nn.ConvTranspose2d(20, 50, 4),
}
INPUTS = {"linear": 200, "convolution": 20 * 16, "transposed": 20 * 16}
OUTPUTS = {"linear": 100, "convolution": 50 * 16, "transposed": 50 * 16}
each_layer = pytest.mark.parametrize("kind", LAYERS)


def drawn(module: nn.Module, **spec: Any) -> nn.Module:
    torch.manual_seed(0)
    initialize(module, spec)
    return module


def weight_of(module: nn.Module) -> Tensor:
    value = module.weight
    assert isinstance(value, Tensor)
    return value.detach()


def bias_of(module: nn.Module) -> Tensor:
    return module.get_parameter("bias").detach()


def spread(module: nn.Module) -> float:
    return float(weight_of(module).std())


@each_layer
def test_normal_has_its_spread_and_zero_biases(kind: str) -> None:
    layer = drawn(LAYERS[kind](), name="normal", std=0.05)
    assert spread(layer) == pytest.approx(0.05, rel=0.03)
    assert abs(float(weight_of(layer).mean())) < 0.002
    assert not bias_of(layer).any()


@each_layer
def test_he_counts_the_inputs_of_a_layer(kind: str) -> None:
    assert spread(drawn(LAYERS[kind](), name="he")) == pytest.approx((2 / INPUTS[kind]) ** 0.5, rel=0.03)


@each_layer
def test_xavier_counts_inputs_and_outputs(kind: str) -> None:
    expected = 2.0 * (2 / (INPUTS[kind] + OUTPUTS[kind])) ** 0.5
    assert spread(drawn(LAYERS[kind](), name="xavier", gain=2.0)) == pytest.approx(expected, rel=0.03)


@each_layer
def test_orthogonal_filters_have_unit_products(kind: str) -> None:
    layer = drawn(LAYERS[kind](), name="orthogonal", gain=1.5)
    weight = weight_of(layer)
    filters = (weight.transpose(0, 1) if kind == "transposed" else weight).flatten(1)
    torch.testing.assert_close(filters @ filters.T, 2.25 * torch.eye(len(filters)), atol=1e-4, rtol=0)


def test_norm_layers_start_at_one_and_spread_only_under_normal() -> None:
    for norm in (nn.BatchNorm2d(4000), nn.GroupNorm(2, 4000), nn.LayerNorm(4000), nn.InstanceNorm2d(4000, affine=True)):
        drawn(norm, name="normal", std=0.02)
        assert float(norm.weight.detach().mean()) == pytest.approx(1.0, abs=2e-3)
        assert spread(norm) == pytest.approx(0.02, rel=0.05)
        drawn(norm, name="orthogonal")
        assert torch.equal(norm.weight, torch.ones(4000)) and not norm.bias.any()
    drawn(nn.BatchNorm2d(4, affine=False), name="normal")


def test_an_embedding_keeps_its_padding_row_at_zero() -> None:
    layer = drawn(nn.Embedding(50, 40, padding_idx=3), name="normal", std=0.1)
    assert not weight_of(layer)[3].any() and spread(layer) == pytest.approx(0.1, rel=0.05)


def test_a_module_that_initialises_itself_is_left_with_all_it_holds() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)
            self.initialize_own()

        def initialize_own(self) -> None:
            nn.init.constant_(self.inner.weight, 7.0)

    own, other = Own(), nn.Linear(3, 3)
    drawn(nn.Sequential(own, other), name="normal")
    assert (own.inner.weight == 7).all() and own.inner.bias.any()
    assert not other.bias.any()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_spectrally_normalised_layer_is_drawn_below_and_settles_at_once(name: str) -> None:
    layer = spectral_norm(nn.Conv2d(4, 12, 3))
    drawn(layer.eval(), name=name)
    plain = drawn(nn.Conv2d(4, 12, 3), name=name)
    below = layer.get_parameter("parametrizations.weight.original")
    torch.testing.assert_close(below.detach(), weight_of(plain), rtol=0, atol=0)
    largest = torch.linalg.matrix_norm(weight_of(layer).flatten(1), ord=2)
    assert float(largest) == pytest.approx(1, rel=0.05)
    assert not layer.training


def test_an_empty_spec_changes_nothing() -> None:
    layer = nn.Linear(3, 3)
    before = copy.deepcopy(layer.state_dict())
    initialize(layer, {})
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_mistakes_in_the_recipe_are_explained() -> None:
    with pytest.raises(UserError, match="did you mean 'normal'"):
        initialize(nn.Linear(1, 1), {"name": "normall"})
    with pytest.raises(UserError, match="did you mean 'std'"):
        initialize(nn.Linear(1, 1), {"name": "normal", "sdt": 1})
