"""Remedies against too few samples that know no kind of data: how overfitting is told, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparring.core import penalties
from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.both_sides import LEVEL_DECAY, SMOOTHED, Adaptive, BothSides, Overfitting, PseudoAugmentation
from sparring.core.game import Batch, Turn
from sparring.core.losses import LOSSES, bind
from sparring.core.passes import Played
from sparring.core.processes import Group
from sparring.errors import UserError
from sparring.recipe import Turns

torch.set_num_threads(1)
D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)


class Seen(nn.Module):
    """Vectors (N, 3) → logits (N,); remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.shown: list[Tensor] = []

    def forward(self, samples: Tensor, label: Tensor | None = None) -> Tensor:
        self.shown.append(samples.detach().clone())
        return self.layer(samples).squeeze(1)


class Plus(BothSides):
    """Adds 100."""

    def forward(self, samples: Tensor) -> Tensor:
        return samples + 100


def make_game(both_sides: BothSides | None = None, **loss: Any) -> AdversarialGame:
    torch.manual_seed(0)
    generator = nn.Linear(2, 3)
    generator.forward = (lambda plain: lambda latent, label=None: plain(latent))(generator.forward)  # type: ignore[method-assign]
    return AdversarialGame(
        generator, Seen(), latent=2, loss=LossOptions(**loss), turns=Turns(), both_sides=both_sides
    )  # fmt: skip


def make_batch(count: int = 8) -> Batch:
    return Batch(data=torch.randn(count, 3, generator=torch.Generator().manual_seed(1)) + 1)


# Where it enters


@pytest.mark.parametrize("loss", ["non_saturating", "relativistic_pairing"])
def test_all_that_the_discriminator_sees_is_changed_and_nothing_else_is(loss: str) -> None:
    game, batch = make_game(Plus(), name=loss), make_batch()
    game.loss(D, batch, 0)
    fake = batch.memo["fake"].detach()
    game.loss(G, batch, 0)
    assert isinstance(game.discriminator, Seen)
    both, judged, *real = game.discriminator.shown
    torch.testing.assert_close(both[:8], batch["data"] + 100)
    torch.testing.assert_close(both[8:], fake + 100)
    torch.testing.assert_close(judged, fake + 100)
    if real:
        torch.testing.assert_close(real[0], batch["data"] + 100)
    assert bool(real) is (loss == "relativistic_pairing")
    assert game.generate(4)["data"].abs().max() < 50


def test_a_kind_of_data_without_augmentation_refuses_one() -> None:
    with pytest.raises(UserError, match=r"loss\.augment"):
        make_game(augment={"name": "ada"})


# How overfitting is told


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_signal_is_the_sign_of_the_logit_that_the_loss_looks_at(loss: str) -> None:
    bound = bind(loss, {})
    real, fake = torch.tensor([3.0, 0.6, 0.4, -2.0]), torch.tensor([1.0, 1.0, 1.0, -3.0])
    boundary = {"least_squares": 0.5}.get(loss, 0.0)
    if loss in ("wasserstein", "margin", "relativistic_pairing", "relativistic_average"):
        expected = torch.sign(real - fake).mean()
    else:
        expected = torch.sign(real - boundary).mean()
    overfitting = Overfitting()
    for _ in range(5):
        overfitting.observe(real.repeat(SMOOTHED), fake.repeat(SMOOTHED), bound.boundary)
    torch.testing.assert_close(overfitting.signal, expected, atol=1e-4, rtol=0)


def test_the_boundary_of_least_squares_is_between_its_aims() -> None:
    assert bind("least_squares", {"a": -1.0, "b": 1.0}).boundary == 0
    assert bind("least_squares", {"b": 0.9}).boundary == pytest.approx(0.45)


def test_the_signal_forgets_half_after_so_many_samples() -> None:
    overfitting = Overfitting()
    overfitting.signal.fill_(1.0)
    for _ in range(4):
        assert overfitting.observe(torch.zeros(SMOOTHED // 4), torch.zeros(SMOOTHED // 4), 0.0) == SMOOTHED // 4
    assert overfitting.signal.item() == pytest.approx(0.5)


def test_the_signal_is_recorded_in_every_training_and_survives_a_restart() -> None:
    game, batch = make_game(), make_batch()
    losses = game.loss(D, batch, 0)
    expected = torch.sign(game.discriminator(batch["data"])).mean() * (1 - 0.5 ** (8 / SMOOTHED))
    torch.testing.assert_close(losses.watch["r_t"], expected.detach())
    assert "augment_p" not in losses.watch
    again = make_game()
    again.load_state_dict(game.state_dict())
    assert torch.equal(again.overfitting.signal, losses.watch["r_t"])


# What follows from it


def test_p_moves_by_the_share_of_the_speed_towards_the_target() -> None:
    change = Adaptive(p=0.5, target=0.6, speed=1000)
    change.adapt(torch.tensor(0.9), 100)
    assert change.probability.item() == pytest.approx(0.6)
    change.adapt(torch.tensor(0.1), 300)
    assert change.probability.item() == pytest.approx(0.3)


def test_p_stays_a_probability_and_without_a_target_stays_what_it_is() -> None:
    change, still = Adaptive(p=0.5, speed=1000), Adaptive(p=0.5, target=None, speed=1000)
    for each in (change, still):
        each.adapt(torch.tensor(1.0), 5000)
    assert (change.probability.item(), still.probability.item()) == (1.0, 0.5)
    change.adapt(torch.tensor(-1.0), 5000)
    assert change.probability.item() == 0.0


def test_p_goes_up_in_a_game_that_overfits_and_is_in_its_state() -> None:
    game = make_game(PseudoAugmentation(target=0.6, speed=100), augment={"name": "apa"})
    game.overfitting.signal.fill_(1.0)
    losses = game.loss(D, make_batch(), 0)
    assert losses.watch["augment_p"].item() == pytest.approx(0.08)
    assert game.state_dict()["both_sides.probability"].item() == pytest.approx(0.08)


def test_several_processes_count_all_their_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparring.core.both_sides.processes.mean", lambda value: value)
    with Group(0, 4, torch.device("cpu"), seed=0).playing():
        assert Overfitting().observe(torch.ones(8), torch.zeros(8), 0.0) == 32


# APA


def test_pseudo_augmentation_puts_generated_samples_among_the_real_ones_that_often() -> None:
    change = PseudoAugmentation(p=0.3)
    torch.manual_seed(0)
    shown = change.pretend(torch.ones(4000, 2, 3), lambda: torch.zeros(4000, 2, 3))
    assert bool((shown == shown[:, :1, :1]).all())  # whole samples
    assert shown[:, 0, 0].mean().item() == pytest.approx(0.7, abs=0.03)


def test_pseudo_real_samples_are_other_draws_than_the_fakes_beside_them_and_move_no_generator() -> None:
    game = make_game(PseudoAugmentation(p=1.0, target=None))
    batch = make_batch()
    losses = game.loss(D, batch, 0)
    assert isinstance(game.discriminator, Seen)
    (both,) = game.discriminator.shown
    assert not torch.isclose(both[:8], both[8:]).any()
    assert not torch.isclose(both[:8], batch["data"]).any()
    losses.total.backward()
    assert game.generator.weight.grad is None


def test_pseudo_augmentation_is_the_same_for_every_number_of_processes() -> None:
    real, fake = torch.ones(8, 1), torch.zeros(8, 1)
    change = PseudoAugmentation(p=0.5)
    torch.manual_seed(3)
    whole = change.pretend(real, lambda: fake)
    parts = []
    for rank in range(2):
        group = Group(rank, 2, torch.device("cpu"), seed=3)
        group.at_hand = 4
        with group.playing():
            parts.append(change.pretend(real[:4], lambda: fake[:4]))
    assert torch.equal(torch.cat(parts), whole)
    assert 0 < whole.mean() < 1


# LeCam


def turn(anchors: Tensor | None) -> tuple[Played, Tensor, Tensor]:
    torch.manual_seed(2)
    judge = nn.Linear(3, 1)
    real, fake = torch.randn(6, 3) + 1, torch.randn(6, 3)
    return Played(judge, real, fake, anchors=anchors), judge(real), judge(fake)


@pytest.mark.parametrize("one_sided", [False, True])
def test_lecam_holds_logits_near_the_other_sides_mean(one_sided: bool) -> None:
    played, real, fake = turn(torch.tensor([0.1, 0.2]))
    above, below = real - 0.2, 0.1 - fake
    if one_sided:
        assert (above < 0).any() and (below < 0).any()
        above, below = above.clamp(min=0), below.clamp(min=0)
    expected = (above**2).mean() + (below**2).mean()
    torch.testing.assert_close(penalties.lecam(played, one_sided=one_sided), expected)


def test_the_anchors_are_running_means_without_the_zeros_they_began_with() -> None:
    overfitting = Overfitting()
    overfitting.observe(torch.full((4,), 3.0), torch.full((4,), -1.0), 0.0)
    torch.testing.assert_close(overfitting.anchors, torch.tensor([3.0, -1.0]))
    overfitting.observe(torch.full((4,), 5.0), torch.full((4,), -1.0), 0.0)
    mean = (LEVEL_DECAY * 3 + 5) / (LEVEL_DECAY + 1)
    torch.testing.assert_close(overfitting.anchors, torch.tensor([mean, -1.0]))


def test_a_game_gives_lecam_its_running_means(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Tensor | None] = []

    def spy(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def penalty(played: Played, *, one_sided: bool = True) -> Tensor:
            given.append(played.anchors)
            return plain(played, one_sided=one_sided)

        return penalty

    monkeypatch.setitem(penalties.PENALTIES, "lecam", spy(penalties.lecam))
    game = make_game(penalties={"lecam": {"weight": 1.0, "share": 0.5}})
    for _ in range(2):
        game.loss(D, make_batch(), 0)
        assert given[-1] is not None
        torch.testing.assert_close(given[-1], game.overfitting.anchors)
