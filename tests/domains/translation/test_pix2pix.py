"""pix2pix: the published networks, what a logit sees, noise that stays, and the two parts of the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from sparring import api
from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.translation.data import TranslationOptions, open_translation
from sparring.domains.translation.games.paired import PairedGame, feature_matching
from sparring.domains.translation.networks import DISCRIMINATORS, GENERATORS
from sparring.errors import UserError
from sparring.recipe import load_recipe
from sparring.training.checkpoint import list_checkpoints
from sparring.training.engine import seed_everything

D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)
SMALL = ("model.generator.width=4", "model.discriminator.width=4", "model.discriminator.field=16", "data.size=16")


def make_game(*keys: str, size: tuple[int, int] = (16, 16), paired: bool = True) -> PairedGame:
    seed_everything(0)
    facts = {"kind": "image", "channels": 3}
    spec = DataSpec((3, *size), (), 8, {"paired": paired, "input": facts})
    game: Any = open_domain("translation").build_game(load_recipe("pix2pix").override([*SMALL, *keys]), spec)
    return game.train()


def make_batch(size: tuple[int, int] = (16, 16), count: int = 3) -> Batch:
    rng = torch.Generator().manual_seed(1)
    return Batch(
        data=torch.rand(count, 3, *size, generator=rng) * 2 - 1,
        source=torch.rand(count, 3, *size, generator=rng) * 2 - 1,
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Six photographs of a bright square, and beside each its outline as a label map."""
    rng = np.random.default_rng(0)
    for number in range(6):
        label = np.zeros((20, 24), np.uint8)
        top, left = rng.integers(2, 10, 2)
        label[top : top + 8, left : left + 8] = 1 + number % 2
        photo = np.stack([label * 90, 40 + label * 70, 255 - label * 100], axis=-1).astype(np.uint8)
        for side, image in (("label", label), ("photo", photo)):
            (tmp_path / "data" / side).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "data" / side / f"{number}.png")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("table", "name", "options", "published"),
    [
        (GENERATORS, "unet", {}, 54.414),
        (GENERATORS, "resnet", {}, 11.383),
        (DISCRIMINATORS, "patch", {"field": 70}, 2.769),
        (DISCRIMINATORS, "patch", {"field": 1}, 0.009),
    ],
)
def test_networks_have_the_published_parameters(table: Any, name: str, options: Any, published: float) -> None:
    with torch.device("meta"):
        network = table[name](3, (3, 256, 256), **options)
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize("field", [1, 16, 34, 70, 142, 286])
def test_a_logit_sees_a_patch_of_the_named_size(field: int) -> None:
    size = 2 * field + 64
    judge = DISCRIMINATORS["patch"](0, (1, size, size), width=1, field=field, norm="none").double()
    with torch.no_grad():
        for weight in judge.parameters():
            weight.abs_().add_(0.1)  # so that nothing cancels
    image = torch.rand(1, 1, size, size, dtype=torch.float64).requires_grad_()
    logits = judge(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = image.grad[0, 0].nonzero()  # type: ignore[index]
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [field, field]


def test_a_field_that_cannot_be_is_named() -> None:
    with pytest.raises(UserError, match="70"):
        DISCRIMINATORS["patch"](3, (3, 64, 64), field=64)


def test_an_image_without_a_patch_is_refused_before_the_training() -> None:
    for field, scales, least in ((16, 1, 6), (34, 2, 23), (70, 3, 93), (1, 3, 1)):
        judge = DISCRIMINATORS["patch"](0, (1, least, least), width=1, field=field, scales=scales, norm="none")
        assert judge(torch.zeros(1, 1, least, least)).shape[1] == scales
        if least > 1:
            with pytest.raises(UserError, match=f"{least} pixels"):
                DISCRIMINATORS["patch"](0, (1, least, least - 1), width=1, field=field, scales=scales)


def test_the_decoder_of_the_256_preset_drops_in_its_first_three_levels() -> None:
    with torch.device("meta"):
        network: Any = GENERATORS["unet"](3, (3, 256, 256))
    assert [level for level, up in enumerate(network.up) if any(type(each).__name__ == "Noise" for each in up)] == [
        5,
        6,
        7,
    ]


def test_dropout_goes_on_as_noise_when_images_are_translated() -> None:
    given, shape = make_batch((64, 64)), ("model.generator.depth=6", "model.generator.width=8")
    game = make_game(*shape, size=(64, 64)).eval()
    first, second = (game.translate(given)["data"] for _ in range(2))
    assert not torch.equal(first, second)
    silent = make_game(*shape, "model.generator.noise=false", size=(64, 64)).eval()
    assert torch.equal(silent.translate(given)["data"], silent.translate(given)["data"])


@pytest.mark.parametrize("generator", ["unet", "resnet"])
@pytest.mark.parametrize("size", [(16, 16), (17, 30), (7, 40)], ids=str)
def test_images_of_any_size_keep_it(generator: str, size: tuple[int, int]) -> None:
    blocks = ["model.generator.blocks=1"] if generator == "resnet" else []
    recipe = load_recipe("pix2pix").override([f"model.generator={{name: {generator}, width: 4}}", *blocks])
    game: Any = open_domain("translation").build_game(
        recipe, DataSpec((3, 16, 16), (), 8, {"paired": True, "input": {"kind": "image", "channels": 3}})
    )
    made = game.eval().translate(Batch(source=torch.randn(2, 3, *size)))
    assert made["data"].shape == (2, 3, *size) and made["data"].abs().max() <= 1
    assert made["input"].dtype == torch.uint8


def test_the_generator_minimises_the_adversarial_loss_and_a_hundred_times_l1() -> None:
    game, batch = make_game(), make_batch()
    game.loss(D, batch, 0)
    fake = batch.memo["fake"]
    losses = game.loss(G, batch, 0)
    torch.testing.assert_close(losses["l1"], 100 * (fake - batch["data"]).abs().mean())
    logits = game.discriminator(fake, batch["source"])
    torch.testing.assert_close(losses["adversarial"], F.softplus(-logits).mean())


def test_the_discriminator_sees_the_input_unless_told_not_to() -> None:
    game, batch = make_game(), make_batch()
    other = Batch({**batch, "source": batch["source"].flip(0)})
    assert not torch.equal(
        game.discriminator(batch["data"], game.label(batch)), game.discriminator(batch["data"], game.label(other))
    )
    blind = make_game("model.sees_source=false")
    assert blind.label(batch) is None
    assert blind.loss(D, batch, 0)["adversarial"].isfinite()


def test_without_the_adversary_the_pairs_alone_teach() -> None:
    game = make_game("loss.adversarial=0")
    assert [turn.player for turn in game.turns(0)] == ["generator"]
    assert set(game.loss(Turn("generator"), make_batch(), 0)) == {"l1"}
    late = make_game("loss.pretrain_steps=2")
    assert [len(late.turns(step)) for step in range(4)] == [1, 1, 2, 2]


def test_the_perceptual_and_the_style_loss_have_their_part() -> None:
    game, batch = make_game("loss.perceptual=2", "loss.style=3", "loss.perceptual_network=own"), make_batch()
    game.loss(D, batch, 0)
    losses = game.loss(G, batch, 0)
    assert losses["perceptual"] > 0 and losses["style"] > 0
    losses.total.backward()
    assert all(weight.grad is not None for weight in game.generator.parameters())
    still = {id(each) for each in game.perceptual.parameters()}  # type: ignore[union-attr]
    assert still and not still & {id(each) for player in game.players().values() for each in player.parameters()}


def test_feature_matching_is_the_mean_over_scales_of_the_sum_over_layers() -> None:
    real, fake = ([[torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)], [torch.randn(2, 3, 2, 2)]] for _ in range(2))
    gaps = [
        [(a - b).abs().mean() for a, b in zip(one, other, strict=True)] for one, other in zip(real, fake, strict=True)
    ]
    torch.testing.assert_close(feature_matching(real, fake), (gaps[0][0] + gaps[0][1] + gaps[1][0]) / 2)


def test_jitter_cuts_the_same_place_of_both_sides_and_turns_them_alike(pairs: Path) -> None:
    options = TranslationOptions(
        source=str(pairs),
        size=16,
        load=(20, 24),
        fit="stretch",
        augment={"flip_horizontal": 0.5},  # type: ignore[arg-type]
    )
    data = open_translation(options)
    seed_everything(0)
    batches = [data.batch(torch.arange(6)) for _ in range(4)]
    assert not torch.equal(batches[0]["data"], batches[1]["data"])
    for batch in batches:
        labels = batch["source"].argmax(1).float()
        torch.testing.assert_close(batch["data"][:, 0], labels * 90 / 127.5 - 1)


def test_data_without_pairs_is_refused() -> None:
    with pytest.raises(UserError, match="pairs"):
        make_game(paired=False)


def test_a_run_with_a_perceptual_loss_resumes_as_if_it_had_not_stopped(pairs: Path, tmp_path: Path) -> None:
    keys = [*SMALL, "data.load=18", "loss.perceptual=1", "loss.perceptual_network=own", "train.batch_size=2",
            "train.checkpoint_every=2", "evaluate.metric=null", "machine.precision=32", "machine.compile=false", "machine.channels_last=false",
            "machine.threads=1", "train.sample_count=2"]  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    api.train("pix2pix", data=str(pairs), out=whole, steps=4, set=keys, quiet=True)
    api.train("pix2pix", data=str(pairs), out=cut, steps=2, set=keys, quiet=True)
    api.resume(cut, steps=4, quiet=True)
    (one, *_), (other, *_) = (list_checkpoints(run / "checkpoints")[::-1] for run in (whole, cut))
    left, right = one.tensors("game"), other.tensors("game")
    assert any(name.startswith("perceptual.") for name in left) and left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
