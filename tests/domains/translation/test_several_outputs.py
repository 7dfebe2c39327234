"""Several outputs for one input, and styles: BicycleGAN, MUNIT and style transfer play by their papers' formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from sparring import api
from sparring.core.game import Batch, DataSpec, Losses, Turn
from sparring.domains import open_domain
from sparring.domains.translation.games.bicycle import divergence
from sparring.domains.translation.networks import DISCRIMINATORS, GENERATORS
from sparring.domains.translation.networks.munit import StyledAutoencoder
from sparring.errors import UserError
from sparring.recipe import Recipe, load_recipe
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)
ALL = ("bicyclegan", "munit", "style")
TINY = {
    "bicyclegan": (
        "data.size=16", "data.load=16", "model.generator.width=4", "model.discriminator.width=4", "model.discriminator.field=16",
        "model.encoder.width=4",
    ),
    "munit": (
        "data.size=16", "data.load=16", "model.autoencoder.width=4", "model.autoencoder.blocks=1", "model.autoencoder.hidden=8",
        "model.autoencoder.style_down=2", "model.discriminator.width=4", "model.discriminator.field=10",
    ),
    "style": (
        "data.size=16", "model.generator.width=4", "model.generator.blocks=1", "model.discriminator.width=4",
        "model.discriminator.depth=2", "model.discriminator.heads=[1,2]",
    ),
}  # fmt: skip


class Noise:
    """Random images: pairs, or two sides that have nothing to do with each other."""

    fingerprint = "noise"

    def __init__(self, paired: bool, size: tuple[int, int] = (16, 16), channels: int = 3) -> None:
        rng = torch.Generator().manual_seed(0)
        self.images = torch.rand(12, 3, *size, generator=rng) * 2 - 1
        self.inputs = torch.rand(12, channels, *size, generator=rng) * 2 - 1
        self.spec = DataSpec((3, *size), (), 12, {"paired": paired, "input": {"kind": "image", "channels": channels}})
        self.broken: list[Any] = []

    def __len__(self) -> int:
        return 12

    def to(self, device: torch.device) -> Self:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(data=self.images[indices], source=self.inputs[indices])


def tiny(name: str, *keys: str) -> Recipe:
    return load_recipe(name).override([*TINY[name], "train.batch_size=2", "train.steps=8", *keys])


def make_game(name: str, *keys: str, **options: Any) -> Any:
    seed_everything(0)
    spec = Noise(name == "bicyclegan", **options).spec
    return open_domain("translation").build_game(tiny(name, *keys), spec).train()


def make_batch(count: int = 3) -> Batch:
    data = Noise(True)
    return data.batch(torch.arange(count))


def make_trainer(name: str, *keys: str, run: Run | None = None) -> Trainer:
    trainer = Trainer(
        make_game(name, *keys), Noise(name == "bicyclegan"), tiny(name, *keys), Engine(device="cpu"), run,  # type: ignore[arg-type]
        say=lambda text: None,
    )  # fmt: skip
    trainer.game.train()
    return trainer


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True))


def moved(loss: Tensor, module: nn.Module) -> bool:
    return any(each is not None and bool(each.abs().max() > 0) for each in gradients(loss, module))


def played(game: Any, batch: Batch) -> tuple[Losses, Losses]:
    return game.loss(D, batch, 0), game.loss(G, batch, 0)


# Every recipe


@pytest.mark.parametrize("name", ALL)
def test_every_player_moves_its_weights_step_by_step(name: str) -> None:
    trainer = make_trainer(name)
    players = trainer.game.players()
    before = {
        player: {key: value.clone() for key, value in each.named_parameters()} for player, each in players.items()
    }
    for _ in range(2):
        trainer.play_step()
    assert all(abs(value) < float("inf") for value in trainer.read_losses().values())
    for player, module in players.items():
        # A bias before a norm is idle.
        still = [
            key
            for key, value in module.named_parameters()
            if torch.equal(before[player][key], value) and not key.endswith("bias")
        ]
        assert not still, f"{player}: {still} stood still"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [(16, 16), (21, 18), (5, 33)], ids=["as trained", "odd", "narrow"])
def test_inputs_of_any_size_keep_it(name: str, size: tuple[int, int]) -> None:
    game = make_game(name).eval()
    source = torch.rand(2, 3, *size) * 2 - 1
    with torch.no_grad():
        made = game.translate(Batch(source=source))
    assert made["data"].shape == source.shape
    assert made["data"].abs().max() <= 1
    assert made["input"].dtype == torch.uint8
    assert "real" not in made


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("keys", [(), ("train.micro_batches=2",)], ids=["whole", "in parts"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    name: str, keys: tuple[str, ...], tmp_path: Path
) -> None:
    """Where the discriminator's success deals the turns, that success is remembered too."""
    if name == "style":
        keys = (*keys, "loss.success=0.5")
    whole = make_trainer(name, *keys, run=Run(tmp_path))
    for _ in range(3):
        whole.play_step()
    whole.save()
    for _ in range(3):
        whole.play_step()
    resumed = make_trainer(name, *keys)
    seed_everything(99)
    resumed.load(list_checkpoints(tmp_path / "checkpoints")[-1])
    for _ in range(3):
        resumed.play_step()
    ours, theirs = whole.game.state_dict(), resumed.game.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", ["bicyclegan", "munit"])
def test_a_seed_means_an_output_and_another_seed_another(name: str) -> None:
    game = make_game(name).eval()

    def made(seed: int) -> Tensor:
        with torch.no_grad():
            return game.translate(make_batch(), rng=torch.Generator().manual_seed(seed))["data"]

    assert torch.equal(made(1), made(1))
    gaps = (made(1) - made(2)).abs().amax((1, 2, 3))
    assert bool((gaps > 1e-3).all())


@pytest.mark.parametrize("name", ["bicyclegan", "munit"])
def test_a_row_draws_what_is_its_own(name: str) -> None:
    game = make_game(name).eval()
    source = make_batch(1)["source"].expand(3, -1, -1, -1)
    with torch.no_grad():
        one, two, three = game.translate(Batch(source=source), rng=torch.Generator().manual_seed(0))["data"]
    assert min((one - two).abs().max(), (two - three).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ALL)
def test_other_turns_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"once a step each: leave train\.turns out"):
        make_game(name, "train.turns.discriminator=2")


@pytest.mark.parametrize("name", ALL)
def test_a_relativistic_loss_judges_real_ones_too(name: str) -> None:
    ours = played(make_game(name, "loss.name=relativistic_average"), make_batch())
    assert all(torch.isfinite(each.total) for each in ours)


@pytest.mark.parametrize("name", ["bicyclegan-256", "munit-256", "style-768"])
def test_published_settings_build_and_take_a_step(name: str) -> None:
    """On smaller images and, of each player, with its published widths on the meta device."""
    recipe = load_recipe(name)
    size = recipe.data["size"]
    spec = DataSpec((3, size, size), (), 8, {"paired": True, "input": {"kind": "image", "channels": 3}})
    with torch.device("meta"):
        game = open_domain("translation").build_game(recipe.override(["model.initialize={}"]), spec)
        batch = Batch(data=torch.empty(2, 3, size, size), source=torch.empty(2, 3, size, size))
        players = game.players()
        for player in ("discriminator", "generator"):
            losses = game.loss(Turn(player, keep=player == "discriminator"), batch, 0)
            found = torch.autograd.grad(losses.total, list(players[player].parameters()), allow_unused=True)
            assert all(each is not None for each in found)


@pytest.mark.parametrize("name", ["bicyclegan", "munit"])
def test_files_are_translated_in_several_outputs_and_in_a_given_style(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for side in ("A", "B"):
        (tmp_path / "data" / side).mkdir(parents=True)
        for number in range(3):
            noise = rng.integers(0, 256, (16, 16, 3), np.uint8)
            own = side if name == "munit" else ""
            Image.fromarray(noise).save(tmp_path / "data" / side / f"{own}{number}.png")
    # Weights large enough that outputs are far from the grey whose rounding is a matter of the last bit.
    keys = ("train.steps=1", "model.initialize={name: normal, std: 0.3}", "machine.compile=false")
    recipe = tiny(name, *keys, f"data.source={tmp_path / 'data'}")
    run = api.train(recipe, out=tmp_path / "run", quiet=True).run
    photo = next((tmp_path / "data" / "A").iterdir())
    with torch.random.fork_rng():
        drawn = api.translate(str(run), [photo], out=tmp_path / "drawn", count=2).files
        style = next((tmp_path / "data" / "B").iterdir())
        styled = [
            api.translate(str(run), [photo], out=tmp_path / str(seed), seed=seed, style=style).files[0]
            for seed in (0, 1)
        ]
    one, other, same, again = (np.asarray(Image.open(file)).astype(int) for file in (*drawn, *styled))
    assert one.shape == (16, 16, 3)
    assert np.abs(one - other).max() > 5
    assert np.abs(same - again).max() <= 1


@pytest.mark.parametrize(("name", "drawn"), [("bicyclegan", "code"), ("munit", "style"), ("style", None)])
def test_what_leaves_the_package_is_a_function_of_the_input_and_of_what_is_drawn(name: str, drawn: str | None) -> None:
    game = make_game(name).eval()
    function = game.exportable()
    inputs = function.draw(2, seed=0)
    assert list(inputs) == ["source", *([drawn] if drawn else [])]
    with torch.no_grad():
        assert torch.allclose(function(**inputs), game.translate(Batch(inputs))["data"], atol=1e-6)
    held = {each.data_ptr() for each in function.parameters()}
    assert (
        held < {each.data_ptr() for module in game.averaged().values() for each in module.parameters()}
        or name == "style"
    )


# BicycleGAN


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    mean, log_variance = torch.randn(5, 8, dtype=torch.float64), torch.randn(5, 8, dtype=torch.float64)
    expected = kl_divergence(
        Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean))
    )
    assert divergence(mean, log_variance).item() == pytest.approx(expected.sum(1).mean().item())


def test_the_generators_loss_is_equation_9() -> None:
    game, batch = make_game("bicyclegan"), make_batch()
    own = game.play(batch)
    batch.memo["played"] = own
    parts = game.loss(G, batch, 0)
    given, target = batch["source"], batch["data"]
    for name in ("encoded", "random"):
        logits = game.discriminators[name](own[name], given)
        assert parts[name].item() == pytest.approx(0.5 * (logits - 1).square().mean().item(), rel=1e-5)
    assert parts["image"].item() == pytest.approx(10 * (own["encoded"] - target).abs().mean().item(), rel=1e-5)
    recovered = game.encoder(own["random"])[0]
    assert parts["latent"].item() == pytest.approx(0.5 * (recovered - own["drawn"]).abs().mean().item(), rel=1e-5)
    assert parts["kl"].item() == pytest.approx(0.01 * divergence(own["mean"], own["log_variance"]).item(), rel=1e-5)
    assert set(parts) == {"encoded", "random", "image", "latent", "kl"}


def test_codes_are_recovered_by_the_generators_doing_alone() -> None:
    game = make_game("bicyclegan")
    parts = game.loss(G, make_batch(), 0)
    assert moved(parts["latent"], game.generator)
    assert not moved(parts["latent"], game.encoder)
    assert moved(parts["kl"], game.encoder)
    assert not moved(parts["kl"], game.generator)
    assert moved(parts["image"], game.encoder)
    assert moved(parts["encoded"], game.encoder)
    assert not moved(parts["random"], game.encoder)


def test_each_discriminator_judges_outputs_of_its_own_kind() -> None:
    game = make_game("bicyclegan")
    parts, _ = played(game, make_batch())
    one, other = game.discriminators["encoded"], game.discriminators["random"]
    assert moved(parts["encoded"], one)
    assert not moved(parts["encoded"], other)
    assert not moved(parts["random"], one)
    assert not moved(parts["encoded"] + parts["random"], game.generator)


def test_discriminators_may_be_kept_from_the_input() -> None:
    game = make_game("bicyclegan", "model.sees_source=false")
    assert next(game.discriminators.parameters()).shape[1] == 3
    played(game, make_batch())


def test_a_code_that_is_given_is_taken_and_so_is_that_of_an_image() -> None:
    game, batch = make_game("bicyclegan").eval(), make_batch()
    code = torch.randn(3, 8)
    with torch.no_grad():
        made = game.translate(Batch({**batch, "code": code}))
        assert torch.equal(made["data"], game.generator(batch["source"], code))
        assert torch.equal(made["real"], batch["data"])
        styled = game.translate(Batch(source=batch["source"], style=batch["data"]))
        assert torch.equal(styled["data"], game.generator(batch["source"], game.encoder(batch["data"])[0]))


@pytest.mark.parametrize(("inject", "levels"), [("all", [True] * 4), ("input", [True, False, False, False])])
def test_the_code_is_put_in_where_the_recipe_says(inject: str, levels: list[bool]) -> None:
    plain, coded = (
        GENERATORS["unet"](3, (3, 16, 16), width=4, norm="none", **options)
        for options in ({}, {"code": 5, "inject": inject})
    )
    widths = [
        [layer.in_channels for level in network.down for layer in level if isinstance(layer, nn.Conv2d)]  # type: ignore[attr-defined, union-attr]
        for network in (plain, coded)
    ]
    assert [after - before for before, after in zip(*widths, strict=True)] == [5 * takes for takes in levels]


def test_a_generator_without_a_code_is_refused() -> None:
    with pytest.raises(UserError, match=r"needs a generator that takes a code.*model\.generator\.code=8"):
        make_game("bicyclegan", "model.generator.code=0")


def test_bicyclegan_needs_pairs() -> None:
    with pytest.raises(UserError, match=r"learns from pairs"):
        open_domain("translation").build_game(tiny("bicyclegan"), Noise(False).spec)


# MUNIT


def test_the_autoencoders_loss_is_equation_5() -> None:
    game, batch = make_game("munit", "loss.cycle=3"), make_batch()
    sides = game.play(batch)
    batch.memo["sides"] = sides
    parts = game.loss(G, batch, 0)
    for name, other in ("ab", "ba"):
        side, origin, coder = sides[name], sides[other], game.autoencoders[name]
        assert torch.equal(side["made"], coder.decode(origin["content"], side["drawn"]))
        content, style = coder.encode(side["made"])
        logits = game.discriminators[name](side["made"])
        expected = {
            "adversarial": 2 * 0.5 * (logits - 1).square().mean(),
            "image": 10 * (coder(side["image"]) - side["image"]).abs().mean(),
            "content": (content - origin["content"]).abs().mean(),
            "style": (style - side["drawn"]).abs().mean(),
            "cycle": 3 * (game.autoencoders[other].decode(content, origin["style"]) - origin["image"]).abs().mean(),
        }
        for term, value in expected.items():
            assert parts[f"{name}/{term}"].item() == pytest.approx(value.item(), rel=1e-5), term
    assert len(parts) == 10


def test_contents_know_nothing_of_brightness_and_contrast_and_styles_do() -> None:
    torch.manual_seed(0)
    coder, images = StyledAutoencoder(3, width=4, blocks=1, style_down=2), torch.rand(2, 3, 16, 16)
    dark = 0.3 * images - 0.2
    assert torch.allclose(coder.encode(images)[0], coder.encode(dark)[0], atol=1e-2)
    assert not torch.allclose(coder.encode(images)[1], coder.encode(dark)[1], atol=1e-2)


def test_the_published_autoencoder_has_these_parameters() -> None:
    """Counted by hand, for 3 channels: encoders, residual blocks with AdaIN, the layers that set it, doublings."""

    def convolved(before: int, after: int, kernel: int) -> int:
        return before * after * kernel**2 + after

    def normed(before: int, after: int, kernel: int) -> int:
        return before * after * kernel**2  # a bias would be idle

    with torch.device("meta"):
        coder = StyledAutoencoder(3)
    block = 2 * normed(256, 256, 3)
    norms = 2 * (64 + 128 + 256) + 4 * 2 * 2 * 256  # learnt gains and biases, which the released code leaves out
    content = normed(3, 64, 7) + normed(64, 128, 4) + normed(128, 256, 4) + 4 * block + norms
    style = (
        convolved(3, 64, 7) + convolved(64, 128, 4) + convolved(128, 256, 4) + 2 * convolved(256, 256, 4) + 256 * 8 + 8
    )
    mapping = (8 * 256 + 256) + (256 * 256 + 256) + (256 + 1) * (4 * 2 * 2 * 256)
    decoder = 4 * block + convolved(256, 128, 5) + convolved(128, 64, 5) + 2 * (128 + 64) + convolved(64, 3, 7)
    assert sum(each.numel() for each in coder.parameters()) == content + style + mapping + decoder


@pytest.mark.parametrize("field", [10, 22, 46, 94])
def test_a_logit_of_halving_layers_sees_a_patch_of_the_named_size(field: int) -> None:
    size = 1 << (2 * field).bit_length()
    judge = DISCRIMINATORS["patch"](0, (1, size, size), width=1, field=field, norm="none").double()
    with torch.no_grad():
        for weight in judge.parameters():
            weight.fill_(0.1)
    images = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    logits = judge(images)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert images.grad is not None
    assert int((images.grad[0, 0].abs().sum(1) > 0).sum()) == field


def test_the_style_of_an_image_is_taken_and_one_does_for_all() -> None:
    game, batch = make_game("munit").eval(), make_batch()
    there = game.autoencoders["b"]
    with torch.no_grad():
        made = game.translate(Batch(source=batch["source"], style=batch["data"][:1]))["data"]
        content = game.autoencoders["a"].content_encoder(batch["source"])
        assert torch.allclose(
            made, there.decode(content, there.style_encoder(batch["data"][:1]).expand(3, -1)), atol=1e-6
        )
        numbers = torch.randn(3, 8)
        made = game.translate(Batch(source=batch["source"], style=numbers))["data"]
        assert torch.allclose(made, there.decode(content, numbers), atol=1e-6)


def test_a_direction_begins_at_its_own_side() -> None:
    game, batch = make_game("munit").eval(), make_batch()
    assert list(game.conditions) == ["a2b", "b2a"]
    assert not game.reads_labels
    with torch.no_grad():
        there = game.translate(batch, condition=torch.tensor([0, 0, 0]))
        back = game.translate(batch, condition=torch.tensor([1, 1, 1]))
        alone = game.translate(Batch(source=batch["source"]), condition=torch.tensor([1, 1, 1]))
    assert torch.equal(there["source"], batch["source"])
    assert torch.equal(back["source"], batch["data"])
    assert torch.equal(alone["source"], batch["source"])


def test_sides_may_have_other_channels() -> None:
    game = make_game("munit", channels=1).eval()
    with torch.no_grad():
        assert game.translate(Batch(source=torch.zeros(2, 1, 16, 16)))["data"].shape[1] == 3
        back = game.translate(Batch(source=torch.zeros(2, 3, 16, 16)), condition=torch.tensor([1, 1]))
    assert back["data"].shape[1] == 1


@pytest.mark.parametrize("name", ["munit", "style"])
def test_label_maps_are_refused(name: str) -> None:
    spec = DataSpec((3, 16, 16), (), 8, {"paired": False, "input": {"kind": "labels", "channels": 5}})
    with pytest.raises(UserError, match=r"data\.input=image"):
        open_domain("translation").build_game(tiny(name), spec)


# Style transfer


# A spectrally normalised network is another one at each pass of training.
PLAIN = ("loss.name=non_saturating", "model.spectral_norm=[]")


def test_the_stylers_loss_is_its_formula() -> None:
    game, batch = make_game("style", *PLAIN, "loss.adversarial=3", "loss.content=30", "loss.image=30"), make_batch()
    content, made = game.play(batch)
    batch.memo["played"] = content, made
    parts = game.loss(G, batch, 0)
    assert torch.equal(made, game.generator(batch["source"]))
    logits = game.discriminator(made)
    assert parts["adversarial"].item() == pytest.approx(3 * F.softplus(-logits).mean().item(), rel=1e-5)
    again = game.generator.encoder(made)
    assert parts["content"].item() == pytest.approx(30 * (again - content).abs().mean().item(), rel=1e-5)
    windows = [each.unfold(2, 5, 1).unfold(3, 5, 1).mean((4, 5)) for each in (made, batch["source"])]
    assert parts["image"].item() == pytest.approx(30 * (windows[0] - windows[1]).square().mean().item(), rel=1e-5)


def test_photographs_as_they_are_count_as_fakes() -> None:
    game, batch = make_game("style", *PLAIN, "loss.photographs=2"), make_batch()
    parts = game.loss(D, batch, 0)
    weights = list(game.discriminator.parameters())
    ours = torch.autograd.grad(parts["photographs"], weights, retain_graph=True)
    expected = torch.autograd.grad(2 * F.softplus(game.discriminator(batch["source"])).mean(), weights)
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(ours, expected, strict=True))


def test_turns_go_to_the_player_that_is_behind() -> None:
    game = make_game("style", "loss.success=0.8")
    assert [turn.player for turn in game.turns(0)] == ["generator"]
    game.success.fill_(0.79)
    assert [turn.player for turn in game.turns(0)] == ["discriminator"]
    assert [turn.player for turn in make_game("style").turns(0)] == ["discriminator", "generator"]


def test_the_success_follows_what_the_discriminator_gets_right() -> None:
    game, batch = make_game("style", "loss.success=0.8"), make_batch()
    with torch.no_grad():
        for head in game.discriminator.heads.values():
            head.weight.zero_()
            head.bias.fill_(1.0)  # everything is a work to it: right of one in three
    game.loss(Turn("discriminator"), batch, 0)
    assert game.success.item() == pytest.approx(0.8 + 0.05 * (1 / 3 - 0.8))
    game.loss(Turn("generator"), batch, 0)
    assert game.success.item() == pytest.approx(0.95 * (0.8 + 0.05 * (1 / 3 - 0.8)))


def test_logits_are_read_at_the_named_depths_and_weigh_the_same() -> None:
    judge = DISCRIMINATORS["deep"](0, (3, 32, 32), width=4, depth=3, heads=[1, 3], norm="none")
    logits, maps = judge.look(torch.rand(2, 3, 32, 32))  # type: ignore[operator]
    assert logits.shape == (2, 2, 16, 16)
    assert [each.shape[2] for each in maps[0]] == [16, 8, 4]
    own = judge.heads["3"](maps[0][2])  # type: ignore[index]
    assert logits[:, 1].mean().item() == pytest.approx(own.mean().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("model.generator.name=unet",), r"'unet' has none: use model\.generator\.name=styler"),
        (("loss.pool=40",), r"loss\.pool: means over 40 pixels do not fit into 16×16"),
        (("model.discriminator.depth=5",), r"2 pixels must be left of 16×16; not 5"),
        (("model.discriminator.heads=[3]",), r"logits are read after layers 1 to 2, not \[3\]"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(keys: tuple[str, ...], message: str) -> None:
    recipe = load_recipe("style").override(["data.size=16", "model.discriminator={depth: 2, heads: [1, 2]}"])
    if keys[0].startswith("model.generator"):
        recipe.model["generator"] = {}
    with pytest.raises(UserError, match=message) as caught:
        open_domain("translation").build_game(recipe.override(keys), Noise(False).spec)
    assert "\n" not in str(caught.value)


def test_sides_of_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match=r"3 and 1 channels.*data\.input_channels"):
        make_game("style", channels=1)


def test_a_residual_generator_has_an_encoder_too() -> None:
    recipe = tiny("style")
    recipe.model["generator"] = {"name": "resnet", "width": 4, "blocks": 1}
    game: Any = open_domain("translation").build_game(recipe, Noise(False).spec)
    assert game.loss(G, make_batch(), 0)["content"].item() > 0
