"""Settings are chosen by measuring, remembered, pinned where the recipe says so, and change no trace of a training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sparring.core.game import DataSpec
from sparring.recipe import Machine
from sparring.training import autotune
from sparring.training.autotune import tune
from sparring.training.checkpoint import newest_good
from sparring.training.engine import Engine
from sparring.training.settings import Settings
from sparring.training.trainer import Trainer
from toygan import ToyGame

torch.set_num_threads(1)

LONG = {"train.steps": 10_000_000}


class Stage:
    """Rehearsals of a toy game whose steps are said to take what `cost` says of their settings."""

    def __init__(self, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
        self.engine = Engine(device="cpu", machine=machine)
        self.engine.use(
            Settings(
                **{**self.engine.settings.plain(), "threads": int(machine.threads) if machine.threads != "auto" else 4}
            )
        )
        self.cost: Callable[[Settings], float] = lambda settings: 1.0
        self.measured: list[Settings] = []
        self.make = make_trainer
        self.keys: dict[str, Any] = dict(LONG)
        monkeypatch.setattr(autotune._Candidate, "step", lambda candidate, count=1: self.step(candidate))

    def step(self, candidate: Any) -> float:
        self.measured.append(candidate.settings)
        return self.cost(candidate.settings)

    def rehearsal(self) -> Trainer:
        trainer = self.make(self.keys, folder=None)
        trainer.engine = self.engine
        return trainer

    def tune(self, remember: Path | None = None) -> Settings:
        self.measured.clear()
        return tune(self.rehearsal, self.make(self.keys, folder=None).recipe, self.engine, remember=remember)


@pytest.fixture
def stage(make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    yield lambda **pinned: Stage(make_trainer, monkeypatch, Machine(**pinned))


def test_the_fastest_settings_win_and_the_engine_keeps_its_own_until_told(stage: Callable[..., Stage]) -> None:
    there = stage()
    before = there.engine.settings
    there.cost = lambda s: (1.0 if s.precision == "32" else 0.5) * {4: 1.0, 2: 0.6, 1: 0.9}[s.threads]
    best = there.tune()
    assert (best.precision, best.threads, best.channels_last) == ("bf16", 2, False)
    assert there.engine.settings == before


def test_what_is_hardly_faster_is_not_worth_another_rounding(stage: Callable[..., Stage]) -> None:
    there = stage()
    there.cost = lambda s: 1.0 if s.precision == "32" else 0.97
    assert there.tune() == there.engine.settings


def test_pinned_settings_are_never_tried_otherwise(stage: Callable[..., Stage]) -> None:
    there = stage(precision="32", threads=3)
    there.cost = lambda s: 0.1 if s.precision == "bf16" or s.threads != 3 else 1.0
    assert there.tune().precision == "32"
    assert {(s.precision, s.threads) for s in there.measured} == {("32", 3)}


def test_all_pinned_measures_nothing(stage: Callable[..., Stage]) -> None:
    there = stage(precision="bf16", threads=2, channels_last=True, compile=False)
    assert there.tune() == Settings("bf16", 2, True, False)
    assert there.measured == []


@pytest.mark.parametrize("keys", [{"train.steps": 20}, {"train.steps": 59}, {"train.minutes": 0.5}])
def test_a_training_of_less_than_a_minute_is_not_tuned(stage: Callable[..., Stage], keys: dict[str, Any]) -> None:
    there = stage()
    there.keys.update(keys)
    there.cost = lambda s: 1.0 if s.precision == "32" else 0.1
    assert there.tune() == there.engine.settings


def test_a_choice_is_remembered_for_other_seeds_and_lengths_and_not_for_another_batch(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:
    there = stage()
    there.cost = lambda s: 1.0 if s.precision == "32" else 0.5
    assert there.tune(tmp_path).precision == "bf16"
    there.cost = lambda s: 1.0
    there.keys |= {"train.seed": 9, "train.steps": 500}
    assert there.tune(tmp_path).precision == "bf16"
    assert there.measured == []
    there.keys["train.batch_size"] = 8
    assert there.tune(tmp_path).precision == "32"


def test_the_same_training_decides_by_the_time_that_was_measured_first(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:
    there = stage()
    there.keys["train.steps"] = 100
    there.cost = lambda s: 0.59 if s.precision == "32" else 0.1  # 59 seconds
    assert there.tune(tmp_path).precision == "32"
    there.cost = lambda s: 0.61 if s.precision == "32" else 0.1  # a slower day must not change the bits
    assert there.tune(tmp_path).precision == "32"


def test_a_damaged_memory_is_measured_again(stage: Callable[..., Stage], tmp_path: Path) -> None:
    there = stage()
    there.cost = lambda s: 1.0 if s.precision == "32" else 0.5
    there.tune(tmp_path)
    (file,) = tmp_path.glob("*.json")
    for content in ("{", "[]", json.dumps({"format": 1, "seconds": 1, "settings": {"speed": "high"}})):
        file.write_text(content)
        assert there.tune(tmp_path).precision == "bf16"
        assert there.measured


def test_settings_that_cannot_be_played_are_passed_over(stage: Callable[..., Stage]) -> None:
    there = stage()

    def cost(settings: Settings) -> float:
        if settings.precision == "bf16":
            raise RuntimeError("this layer has no half")
        return 1.0 if settings.threads == 4 else 0.5

    there.cost = cost
    assert there.tune() == Settings("32", 2)


def test_tuning_really_plays_and_a_training_after_it_is_the_same(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "WORTH_TUNING", 0.0)
    plain = make_trainer(folder="plain")
    plain.train()
    engine = Engine(device="cpu", machine=Machine(precision="32", threads=1))
    keys = {"train.steps": 60}
    assert (
        tune(lambda: make_trainer(keys, folder=None), make_trainer(keys, folder=None).recipe, engine).precision == "32"
    )
    after = make_trainer(folder="after")
    after.train()
    for (name, one), other in zip(plain.game.state_dict().items(), after.game.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_settings_say_themselves_in_words() -> None:
    assert str(Settings()) == "32 bits, 1 thread"
    assert str(Settings("bf16", 2, True, True)) == "bf16, 2 threads, channels last, compile"


class ConvolutionalGame(ToyGame):
    """One discriminator that has a memory format."""

    def __init__(self) -> None:
        super().__init__(DataSpec((1, 8, 8)))
        self.first = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.LeakyReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 1)
        )


def test_channels_last_is_in_the_weights() -> None:
    for settings, format in (
        (Settings(channels_last=True), torch.channels_last),
        (Settings(), torch.contiguous_format),
    ):
        weight = settings.dress(ConvolutionalGame()).first[2].weight
        assert weight.is_contiguous(memory_format=format)


@pytest.mark.parametrize("machine", [{"channels_last": True}, {"precision": "bf16"}, {"threads": 2}])
def test_a_resumed_run_keeps_its_settings_and_its_bits(
    make_trainer: Callable[..., Trainer], machine: dict[str, Any]
) -> None:
    def build(steps: int, folder: str) -> Trainer:
        torch.manual_seed(0)
        return make_trainer({"train.steps": steps}, folder=folder, machine=machine, game=ConvolutionalGame())

    whole = build(6, "whole")
    whole.train()
    build(3, "half").train()
    second = build(6, "half")
    assert second.run is not None
    checkpoint = newest_good(second.run.checkpoints, print)
    assert checkpoint is not None
    assert checkpoint.state()["settings"] == second.engine.settings.plain()
    second.load(checkpoint)
    for optimizer in (player.optimizer for player in second.players.values()):
        for parameter, entries in optimizer.state.items():
            assert entries["exp_avg"].stride() == parameter.stride()
    second.train()
    for (name, one), other in zip(whole.game.state_dict().items(), second.game.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
