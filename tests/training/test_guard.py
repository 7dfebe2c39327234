"""What can go wrong is noticed: NaN, out of memory, signals, full disks."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sparring.core.game import Batch, Losses, Turn
from sparring.training.checkpoint import write_tensors
from sparring.training.guard import (
    Diverged,
    FiniteGuard,
    Stop,
    dump_incident,
    is_out_of_memory,
    tolerate_full_disk,
    unfinite_weights,
)

GOOD, NAN, INF = torch.tensor(1.0), torch.tensor(float("nan")), torch.tensor(float("inf"))
CPU = torch.device("cpu")
ELSEWHERE = torch.device("meta")  # any device that is not the CPU; the tensors here stay where they are
TURN = Turn("generator", phase="reconstruct")


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("where", ["first", "second", "norm"])
def test_on_a_cpu_each_turn_is_checked_and_the_message_says_what_was_not_finite(bad: torch.Tensor, where: str) -> None:
    values = {"first": GOOD, "second": GOOD, "norm": GOOD} | {where: bad}
    losses = Losses({"first": values["first"], "second": values["second"]})
    guard = FiniteGuard(CPU)
    guard.check(TURN, Losses({"first": GOOD}), GOOD)
    with pytest.raises(Diverged, match=r"turn reconstruct: loss first .*, loss second .*, gradient norm ") as caught:
        guard.check(TURN, losses, values["norm"])
    assert f"{where if where != 'norm' else 'gradient norm'} {bad.item():.4g}" in str(caught.value)


def test_watched_figures_may_be_anything() -> None:
    FiniteGuard(CPU).check(TURN, Losses({"first": GOOD}, {"accuracy": NAN}), GOOD)


def test_elsewhere_the_host_asks_every_interval_only_and_forgets_nothing_in_between() -> None:
    guard = FiniteGuard(ELSEWHERE, interval=4)
    for value in (GOOD, NAN, GOOD):
        guard.check(TURN, Losses({"first": value}), GOOD)
    with pytest.raises(Diverged):
        guard.check(TURN, Losses({"first": GOOD}), GOOD)
    for _ in range(4):  # the answer was given, a new count begins
        guard.check(TURN, Losses({"first": GOOD}), GOOD)


def test_asking_before_a_checkpoint_answers_for_the_turns_since_the_last_question() -> None:
    guard = FiniteGuard(ELSEWHERE, interval=100)
    guard.ask("nothing was played")
    guard.check(TURN, Losses({"first": INF}), GOOD)
    with pytest.raises(Diverged, match="before a checkpoint"):
        guard.ask("before a checkpoint")
    guard.ask("asked and answered")


def test_a_loss_scaler_looks_after_its_gradients_itself() -> None:
    guard = FiniteGuard(CPU)
    guard.check(TURN, Losses({"first": GOOD}), None)
    with pytest.raises(Diverged):
        guard.check(TURN, Losses({"first": NAN}), None)


def test_unfinite_weights_are_named_parameters_and_buffers_alike() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network.register_buffer("none", torch.empty(0))
    assert unfinite_weights(network) == []
    with torch.no_grad():
        network[0].weight[1, 0] = float("nan")
        network[1].running_var[0] = float("-inf")
    assert unfinite_weights(network) == ["0.weight", "1.running_var"]
    assert unfinite_weights(nn.Identity()) == []


def test_large_but_finite_weights_are_no_alarm() -> None:
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.fill_(3e38)  # their sum overflows
    assert unfinite_weights(network) == []


def test_the_first_signal_asks_and_the_second_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop = Stop()
    with stop.listening():
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_signals_are_given_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="ours"), Stop().listening():
        raise ValueError("ours")
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_a_training_runs_without_listening() -> None:
    before, caught = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        try:
            with Stop().listening() as stop:
                caught.append((stop.asked, signal.getsignal(signal.SIGINT)))
        except ValueError as error:  # signal only works in main thread
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert caught == [(False, before)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_warning(number: int) -> None:
    said: list[str] = []
    with tolerate_full_disk(said.append):
        raise OSError(number, os.strerror(number), "metrics.jsonl")
    (line,) = said
    assert "metrics.jsonl" in line and "free some space" in line


def test_other_file_errors_are_not_swallowed() -> None:
    with pytest.raises(PermissionError), tolerate_full_disk(lambda text: None):
        raise PermissionError(errno.EACCES, "no")


def test_an_incident_holds_the_batch_the_weights_and_the_reason(tmp_path: Path) -> None:
    import json

    import safetensors.torch

    network, batch = nn.Linear(2, 1), Batch(data=torch.ones(3, 2))
    dump_incident(tmp_path / "one", "loss nan", batch, network, {"step": 7}, write_tensors)
    read = safetensors.torch.load_file(tmp_path / "one" / "game.safetensors")
    assert torch.equal(read["weight"], network.weight)
    assert torch.equal(safetensors.torch.load_file(tmp_path / "one" / "batch.safetensors")["data"], batch["data"])
    assert json.loads((tmp_path / "one" / "incident.json").read_text()) == {"reason": "loss nan", "step": 7}


def test_a_dump_that_does_not_fit_on_the_disk_stops_nothing(tmp_path: Path) -> None:
    def full(path: Path, content: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    dump_incident(tmp_path / "one", "loss nan", None, nn.Linear(2, 1), {}, full)
    assert list(tmp_path.iterdir()) == []
