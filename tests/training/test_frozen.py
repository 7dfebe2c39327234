"""Frozen modules: nothing moves them, neither optimiser nor statistics nor averages, and the rest learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.core.regularize import spectral_norm
from sparring.errors import UserError
from sparring.run import Run
from sparring.training.checkpoint import newest_good
from sparring.training.trainer import Trainer
from toygan import ToyGame

torch.set_num_threads(1)

SMALL = [
    "model.generator.width=4", "model.discriminator.width=4", "train.batch_size=8", "evaluate.metric=null",
    "train.ema.half_life=50", "machine.precision=32", "machine.compile=false", "train.turns.discriminator=1",
]  # fmt: skip
FROZEN = [
    "train.players.discriminator.freeze=[body.0, body.2]",
    "train.players.generator.freeze=[body.0, 'body.1*']",
]
HARSH = [
    "train.regularize.l2=0.1", "train.regularize.clip_weights=0.001", "train.optimizer.name=adamw",
    "train.optimizer.lr=0.01", "train.optimizer.weight_decay=0.5",
]  # fmt: skip


def state(folder: Path, file: str) -> dict[str, Tensor]:
    checkpoint = newest_good(Run(folder).checkpoints, lambda text: None)
    assert checkpoint is not None
    return checkpoint.tensors(file)


def test_frozen_layers_of_a_fine_tuned_run_are_bit_for_bit_those_of_the_first(tmp_path: Path) -> None:
    """Of a discriminator with spectral norm and a generator with batch norm, under every force that could move them."""
    first, second = tmp_path / "first", tmp_path / "second"
    sparring.train("sngan", data="digits", steps=3, out=first, set=SMALL, device="cpu", quiet=True)
    sparring.finetune(first, data="digits", steps=4, out=second, set=[*FROZEN, *HARSH], device="cpu", quiet=True)
    before, after, averaged = state(first, "game"), state(second, "game"), state(second, "average")

    def is_frozen(key: str) -> bool:
        return key.startswith(
            ("discriminator.body.0.", "discriminator.body.2.", "generator.body.0.", "generator.body.1.")
        )

    assert {key.rpartition(".")[2] for key in before if is_frozen(key)} >= {"original", "_u", "_v", "running_mean"}
    for key in filter(is_frozen, before):
        assert torch.equal(before[key], after[key]), key
        if key in averaged:
            assert torch.equal(before[key], averaged[key]), key
    moved = [key for key in before if key.startswith(("generator", "discriminator")) and not is_frozen(key)]
    assert {"generator.body.3.weight", "discriminator.head.linear.parametrizations.weight.original"} <= {*moved}
    assert [key for key in moved if torch.equal(before[key], after[key])] == []
    assert any(key.startswith("generator.body.0") for key in averaged)


def test_frozen_modules_stay_so_after_a_sample_sheet(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer({"train.players.second.freeze": "['1']"}, game=toy())
    trainer.game.train()
    trainer.play_step()
    with trainer.sampling():
        pass
    assert isinstance(trainer.game, ToyGame)
    kept = {key: value.clone() for key, value in trainer.game.second.state_dict().items()}
    trainer.play_step()
    after = trainer.game.second.state_dict()
    assert all(torch.equal(kept[key], after[key]) for key in kept if key.startswith("1."))
    assert not torch.equal(kept["4.parametrizations.weight.original"], after["4.parametrizations.weight.original"])


def test_a_single_parameter_can_be_frozen(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer({"train.players.first.freeze": "['1.weight']"})
    trainer.game.train()
    weight, bias = (value.clone() for value in trainer.game.first.parameters())  # type: ignore[union-attr]
    trainer.play_step()
    assert torch.equal(trainer.game.first[1].weight, weight)  # type: ignore[index, union-attr]
    assert not torch.equal(trainer.game.first[1].bias, bias)  # type: ignore[index, union-attr]


def test_a_pattern_that_matches_nothing_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"players\.discriminator\.freeze: 'boddy\.0' matches no module \(did you mean 'body\.0'"
    ):
        sparring.train(
            "dcgan", data="digits", steps=1, out=tmp_path / "run", device="cpu", quiet=True,
            set=[*SMALL, "train.players.discriminator.freeze=[boddy.0]"],
        )  # fmt: skip


def test_a_player_with_nothing_left_to_learn_is_an_error(make_trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(UserError, match="nothing to learn"):
        make_trainer({"train.players.first.freeze": "['*']"})


def test_of_a_player_of_two_networks_names_are_those_in_each(tmp_path: Path) -> None:
    """The classifier of ACGAN learns with the discriminator."""
    run = tmp_path / "run"
    keys = [*SMALL, "train.players.discriminator.freeze=[body]"]
    sparring.train("acgan", data="digits", steps=0, out=run, set=keys, device="cpu", quiet=True)
    before = state(run, "game")
    sparring.resume(run, steps=2, device="cpu", quiet=True)
    after = state(run, "game")
    for key in before:
        if key.startswith("discriminator.body"):
            assert torch.equal(before[key], after[key]), key
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


def toy() -> ToyGame:
    from sparring.core.game import DataSpec

    torch.manual_seed(0)
    game = ToyGame(DataSpec((1, 8, 8), (), 10))
    spectral_norm(game.second)
    assert isinstance(game.second, nn.Sequential)
    return game
