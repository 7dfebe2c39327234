"""The adversarial game: its turns are the textbook's, and each option does what it says and nothing else."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from sparring.core.adversarial import AdversarialGame, LossOptions
from sparring.core.game import Batch, Turn
from sparring.core.losses import LOSSES, AdversarialLoss
from sparring.core.penalties import PENALTIES
from sparring.recipe import Turns

D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)
SIZE, LATENT, CLASSES = 4, 3, ("ant", "bee", "cat")


class Maker(nn.Module):
    """Latent (N, 3) → vectors (N, 4); remembers the labels it was asked for."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(LATENT + classes, 5), nn.Tanh(), nn.Linear(5, SIZE))
        self.classes = classes
        self.labels: list[Tensor | None] = []

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        self.labels.append(label)
        if label is not None:
            latent = torch.cat([latent, one_hot(label, self.classes).to(latent.dtype)], dim=1)
        return self.layers(latent)


class Judge(nn.Module):
    """Vectors (N, 4) → logits (N,); remembers what it was shown."""

    def __init__(self, classes: int = 0, norm: Callable[[int], nn.Module] = lambda width: nn.Identity()) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(SIZE + classes, 6), norm(6), nn.Tanh(), nn.Linear(6, 1))
        self.classes = classes
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def forward(self, samples: Tensor, label: Tensor | None = None) -> Tensor:
        self.seen.append((samples.detach().clone(), label))
        if label is not None:
            samples = torch.cat([samples, one_hot(label, self.classes).to(samples.dtype)], dim=1)
        return self.layers(samples).squeeze(1)


@pytest.fixture(autouse=True)
def precise() -> Iterator[None]:
    """Everything in float64, and reproducible."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def make_game(
    *, labels: bool = False, norm: Any = None, turns: Turns | None = None, steps: int | None = None, **loss: Any
) -> AdversarialGame:
    classes = len(CLASSES) if labels else 0
    game = AdversarialGame(
        Maker(classes),
        Judge(classes, norm) if norm else Judge(classes),
        latent=LATENT,
        loss=LossOptions(**loss),
        turns=turns or Turns(),
        label_weights=dict.fromkeys(CLASSES, 1.0) if labels else None,
        augment=lambda samples: samples + 0.1 * torch.randn_like(samples),
        steps=steps,
    )
    game.accuracy = game.accuracy.float()
    return game


def make_batch(count: int = 16, labels: bool = False) -> Batch:
    batch = Batch(data=torch.randn(count, SIZE) + 1)
    if labels:
        batch["label"] = torch.arange(count) % len(CLASSES)
    return batch


def gradients(game: AdversarialGame, turn: Turn, batch: Batch, step: int = 0) -> list[Tensor]:
    """What the trainer gives a turn's optimiser."""
    parameters = list(game.players()[turn.player].parameters())
    game.zero_grad()
    game.loss(turn, batch, step).total.backward(inputs=parameters)
    return [parameter.grad.clone() for parameter in parameters]


# One step


def test_a_joint_pass_gives_the_gradient_of_two_separate_passes() -> None:
    game, batch = make_game(), make_batch()
    assert game.joint
    results = []
    for joint in (True, False):
        game.joint = joint
        game.discriminator.seen.clear()
        torch.manual_seed(1)
        results.append(gradients(game, D, Batch(batch)))
        assert [len(samples) for samples, _ in game.discriminator.seen] == ([32] if joint else [16, 16])
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.SyncBatchNorm])
def test_a_discriminator_with_batch_norm_sees_real_and_fake_apart(norm: Any) -> None:
    assert not make_game(norm=norm).joint


def test_batch_statistics_are_taken_of_real_and_of_fake_alone() -> None:
    game, batch = make_game(norm=nn.BatchNorm1d), make_batch()
    game.loss(D, batch, 0)
    assert [len(samples) for samples, _ in game.discriminator.seen] == [16, 16]
    assert torch.equal(game.discriminator.seen[0][0], batch["data"])
    assert game.discriminator.layers[1].num_batches_tracked == 2


def test_other_norms_go_in_one_pass() -> None:
    assert make_game(norm=nn.LayerNorm).joint


@pytest.mark.parametrize("share", [True, False])
def test_the_generators_turn_plays_on_the_very_fakes_of_the_discriminators_turn_or_on_fresh_ones(share: bool) -> None:
    game, batch = make_game(share_fakes=share), make_batch()
    discriminator, generator = game.turns(0)
    assert discriminator.keep is share
    game.loss(discriminator, batch, 0)
    game.loss(generator, batch, 0)
    ((both, _), (judged, _)) = game.discriminator.seen
    assert torch.equal(both[16:], judged) is share
    game.loss(generator, batch, 0)  # a shared batch is used once
    assert not torch.equal(game.discriminator.seen[2][0], both[16:])


def test_fakes_that_nobody_will_share_are_drawn_without_a_graph() -> None:
    game, batch = make_game(), make_batch()
    drawn = []
    game.generator.register_forward_hook(lambda module, inputs, output: drawn.append(output.requires_grad))
    game.loss(Turn("discriminator"), batch, 0)
    assert drawn == [False]
    assert "fake" not in batch.memo
    game.loss(D, batch, 0)
    assert drawn == [False, True]


@pytest.mark.parametrize("joint", [False, True])
def test_three_steps_with_shared_fakes_are_the_textbooks(joint: bool) -> None:
    game = make_game()
    game.joint = joint
    maker, judge = copy.deepcopy(game.generator), copy.deepcopy(game.discriminator)
    latents: list[Tensor] = []

    def noise(count: int, rng: torch.Generator | None = None) -> Tensor:
        latents.append(torch.randn(count, LATENT))
        return latents[-1]

    game.noise = noise  # type: ignore[method-assign]
    ours = {name: torch.optim.Adam(player.parameters(), lr=0.01) for name, player in game.players().items()}
    theirs = {"D": torch.optim.Adam(judge.parameters(), lr=0.01), "G": torch.optim.Adam(maker.parameters(), lr=0.01)}
    for step in range(3):
        batch = make_batch()
        for turn in game.turns(step):
            gradients(game, turn, batch, step)
            ours[turn.player].step()

        # Goodfellow et al. 2014, algorithm 1, with the generator's non-saturating loss, written out.
        fake = maker(latents[step])
        judge.zero_grad()
        (softplus(-judge(batch["data"])).mean() + softplus(judge(fake.detach())).mean()).backward()
        theirs["D"].step()
        maker.zero_grad()
        softplus(-judge(fake)).mean().backward()
        theirs["G"].step()

        pairs = [*zip(game.generator.parameters(), maker.parameters(), strict=True)]
        pairs += zip(game.discriminator.parameters(), judge.parameters(), strict=True)
        for ours_, theirs_ in pairs:
            if joint:  # one product over both halves adds in another order
                torch.testing.assert_close(ours_, theirs_, rtol=1e-9, atol=1e-11)
            else:
                assert torch.equal(ours_, theirs_)
    assert len(latents) == 3


def test_a_turn_leaves_the_other_players_gradients_alone() -> None:
    game, batch = make_game(penalties={"r1": {"weight": 1.0}}), make_batch()
    gradients(game, D, batch)
    assert all(parameter.grad is None for parameter in game.generator.parameters())
    gradients(game, G, batch)
    assert all(parameter.grad is None for parameter in game.discriminator.parameters())


def test_relativistic_generators_see_real_samples_without_moving_through_them() -> None:
    game, batch = make_game(name="relativistic_pairing"), make_batch()
    game.loss(D, batch, 0)
    losses = game.loss(G, batch, 0)
    _, (fake, _), (real, _) = game.discriminator.seen
    assert torch.equal(real, batch["data"])
    with torch.no_grad():
        expected = softplus(game.discriminator(real) - game.discriminator(fake)).mean()
    torch.testing.assert_close(losses["adversarial"].detach(), expected)


@pytest.mark.parametrize("penalty", sorted(PENALTIES))
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_plays_with_every_penalty(loss: str, penalty: str) -> None:
    game, batch = make_game(name=loss, penalties={penalty: {"weight": 1.0}}), make_batch()
    for turn in game.turns(0):
        losses = game.loss(turn, batch, 0)
        assert set(losses) == {"adversarial", penalty} if turn.player == "discriminator" else {"adversarial"}
        assert all(part.isfinite() and part.ndim == 0 for part in losses.values())
        parameters = list(game.players()[turn.player].parameters())
        losses.total.backward(inputs=parameters)
        moved = torch.cat([each.grad.flatten() for each in parameters])
        assert moved.isfinite().all() and moved.abs().max() > 0


def test_penalties_are_added_with_their_weight() -> None:
    batch = make_batch()
    values = {}
    for weight in (1.0, 7.0):
        torch.manual_seed(0)
        game = make_game(penalties={"r1": {"weight": weight}})
        values[weight] = game.loss(D, Batch(batch), 0)["r1"].item()
    assert values[7.0] == pytest.approx(7 * values[1.0])
    samples = batch["data"].clone().requires_grad_()
    (slope,) = torch.autograd.grad(game.discriminator(samples).sum(), samples)
    assert values[1.0] == pytest.approx(0.5 * slope.square().sum(1).mean().item())


def adversarial_and_penalties(game: AdversarialGame, batch: Batch, **penalty: Any) -> tuple[dict[str, Tensor], Tensor]:
    """A turn's parts, written out: the loss on one pass of each side, R1 and R2 on passes of their own."""
    label = batch.get("label")
    real, fake = batch["data"], game.sample(batch.count, label).detach()
    count = max(1, round(penalty.get("share", 1.0) * batch.count))
    chosen = [row * batch.count // count for row in range(count)]
    sides = {}
    for name, samples in (("r1", real), ("r2", fake)):
        samples = samples[chosen].clone().requires_grad_()
        logits = game.discriminator(samples, None if label is None else label[chosen])
        (slope,) = torch.autograd.grad(logits.sum(), samples, create_graph=True)
        sides[name] = 0.5 * slope.square().sum(1).mean()
    parts = {
        "adversarial": game.adversarial.discriminator(game.discriminator(real, label), game.discriminator(fake, label))
    }
    parts |= {name: penalty["weight"] * sides[name] for name in ("r1", "r2")}
    total = sum(parts.values())
    assert isinstance(total, Tensor)
    return parts, torch.cat(
        [each.flatten() for each in torch.autograd.grad(total, list(game.discriminator.parameters()))]
    )


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("share", [1.0, 0.3, 0.01])
@pytest.mark.parametrize("norm", [None, nn.LayerNorm])
def test_joint_passes_of_loss_and_penalties_are_the_separate_ones(share: float, labels: bool, norm: Any) -> None:
    options = {"weight": 2.0, "share": share}
    game, batch = (
        make_game(labels=labels, norm=norm, penalties={"r1": options, "r2": options}),
        make_batch(labels=labels),
    )
    torch.manual_seed(3)
    expected, gradient = adversarial_and_penalties(game, batch, **options)
    game.discriminator.seen.clear()
    torch.manual_seed(3)
    found = torch.cat([each.flatten() for each in gradients(game, D, Batch(batch))])
    assert sum(len(samples) for samples, _ in game.discriminator.seen) == 32  # no sample is looked at twice
    torch.testing.assert_close(found, gradient, rtol=1e-10, atol=1e-13)
    torch.manual_seed(3)
    parts = game.loss(D, Batch(batch), 0)
    torch.testing.assert_close(dict(parts), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_penalties_of_a_discriminator_with_batch_norm_are_taken_of_each_side_alone(share: float) -> None:
    options = {"weight": 2.0, "share": share}
    game, batch = make_game(norm=nn.BatchNorm1d, penalties={"r1": options, "r2": options}), make_batch()
    torch.manual_seed(3)
    _, gradient = adversarial_and_penalties(game, batch, **options)
    game.discriminator.seen.clear()
    torch.manual_seed(3)
    found = torch.cat([each.flatten() for each in gradients(game, D, Batch(batch))])
    assert [len(samples) for samples, _ in game.discriminator.seen] == [16, 16] + [8, 8] * (share < 1)
    torch.testing.assert_close(found, gradient, rtol=1e-10, atol=1e-13)


def test_under_autocast_the_penalties_have_one_pass_of_their_own() -> None:
    torch.set_default_dtype(torch.float32)
    options = {"weight": 1.0, "share": 0.5}
    game, batch = make_game(labels=True, penalties={"r1": options, "r2": options}), make_batch(labels=True)
    with torch.autocast("cpu", torch.bfloat16):
        game.loss(D, batch, 0)
    (both, _), (part, label) = game.discriminator.seen
    assert torch.equal(part, torch.cat([both[:16:2], both[16::2]]))
    assert torch.equal(label, batch["label"][::2].repeat(2))


def test_lazy_penalties_are_played_at_their_interval_and_weighted_up() -> None:
    game = make_game(penalties={"r1": {"weight": 1.0, "every": 3}, "r2": {"weight": 1.0}})
    every = make_game(penalties={"r1": {"weight": 1.0}})
    every.load_state_dict(game.state_dict())
    batch = make_batch()
    played = [game.loss(D, Batch(batch), step) for step in range(7)]
    assert [step for step, losses in enumerate(played) if "r1" in losses] == [0, 3, 6]
    assert all("r2" in losses for losses in played)
    torch.testing.assert_close(played[3]["r1"], 3 * every.loss(D, Batch(batch), 1)["r1"])


def test_penalties_stay_in_full_precision_where_the_turn_is_played_in_half() -> None:
    torch.set_default_dtype(torch.float32)
    batch = make_batch()
    torch.manual_seed(0)
    full = make_game(penalties={"r1": {"weight": 1.0}})
    half = copy.deepcopy(full)
    expected = full.loss(D, Batch(batch), 0)
    with torch.autocast("cpu", torch.bfloat16):
        got = half.loss(D, Batch(batch), 0)
    torch.testing.assert_close(got["r1"], expected["r1"], rtol=1e-6, atol=0)
    assert got["adversarial"].item() != expected["adversarial"].item()


# Turns


def names(game: AdversarialGame, step: int) -> str:
    return "".join(turn.player[0] for turn in game.turns(step))


def test_turns_are_taken_as_often_as_the_recipe_says() -> None:
    game = make_game(turns=Turns(discriminator=3, generator=2))
    turns = game.turns(0)
    assert names(game, 0) == "dddgg"
    assert [turn.fresh for turn in turns] == [True, True, True, False, True]
    assert [turn.keep for turn in turns] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        ((1, 3), (3, 1), ["dggg", "ddgg", "dddg"]),
        ((3, 1), (1, 3), ["dddg", "ddgg", "dggg"]),
        ((5, 1), (1, 1), ["dddddg", "dddg", "dg"]),
    ],
)
def test_turns_move_from_the_first_counts_to_the_final_ones(
    begin: tuple[int, int], end: tuple[int, int], expected: list[str]
) -> None:
    turns = Turns(discriminator=begin[0], generator=begin[1], final_discriminator=end[0], final_generator=end[1])
    game = make_game(turns=turns, steps=100)
    assert [names(game, step) for step in (0, 50, 100)] == expected
    sooner = make_game(turns=turns.model_copy(update={"over": 10}), steps=100)
    assert [names(sooner, step) for step in (0, 5, 10, 99)] == [*expected, expected[-1]]


def test_balanced_turns_favour_the_player_who_is_losing() -> None:
    game = make_game(turns=Turns(balance=True))
    for accuracy, expected in ((0.95, "dgg"), (0.75, "dg"), (0.5, "ddg")):
        game.accuracy.fill_(accuracy)
        assert names(game, 0) == expected


def test_the_accuracy_follows_the_logits_and_survives_a_restart() -> None:
    game = make_game()
    assert "accuracy" in game.state_dict()
    watched = game.watch(torch.tensor([5.0, 6.0]), torch.tensor([1.0, 2.0]))  # a critic's zero means nothing
    assert watched["accuracy"] == 1
    assert (watched["real_logit"], watched["fake_logit"]) == (5.5, 1.5)
    assert game.accuracy.item() == pytest.approx(0.75 + 0.1 * 0.25)
    assert game.watch(torch.tensor([1.0, 2.0]), torch.tensor([5.0, 6.0]))["accuracy"] == 0


# Noise


def test_instance_noise_is_on_both_sides_of_both_turns_and_falls_to_nothing() -> None:
    game = make_game(instance_noise=0.5, instance_noise_steps=100)
    batch = Batch(data=torch.zeros(4000, SIZE))
    for step, expected in ((0, 0.5), (50, 0.25), (90, 0.05), (100, 0.0), (1000, 0.0)):
        game.discriminator.seen.clear()
        game.loss(D, batch, step)
        fake = batch.memo["fake"].detach()
        game.loss(G, batch, step)
        (both, _), (judged, _) = game.discriminator.seen
        for noise in (both[:4000], both[4000:] - fake, judged - fake):
            assert noise.std().item() == pytest.approx(expected, rel=0.05)
    assert torch.equal(both[:4000], batch["data"])


def test_instance_noise_without_an_end_stays() -> None:
    game, batch = make_game(instance_noise=0.5), Batch(data=torch.zeros(4000, SIZE))
    game.loss(D, batch, 10**6)
    assert game.discriminator.seen[0][0][:4000].std().item() == pytest.approx(0.5, rel=0.05)


def test_label_noise_swaps_real_and_fake_that_often_and_in_the_discriminators_turn_alone() -> None:
    game, batch = make_game(label_noise=0.3), make_batch(4000)
    given: list[tuple[Tensor, Tensor]] = []

    def loss(real: Tensor, fake: Tensor) -> Tensor:
        given.append((real, fake))
        return real.mean()

    game.adversarial = AdversarialLoss(loss, game.adversarial.generator)
    game.loss(D, batch, 0)
    ((real, fake),) = given
    with torch.no_grad():
        real_logits, fake_logits = game.discriminator(game.discriminator.seen[0][0]).chunk(2)
    swapped = real != real_logits
    torch.testing.assert_close(swapped.double().mean().item(), 0.3, atol=0.03, rtol=0)
    torch.testing.assert_close(real[swapped], fake_logits[swapped])
    torch.testing.assert_close(fake, torch.where(swapped, real_logits, fake_logits))


# Labels and sampling


def test_a_conditional_game_draws_fakes_for_the_labels_of_the_batch() -> None:
    game, batch = make_game(labels=True, penalties={"wgan_gp": {"weight": 1.0}}), make_batch(labels=True)
    game.loss(D, batch, 0)
    game.loss(Turn("generator"), Batch(batch), 0)
    assert len(game.generator.labels) == 2
    assert all(torch.equal(label, batch["label"]) for label in game.generator.labels)
    assert all(torch.equal(label[:16], batch["label"]) for _, label in game.discriminator.seen)


def test_a_penalty_on_a_share_of_a_conditional_batch_gets_the_labels_of_its_samples() -> None:
    penalties = {"r1": {"weight": 1.0, "share": 0.25}}
    game, batch = make_game(labels=True, penalties=penalties), make_batch(labels=True)
    game.loss(D, batch, 0)
    (first, label), (rest, rest_label) = game.discriminator.seen
    assert torch.equal(first, batch["data"][::4]) and torch.equal(label, batch["label"][::4])
    others = [index for index in range(16) if index % 4]
    assert torch.equal(rest[:12], batch["data"][others])
    assert torch.equal(rest_label, torch.cat([batch["label"][others], batch["label"]]))


def test_a_joint_pass_gives_each_half_its_labels() -> None:
    game, batch = make_game(labels=True), make_batch(labels=True)
    game.loss(D, batch, 0)
    ((_, label),) = game.discriminator.seen
    assert torch.equal(label, batch["label"].repeat(2))


def test_an_unconditional_game_hides_the_labels_of_its_data() -> None:
    game, batch = make_game(), make_batch(labels=True)
    for turn in game.turns(0):
        game.loss(turn, batch, 0)
    assert game.conditions == ()
    assert [label for _, label in game.discriminator.seen] == [None] * 2
    assert set(game.generate(3)) == {"data"}


def test_generated_labels_are_as_frequent_as_in_the_data() -> None:
    game = make_game(labels=True)
    game.label_weights.copy_(torch.tensor([100.0, 300.0, 0.0]))
    counts = Counter(game.generate(4000)["label"].tolist())
    assert counts[2] == 0
    assert counts[1] / counts[0] == pytest.approx(3, rel=0.15)


def test_generate_draws_for_the_condition_it_is_given() -> None:
    game = make_game(labels=True)
    assert game.conditions == CLASSES
    wanted = torch.tensor([2, 0, 1, 1])
    drawn = game.generate(4, condition=wanted)
    assert torch.equal(drawn["label"], wanted)
    assert torch.equal(game.generator.labels[-1], wanted)
    assert drawn["data"].dtype == torch.float32


@pytest.mark.parametrize("labels", [False, True])
def test_generate_with_its_own_generator_leaves_the_global_one_untouched(labels: bool) -> None:
    game = make_game(labels=labels)
    before = torch.get_rng_state()
    first = game.generate(5, rng=torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    again = game.generate(5, rng=torch.Generator().manual_seed(3))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_latents_are_normal_or_uniform() -> None:
    game = make_game()
    normal = game.noise(20000)
    assert normal.std().item() == pytest.approx(1, rel=0.02) and normal.abs().max() > 3
    game.latent_distribution = "uniform"
    uniform = game.noise(20000)
    assert uniform.std().item() == pytest.approx(3**-0.5, rel=0.02) and uniform.abs().max() <= 1
