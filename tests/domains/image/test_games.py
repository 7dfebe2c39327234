"""Every image game: it builds for any shape, each player moves, its figures are its paper's, its terms a hand's computation."""

from __future__ import annotations

from collections import Counter
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparring.core.adversarial import AdversarialGame
from sparring.core.game import Batch, DataSpec, Game, Losses, Turn
from sparring.domains import open_domain
from sparring.domains.image.games import AdversarialAutoencoder, AuxiliaryClassifierGame, InformationGame
from sparring.errors import UserError
from sparring.recipe import Recipe, load_recipe, named_recipes
from sparring.training.engine import Engine, seed_everything
from sparring.training.listener import Listener
from sparring.training.trainer import Trainer

ALL = sorted(name for name, path in named_recipes().items() if path.parent.parent.name == "image")
CLASSES = ("ant", "bee", "cat")
D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)


class Noise:
    """Random images with labels: the smallest data set."""

    def __init__(self, shape: tuple[int, int, int], classes: tuple[str, ...]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(24, *shape, generator=generator) * 2 - 1
        self.labels = torch.arange(24) % len(CLASSES) if classes else None
        extra = {"label_counts": self.labels.bincount().tolist()} if self.labels is not None else {}
        self.spec = DataSpec(shape, classes, 24, extra)
        self.fingerprint, self.broken = "noise", []

    def __len__(self) -> int:
        return 24

    def to(self, device: torch.device) -> Self:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        batch = Batch(data=self.images[indices])
        return batch if self.labels is None else Batch(batch, label=self.labels[indices])


def tiny(name: str, *keys: str) -> Recipe:
    sizes = ["model.generator.width=8", "model.discriminator.width=8", "train.batch_size=6", "train.steps=10"]
    recipe = load_recipe(name)
    grown = ["model.growth.until=0", "model.growth.images=null"] if "growth" in recipe.model else []
    return recipe.override([*sizes, *grown, *keys])


def make_game(
    name: str, *keys: str, shape: tuple[int, int, int] = (1, 8, 8), classes: tuple[str, ...] = CLASSES
) -> Any:
    seed_everything(0)
    return open_domain("image").build_game(tiny(name, *keys), Noise(shape, classes).spec)


def make_trainer(
    name: str, *keys: str, shape: tuple[int, int, int] = (1, 8, 8), classes: tuple[str, ...] = CLASSES
) -> Trainer:
    game, data = make_game(name, *keys, shape=shape, classes=classes), Noise(shape, classes)
    trainer = Trainer(game, data, tiny(name, *keys), Engine(device="cpu"), None, say=lambda text: None)
    trainer.game.train()
    return trainer


def make_batch(count: int = 6) -> Batch:
    return Noise((1, 8, 8), CLASSES).batch(torch.arange(count))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


# Every recipe


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 12)], ids=["8x8 grey", "20x12 RGB"])
@pytest.mark.parametrize("name", ALL)
def test_every_recipe_trains_all_its_players_and_draws_samples(name: str, shape: tuple[int, int, int]) -> None:
    trainer = make_trainer(name, shape=shape)
    before = snapshot(trainer.game)
    for _ in range(2):
        trainer.play_step()
    figures = trainer.read_losses()
    assert all(abs(value) < float("inf") for value in figures.values()), figures
    assert {key.split("/")[1] for key in figures if key.startswith("loss/")} == {
        turn.name for turn in trainer.game.turns(0)
    }
    after = snapshot(trainer.game)
    for player, module in trainer.game.players().items():
        own = {id(parameter) for parameter in module.parameters()}
        names = [key for key, value in trainer.game.named_parameters() if id(value) in own]
        still = [key for key in names if torch.equal(before[key], after[key])]
        if getattr(trainer.game.adversarial, "relativistic", False):  # a difference of logits knows no bias
            still = [key for key in still if key != "discriminator.head.linear.bias"]
        if "growth" in load_recipe(name).model:  # full-grown here: what showed the smaller sizes rests
            still = [key for key in still if not key.startswith(("discriminator.from_image.", "generator.to_image."))]
        assert names and not still, f"{player}: {still} stood still"

    with trainer.sampling() as game:
        drawn = game.generate(5, rng=torch.Generator().manual_seed(0))
        again = game.generate(5, rng=torch.Generator().manual_seed(0))
    assert drawn["data"].shape == (5, *shape)
    assert drawn["data"].dtype == torch.float32
    assert torch.equal(drawn["data"], again["data"])
    learns_range = ("resnet", "progan", "stylegan2", "stylegan3", "msg", "lapgan")  # from the data
    limit = 10 if load_recipe(name).model["generator"]["name"] in learns_range else 1
    assert drawn["data"].abs().max() <= limit
    assert drawn["data"].std(0).max() > 0
    if game.conditions:
        assert drawn["label"].shape == (5,)
        assert set(drawn["label"].tolist()) <= set(range(len(game.conditions)))
    else:
        assert set(drawn) == {"data"}


@pytest.mark.parametrize("name", ALL)
def test_every_game_draws_for_each_of_its_conditions(name: str) -> None:
    game = make_game(name).eval()
    for number in range(len(game.conditions)):
        with torch.no_grad():
            drawn = game.generate(2, condition=torch.tensor([number, number]))
        assert drawn["label"].tolist() == [number, number]
        assert len(drawn["data"]) == 2


@pytest.mark.parametrize("name", ["cgan", "acgan"])
def test_a_game_of_labels_needs_data_with_labels(name: str) -> None:
    with pytest.raises(UserError, match=rf"recipe '{name}' draws samples for labels, but the data has none"):
        make_game(name, classes=())


def test_generated_labels_are_as_frequent_as_in_the_data() -> None:
    spec = DataSpec((1, 8, 8), CLASSES, 100, {"label_counts": [10, 90, 0]})
    game = open_domain("image").build_game(tiny("cgan"), spec).eval()
    with torch.no_grad():
        counts = Counter(game.generate(2000)["label"].tolist())
    assert counts[1] / counts[0] == pytest.approx(9, rel=0.25)
    assert counts[2] == 0


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("aae", "model.conditional=true", "unknown key 'model.conditional'"),
        ("aae", "loss.label_noise=0.1", "unknown key 'loss.label_noise'"),
        ("acgan", "model.conditional=false", "model.conditional: input should be True"),
        ("dcgan", "model.categories=3", "unknown key 'model.categories'"),
        ("dcgan", "model.spectral_norm=[discriminatr]", "model.spectral_norm.0: input should be"),
        ("dcgan", "model.generator={width: 8, name: null}", "model.generator.name is missing; there are mlp"),
        ("infogan", "model.categories=1", "model.categories: input should be greater than or equal to 2"),
    ],
)
def test_options_that_a_game_has_not_are_refused(name: str, key: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_game(name, key)


# Faithful to their papers


ADAM = {"name": "adam", "lr": 2e-4, "betas": [0.5, 0.999]}
PAPERS: dict[str, dict[str, Any]] = {
    "gan": {"optimizer": ADAM, "loss": "non_saturating", "latent": 100, "batch_size": 64, "networks": "mlp"},
    "dcgan": {"optimizer": ADAM, "loss": "non_saturating", "latent": 100, "networks": "dcgan"},
    "lsgan": {"loss": "least_squares", "options": {"a": 0.0, "b": 1.0, "c": 1.0}},
    "wgan": {
        "optimizer": {"name": "rmsprop", "lr": 5e-5}, "loss": "wasserstein", "turns": (5, 1), "batch_size": 64,
        "clip_weights": 0.01, "penalties": {},
    },
    "wgan-gp": {
        "optimizer": {"name": "adam", "lr": 1e-4, "betas": [0.0, 0.9]}, "loss": "wasserstein", "turns": (5, 1),
        "batch_size": 64, "penalties": {"wgan_gp": {"weight": 10.0}}, "clip_weights": None,
    },
    "dragan": {"loss": "non_saturating", "penalties": {"dragan": {"weight": 10.0}}, "turns": (1, 1)},
    "sngan": {"loss": "hinge", "turns": (5, 1), "optimizer": {"name": "adam", "lr": 2e-4, "betas": [0.0, 0.9]}},
    "rgan": {"loss": "relativistic_average"},
    "cgan": {"loss": "non_saturating"},
    "acgan": {"loss": "non_saturating", "optimizer": ADAM},
    "contragan": {"loss": "hinge", "turns": (1, 1)},
    "contragan-32": {
        "loss": "hinge", "turns": (5, 1), "batch_size": 64, "latent": 80,
        "optimizer": {"name": "adam", "lr": 2e-4, "betas": [0.5, 0.999]},
    },
    "reacgan": {"loss": "hinge", "turns": (1, 1)},
    "reacgan-32": {"loss": "hinge", "turns": (5, 1), "batch_size": 64, "latent": 80},
    "infogan": {"loss": "non_saturating", "latent": 62, "generator_lr": 1e-3, "optimizer": ADAM},
    "default": {
        "loss": "relativistic_pairing", "penalties": {"r1": {"weight": 1.0}, "r2": {"weight": 1.0}}, "networks": "resnet",
    },
    "multires": {"networks": "multires"},
    "aae": {"turns": (1, 1)},
    "dcgan-64": {"loss": "non_saturating", "batch_size": 128, "latent": 100, "generator_lr": 2e-4, "optimizer": ADAM},
    "dcgan-128": {"loss": "non_saturating", "batch_size": 128, "latent": 100, "generator_lr": 2e-4, "optimizer": ADAM},
    "lapgan": {"loss": "non_saturating", "turns": (1, 1)},
    "lapgan-32": {"loss": "non_saturating", "batch_size": 128, "generator_lr": 0.02},
    "ebgan": {"loss": "margin", "turns": (1, 1)},
    "began": {"loss": "wasserstein", "batch_size": 16, "turns": (1, 1)},
    "began-128": {"loss": "wasserstein", "batch_size": 16, "latent": 64, "generator_lr": 1e-4},
    "resnet-sngan": {"loss": "hinge", "networks": "sagan"},
    "resnet-sngan-32": {"loss": "hinge", "turns": (5, 1), "batch_size": 64, "latent": 128, "generator_lr": 2e-4},
    "resnet-sngan-128": {"loss": "hinge", "turns": (5, 1), "batch_size": 64, "latent": 128, "generator_lr": 2e-4},
    "sagan": {"loss": "hinge", "turns": (1, 1)},
    "sagan-128": {"loss": "hinge", "turns": (1, 1), "batch_size": 256, "latent": 128, "generator_lr": 1e-4},
    "biggan": {"loss": "hinge", "networks": "biggan"},
    "biggan-128": {"loss": "hinge", "turns": (2, 1), "batch_size": 2048, "latent": 120, "generator_lr": 5e-5},
    "biggan-deep-128": {"loss": "hinge", "turns": (2, 1), "batch_size": 2048, "latent": 128, "generator_lr": 5e-5},
    "progan": {"loss": "wasserstein", "turns": (1, 1)},
    "progan-1024": {"loss": "wasserstein", "turns": (1, 1), "batch_size": 16, "latent": 512, "generator_lr": 1e-3},
    "msg-gan": {"loss": "wasserstein", "turns": (1, 1)},
    "msg-gan-256": {"loss": "wasserstein", "turns": (1, 1), "latent": 512, "generator_lr": 3e-3},
    "stylegan2": {"loss": "non_saturating", "turns": (1, 1)},
    "stylegan2-ada": {"loss": "non_saturating", "turns": (1, 1)},
    "stylegan2-256": {"loss": "non_saturating", "turns": (1, 1), "batch_size": 64, "latent": 512},
    "stylegan3-t": {"loss": "non_saturating", "networks": "stylegan3"},
    "stylegan3-r": {"loss": "non_saturating", "networks": "stylegan3"},
    "stylegan3-t-256": {"loss": "non_saturating", "batch_size": 32, "latent": 512, "generator_lr": 2.5e-3},
    "stylegan3-r-256": {"loss": "non_saturating", "batch_size": 32, "latent": 512, "generator_lr": 2.5e-3},
    "fastgan": {"loss": "hinge", "options": {"noise": 0.2}},
    "fastgan-256": {"loss": "hinge", "batch_size": 8, "latent": 256, "generator_lr": 2e-4},
    "projected": {"loss": "hinge", "networks": "fastgan"},
    "projected-256": {"loss": "hinge", "batch_size": 64, "latent": 256, "generator_lr": 2e-4},
    "r3gan": {"loss": "relativistic_pairing", "networks": "resnet"},
    "r3gan-32": {"loss": "relativistic_pairing", "batch_size": 512, "latent": 64, "generator_lr": 2e-4},
    "r3gan-64": {"loss": "relativistic_pairing", "batch_size": 256, "latent": 64, "generator_lr": 2e-4},
    "r3gan-256": {"loss": "relativistic_pairing", "batch_size": 256, "latent": 64, "generator_lr": 2e-4},
}  # fmt: skip
BORROWED = {
    "sagan": "the plain discriminator of BigGAN is that of SAGAN",
    "stylegan2": "StyleGAN3 keeps its discriminator",
    "projected": "a discriminator for FastGAN's generator",
    "dcgan_autoencoder": "made of DCGAN's two networks",
}
"""Discriminators that play against another family's generator."""


def test_the_table_of_papers_has_every_recipe() -> None:
    assert set(PAPERS) == set(ALL)


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_has_the_figures_of_its_paper(name: str) -> None:
    recipe, paper = load_recipe(name), PAPERS[name]
    optimizer, regularize = recipe.player("discriminator")
    turns = recipe.train.turns
    generator = recipe.player("generator")
    figures = {
        "optimizer": optimizer,
        "loss": recipe.loss["name"],
        "options": recipe.loss.get("options", {}),
        "penalties": recipe.loss.get("penalties", {}),
        "latent": recipe.model["latent"],
        "batch_size": recipe.train.batch_size,
        "turns": (turns.discriminator, turns.generator),
        "clip_weights": regularize.clip_weights,
        "generator_lr": generator[0]["lr"],
        "networks": recipe.model["generator"]["name"],
    }
    assert {key: figures[key] for key in paper} == paper
    assert generator[1].clip_weights is None
    ours = recipe.model["discriminator"]["name"]
    assert ours == recipe.model["generator"]["name"] or ours in BORROWED


def norms(network: nn.Module) -> set[str]:
    known = {"BatchNorm1d", "BatchNorm2d", "LayerNorm", "GroupNorm", "InstanceNorm2d"}
    return {type(module).__name__ for module in network.modules()} & known


@pytest.mark.parametrize("name", ["wgan-gp", "sngan", "multires", "default", "gan"])
def test_a_penalised_or_normalised_discriminator_has_no_batch_norm(name: str) -> None:
    assert not norms(make_game(name).discriminator) & {"BatchNorm1d", "BatchNorm2d"}


@pytest.mark.parametrize("name", ["dcgan", "wgan", "lsgan", "dragan"])
def test_dcgans_have_batch_norm_on_both_sides(name: str) -> None:
    game = make_game(name, shape=(1, 16, 16))
    assert "BatchNorm2d" in norms(game.discriminator) and "BatchNorm2d" in norms(game.generator)
    assert not game.joint


def test_the_default_has_no_norm_anywhere() -> None:
    game = make_game("default")
    assert not norms(game)


def test_dcgan_weights_start_normal_with_deviation_0_02() -> None:
    game = make_game("dcgan", "model.generator.width=32", "model.discriminator.width=32")
    for network in (game.generator, game.discriminator):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 5000:
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_sngan_normalises_every_layer_of_the_discriminator_and_none_of_the_generator() -> None:
    game = make_game("sngan")
    for layer in game.discriminator.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert hasattr(layer, "parametrizations")
    assert not [layer for layer in game.generator.modules() if hasattr(layer, "parametrizations")]
    for _ in range(50):
        game.discriminator.train()(torch.randn(4, 1, 8, 8))
    largest = torch.linalg.matrix_norm(game.discriminator.head.linear.weight, 2)
    assert largest.item() == pytest.approx(1, abs=1e-3)


def test_the_weights_of_wgans_critic_stay_within_the_clip_and_its_generators_do_not() -> None:
    trainer = make_trainer("wgan", "train.optimizer.lr=0.01")
    for _ in range(2):
        trainer.play_step()
        critic = torch.cat([value.detach().flatten() for value in trainer.game.discriminator.parameters()])
        assert critic.abs().max().item() == pytest.approx(0.01)
    assert max(value.abs().max().item() for value in trainer.game.generator.parameters()) > 0.05


def test_wgan_plays_five_critic_turns_on_new_data_for_each_generator_turn() -> None:
    turns = make_game("wgan").turns(0)
    assert [turn.player for turn in turns] == ["discriminator"] * 5 + ["generator"]
    assert all(turn.fresh for turn in turns[:5])
    assert not any(turn.keep for turn in turns)  # the generator draws anew, as in algorithm 1


# Conditional


@pytest.mark.parametrize("condition", ["concat", "projection"])
def test_both_ways_of_conditioning_let_the_label_decide(condition: str) -> None:
    trainer = make_trainer("cgan", f"model.discriminator.condition={condition}")
    trainer.play_step()
    game = trainer.game.eval()
    with torch.no_grad():
        drawn = [
            game.generate(4, condition=torch.full((4,), number), rng=torch.Generator().manual_seed(0))["data"]
            for number in (0, 0, 1)
        ]
        images = make_batch(4)["data"]
        judged = [game.discriminator(images, torch.full((4,), number)) for number in (0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])
    assert not torch.allclose(judged[0], judged[1])
    assert (game.discriminator.head.embedding is not None) is (condition == "projection")
    assert game.discriminator.label_inputs == (len(CLASSES) if condition == "concat" else 0)


def test_projection_adds_the_product_of_features_and_the_class_embedding() -> None:
    game = make_game("cgan", "model.discriminator.condition=projection").eval()
    batch = make_batch()
    features = game.discriminator.features(batch["data"], batch["label"])
    head = game.discriminator.head
    by_hand = head.linear(features).squeeze(1) + (features * head.embedding.weight[batch["label"]]).sum(1)
    torch.testing.assert_close(game.discriminator(batch["data"], batch["label"]), by_hand)


# ACGAN


def test_acgans_classifier_sees_real_and_fake_labels() -> None:
    game, batch = make_game("acgan"), make_batch()
    assert isinstance(game, AuxiliaryClassifierGame)
    losses = game.loss(D, batch, 0)
    fake = batch.memo["fake"].detach()

    def classes(samples: Tensor) -> Tensor:
        return game.classifier(game.discriminator.features(samples))

    by_hand = sum(functional.cross_entropy(classes(each), batch["label"]) for each in (batch["data"], fake))
    torch.testing.assert_close(losses["class"], by_hand)
    right = (classes(batch["data"]).argmax(1) == batch["label"]).float().mean()
    assert losses.watch["class_accuracy"] == right

    losses = game.loss(G, batch, 0)
    torch.testing.assert_close(losses["class"], functional.cross_entropy(classes(fake), batch["label"]))


def test_acgans_discriminator_must_tell_the_label_and_is_not_told_it() -> None:
    game, batch = make_game("acgan"), make_batch()
    assert game.discriminator.label_inputs == game.discriminator.label_rows == 0
    first = game.loss(D, Batch(batch), 0)
    assert {name for name, _ in game.players()["discriminator"].named_parameters() if name.startswith("1.")}
    half = make_game("acgan", "model.classifier_weight=0.5")
    torch.testing.assert_close(half.loss(D, Batch(batch), 0)["class"], 0.5 * first["class"])


# InfoGAN


def test_infogans_information_loss_is_that_of_the_codes_of_its_samples() -> None:
    game, batch = make_game("infogan", classes=()), make_batch()
    assert isinstance(game, InformationGame)
    latents: list[Tensor] = []
    draw = game.noise
    game.noise = lambda *words: latents.append(draw(*words)) or latents[-1]
    losses = game.loss(D, batch, 0)
    category, continuous = batch.memo["codes"]
    assert category.shape == (6,) and continuous.shape == (6, 2)
    assert continuous.abs().max() <= 1

    fake = batch.memo["fake"].detach()
    code = functional.one_hot(category, 10).float()
    torch.testing.assert_close(game.generator(torch.cat([latents[0], code, continuous], 1), None), fake)

    guess = game.recogniser(game.discriminator.features(fake))
    by_hand = (
        functional.cross_entropy(guess[:, :10], category)
        + 0.1 * 0.5 * ((guess[:, 10:] - continuous) ** 2).sum(1).mean()
    )
    torch.testing.assert_close(losses["information"], by_hand)
    torch.testing.assert_close(game.loss(G, batch, 0)["information"], by_hand)
    assert len(latents) == 1  # the generator's turn played on the same samples and codes


def test_infogans_own_draws_bring_their_own_codes() -> None:
    game, batch = make_game("infogan", "loss.share_fakes=false", classes=()), make_batch()
    for turn in game.turns(0):
        game.loss(turn, batch, 0)
        codes = batch.memo["codes"]
        if turn.player == "discriminator":
            first = codes
    assert not torch.equal(first[1], codes[1])


def test_infogans_categories_are_what_it_is_asked_for_without_labels() -> None:
    game = make_game("infogan", "model.categories=4", classes=())
    assert list(game.conditions) == ["0", "1", "2", "3"]
    assert game.generate(3, condition=torch.tensor([3, 0, 1]))["label"].tolist() == [3, 0, 1]
    assert list(make_game("infogan").conditions) == [str(number) for number in range(10)]
    assert list(make_game("infogan", "model.conditional=true").conditions) == list(CLASSES)


def test_infogan_without_continuous_codes_asks_for_the_category_alone() -> None:
    game, batch = make_game("infogan", "model.continuous=0", classes=()), make_batch()
    losses = game.loss(D, batch, 0)
    guess = game.recogniser(game.discriminator.features(batch.memo["fake"].detach()))
    torch.testing.assert_close(losses["information"], functional.cross_entropy(guess, batch.memo["codes"][0]))


# The adversarial autoencoder


class Moves(Listener):
    """Which networks each turn moves."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, set[str]]] = []

    def before_turn(self, trainer: Trainer, turn: Turn) -> None:
        self.before = snapshot(trainer.game)

    def after_turn(self, trainer: Trainer, turn: Turn, losses: Losses) -> None:
        after = snapshot(trainer.game)
        moved = {name.split(".")[0] for name in after if not torch.equal(after[name], self.before[name])}
        self.seen.append((turn.name, moved))


def test_the_autoencoders_three_turns_move_what_the_paper_says() -> None:
    trainer, moves = make_trainer("aae"), Moves()
    trainer.listeners = [moves]
    trainer.play_step()
    assert moves.seen == [
        ("autoencoder", {"encoder", "generator"}),
        ("discriminator", {"discriminator"}),
        ("encoder", {"encoder"}),
    ]
    assert trainer.sampler.position == 6  # all on one batch


def test_the_autoencoders_losses_are_those_of_section_2() -> None:
    game, batch = make_game("aae"), make_batch()
    assert isinstance(game, AdversarialAutoencoder)
    game.eval()
    reconstruction = game.loss(Turn("autoencoder"), batch, 0)["reconstruction"]
    torch.testing.assert_close(
        reconstruction, (game.generator(game.encoder(batch["data"])) - batch["data"]).square().mean()
    )
    torch.manual_seed(1)
    discriminator = game.loss(Turn("discriminator"), batch, 0)
    torch.manual_seed(1)
    prior, codes = torch.randn(6, game.latent), game.encoder(batch["data"])
    real, fake = game.discriminator(prior), game.discriminator(codes)
    softplus = functional.softplus
    torch.testing.assert_close(discriminator["adversarial"], softplus(-real).mean() + softplus(fake).mean())
    torch.testing.assert_close(game.loss(Turn("encoder"), batch, 0)["adversarial"], softplus(-fake).mean())


def test_the_autoencoder_samples_are_decoded_draws_of_the_prior() -> None:
    game = make_game("aae").eval()
    drawn = game.generate(3, rng=torch.Generator().manual_seed(2))["data"]
    codes = torch.randn(3, game.latent, generator=torch.Generator().manual_seed(2))
    assert torch.equal(drawn, game.generator(codes))
    assert list(game.averaged()) == ["generator"]


# Parts in common


def test_every_network_plays_with_every_other() -> None:
    for generator in ("mlp", "dcgan", "resnet", "multires"):
        for discriminator in ("mlp", "dcgan", "resnet", "multires"):
            keys = [
                f"model.generator={{name: {generator}, width: 8}}",
                f"model.discriminator={{name: {discriminator}, width: 8}}",
            ]
            game: Game = make_game("dcgan", *keys)
            assert isinstance(game, AdversarialGame)
            assert game.loss(D, make_batch(), 0).total.isfinite()


@pytest.mark.parametrize("fusion", ["convolution", "attention", "recurrent"])
def test_multires_fuses_in_each_of_its_ways(fusion: str) -> None:
    trainer = make_trainer("multires", f"model.generator.fusion={fusion}", f"model.discriminator.fusion={fusion}")
    trainer.play_step()
    assert all(abs(value) < float("inf") for value in trainer.read_losses().values())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_of_any_channels_are_played(channels: int) -> None:
    trainer = make_trainer("dcgan", shape=(channels, 9, 7))
    trainer.play_step()
    assert trainer.game.generate(2)["data"].shape == (2, channels, 9, 7)
