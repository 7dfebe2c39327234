"""Private gradients: a sum of clipped ones, each of one sample, under noise that is as large as it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.game import Batch, Turn, Unseen
from sparring.core.private import RowLoss, clipped_sum, gaussian, noisy_mean, partners, still
from sparring.core.regularize import spectral_norm
from sparring.errors import UserError
from sparring.recipe import Turns

torch.set_num_threads(1)
TURN = Turn("discriminator")


class Plain(nn.Module):
    """Numbers (N, size) → numbers (N, out); with a label that is not looked at."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(size, 5), nn.Tanh(), nn.Linear(5, out))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return self.layers(x)


def game(**loss: Any) -> AdversarialGame:
    torch.manual_seed(0)
    options = LossOptions(**LossOptions.resolve({"name": "wasserstein", **loss}))
    return AdversarialGame(Plain(2, 3), Plain(3, 1), latent=2, loss=options, turns=Turns())


def row_loss(played: AdversarialGame, count: int = 6) -> RowLoss:
    return played.row_loss(TURN, Unseen(count), 0)


def named(played: AdversarialGame) -> dict[str, Tensor]:
    return dict(played.discriminator.named_parameters())


PENALTIES: list[dict[str, Any]] = [
    {},
    {"r1": {"weight": 3}},
    {"r2": {"weight": 3}, "drift": {"weight": 0.1}},
    {"wgan_gp": {"weight": 5}},
    {"r1_finite_difference": {"weight": 2}},
]


@pytest.mark.parametrize("penalties", PENALTIES, ids=lambda each: "+".join(each) or "none")
def test_the_clipped_sum_is_that_of_a_loop_over_samples(penalties: dict[str, Any]) -> None:
    played = game(penalties=penalties)
    # What a penalty draws is the same for the loop if it draws nothing: points in the middle, steps of one length.
    fixed: dict[str, Callable[..., Tensor]] = {
        "uniform": lambda count, *shape, **_: torch.full((count, *shape), 0.5),
        "normal_like": torch.ones_like,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, draw in fixed.items():
            patch.setattr(f"sparring.core.chance.{name}", draw)
        loss = row_loss(played)
        real, fake = torch.randn(6, 3), loss.fakes[0]
        total = clipped_sum(loss, (real,), (fake,), named(played), 0.7)
        wanted = {name: torch.zeros_like(value) for name, value in named(played).items()}
        lengths = []
        for index in range(6):
            batch = Batch(data=real[index : index + 1])
            patch.setattr(played, "draw", lambda batch, one=fake[index : index + 1]: one)
            plain = played.discriminator_loss(batch, 0, False).total  # as it is played without privacy
            found = torch.autograd.grad(plain, list(named(played).values()), allow_unused=True)
            own = [torch.zeros_like(v) if g is None else g for g, v in zip(found, wanted.values(), strict=True)]
            length = torch.cat([each.flatten() for each in own]).norm()
            lengths.append(float(length))
            for each, gradient in zip(wanted.values(), own, strict=True):
                each += gradient * min(1.0, 0.7 / float(length))
    assert max(lengths) > 0.7, "nothing was clipped, so nothing was tested"
    for name, value in wanted.items():
        torch.testing.assert_close(total[name], value, rtol=1e-4, atol=1e-5)


def test_one_sample_more_changes_the_sum_by_no_more_than_the_clip() -> None:
    played = game(penalties={"r1": {"weight": 100}})
    loss = row_loss(played)
    real = torch.randn(6, 3) * torch.tensor([1e-3, 0.1, 1, 10, 1e3, 1e6])[:, None]
    fake = loss.fakes[0]
    whole = clipped_sum(loss, (real,), (fake,), named(played), 0.5)
    for left_out in range(6):
        others = [index for index in range(6) if index != left_out]
        less = clipped_sum(loss, (real[others],), (fake[others],), named(played), 0.5)
        change = torch.cat([(whole[name] - less[name]).flatten() for name in whole]).norm()
        assert change <= 0.5 * (1 + 1e-4)


def test_a_sample_whose_gradient_is_not_finite_has_no_part_in_the_sum() -> None:
    played = game()
    loss = row_loss(played)
    real, fake = torch.randn(6, 3), loss.fakes[0]
    without = clipped_sum(loss, (real[:5],), (fake[:5],), named(played), 1.0)
    real[5] = torch.nan
    for name, value in clipped_sum(loss, (real,), (fake,), named(played), 1.0).items():
        torch.testing.assert_close(value, without[name])


def test_passes_of_few_samples_give_the_sum_of_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    played = game(penalties={"r1": {"weight": 1}})
    loss = row_loss(played, 7)
    rows = (torch.randn(7, 3),), loss.fakes
    whole = clipped_sum(loss, *rows, named(played), 1.0)
    monkeypatch.setattr("sparring.core.private.ROOM", 3 * sum(each.numel() for each in named(played).values()))
    for name, value in clipped_sum(loss, *rows, named(played), 1.0).items():
        torch.testing.assert_close(value, whole[name])


@pytest.mark.parametrize("secure", [False, True])
def test_noise_has_the_deviation_that_it_says_and_the_mean_is_over_the_count_that_was_asked_for(secure: bool) -> None:
    torch.manual_seed(0)
    found = noisy_mean({"a": torch.full((40_000,), 80.0)}, 8, 2.4, secure=secure)["a"]
    assert float(found.mean()) == pytest.approx(10, abs=0.01)
    assert float(found.std()) == pytest.approx(0.3, rel=0.03)
    assert float(((found - 10) / 0.3).abs().gt(1.96).float().mean()) == pytest.approx(0.05, abs=0.005)


def test_cryptographic_noise_does_not_come_again() -> None:
    torch.manual_seed(0)
    first = gaussian((8,), torch.device("cpu"), secure=True)
    torch.manual_seed(0)
    assert not torch.equal(first, gaussian((8,), torch.device("cpu"), secure=True))


def test_partners_are_drawn_one_by_one() -> None:
    torch.manual_seed(0)
    (found,) = partners((torch.arange(50.0),), 50)
    assert len(found.unique()) < 45, "a permutation would hang a sample's partner on the others"


def test_a_spectral_norm_moves_on_by_a_step_and_stands_still_meanwhile() -> None:
    judge = spectral_norm(Plain(3, 1))
    vectors = lambda: torch.cat([value for name, value in judge.named_buffers() if name.endswith("_u")]).clone()  # noqa: E731
    before = vectors()
    with still(judge):
        stepped = vectors()
        judge(torch.randn(2, 3))
        assert torch.equal(vectors(), stepped)
    assert not torch.equal(before, stepped)
    judge(torch.randn(2, 3))
    assert not torch.equal(vectors(), stepped), "it must move again afterwards"


def test_a_critic_with_spectral_norms_and_dropout_can_be_private() -> None:
    played = game()
    played.discriminator.layers.insert(1, nn.Dropout(0.5))
    spectral_norm(played.discriminator)
    loss = row_loss(played)
    total = clipped_sum(loss, (torch.randn(6, 3),), loss.fakes, named(played), 1.0)
    assert all(value.abs().sum() > 0 for name, value in total.items() if not name.endswith("3.bias"))


def test_an_unseen_batch_has_a_number_of_samples_and_nothing_else() -> None:
    unseen = Unseen(7)
    assert unseen.count == 7 and [part.count for part in unseen.split(2)] == [4, 3]
    assert unseen.get("asked") is None
    with pytest.raises(UserError, match="looks at the data"):
        unseen["data"]


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({"name": "relativistic_pairing"}, "shows real samples to the generator"),
        ({"penalties": {"dragan": {"weight": 1}}}, "dragan looks across samples"),
        ({"penalties": {"r1": {"weight": 1}, "lecam": {"weight": 1}}}, "lecam looks across samples"),
    ],
)
def test_what_looks_across_samples_is_refused_in_a_line(loss: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        game(**loss).require_private()
    game().require_private()


def test_turns_that_follow_the_discriminator_s_opinion_and_labels_of_the_data_are_refused() -> None:
    options = LossOptions(**LossOptions.resolve({}))
    for more, said in (({"turns": Turns(balance=True)}, "balance"), ({"label_weights": {"a": 1, "b": 9}}, "labels")):
        rules = {"latent": 2, "loss": options, "turns": Turns(), **more}
        with pytest.raises(UserError, match=said):
            AdversarialGame(Plain(2, 3), Plain(3, 1), **rules).require_private()  # type: ignore[arg-type]


def test_a_subclass_that_minimises_more_is_refused() -> None:
    class More(AdversarialGame):
        def add_discriminator_terms(self, *_: Any) -> None:
            """Something of the batch."""

    options = LossOptions(**LossOptions.resolve({}))
    with pytest.raises(UserError, match="minimises more"):
        More(Plain(2, 3), Plain(3, 1), latent=2, loss=options, turns=Turns()).require_private()
