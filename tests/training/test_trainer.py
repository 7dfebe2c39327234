"""The loop: turns, accumulation, recovery, and exact continuation of one process."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.errors import Interrupted, UserError
from sparring.training import state
from sparring.training.checkpoint import list_checkpoints, newest_good
from sparring.training.listener import Listener
from sparring.training.trainer import Trainer
from toygan import ToyGame

SPEC = DataSpec((1, 8, 8), (), 1797)
Make = Callable[..., Trainer]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.game.state_dict().items()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


class Snapshots(Listener):
    """Remembers which parameters each turn moved."""

    def __init__(self) -> None:
        self.moved: list[tuple[str, set[str]]] = []
        self.before: dict[str, Tensor] = {}

    def before_turn(self, trainer: Trainer, turn: Turn) -> None:
        self.before = weights(trainer)

    def after_turn(self, trainer: Trainer, turn: Turn, losses: Losses) -> None:
        changed = {
            name.split(".")[0] for name, value in weights(trainer).items() if not torch.equal(value, self.before[name])
        }
        self.moved.append((turn.name, changed - {"turns_played"}))


def test_a_turn_moves_its_own_player_and_no_other(make_trainer: Make) -> None:
    snapshots = Snapshots()
    make_trainer({"train.steps": 1}, listeners=[snapshots]).train()
    assert snapshots.moved == [
        ("first", {"first"}),
        ("second", {"second"}),
        ("fool_first", {"generator"}),
        ("fool_second", {"generator"}),
    ]


def test_two_trainings_with_one_seed_have_the_same_bits(make_trainer: Make) -> None:
    first, second = make_trainer(folder="a"), make_trainer(folder="b")
    first.train(), second.train()
    assert_same(weights(first), weights(second))


def test_another_seed_gives_another_training(make_trainer: Make) -> None:
    first, second = make_trainer(folder="a"), make_trainer({"train.seed": 1}, folder="b")
    first.train(), second.train()
    assert not torch.equal(first.game.first[1].weight, second.game.first[1].weight)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_resumed_run_equals_uninterrupted_run_bit_for_bit(make_trainer: Make, optimizer: str) -> None:
    keys = {"train.optimizer.name": optimizer, "train.optimizer.lr": 1e-3, "train.ema.half_life": 100, "train.steps": 7}
    whole = make_trainer(keys, folder="whole")
    whole.train()

    first = make_trainer(keys, folder="cut")
    first.recipe = first.recipe.override(["train.steps=3"])
    first.train()
    torch.rand(5)  # whatever happens in between
    second = make_trainer(keys, folder="cut")
    checkpoint = newest_good(second.run.checkpoints, print)
    assert checkpoint is not None and checkpoint.step == 3
    second.load(checkpoint)
    second.train()

    assert_same(weights(whole), weights(second))
    assert_same(whole.average.tensors(), second.average.tensors())
    assert_same(state.weights(whole), state.weights(second))


def test_a_run_resumed_in_the_middle_of_its_burn_in_equals_an_uninterrupted_one_bit_for_bit(make_trainer: Make) -> None:
    keys = {
        "train.optimizer": "{name: adam, lr: 0.001, betas: [0.0, 0.9], final_betas: [0.0, 0.99], over: 5}",
        "train.schedule": "{name: cosine, final: 0.25, steps: 5}",
        "train.ema": "{half_life: 0, final_half_life: 40, over: 5, warmup: 0}",
    }
    whole = make_trainer(keys, folder="whole")
    whole.train()
    group = whole.players["generator"].optimizer.param_groups[0]
    assert group["betas"] == pytest.approx((0.0, 0.99)) and group["lr"] == pytest.approx(0.00025)

    first = make_trainer(keys, folder="cut")
    first.recipe = first.recipe.override(["train.steps=3"])
    first.train()
    second = make_trainer(keys, folder="cut")
    checkpoint = newest_good(second.run.checkpoints, print)
    assert checkpoint is not None and checkpoint.step == 3
    second.load(checkpoint)
    group = second.players["generator"].optimizer.param_groups[0]
    assert group["betas"][1] == pytest.approx(0.945 - 0.045 * math.cos(math.pi * 2 / 5))  # of the last step played
    second.train()
    assert_same(weights(whole), weights(second))
    assert_same(whole.average.tensors(), second.average.tensors())


def test_scheduled_betas_outside_their_range_or_without_a_length_are_explained(make_trainer: Make) -> None:
    with pytest.raises(UserError, match="at least 0 and below 1"):
        make_trainer({"train.optimizer": "{name: adam, lr: 0.001, final_betas: [0.0, 1.0]}"})
    with pytest.raises(UserError, match=r"give train\.ema\.over"):
        make_trainer({"train.ema.final_half_life": 5, "train.steps": "null", "train.minutes": 1})


def test_listening_and_sampling_leave_no_trace_in_the_training(make_trainer: Make) -> None:
    class Sampler(Listener):
        def after_step(self, trainer: Trainer) -> None:
            with trainer.sampling() as game:
                game.generate(3)

    quiet, watched = make_trainer(folder="a"), make_trainer(folder="b", listeners=[Sampler()])
    quiet.train(), watched.train()
    assert_same(weights(quiet), weights(watched))


def test_accumulated_gradients_and_figures_are_those_of_the_whole_batch(make_trainer: Make) -> None:
    class Plain(ToyGame):
        """Without noise, so that cutting the batch changes nothing but the order of sums."""

        def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
            logits = self.first(batch["data"])
            loss = logits.square().mean() + self.generator.layers[0].weight.square().sum()
            return Losses({"mean": loss}, {"logit": logits.detach().mean()})

        def turns(self, step: int) -> Sequence[Turn]:
            return (Turn("first"),)

    gradients, figures = [], []
    for parts in (1, 3):
        trainer = make_trainer({"train.micro_batches": parts}, folder=None, game=Plain(SPEC).double())
        trainer.data.images = trainer.data.images.double()
        trainer.game.load_state_dict(
            {key: torch.full_like(value, 0.1) for key, value in trainer.game.state_dict().items()}
        )
        trainer.play_step()
        gradients.append(trainer.game.first[1].weight.grad.clone())
        figures.append(trainer.read_losses())
    assert {"loss/first/mean", "watch/first/logit"} <= set(figures[0])
    assert figures[1] == pytest.approx(figures[0], rel=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=0)


class Poisoned(ToyGame):
    """NaN in one part of the step at one step, once or always."""

    def __init__(self, spec: DataSpec, at: int, always: bool, where: str) -> None:
        super().__init__(spec)
        self.at, self.always, self.where, self.times = at, always, where, 0

    def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
        losses = super().loss(turn, batch, step)
        if step == self.at and turn.name == "second" and (self.always or self.times == 0):
            self.times += 1
            if self.where == "loss":
                losses["cubic"] = losses["cubic"] * float("nan")
            elif self.where == "gradient":
                # The root of 0 is fine, its slope is not.
                losses["root"] = (self.second[1].weight * 0).abs().sum().sqrt()
            else:
                with torch.no_grad():
                    self.generator.layers[0].bias[0] = float("inf")
        return losses


@pytest.mark.parametrize("where", ["loss", "gradient", "weight"])
def test_nan_goes_back_to_the_last_good_checkpoint_with_a_smaller_rate(make_trainer: Make, where: str) -> None:
    trainer = make_trainer(game=Poisoned(SPEC, at=4, always=False, where=where))
    state = trainer.train()
    assert state.step == 6
    assert state.recoveries == 1
    assert state.lr_scale == 0.5
    assert all(torch.isfinite(value).all() for value in weights(trainer).values())
    assert trainer.players["first"].optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    (incident,) = trainer.run.incidents.iterdir()
    assert {path.name for path in incident.iterdir()} == {"batch.safetensors", "game.safetensors", "incident.json"}
    assert json.loads((incident / "incident.json").read_text())["reason"]


def test_a_game_that_always_diverges_ends_with_a_diagnosis_after_three_restarts(make_trainer: Make) -> None:
    trainer = make_trainer(game=Poisoned(SPEC, at=4, always=True, where="loss"))
    with pytest.raises(UserError, match=r"diverged at step 4 .*3 restarts.*lower train\.optimizer\.lr"):
        trainer.train()
    assert len(list(trainer.run.incidents.iterdir())) == 4
    assert [each.step for each in list_checkpoints(trainer.run.checkpoints)] == [0, 3]


def test_no_checkpoint_ever_holds_nan(make_trainer: Make) -> None:
    trainer = make_trainer(
        {"train.checkpoint_every": 1, "train.keep": 100}, game=Poisoned(SPEC, at=2, always=False, where="weight")
    )
    trainer.train()
    for checkpoint in list_checkpoints(trainer.run.checkpoints):
        assert all(torch.isfinite(value).all() for value in checkpoint.tensors("game").values()), checkpoint


def test_out_of_memory_halves_the_micro_batch_and_accumulates(make_trainer: Make) -> None:
    class Hungry(ToyGame):
        sizes: list[int] = []

        def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
            if batch.count > 5:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            self.sizes.append(batch.count)
            return super().loss(turn, batch, step)

    trainer = make_trainer(game=Hungry(SPEC))
    state = trainer.train()
    assert state.step == 6
    assert state.micro_batches == 4
    assert set(Hungry.sizes) == {4}


def test_a_single_sample_that_does_not_fit_is_the_users_error(make_trainer: Make) -> None:
    class Starving(ToyGame):
        def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
            )

    with pytest.raises(UserError, match=r"out of memory: use a smaller train\.batch_size"):
        make_trainer(game=Starving(SPEC)).train()


def test_other_runtime_errors_are_not_taken_for_memory(make_trainer: Make) -> None:
    class Broken(ToyGame):
        def loss(self, turn: Turn, batch: Batch, step: int) -> Losses:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        make_trainer(game=Broken(SPEC)).train()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_after_the_step(make_trainer: Make, number: int) -> None:
    class Press(Listener):
        def after_turn(self, trainer: Trainer, turn: Turn, losses: Losses) -> None:
            if trainer.state.step == 3 and turn.name == "first":
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    trainer = make_trainer({"train.checkpoint_every": 100}, listeners=[Press()])
    with pytest.raises(Interrupted):
        trainer.train()
    assert list_checkpoints(trainer.run.checkpoints)[-1].step == 4
    assert signal.getsignal(number) is before


def test_a_full_disk_does_not_stop_the_training_and_keeps_the_last_checkpoint(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from sparring.training import checkpoint as files

    said: list[str] = []
    trainer = make_trainer({"train.checkpoint_every": 2})
    trainer.say = said.append
    real_write = files.write_tensors

    def write(path: Any, tensors: Any) -> None:
        if trainer.state.step >= 4 and path.name == "game.safetensors":
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real_write(path, tensors)

    monkeypatch.setattr(files, "write_tensors", write)
    assert trainer.train().step == 6
    assert [each.step for each in list_checkpoints(trainer.run.checkpoints)] == [0, 2]
    newest = newest_good(trainer.run.checkpoints, print)
    assert newest is not None and newest.step == 2
    assert not [path for path in trainer.run.checkpoints.iterdir() if path.name.startswith(".")]
    assert any("disk is full" in line for line in said)


class Offers(Listener):
    """Offers a figure at every step: what `figures` says of it, the last one ever after."""

    def __init__(self, *figures: float) -> None:
        self.figures = figures

    def after_step(self, trainer: Trainer) -> None:
        value = self.figures[min(trainer.state.step, len(self.figures)) - 1]
        trainer.offer({"distance": value}, "distance")


PATIENT = {"evaluate.metric": "distance", "evaluate.patience": 2, "train.steps": 9}


def test_patience_ends_a_training_that_does_not_get_better(make_trainer: Make) -> None:
    told: list[str] = []
    trainer = make_trainer(PATIENT, listeners=[Offers(3.0, 2.0, 2.5, 1.0, 4.0)])
    trainer.say = told.append
    state = trainer.train()
    # One figure without improvement at 3 is forgiven by the better one at 4; then 5 and 6 are two too many.
    assert (state.step, state.best["step"]) == (6, 4)
    assert [each.step for each in list_checkpoints(trainer.run.checkpoints)][-1] == 6
    assert told == [
        "stopped early at step 6: distance has not got better since step 4, 2 measurements ago (evaluate.patience)"
    ]


def test_a_resumed_training_has_the_patience_that_was_left(make_trainer: Make) -> None:
    make_trainer({**PATIENT, "train.steps": 3}, listeners=[Offers(1.0, 2.0)]).train()
    again = make_trainer(PATIENT, listeners=[Offers(1.0, 2.0)])
    again.load(newest_good(again.run.checkpoints, print))
    assert again.train().step == 3  # steps 2 and 3 were no better than 1


def test_a_figure_that_is_not_a_number_is_no_improvement(make_trainer: Make) -> None:
    trainer = make_trainer(PATIENT, listeners=[Offers(1.0, float("nan"))])
    assert trainer.train().step == 3


def test_only_the_newest_and_the_best_checkpoints_are_kept(make_trainer: Make) -> None:
    class Measure(Listener):
        def after_step(self, trainer: Trainer) -> None:
            trainer.offer({"distance": abs(trainer.state.step - 2.0)}, "distance")

    trainer = make_trainer({"train.steps": 8, "train.checkpoint_every": 2, "train.keep": 2}, listeners=[Measure()])
    state = trainer.train()
    assert state.best == {"step": 2, "metric": "distance", "value": 0.0}
    assert [each.step for each in list_checkpoints(trainer.run.checkpoints)] == [2, 6, 8]


def test_a_best_step_between_checkpoints_gets_one_of_its_own(make_trainer: Make) -> None:
    class Measure(Listener):
        def after_step(self, trainer: Trainer) -> None:
            if trainer.state.step % 2 == 1:
                trainer.offer({"distance": abs(trainer.state.step - 5.0)}, "distance")

    trainer = make_trainer({"train.steps": 8, "train.checkpoint_every": 4, "train.keep": 1}, listeners=[Measure()])
    trainer.train()
    assert [each.step for each in list_checkpoints(trainer.run.checkpoints)] == [5, 8]


def test_a_schedule_over_epochs_falls_as_over_the_steps_that_they_are(make_trainer: Make) -> None:
    common = {"train.batch_size": 64, "train.schedule": {"name": "linear", "start": 0.0, "final": 0.0}}
    in_epochs = make_trainer({**common, "train.steps": "null", "train.epochs": 0.2})
    count = len(in_epochs.data)
    fresh = sum(turn.fresh for turn in in_epochs.game.turns(0))
    assert in_epochs.length == -(-0.2 * count // (64 * fresh))
    in_steps = make_trainer({**common, "train.steps": in_epochs.length})
    rates = []
    for trainer in (in_epochs, in_steps):
        trainer.play_step()
        trainer.state.step = 2
        trainer.play_step()
        rates.append([player.optimizer.param_groups[0]["lr"] for player in trainer.players.values()])
    assert rates[0] == rates[1] and rates[0][0] > 0
    assert make_trainer({"train.steps": "null", "train.minutes": 1}).length is None


def test_training_ends_at_epochs_when_they_come_first(make_trainer: Make) -> None:
    trainer = make_trainer({"train.steps": 1000, "train.epochs": 0.1, "train.batch_size": 64})
    # Two of the four turns draw a new batch: 1797 · 0.1 / 128 is 1.4 steps.
    assert trainer.train().step == 2


def test_training_ends_at_minutes_when_they_come_first(make_trainer: Make) -> None:
    trainer = make_trainer({"train.steps": 10**9, "train.minutes": 0.005})
    assert 0 < trainer.train().seconds < 5
