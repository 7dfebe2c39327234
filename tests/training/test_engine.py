"""Devices, precision, processes: chosen by name, refused in one line, settings put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sparring.errors import UserError
from sparring.recipe import Machine
from sparring.training import engine as module
from sparring.training.engine import Engine, choose_device, deterministic, seed_everything
from sparring.training.settings import choose_precision


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`devices(cuda=…, mps=…, bf16=…)`: pretend to have them."""

    def pretend(*, cuda: bool = False, mps: bool = False, bf16: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("has", "expected"), [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": True}, "cuda"), ({"cuda": True, "mps": True}, "cuda")]
)  # fmt: skip
def test_auto_is_the_fastest_device_there_is(devices: Any, has: dict[str, bool], expected: str) -> None:
    devices(**has)
    assert choose_device("auto") == expected
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_the_users_error(devices: Any, name: str) -> None:
    devices()
    with pytest.raises(UserError, match=f"this machine has no usable {name} device; leave --device out, or say"):
        choose_device(name)
    with pytest.raises(UserError, match="unknown device 'gpu'; there are auto, cpu, cuda, mps"):
        choose_device("gpu")


@pytest.mark.parametrize(
    ("bf16", "device", "expected"),
    [(True, "cuda", "bf16"), (False, "cuda", "32"), (True, "cpu", "32"), (True, "mps", "32")],
)
def test_auto_precision_is_bf16_on_gpus_that_have_it(devices: Any, bf16: bool, device: str, expected: str) -> None:
    devices(cuda=True, bf16=bf16)
    assert choose_precision("auto", device) == expected


def test_impossible_precisions_are_the_users_error() -> None:
    with pytest.raises(UserError, match="16-bit floats need a GPU"):
        choose_precision("16", "cpu")
    with pytest.raises(UserError, match="unknown precision '64'; there are auto, 32, bf16, 16"):
        choose_precision("64", "cpu")
    assert choose_precision("16", "cuda") == "16"
    assert choose_precision("bf16", "cpu") == "bf16"


def test_autocast_is_on_where_the_precision_is_mixed() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    for precision, dtype in (("32", torch.float32), ("bf16", torch.bfloat16)):
        engine = Engine(device="cpu", machine=Machine(precision=precision))
        with engine.autocast():
            assert layer(x).dtype == dtype
        assert engine.scaler() is None
        assert (engine.device.type, engine.world, engine.rank, engine.main) == ("cpu", 1, 0, True)


def test_an_impossible_number_of_devices_is_the_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise RuntimeError("You requested gpu: [0, 1]\n But your machine only has: [0]")

    monkeypatch.setattr(module.lightning_fabric, "Fabric", refuse)
    with pytest.raises(UserError, match=r"cannot use 2 × cpu: You requested gpu: \[0, 1\] But your machine only has"):
        Engine(device="cpu", devices=2)


def test_one_process_is_its_own_mean_and_its_own_majority() -> None:
    engine = Engine(device="cpu")
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    assert engine.average_gradients([parameter], [torch.tensor(3.0)]) == [3]
    assert parameter.grad.tolist() == [1, 2]
    assert engine.group(0) is None
    assert engine.any(True) is True and engine.any(False) is False
    assert engine.broadcast("here") == "here"
    engine.close()


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`pair(rank)`: an engine that believes it is one of two; collectives act as if the other held the same plus 2."""

    def make(rank: int) -> Engine:
        engine = Engine.__new__(Engine)
        engine.fabric = SimpleNamespace(  # type: ignore[assignment]
            world_size=2, global_rank=rank, is_global_zero=rank == 0, device=torch.device("cpu"), barrier=lambda: None
        )
        return engine

    def all_reduce(value: torch.Tensor, op: Any = None) -> None:
        value.copy_(torch.maximum(value, torch.ones(())) if op else value + value + 2)

    monkeypatch.setattr(module.dist, "all_reduce", all_reduce)
    yield make


def test_gradients_are_averaged_over_processes_also_where_a_branch_left_one_out(pair: Any) -> None:
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([1.0, 2.0]), torch.full((2, 2), 5.0)
    pair(0).average_gradients(parameters)
    assert [parameter.grad.flatten().tolist() for parameter in parameters] == [[2, 3], [6] * 4, [1]]


def test_what_no_process_has_a_gradient_of_stays_without_one(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.dist, "all_reduce", lambda value: value.mul_(2))  # the other holds the same
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    parameters[0].grad = torch.tensor([1.0, 2.0])
    assert pair(0).average_gradients(parameters, [torch.tensor(3.0)]) == [3]
    assert parameters[0].grad.tolist() == [1, 2]
    assert parameters[1].grad is None


def test_figures_are_averaged_with_the_gradients_and_flags_joined(pair: Any) -> None:
    parameter, figure = nn.Parameter(torch.ones(2)), torch.tensor(4.0)
    parameter.grad = torch.zeros(2)
    assert pair(0).average_gradients([parameter], [figure, torch.tensor([[6.0]])]) == [5, 7]
    assert figure == 4
    assert pair(1).any(False) is True


@contextmanager
def recorded_barriers(engine: Engine, events: list[str]) -> Iterator[None]:
    engine.barrier = lambda: events.append("barrier")  # type: ignore[method-assign]
    yield


@pytest.mark.parametrize(("rank", "expected"), [(0, ["work", "barrier"]), (1, ["barrier", "work"])])
def test_the_main_process_goes_first(pair: Any, rank: int, expected: list[str]) -> None:
    engine, events = pair(rank), []
    with recorded_barriers(engine, events), engine.main_first():
        events.append("work")
    assert events == expected


def test_a_main_process_that_fails_does_not_leave_the_others_waiting(pair: Any) -> None:
    engine, events = pair(0), []
    with pytest.raises(UserError), recorded_barriers(engine, events), engine.main_first():
        raise UserError("no such folder")
    assert events == ["barrier"]


def settings() -> tuple[Any, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_deterministic_restores_every_setting_it_found(
    monkeypatch: pytest.MonkeyPatch, enabled: bool, fails: bool
) -> None:
    original = settings()
    try:
        for benchmark in (True, False):
            torch.backends.cudnn.benchmark = benchmark
            torch.backends.cudnn.deterministic = not benchmark
            torch.use_deterministic_algorithms(benchmark, warn_only=not benchmark)
            before = settings()
            try:
                with deterministic(enabled):
                    assert torch.backends.cudnn.deterministic is enabled
                    assert torch.backends.cudnn.benchmark is not enabled
                    assert not enabled or settings()[:3] == (True, True, False)
                    if fails:
                        raise KeyboardInterrupt
            except KeyboardInterrupt:
                pass
            assert settings() == before
    finally:
        torch.use_deterministic_algorithms(original[0], warn_only=original[1])
        torch.utils.deterministic.fill_uninitialized_memory = original[2]  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = original[3:]


def test_one_seed_governs_python_numpy_and_torch() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), torch.rand(()).item()

    seed_everything(2**40 + 3)  # larger than NumPy takes
    first = draw()
    seed_everything(2**40 + 3)
    assert draw() == first
    seed_everything(4)
    assert all(one != other for one, other in zip(draw(), first, strict=True))
