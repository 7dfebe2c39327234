"""Private trainings: batches are Poisson's, the account goes on where it stood, and nothing else sees the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sparring.core.accounting import epsilon
from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.game import Batch, Losses, Turn
from sparring.data.sampling import PoissonSampler
from sparring.errors import UserError
from sparring.recipe import Turns
from sparring.training.checkpoint import list_checkpoints
from sparring.training.trainer import Trainer
from toygan import Pixels

pytest.importorskip("opacus.accountants", reason="opacus is not installed")
torch.set_num_threads(1)

COUNT = 1797  # digits
KEYS = {"private.noise": 1.1, "private.clip": 0.5}


class Judge(nn.Module):
    def __init__(self, *more: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), *more, nn.LeakyReLU(0.2), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return self.layers(x)


class Generator(Pixels):
    def forward(self, latent: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(latent)


class Digits(AdversarialGame):
    def __init__(self, *more: nn.Module, turns: int = 1) -> None:
        loss = LossOptions(**LossOptions.resolve({"name": "wasserstein", "penalties": {"wgan_gp": {"weight": 1}}}))
        super().__init__(
            Generator((1, 8, 8), 4, 8), Judge(*more), latent=4, loss=loss, turns=Turns(discriminator=turns)
        )


def seeded(**options: Any) -> Digits:
    torch.manual_seed(0)
    return Digits(**options)


Make = Callable[..., Trainer]


def end(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.game.state_dict().items()}


def test_each_sample_is_in_a_batch_by_a_coin_of_its_own() -> None:
    sampler = PoissonSampler(200, 20, seed=3)
    drawn = [sampler.next() for _ in range(600)]
    assert all(len(each.unique()) == len(each) for each in drawn)
    sizes = torch.tensor([float(len(each)) for each in drawn])
    assert float(sizes.mean()) == pytest.approx(20, abs=0.7)
    assert float(sizes.var()) == pytest.approx(200 * 0.1 * 0.9, rel=0.25)  # binomial, not fixed
    hits = torch.bincount(torch.cat(drawn), minlength=200).float()
    assert float(hits.min()) > 30 and float(hits.var()) == pytest.approx(600 * 0.1 * 0.9, rel=0.35)
    together = sum(bool((each == 0).any()) and bool((each == 1).any()) for each in drawn)
    assert together <= 18, "two samples share a batch once in a hundred"


def test_a_position_is_the_whole_state_of_the_sampler() -> None:
    one, other = PoissonSampler(200, 20, seed=3), PoissonSampler(200, 20, seed=3)
    for _ in range(3):
        one.next()
    other.position = one.position
    assert torch.equal(one.next(), other.next())
    assert not torch.equal(one.next(), PoissonSampler(200, 20, seed=4).next())
    assert not torch.equal(*(PoissonSampler(200, 20, seed=3, secure=True).next() for _ in range(2)))


def test_the_account_is_of_the_turns_that_were_played(make_trainer: Make) -> None:
    trainer = make_trainer({**KEYS, "train.steps": 3}, game=seeded(turns=2), described=[(30.0, 1.0, 1)])
    trainer.train()
    rate = 16 / COUNT
    assert trainer.state.account == [[30.0, 1.0, 1], [1.1, rate, 6]]
    assert trainer.privacy is not None
    assert trainer.privacy.epsilon == epsilon([(30.0, 1.0, 1), (1.1, rate, 6)], 1e-5)
    content = list_checkpoints(trainer.run.checkpoints)[-1].state()  # type: ignore[union-attr]
    assert content["privacy"]["epsilon"] == trainer.privacy.epsilon and content["privacy"]["turns"] == 6


def test_a_resumed_private_run_ends_with_the_same_bits_and_the_same_account(make_trainer: Make) -> None:
    keys = {**KEYS, "train.steps": 6}
    whole = make_trainer(keys, folder="whole", game=seeded(), described=[(30.0, 1.0, 1)])
    whole.train()
    first = make_trainer({**keys, "train.steps": 3}, folder="cut", game=seeded(), described=[(30.0, 1.0, 1)])
    first.train()
    second = make_trainer(keys, folder="cut", game=seeded())
    second.load(list_checkpoints(second.run.checkpoints)[-1])  # type: ignore[union-attr]
    second.train()
    assert second.state.account == whole.state.account
    assert all(torch.equal(value, end(second)[name]) for name, value in end(whole).items())


def test_other_seeds_draw_other_noise_and_the_same_seed_the_same(make_trainer: Make) -> None:
    ends = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        trainer = make_trainer({**KEYS, "train.steps": 2, "train.seed": seed}, folder=folder, game=seeded())
        trainer.train()
        ends.append(end(trainer)["discriminator.layers.1.weight"])
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_cryptographic_noise_ends_elsewhere_with_the_same_seed(make_trainer: Make) -> None:
    ends = []
    for folder in ("a", "b"):
        trainer = make_trainer({**KEYS, "private.secure": True, "train.steps": 1}, folder=folder, game=seeded())
        trainer.train()
        ends.append(end(trainer)["discriminator.layers.1.weight"])
    assert not torch.equal(*ends)


def test_a_training_ends_before_its_budget_is_overspent(make_trainer: Make) -> None:
    said: list[str] = []
    rate = 16 / COUNT
    budget = (epsilon([(1.1, rate, 8)], 1e-5) + epsilon([(1.1, rate, 10)], 1e-5)) / 2
    keys = {**KEYS, "private.epsilon": budget, "train.steps": 50}
    trainer = make_trainer(keys, game=seeded(turns=2))
    trainer.say = said.append
    trainer.train()
    assert trainer.state.step == 4, "a step of two turns more would go beyond"
    assert f"another step would go beyond ε = {budget:g}" in said[-1]
    resumed = make_trainer(keys, game=seeded(turns=2))
    resumed.load(list_checkpoints(resumed.run.checkpoints)[-1])  # type: ignore[union-attr]
    resumed.train()
    assert resumed.state.step == 4, "what was spent stays spent"


def test_the_noise_is_chosen_so_that_all_steps_are_within_the_budget(make_trainer: Make) -> None:
    trainer = make_trainer({"private.epsilon": 2, "train.steps": 5}, game=seeded())
    trainer.train()
    assert trainer.state.step == 5 and trainer.privacy is not None
    assert 1.98 < trainer.privacy.epsilon <= 2


def test_a_turn_s_gradient_differs_from_the_mean_by_the_noise_alone(make_trainer: Make) -> None:
    found = []
    for noise in (1e-6, 3.0):
        trainer = make_trainer({"private.noise": noise, "private.clip": 0.5}, folder=None, game=seeded())
        trainer.game.train()
        torch.manual_seed(5)
        trainer.privacy.play(Turn("discriminator"), trainer.players["discriminator"], trainer.data, 0)  # type: ignore[union-attr]
        found.append(torch.cat([each.grad.flatten() for each in trainer.players["discriminator"].parameters]))  # type: ignore[union-attr]
    difference = found[1] - found[0]
    assert float(difference.std()) == pytest.approx(3.0 * 0.5 / 16, rel=0.15)
    assert 0 < float(found[0].norm()) < 0.5 * 40 / 16, "the sum is over the number asked for"


def test_no_batch_of_the_data_reaches_a_turn_that_is_not_private(make_trainer: Make) -> None:
    class Peeking(Digits):
        def add_generator_terms(self, losses: Losses, batch: Batch, fake: torch.Tensor | None) -> None:
            losses["moments"] = batch["data"].mean()

    torch.manual_seed(0)
    with pytest.raises(UserError, match="past its discriminator"):
        make_trainer(KEYS, game=Peeking()).train()


def test_the_generator_learns_the_same_of_data_that_the_discriminator_was_not_shown(make_trainer: Make) -> None:
    class Deaf(Digits):
        """Its discriminator's gradient is noise alone."""

        def row_loss(self, turn: Any, unseen: Any, step: int) -> Any:
            found = super().row_loss(turn, unseen, step)
            return type(found)(found.judge, found.fakes, found.own, lambda judge, own, fakes: 0 * judge(*own).sum())

    ends = []
    for folder, scale in (("a", 1.0), ("b", 100.0)):
        torch.manual_seed(0)
        trainer = make_trainer(KEYS, folder=folder, game=Deaf())
        trainer.data.images = trainer.data.images.clone() * scale  # type: ignore[attr-defined]
        trainer.train()
        ends.append(end(trainer))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_what_is_recorded_of_a_private_turn_tells_nothing_of_the_batch(make_trainer: Make) -> None:
    trainer = make_trainer(KEYS, game=seeded())
    trainer.train()
    assert set(trainer.read_losses()) == {
        "gradient/discriminator", "loss/generator/adversarial", "gradient/generator",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "more", "said"),
    [
        ({}, [nn.BatchNorm1d(8)], "looks at samples together"),
        ({"private.delta": 1e-3}, [], "private.delta"),
        ({"train.batch_size": 2000}, [], "at most 1797"),
        ({"private.noise": "null", "private.epsilon": 2, "train.steps": "null", "train.minutes": 1}, [], "train.steps"),
    ],
)
def test_what_cannot_be_private_is_refused_in_a_line(
    make_trainer: Make, keys: dict[str, Any], more: list[nn.Module], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        make_trainer({**KEYS, **keys}, game=Digits(*more))


def test_a_game_that_says_nothing_of_privacy_is_refused(make_trainer: Make) -> None:
    with pytest.raises(UserError, match="ToyGame has no discriminator"):
        make_trainer(KEYS)


def test_several_processes_are_refused(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparring.training.engine.Engine.world", property(lambda engine: 2))
    with pytest.raises(UserError, match="one process"):
        make_trainer(KEYS, game=seeded())


def test_a_private_training_that_diverges_does_not_go_back(make_trainer: Make) -> None:
    trainer = make_trainer(KEYS, game=seeded())
    with torch.no_grad():
        trainer.game.generator.layers[0].weight.fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(UserError, match="not begun again"):
        trainer.train()
