"""Energy-based games: the energy is the reconstruction's error, and each side minimises its paper's formula."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring.core import processes
from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.image.games.energy import EnergyGame, EquilibriumGame, pulling_away
from sparring.domains.image.networks.autoencoder import BeganDiscriminator, DcganAutoencoder
from sparring.domains.image.networks.began import BeganGenerator
from sparring.errors import UserError
from sparring.recipe import load_recipe

torch.set_num_threads(1)

D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)
SHAPES = [(1, 28, 28), (3, 9, 20), (4, 16, 16), (2, 4, 40)]
each_autoencoder = pytest.mark.parametrize("kind", [DcganAutoencoder, BeganDiscriminator])


def play(name: str, *keys: str) -> tuple[EnergyGame, Batch]:
    torch.manual_seed(0)
    recipe = load_recipe(name).override(
        ["model.generator.width=4", "model.discriminator.width=4", "model.discriminator.code=6", *keys]
    )
    game = open_domain("image").build_game(recipe, DataSpec((1, 12, 9)))
    assert isinstance(game, EnergyGame)
    return game.train(), Batch(data=torch.rand(5, 1, 12, 9) * 2 - 1)


@each_autoencoder
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_are_the_negated_error_of_the_reconstruction(
    kind: type[nn.Module], shape: tuple[int, int, int], classes: int
) -> None:
    judge = kind(shape, classes, width=4, code=5)
    images, label = torch.randn(3, *shape), torch.arange(3) if classes else None
    judge.eval()
    gap = images - judge.reconstruct(images, label)
    errors = gap.abs() if judge.power == 1 else gap**2
    torch.testing.assert_close(judge(images, label), -errors.mean((1, 2, 3)))
    features = judge.features(images, label)
    assert features.shape == (3, judge.feature_count)
    torch.testing.assert_close(judge.codes(features), judge.encoder(images, label))
    if classes:
        assert not torch.equal(judge(images, label), judge(images, label.flip(0)))


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_began_draws_images_of_every_shape_for_their_labels(shape: tuple[int, int, int], classes: int) -> None:
    generator = BeganGenerator(shape, 6, classes, width=4)
    latent, label = torch.randn(3, 6), torch.arange(3) if classes else None
    images = generator(latent, label)
    assert images.shape == (3, *shape)
    if classes:
        assert not torch.equal(images, generator(latent, label.flip(0)))


def test_gradient_penalties_differentiate_an_autoencoder_twice() -> None:
    judge = DcganAutoencoder((1, 8, 8), 0, width=2, code=3, norm="none").double()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)

    def slope(x: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(judge(x).sum(), x, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(slope, (images,))


def test_pulling_away_term_is_the_mean_squared_cosine_of_all_pairs() -> None:
    codes = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    cosines = [torch.cosine_similarity(codes[i], codes[j], dim=0) ** 2 for i, j in combinations(range(6), 2)]
    torch.testing.assert_close(pulling_away(codes), torch.stack(cosines).mean())
    assert torch.autograd.gradcheck(pulling_away, (codes,))
    assert pulling_away(codes[:1]) == 0


def test_pulling_away_term_of_shares_is_that_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.randn(6, 4, dtype=torch.float64)
    whole, heard = pulling_away(codes), []
    monkeypatch.setattr(processes, "current", lambda: SimpleNamespace(world=2))
    monkeypatch.setattr(processes, "mean", lambda value: heard.append(value) or value)
    for share in codes.chunk(2):
        pulling_away(share)
    monkeypatch.setattr(processes, "mean", lambda value: (heard[0] + heard[1]) / 2)
    torch.testing.assert_close(pulling_away(codes[:3]), whole)


def test_ebgan_minimises_its_two_formulas() -> None:
    game, batch = play("ebgan", "model.discriminator.norm=none", "loss.options.margin=0.7", "model.pulling_away=0.3")
    losses = game.loss(D, batch, 0)
    fake = batch.memo["fake"]
    real_energy, fake_energy = -game.discriminator(batch["data"]), -game.discriminator(fake)
    torch.testing.assert_close(losses.total, real_energy.mean() + (0.7 - fake_energy).clamp(min=0).mean())
    losses = game.loss(G, batch, 0)
    codes = game.discriminator.encoder(fake)
    torch.testing.assert_close(losses.total, fake_energy.mean() + 0.3 * pulling_away(codes))


def test_began_weighs_fakes_by_k_which_follows_the_papers_rule() -> None:
    game, batch = play("began", "model.gain=0.5", "model.diversity=0.4")
    assert isinstance(game, EquilibriumGame)
    game.balance.fill_(0.2)
    losses = game.loss(D, batch, 0)
    fake = batch.memo["fake"]
    real_energy, fake_energy = -game.discriminator(batch["data"]).mean(), -game.discriminator(fake).mean()
    torch.testing.assert_close(losses.total, real_energy - 0.2 * fake_energy)
    game.after_turn(D, 0)
    losses = game.loss(G, batch, 0)
    torch.testing.assert_close(losses.total, fake_energy)
    torch.testing.assert_close(losses.watch["convergence"], real_energy + (0.4 * real_energy - fake_energy).abs())
    game.after_turn(G, 0)
    expected = 0.2 + 0.5 * (0.4 * real_energy - fake_energy)
    torch.testing.assert_close(game.balance, expected.clamp(0, 1).detach())
    assert "balance" in game.state_dict()


def test_k_is_that_of_the_whole_batch_where_it_comes_in_parts() -> None:
    whole, batch = play("began", "model.gain=0.5")
    parts, _ = play("began", "model.gain=0.5")
    parts.load_state_dict(whole.state_dict())
    fake = whole.draw(batch).detach()
    for game, cuts in ((whole, [batch]), (parts, list(batch.split(2)))):
        game.balance.fill_(0.5)
        fakes = [fake] if len(cuts) == 1 else [fake[0::2], fake[1::2]]
        for turn in (D, G):
            for cut, own in zip(cuts, fakes, strict=True):
                game.draw = lambda batch, own=own: own  # type: ignore[method-assign,misc]
                cut.memo.clear()
                game.loss(turn, cut, 0)
            game.after_turn(turn, 0)
    torch.testing.assert_close(parts.balance, whole.balance)


def test_k_stays_between_zero_and_one() -> None:
    game, batch = play("began", "model.gain=1000.0")
    for energy, expected in ((1e3, 1.0), (0.0, 0.0)):
        game.loss(D, batch, 0)
        game.after_turn(D, 0)
        game.real_energy.fill_(energy)
        game.loss(G, batch, 0)
        game.after_turn(G, 0)
        assert game.balance == expected


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("ebgan", "model.discriminator={name: dcgan}", "needs an autoencoder"),
        ("began", "loss.name=hinge", "those of 'wasserstein', not 'hinge'"),
        ("began", "model.discriminator.power=3", "1 or 2, not 3"),
    ],
)
def test_what_is_no_energy_based_game_is_explained(name: str, key: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_domain("image").build_game(load_recipe(name).override([key]), DataSpec((1, 12, 9)))
