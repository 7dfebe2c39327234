from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sparring.core.ema import Average
from sparring.core.regularize import spectral_norm
from sparring.errors import UserError

torch.set_num_threads(1)


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), spectral_norm(nn.Linear(4, 2))).to(dtype)


def disturb(module: nn.Module) -> None:
    """Move every parameter and buffer, as a training step would."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    module(torch.randn(8, 3, dtype=next(module.parameters()).dtype))


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("warmup", [0.0, 0.05])
def test_average_equals_a_hand_loop(dtype: torch.dtype, warmup: float) -> None:
    generator = network(dtype)
    average = Average({"generator": generator}, half_life=50.0, warmup=warmup)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    expected: dict[str, Tensor] = {name: value.detach().to(wide) for name, value in generator.named_parameters()}
    for step in range(1, 40):
        disturb(generator)
        average.update(32, 32 * step)
        half_life = min(50.0, warmup * 32 * step) if warmup else 50.0
        beta = 0.5 ** (32 / half_life)
        for name, value in generator.named_parameters():
            expected[name] = beta * expected[name] + (1 - beta) * value.detach().to(wide)
    tensors = average.tensors()
    for name, averaged in expected.items():
        torch.testing.assert_close(tensors[f"generator.{name}"], averaged, rtol=1e-5, atol=1e-5)


def test_half_of_the_first_weights_is_left_after_one_half_life() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    average = Average({"g": layer}, half_life=1000.0, warmup=0.0)
    nn.init.zeros_(layer.weight)
    for step in range(1, 11):
        average.update(100, 100 * step)
    assert float(average.tensors()["g.weight"]) == pytest.approx(0.5, rel=1e-5)


def test_half_life_rises_along_half_a_cosine_and_stays() -> None:
    layer = nn.Linear(1, 1, bias=False)
    average = Average({"g": layer}, half_life=0.0, warmup=0.0, final=1000.0, over=800.0)
    expected = 0.0
    for step in range(1, 13):
        nn.init.constant_(layer.weight, step)
        average.update(100, 100 * step)
        share = min(1.0, 100 * (step - 1) / 800)
        half_life = 1000.0 * (0.5 - 0.5 * math.cos(math.pi * share))
        beta = 0.5 ** (100 / half_life) if half_life else 0.0
        expected = beta * expected + (1 - beta) * step
        assert float(average.tensors()["g.weight"]) == pytest.approx(expected, rel=1e-5)


def test_buffers_are_followed_and_names_are_those_of_the_state_dict() -> None:
    generator = network()
    generator.register_buffer("constant", torch.ones(2), persistent=False)
    average = Average({"generator": generator}, half_life=10.0, warmup=0.05)
    disturb(generator)
    average.update(4, 4)
    tensors = average.tensors()
    assert tensors.keys() == {f"generator.{name}" for name in generator.state_dict()}
    for name, value in generator.state_dict().items():
        if name in dict(generator.named_buffers()):
            assert torch.equal(tensors[f"generator.{name}"], value)


def test_buffers_are_followed_where_a_module_replaces_them() -> None:
    generator = network()
    average = Average({"generator": generator}, half_life=10.0, warmup=0.05)
    generator[1].running_mean = torch.full((4,), 5.0)
    average.update(4, 4)
    assert (average.tensors()["generator.1.running_mean"] == 5).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_applied_holds_the_average_and_restores_bit_for_bit(dtype: torch.dtype) -> None:
    generator = network(dtype)
    average = Average({"generator": generator}, half_life=1000.0, warmup=0.0)
    for step in range(1, 4):
        disturb(generator)
        average.update(16, 16 * step)
    disturb(generator)
    live = state(generator)
    with average.applied():
        inside = state(generator)
        generator(torch.randn(8, 3, dtype=dtype))  # moves buffers, as sampling in train mode would
    assert_identical(
        inside,
        {
            k.removeprefix("generator."): v.to(live[k.removeprefix("generator.")].dtype)
            for k, v in average.tensors().items()
        },
    )
    assert not torch.equal(inside["0.weight"], live["0.weight"])
    assert_identical(state(generator), live)


def test_applied_restores_after_an_error() -> None:
    generator = network()
    average = Average({"generator": generator}, half_life=1000.0, warmup=0.0)
    disturb(generator)
    live = state(generator)
    with pytest.raises(RuntimeError, match="stop"), average.applied():
        raise RuntimeError("stop")
    assert_identical(state(generator), live)


def test_loaded_average_goes_on_as_the_saved_one() -> None:
    generator = network()
    first = Average({"generator": generator}, half_life=100.0, warmup=0.05)
    disturb(generator)
    first.update(16, 16)
    second = Average({"generator": generator}, half_life=100.0, warmup=0.05)
    second.load({name: value.clone() for name, value in first.tensors().items()})
    disturb(generator)
    for average in (first, second):
        average.update(16, 32)
    assert_identical(first.tensors(), second.tensors())


def test_load_refuses_what_does_not_fit() -> None:
    average = Average({"generator": nn.Linear(2, 2)}, half_life=10.0, warmup=0.0)
    good = average.tensors()
    for bad in (
        {"generator.weight": good["generator.weight"]},
        good | {"generator.extra": torch.zeros(1)},
        good | {"generator.bias": torch.zeros(3)},
    ):
        with pytest.raises(UserError, match="does not fit"):
            average.load(bad)


def test_half_life_zero_keeps_nothing_and_applies_nothing() -> None:
    generator = network()
    average = Average({"generator": generator}, half_life=0.0, warmup=0.05)
    disturb(generator)
    average.update(16, 16)
    live = state(generator)
    with average.applied():
        assert_identical(state(generator), live)
    assert average.tensors() == {}
    average.load({})
