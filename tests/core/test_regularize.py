from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from sparring.core.regularize import clip_gradients, clip_weights, gradient_norm, spectral_norm, weight_terms
from sparring.recipe import Regularize

torch.set_num_threads(1)


def asked(**options: float) -> Regularize:
    return Regularize.model_validate(options)


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 5, 3),
        nn.BatchNorm2d(5),
        nn.ConvTranspose2d(5, 4, 3),
        nn.LayerNorm((4, 6, 6)),
        nn.Flatten(),
        nn.Linear(144, 3),
    ).double()


WEIGHTS = ("0.weight", "2.weight", "5.weight")


def test_terms_are_their_formulas_over_weights_without_biases_and_norms(network: nn.Sequential) -> None:
    terms = weight_terms(network, asked(l1=0.1, l2=0.2))
    flat = torch.cat([network.get_parameter(name).flatten() for name in WEIGHTS])
    assert terms.keys() == {"l1", "l2"}
    torch.testing.assert_close(terms["l1"], 0.1 * flat.abs().sum())
    torch.testing.assert_close(terms["l2"], 0.2 * 0.5 * (flat**2).sum())


def test_gradient_of_l2_is_weight_decay(network: nn.Sequential) -> None:
    weight_terms(network, asked(l2=0.3))["l2"].backward()
    torch.testing.assert_close(network.get_parameter("5.weight").grad, 0.3 * network.get_parameter("5.weight").detach())
    assert network.get_parameter("5.bias").grad is None and network.get_parameter("1.weight").grad is None


def test_orthogonal_is_the_squared_inner_products_of_different_filters(network: nn.Sequential) -> None:
    term = weight_terms(network, asked(orthogonal=0.5))["orthogonal"].detach()
    expected = 0.0
    for layer in (network[0], network[2], network[5]):
        weight = layer.get_parameter("weight").detach()
        filters = [*(weight.unbind(1) if isinstance(layer, nn.ConvTranspose2d) else weight.unbind(0))]
        for i, a in enumerate(filters):
            expected += sum(float((a * b).sum()) ** 2 for j, b in enumerate(filters) if i != j)
    assert float(term) == pytest.approx(0.5 * expected, rel=1e-10)


def test_orthogonal_filters_of_any_length_cost_nothing() -> None:
    layer = nn.Linear(6, 4)
    nn.init.orthogonal_(layer.weight, gain=3.0)
    assert weight_terms(layer, asked(orthogonal=1.0))["orthogonal"] < 1e-8


def test_a_weight_that_two_layers_share_counts_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    both = weight_terms(nn.ModuleList([first, second]), asked(l2=1.0))["l2"]
    torch.testing.assert_close(both, 0.5 * first.weight.square().sum())


def test_terms_reach_under_a_spectral_norm_and_know_the_layer(network: nn.Sequential) -> None:
    options = asked(l1=0.1, orthogonal=1.0)
    before = weight_terms(network, options)
    after = weight_terms(spectral_norm(network), options)
    torch.testing.assert_close(after, before)


def test_embeddings_are_left_out_of_orthogonality() -> None:
    assert weight_terms(nn.Embedding(5, 3), asked(orthogonal=1.0)) == {}


def test_nothing_asked_for_gives_no_terms(network: nn.Sequential) -> None:
    assert weight_terms(network, asked()) == {}


def test_clipped_weights_lie_within_the_bound_and_inner_ones_stay(network: nn.Sequential) -> None:
    before = [parameter.detach().clone() for parameter in network.parameters()]
    clip_weights(network.parameters(), 0.05)
    for parameter, old in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, old.clamp(-0.05, 0.05))
    clip_weights([], 0.05)


def give_gradients(network: nn.Sequential) -> torch.Tensor:
    """Random gradients, one parameter left without; all of them, flat."""
    for parameter in list(network.parameters())[1:]:
        parameter.grad = torch.randn_like(parameter)
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def test_gradient_norm_is_the_global_l2_norm(network: nn.Sequential) -> None:
    flat = give_gradients(network)
    torch.testing.assert_close(gradient_norm(network.parameters()), flat.norm().float())
    assert gradient_norm([torch.zeros(3)]) == 0


def test_gradients_are_clipped_by_value_then_by_norm(network: nn.Sequential) -> None:
    flat = give_gradients(network)
    clip_gradients(network.parameters(), value=0.5)
    clamped = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    torch.testing.assert_close(clamped, flat.clamp(-0.5, 0.5))
    clip_gradients(network.parameters(), norm=2.0)
    assert float(gradient_norm(network.parameters())) == pytest.approx(2.0, rel=1e-4)
    clip_gradients(network.parameters(), norm=100.0)
    assert float(gradient_norm(network.parameters())) == pytest.approx(2.0, rel=1e-4)


def test_spectral_norm_brings_every_layer_to_largest_singular_value_one() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ConvTranspose1d(3, 8, 3), nn.Linear(7, 5), nn.Embedding(6, 4)]
    network = spectral_norm(nn.ModuleList([*layers, nn.BatchNorm1d(3)]), power_iterations=5)
    for layer in layers:
        for _ in range(60):
            weight: torch.Tensor = layer.weight  # type: ignore[assignment]
        rows = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose1d) else weight
        largest = torch.linalg.matrix_norm(rows.flatten(1), ord=2)
        torch.testing.assert_close(largest, torch.ones(()), rtol=1e-3, atol=0)
    assert not is_parametrized(network[4])  # type: ignore[index]


def test_spectral_norm_twice_is_spectral_norm_once(network: nn.Sequential) -> None:
    names = [name for name, _ in spectral_norm(network).named_parameters()]
    assert [name for name, _ in spectral_norm(network).named_parameters()] == names
