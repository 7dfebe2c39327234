"""Translation without pairs: CycleGAN, CUT, FastCUT and StarGAN play by their papers' formulas, and go on as if never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.translation.games.contrastive import encoder_maps, mirrored, patch_nce
from sparring.domains.translation.networks.stargan import StarDiscriminator, StarGenerator
from sparring.errors import UserError
from sparring.recipe import Recipe, load_recipe
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

D, G = Turn("discriminator", fresh=False), Turn("generator")
TWO_SIDES = ("cyclegan", "cut", "fastcut")
ALL = (*TWO_SIDES, "stargan")
KINDS = ("ant", "bee", "cat")


class Noise:
    """Random images: two sides that have nothing to do with each other, or one side of several kinds."""

    def __init__(
        self, kinds: bool = False, size: tuple[int, int] = (16, 16), channels: tuple[int, int] = (3, 3)
    ) -> None:
        rng = torch.Generator().manual_seed(0)
        self.kinds = kinds
        self.images = torch.rand(12, channels[1], *size, generator=rng) * 2 - 1
        self.inputs = torch.rand(12, channels[0], *size, generator=rng) * 2 - 1
        facts: dict[str, Any] = {"paired": False, "input": {"kind": "image", "channels": channels[0]}}
        if kinds:
            facts |= {"input": None, "label_counts": [4, 4, 4]}
        self.spec = DataSpec((channels[1], *size), KINDS if kinds else (), 12, facts)
        self.fingerprint, self.broken = "noise", []

    def __len__(self) -> int:
        return 12

    def to(self, device: torch.device) -> Self:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        if self.kinds:
            return Batch(data=self.images[indices], label=indices % 3)
        return Batch(data=self.images[indices], source=self.inputs[indices])


def tiny(name: str, *keys: str) -> Recipe:
    sizes = [
        "model.generator.width=4",
        "model.generator.blocks=2",
        "model.discriminator.width=4",
        "train.batch_size=2",
        "train.steps=8",
    ]
    own = {"cyclegan": ["loss.replay=3"], "stargan": ["train.turns.discriminator=2"]}.get(
        name, ["model.heads=8", "loss.patches=16"]
    )
    return load_recipe(name).override([*sizes, *own, *keys])


def data_for(name: str, **options: Any) -> Noise:
    return Noise(kinds=name == "stargan", **options)


def make_game(name: str, *keys: str, **options: Any) -> Any:
    seed_everything(0)
    return open_domain("translation").build_game(tiny(name, *keys), data_for(name, **options).spec)


def make_trainer(name: str, *keys: str, run: Run | None = None) -> Trainer:
    game = make_game(name, *keys)
    trainer = Trainer(game, data_for(name), tiny(name, *keys), Engine(device="cpu"), run, say=lambda text: None)
    trainer.game.train()
    return trainer


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


# Every recipe


@pytest.mark.parametrize("name", ALL)
def test_every_player_moves_all_its_weights(name: str) -> None:
    trainer = make_trainer(name, "model.discriminator.norm=none" if name in TWO_SIDES else "train.seed=1")
    before = {player: weights(each) for player, each in trainer.game.players().items()}
    for _ in range(2):
        trainer.play_step()
    assert all(abs(value) < float("inf") for value in trainer.read_losses().values())
    for player, module in trainer.game.players().items():
        still = [
            key
            for key, value in module.named_parameters()
            if torch.equal(before[player][key], value) and not key.endswith("bias")
        ]
        assert not still, f"{player}: {still} stood still"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [(16, 16), (21, 18)], ids=["as trained", "odd"])
def test_inputs_of_any_size_keep_it(name: str, size: tuple[int, int]) -> None:
    game = make_game(name).eval()
    source = torch.rand(3, 3, *size) * 2 - 1
    with torch.no_grad():
        made = game.translate(Batch(source=source))
    assert made["data"].shape == source.shape
    assert made["data"].abs().max() <= 1
    assert made["input"].shape == source.shape
    assert made["input"].dtype == torch.uint8
    assert "real" not in made


@pytest.mark.parametrize("name", ALL)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    """The replay buffers and the random numbers among it."""
    keys = ("train.checkpoint_every=3",)
    whole = make_trainer(name, *keys, run=Run(tmp_path))
    while whole.state.step < 3:
        whole.play_step()
    whole.save()
    for _ in range(3):
        whole.play_step()
    resumed = make_trainer(name, *keys)
    seed_everything(99)
    resumed.load(list_checkpoints(tmp_path / "checkpoints")[-1])
    assert resumed.state.step == 3
    for _ in range(3):
        resumed.play_step()
    assert resumed.read_losses() == whole.read_losses()
    ours, theirs = weights(whole.game), weights(resumed.game)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", TWO_SIDES)
def test_data_of_one_side_is_refused_in_one_line(name: str) -> None:
    spec = DataSpec((3, 16, 16), (), 12, {"paired": False, "input": None})
    with pytest.raises(UserError, match=r"translates from one side to another.*two folders") as caught:
        open_domain("translation").build_game(tiny(name), spec)
    assert "\n" not in str(caught.value)


# CycleGAN


def cycle_batch() -> Batch:
    return Noise().batch(torch.arange(2))


def test_the_generators_of_cyclegan_minimise_eq_3_and_the_identity() -> None:
    game, batch = make_game("cyclegan"), cycle_batch()
    losses = game.loss(G, batch, 0)
    a, b = batch["source"], batch["data"]
    there, back = game.a2b.generator, game.b2a.generator
    fake_b, fake_a = there(a), back(b)
    wanted = {
        "a2b/adversarial": (game.a2b.discriminator(fake_b) - 1).square().mean(),
        "a2b/cycle": 10 * (back(fake_b) - a).abs().mean(),
        "a2b/identity": 5 * (there(b) - b).abs().mean(),
        "b2a/adversarial": (game.b2a.discriminator(fake_a) - 1).square().mean(),
        "b2a/cycle": 10 * (there(fake_a) - b).abs().mean(),
        "b2a/identity": 5 * (back(a) - a).abs().mean(),
    }
    assert losses.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.allclose(losses[key], value, rtol=1e-4), key


def test_the_discriminators_of_cyclegan_see_what_the_generators_have_made() -> None:
    game, batch = make_game("cyclegan", "loss.replay=0"), cycle_batch()
    game.loss(G, batch, 0)
    with torch.no_grad():
        made = {"a2b": game.a2b.make(batch["source"]), "b2a": game.b2a.make(batch["data"])}
        for parameter in game.players()["generator"].parameters():
            parameter.add_(0.1)  # as if they had moved
    losses = game.loss(D, batch, 0)
    for name, real in (("a2b", batch["data"]), ("b2a", batch["source"])):
        judge = game.directions[name].discriminator
        wanted = 0.5 * (judge(real) - 1).square().mean() + 0.5 * judge(made[name]).square().mean()
        assert torch.allclose(losses[f"{name}/adversarial"], wanted, rtol=1e-4)


def test_gradients_of_the_way_back_reach_both_generators() -> None:
    game = make_game("cyclegan", "loss.identity=0")
    losses = game.loss(G, cycle_batch(), 0)
    losses["a2b/cycle"].backward()
    for generator in (game.a2b.generator, game.b2a.generator):
        assert all(
            each.grad is not None and each.grad.abs().sum() > 0 for each in generator.parameters() if each.ndim > 1
        )


def test_each_direction_keeps_earlier_outputs_of_its_own() -> None:
    trainer = make_trainer("cyclegan")
    for _ in range(3):
        trainer.play_step()
    kept = [trainer.game.get_buffer(f"{name}.replay.samples") for name in ("a2b", "b2a")]
    assert all(each.shape == (3, 3, 16, 16) for each in kept)
    assert all(each.abs().sum() > 0 for each in kept)
    assert not torch.equal(*kept)
    assert int(trainer.game.get_buffer("a2b.replay.count")) == 3


def test_a_condition_says_the_direction_and_what_comes_back_is_beside_it() -> None:
    game = make_game("cyclegan").eval()
    given = cycle_batch()
    assert list(game.conditions) == ["a2b", "b2a"]
    with torch.no_grad():
        forth, back = game.translate(given), game.translate(given, condition=torch.ones(2, dtype=torch.long))
        alone = game.translate(Batch(source=given["data"]), condition=torch.ones(2, dtype=torch.long))
        assert torch.allclose(forth["data"], game.a2b.generator(given["source"]))
        assert torch.allclose(forth["cycled"], game.b2a.generator(forth["data"]))
        assert torch.equal(forth["source"], given["source"])
        assert torch.allclose(back["data"], game.b2a.generator(given["data"]))
        assert torch.equal(back["source"], given["data"])
    assert torch.equal(alone["data"], back["data"])


def test_sides_of_different_channels_translate_without_identity() -> None:
    with pytest.raises(UserError, match=r"loss\.identity compares .* 1 and 3 channels: say loss\.identity=0"):
        make_game("cyclegan", channels=(1, 3))
    game = make_game("cyclegan", "loss.identity=0", channels=(1, 3)).eval()
    batch = Noise(channels=(1, 3)).batch(torch.arange(2))
    with torch.no_grad():
        made = game.translate(batch)
    assert made["data"].shape == (2, 3, 16, 16)
    assert made["cycled"].shape == (2, 1, 16, 16)


def test_label_maps_have_no_way_back() -> None:
    spec = DataSpec((3, 16, 16), (), 12, {"paired": False, "input": {"kind": "labels", "channels": 5}})
    with pytest.raises(UserError, match=r"inputs are label maps: say --set data\.input=image"):
        open_domain("translation").build_game(tiny("cyclegan", "loss.identity=0"), spec)


# CUT and FastCUT


def test_patch_nce_is_the_cross_entropy_of_a_place_among_all_of_its_image() -> None:
    rng = torch.Generator().manual_seed(0)
    query, key = (F.normalize(torch.randn(2, 5, 4, generator=rng), dim=-1) for _ in range(2))
    wanted = 0.0
    for image in range(2):
        for place in range(5):
            alike = torch.stack([query[image, place] @ key[image, other] for other in range(5)]) / 0.07
            wanted -= float(alike[place] - alike.logsumexp(0)) / 10
    assert float(patch_nce(query, key, 0.07)) == pytest.approx(wanted, rel=1e-5)


def test_what_outputs_are_compared_with_stands_still() -> None:
    key = torch.randn(1, 4, 3, requires_grad=True)
    query = torch.randn(1, 4, 3, requires_grad=True)
    patch_nce(query, key, 0.07).backward()
    assert key.grad is None
    assert query.grad is not None


def test_equal_places_are_told_from_all_others() -> None:
    places = F.normalize(torch.eye(6)[None], dim=-1)
    assert float(patch_nce(places, places, 0.07)) < 1e-4
    assert float(patch_nce(places, places.flip(1), 0.07)) > 5


def test_the_compared_maps_are_pixels_halvings_and_two_blocks() -> None:
    game = make_game("cut", "model.generator.blocks=5")
    images = torch.rand(1, 3, 16, 16)
    maps = encoder_maps(game.generator, images)
    assert [tuple(each.shape[1:]) for each in maps] == [(3, 16, 16), (8, 8, 8), (16, 4, 4), (16, 4, 4), (16, 4, 4)]
    assert torch.equal(maps[0], images)
    last = game.generator.blocks(game.generator.encoder(images))
    assert torch.allclose(maps[-1], last)


def test_the_heads_are_there_before_the_first_step_and_move_with_the_generator() -> None:
    trainer = make_trainer("cut")
    heads = weights(trainer.game.heads)
    assert heads
    trainer.play_step()
    assert all(not torch.equal(heads[key], value) for key, value in weights(trainer.game.heads).items())
    assert set(trainer.game.averaged()) == {"generator"}


def test_cut_has_three_terms_and_fastcut_two() -> None:
    batch = cycle_batch()
    assert set(make_game("cut").loss(G, batch, 0)) == {"adversarial", "contrast", "identity"}
    assert set(make_game("fastcut").loss(G, batch, 0)) == {"adversarial", "contrast"}


def test_fastcut_mirrors_what_the_generator_sees_and_mirrors_the_maps_of_what_it_makes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    game, source = make_game("fastcut"), cycle_batch()["source"]
    turned = torch.tensor([True, False])
    batch = cycle_batch()
    batch.memo["turned"] = turned
    torch.manual_seed(0)
    found = game.loss(G, batch, 0)["contrast"]
    torch.manual_seed(0)
    made = game.make(torch.stack([source[0].flip(-1), source[1]]))
    assert torch.allclose(found, 10 * game.contrast(made, source, turned))

    # By pixels alone, an image that was mirrored on the way in and on the way out is as good as the image itself.
    monkeypatch.setattr("sparring.domains.translation.games.contrastive.encoder_maps", lambda generator, x: [x])
    game.heads = game.heads[:1]
    torch.manual_seed(0)
    plain = game.contrast(source, source)
    torch.manual_seed(0)
    assert torch.equal(game.contrast(mirrored(source, turned), source, turned), plain)
    torch.manual_seed(0)
    assert game.contrast(mirrored(source, turned), source) > 1.5 * plain


def test_half_of_the_inputs_are_mirrored_the_same_ones_in_both_turns() -> None:
    game = make_game("fastcut")
    batch = Batch(source=torch.zeros(400, 3, 1, 1))
    turned = game.turned(batch)
    assert 0.4 < turned.float().mean() < 0.6
    assert game.turned(batch) is turned
    assert make_game("cut").turned(Batch(source=torch.zeros(1, 3, 1, 1))) is None


def test_a_generator_without_an_encoder_to_compare_by_is_refused() -> None:
    recipe = tiny("cut").override(["model.generator={name: unet, width: 4}"])
    with pytest.raises(UserError, match="the contrast compares maps of a generator named resnet"):
        open_domain("translation").build_game(recipe, Noise().spec)


# StarGAN


def test_the_networks_of_stargan_have_the_papers_number_of_parameters() -> None:
    """For CelebA at 128 pixels and five attributes, tables 4 and 5, without D_cls."""
    with torch.device("meta"):
        generator = StarGenerator(3 + 5, (3, 128, 128))
        discriminator = StarDiscriminator(0, (3, 128, 128))
    assert sum(each.numel() for each in generator.parameters()) == 8_430_528
    assert sum(each.numel() for each in discriminator.parameters()) == 44_762_048 - 5 * 2048 * 2 * 2


def test_both_sides_of_stargan_minimise_eqs_5_and_6() -> None:
    game, batch = make_game("stargan", "loss.penalties={}"), data_for("stargan").batch(torch.arange(4))
    losses = game.loss(Turn("discriminator", keep=True), batch, 0)
    wanted, fake = batch.memo["wanted"], batch.memo["fake"]
    real_logits, real_kinds = game.look(batch["data"], None)
    fake_logits, fake_kinds = game.look(fake, None)
    assert torch.allclose(losses["adversarial"], fake_logits.mean() - real_logits.mean(), atol=1e-5)
    assert torch.allclose(losses["classify"], F.cross_entropy(real_kinds, batch["label"]), atol=1e-5)
    losses = game.loss(G, batch, 0)
    assert torch.allclose(losses["adversarial"], -fake_logits.mean(), atol=1e-5)
    assert torch.allclose(losses["classify"], F.cross_entropy(fake_kinds, wanted), atol=1e-5)
    back = game.make(fake, batch["label"])
    assert torch.allclose(losses["cycle"], 10 * (back - batch["data"]).abs().mean(), atol=1e-5)


def test_stargan_makes_what_it_is_asked_for_and_otherwise_one_kind_after_the_other() -> None:
    game = make_game("stargan").eval()
    given = data_for("stargan").batch(torch.arange(5))
    assert list(game.conditions) == list(KINDS)
    with torch.no_grad():
        around = game.translate(given)
        bees = game.translate(given, condition=torch.ones(5, dtype=torch.long))
        cats = game.translate(given, condition=torch.full((5,), 2))
    assert around["label"].tolist() == [0, 1, 2, 0, 1]
    assert bees["label"].tolist() == [1] * 5
    assert not torch.equal(bees["data"], cats["data"])
    assert torch.allclose(around["data"][1], bees["data"][1], atol=1e-6)
    assert torch.equal(around["source"], given["data"])


def test_stargan_needs_several_kinds() -> None:
    with pytest.raises(UserError, match=r"recipe 'stargan' translates between kinds.*data\.layout=single"):
        open_domain("translation").build_game(tiny("stargan"), Noise().spec)


def test_kinds_are_read_off_a_patch_discriminator_too() -> None:
    game = make_game("stargan", "model.discriminator={name: patch, width: 4, norm: none, field: 34}")
    logits, kinds = game.look(torch.zeros(2, 3, 16, 16), None)
    assert logits.shape[:2] == (2, 1)
    assert kinds.shape == (2, 3)


# Their papers' settings


@pytest.mark.parametrize(
    ("name", "loss", "train"),
    [
        ("cyclegan-256", {"cycle": 10, "replay": 50}, {"batch_size": 1, "lr": 2e-4}),
        ("cut-256", {"contrast": 1, "identity": 1, "patches": 256, "temperature": 0.07, "flip": False}, {"batch_size": 1, "lr": 2e-4}),
        ("fastcut-256", {"contrast": 10, "identity": 0, "patches": 256, "flip": True}, {"batch_size": 1, "lr": 2e-4}),
        ("stargan-128", {"classify": 1, "cycle": 10}, {"batch_size": 16, "lr": 1e-4}),
    ],
)  # fmt: skip
def test_the_published_settings_are_the_papers(name: str, loss: dict[str, Any], train: dict[str, Any]) -> None:
    recipe = load_recipe(name)
    game = open_domain("translation").game_class(recipe)
    resolved = game.resolve(recipe)["loss"]
    assert {key: resolved[key] for key in loss} == loss
    assert recipe.train.batch_size == train["batch_size"]
    assert recipe.train.optimizer["lr"] == train["lr"]
    assert recipe.train.optimizer["betas"] == [0.5, 0.999]


def test_cyclegan_at_256_pixels_has_the_papers_size() -> None:
    """11.38 M parameters a generator and 2.76 M a discriminator, as the authors' code prints them, but for biases and scales of norms."""
    spec = DataSpec((3, 256, 256), (), 12, {"paired": False, "input": {"kind": "image", "channels": 3}})
    recipe = load_recipe("cyclegan-256").override(["model.initialize={}", "loss.replay=0"])
    with torch.device("meta"):
        game: Any = open_domain("translation").build_game(recipe, spec)
    counts = {name: sum(each.numel() for each in module.parameters()) for name, module in game.players().items()}
    assert counts["generator"] == pytest.approx(2 * 11_378_179, rel=1e-3)
    assert counts["discriminator"] == pytest.approx(2 * 2_764_737, rel=1e-3)


# What leaves the package


@pytest.mark.parametrize("name", ALL)
def test_what_is_exported_translates_as_the_game_does(name: str) -> None:
    game = make_game(name).eval()
    function = game.exportable().eval()
    inputs = function.draw(3, seed=0)
    with torch.no_grad():
        made = game.translate(Batch(inputs))["data"]
        assert torch.allclose(function(**inputs), made, atol=1e-6)
    assert list(inputs) == (["source", "label"] if name == "stargan" else ["source"])


# They learn


class Squares(Noise):
    """A square somewhere on grey: red on side A and blue on side B, or red, green and blue ones as three kinds."""

    def __init__(self, kinds: bool) -> None:
        super().__init__(kinds)
        rng = torch.Generator().manual_seed(1)
        red, green, blue = ([0.9 if channel == own else -0.9 for channel in range(3)] for own in range(3))
        if kinds:
            self.images = self.draw([red, green, blue], rng)
        else:
            self.inputs, self.images = self.draw([red], rng), self.draw([blue], rng)

    @staticmethod
    def draw(colours: list[list[float]], rng: torch.Generator) -> Tensor:
        images = torch.full((64, 3, 16, 16), -0.5) + 0.1 * torch.randn(64, 3, 16, 16, generator=rng)
        for number, (top, left) in enumerate(torch.randint(1, 9, (64, 2), generator=rng).tolist()):
            colour = torch.tensor(colours[number % len(colours)])[:, None, None]
            images[number, :, top : top + 6, left : left + 6] = colour
        return images.clamp(-1, 1)

    def __len__(self) -> int:
        return 64


def colours_inside(images: Tensor, squares: Tensor) -> Tensor:
    """The mean colour (3,) where the squares were."""
    inside = (squares.amax(1, keepdim=True) > 0.5).float()
    return (images * inside).sum((0, 2, 3)) / inside.sum()


def learnt(name: str, steps: int) -> tuple[Any, Batch]:
    data = Squares(kinds=name == "stargan")
    field = ["model.discriminator.field=16"] if name != "stargan" else []
    recipe = tiny(
        name, "model.generator.width=8", "model.generator.blocks=1", "model.discriminator.width=8", "train.batch_size=4",
        f"train.steps={steps}", "train.optimizer.lr=1e-3", *field,
    )  # fmt: skip
    seed_everything(0)
    game = open_domain("translation").build_game(recipe, data.spec)
    trainer = Trainer(game, data, recipe, Engine(device="cpu"), None, say=lambda text: None)
    trainer.game.train()
    for _ in range(steps):
        trainer.play_step()
    return trainer.game.eval(), data.batch(torch.arange(32))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [("cyclegan", 100), ("cut", 240)])
def test_red_squares_become_blue_where_they_are(name: str, steps: int) -> None:
    game, batch = learnt(name, steps)
    with torch.no_grad():
        made = game.translate(batch)["data"]
    red, green, blue = colours_inside(made, batch["source"]).tolist()
    assert blue > red + 0.4
    assert blue > green + 0.4


@pytest.mark.slow
def test_one_generator_makes_red_squares_and_green_ones() -> None:
    game, batch = learnt("stargan", 150)
    for kind in (0, 1):
        with torch.no_grad():
            made = game.translate(batch, condition=torch.full((32,), kind))["data"]
        colour = colours_inside(made, batch["data"])
        own, others = colour[kind], colour[torch.arange(3) != kind]
        assert (own > others + 0.3).all(), colour


def test_networks_without_norms_start_with_the_weights_that_layers_come_with() -> None:
    """As the authors' do: by N(0, 0.02²) the small discriminator had not told red from blue after 300 turns."""
    assert load_recipe("stargan").model["initialize"] == {}
    assert load_recipe("stargan-128").model["initialize"] == {}
