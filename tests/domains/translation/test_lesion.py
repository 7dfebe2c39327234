"""Lesions in and out: what is outside of the mask stays, edges blend, and both ways are learnt from unpaired images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from sparring import api
from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.translation.data import TranslationOptions, open_translation
from sparring.domains.translation.games.lesion import LesionGame, both_ways, divergence, feathered
from sparring.domains.translation.networks.lesion import RegionDiscriminator, RegionEncoder
from sparring.errors import UserError
from sparring.recipe import load_recipe
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)
SMALL = ("model.generator.width=4", "model.generator.depth=3", "model.discriminator.width=4", "data.size=16")
EXTRA = {"paired": False, "roles": ["input", "mask", "output"], "input": {"kind": "image", "channels": 1}}


def make_game(*keys: str, extra: dict[str, Any] = EXTRA) -> LesionGame:
    seed_everything(0)
    spec = DataSpec((1, 16, 16), (), 8, extra)
    game: Any = open_domain("translation").build_game(load_recipe("lesion").override([*SMALL, *keys]), spec)
    return game.train()


def make_batch(size: tuple[int, int] = (16, 16), count: int = 3) -> Batch:
    rng = torch.Generator().manual_seed(1)
    mask = torch.zeros(count, 1, *size)
    mask[:, :, 6:9, 5:9] = 1
    return Batch(
        data=torch.rand(count, 1, *size, generator=rng) * 2 - 1,
        source=torch.rand(count, 1, *size, generator=rng) * 2 - 1,
        mask=mask,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six grey images, four with a bright spot and its mask, and a mask without an image."""
    rng = np.random.default_rng(0)
    for name in ("healthy", "lesion", "mask"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number in range(6):
        image = rng.integers(60, 90, (16, 16)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "data" / "healthy" / f"h{number}.png")
        mask = np.zeros((16, 16), np.uint8)
        top, left = rng.integers(3, 9, 2)
        mask[top : top + 4, left : left + 4] = 255
        if number < 4:
            Image.fromarray(np.where(mask > 0, 220, image).astype(np.uint8)).save(
                tmp_path / "data" / "lesion" / f"{number}.png"
            )
        if number < 5:
            Image.fromarray(mask).save(tmp_path / "data" / "mask" / f"{number}.png")
    return tmp_path / "data"


def test_a_feathered_mask_is_whole_inside_falls_outside_and_ends_where_it_says() -> None:
    mask = torch.zeros(1, 1, 24, 24)
    mask[..., 9:15, 9:15] = 1
    cover = feathered(mask, 3)
    assert torch.equal(cover[..., 9:15, 9:15], mask[..., 9:15, 9:15])
    row = cover[0, 0, 12, 14:]
    assert (row.diff() <= 0).all() and 0 < row[1] < 1
    within = F.max_pool2d(mask, 7, 1, 3)
    assert torch.equal(cover > 0, within > 0)


@pytest.mark.parametrize("kind", ["add", "remove"])
def test_pixels_beyond_the_feather_stay_bit_for_bit(kind: str) -> None:
    game, batch = make_game().eval(), make_batch((21, 18))
    condition = torch.full((3,), ["add", "remove"].index(kind))
    made = game.translate(Batch(source=batch["source"], mask=batch["mask"]), condition=condition)
    outside = feathered(batch["mask"], game.feather).expand_as(made["data"]) == 0
    assert torch.equal(made["data"][outside], batch["source"][outside])
    assert (made["data"] != batch["source"])[batch["mask"] > 0].all()


def test_what_was_in_the_mask_has_no_part_in_what_is_painted() -> None:
    game, batch = make_game().eval(), make_batch()
    other = torch.where(batch["mask"] > 0, torch.zeros(()), batch["source"])
    rng = [torch.Generator().manual_seed(0) for _ in range(2)]
    one = game.translate(Batch(source=batch["source"], mask=batch["mask"]), rng=rng[0])["data"]
    # As files come: the image, and the mask as its last channel.
    two = game.translate(Batch(source=torch.cat([other, batch["mask"]], 1)), rng=rng[1])["data"]
    inside = batch["mask"] > 0
    assert torch.equal(one[inside], two[inside])


def test_codes_make_lesions_differ_and_the_kind_makes_tissue_of_them() -> None:
    game, batch = make_game().eval(), make_batch()
    kind, code = torch.ones(3), torch.randn(3, game.latent)
    first = game.paint(batch["source"], batch["mask"], kind, code)
    assert (first != game.paint(batch["source"], batch["mask"], kind, code + 1)).any()
    assert (first != game.paint(batch["source"], batch["mask"], 1 - kind, code)).any()


def test_real_and_painted_images_are_of_the_same_kinds_and_regions() -> None:
    batch = make_batch()
    ways = both_ways(batch)
    assert torch.equal(ways["data"], torch.cat([batch["data"], batch["source"]]))
    assert torch.equal(ways["other"], torch.cat([batch["source"], batch["data"]]))
    assert ways["kind"].tolist() == [1, 1, 1, 0, 0, 0] and ways.memo is batch.memo
    game = make_game()
    fake = game.draw(ways)
    outside = feathered(ways["mask"], game.feather).expand_as(fake) == 0
    assert torch.equal(fake[outside], ways["other"][outside])
    assert game.label(ways).shape == (6, 2, 16, 16)


def test_every_part_of_the_generators_loss_reaches_what_it_should() -> None:
    game, batch = make_game(), make_batch()
    game.loss(D, batch, 0).total.backward()
    assert all(p.grad is not None for p in game.discriminator.parameters() if p.requires_grad)
    losses = game.loss(G, batch, 0)
    assert set(losses) == {"adversarial", "lesion", "tissue", "kl"}
    painter = game.generator.painter.down[0][0].weight  # type: ignore[union-attr,index]
    encoder = game.generator.encoder.head.weight  # type: ignore[union-attr]
    for name, reached in {"adversarial": (1, 0), "lesion": (1, 1), "tissue": (1, 0), "kl": (0, 1)}.items():
        gradients = torch.autograd.grad(losses[name], [painter, encoder], retain_graph=True, allow_unused=True)
        assert tuple(int(g is not None and bool(g.abs().sum() > 0)) for g in gradients) == reached, name


def test_reconstruction_is_the_mean_difference_within_the_feather(monkeypatch: pytest.MonkeyPatch) -> None:
    game, batch = make_game("loss.reconstruction=2"), make_batch()
    away = torch.full_like(both_ways(batch)["data"], 0.25)
    monkeypatch.setattr(game, "paint", lambda images, *_: images + away)
    losses = game.loss(G, batch, 0)
    assert losses["lesion"].item() == pytest.approx(0.5, rel=1e-5)
    assert losses["tissue"].item() == pytest.approx(0.5, rel=1e-5)


def test_the_divergence_of_codes_is_that_of_torch() -> None:
    mean, variance = torch.randn(5, 4), torch.randn(5, 4)
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * variance).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert divergence(mean, variance).item() == pytest.approx(wanted.sum(1).mean().item(), rel=1e-5)


def test_the_discriminator_hears_of_the_region_and_of_the_whole() -> None:
    judge = RegionDiscriminator(2, (1, 32, 32), width=4, halvings=2)
    image = torch.rand(1, 1, 32, 32, requires_grad=True)
    beside = torch.zeros(1, 2, 32, 32)
    beside[:, :1, 8:12, 8:12] = 1
    logits = judge(image, beside)
    assert logits.shape == (1, 2)
    (gradient,) = torch.autograd.grad(logits[0, 0], [image], retain_graph=True)
    rows = gradient[0, 0].abs().sum(1).nonzero().flatten()
    assert rows.min() >= 4 and rows.max() < 18  # patches of 10 pixels around it
    (gradient,) = torch.autograd.grad(logits[0, 1], [image])
    assert (gradient != 0).all()


def test_the_code_is_of_the_region_alone() -> None:
    encoder, batch = RegionEncoder(1, 4, 3), make_batch()
    changed = torch.where(batch["mask"] > 0, batch["data"], torch.ones(()))
    for one, other in zip(encoder(batch["data"], batch["mask"]), encoder(changed, batch["mask"]), strict=True):
        assert one.shape == (3, 3) and torch.equal(one, other)


def test_masks_go_with_the_lesions_and_healthy_images_with_no_one(folder: Path) -> None:
    options = TranslationOptions(
        source=str(folder), layout="sides", sides=("healthy", "lesion"), mask="mask", channels=1
    )
    data = open_translation(options)
    assert len(data) == 6 and data.spec.extra["roles"] == ["input", "mask", "output"]
    for augment in (False, True):
        batch = data.batch(torch.arange(6), augment=augment)
        bright = batch["data"] > 0.5
        assert torch.equal(bright.float(), batch["mask"])
        assert batch["source"].max() < 0


def test_a_short_training_paints_lesions_where_it_shall_and_tissue_where_they_are() -> None:
    """Dark noise is tissue, a bright square a lesion."""
    keys = (
        "model.generator.width=8",
        "model.discriminator.width=8",
        "model.discriminator.halvings=2",
        "model.feather=1",
    )
    game = make_game(*keys)
    rng = torch.Generator().manual_seed(0)

    def draw(count: int) -> Batch:
        healthy, beside = 0.05 * torch.randn(2, count, 1, 16, 16, generator=rng) - 0.6
        mask = torch.zeros(count, 1, 16, 16)
        for number, (top, left) in enumerate(torch.randint(2, 10, (count, 2), generator=rng).tolist()):
            mask[number, :, top : top + 4, left : left + 4] = 1
        return Batch(data=torch.where(mask > 0, 0.5, beside), source=healthy, mask=mask)

    players = game.players()
    optimizers = {name: torch.optim.Adam(each.parameters(), 2e-3, betas=(0.5, 0.99)) for name, each in players.items()}
    for step in range(30):
        batch = draw(8)
        for turn in game.turns(step):
            loss = game.loss(turn, batch, step).total
            optimizers[turn.player].zero_grad()
            loss.backward()
            optimizers[turn.player].step()
    batch = draw(32)
    inside = batch["mask"] > 0
    game.eval()
    added = game.translate(batch)["data"]
    removed = game.translate(batch, condition=torch.ones(32))["data"]
    assert added[inside].mean() > 0 and removed[inside].mean() < -0.4


def make_trainer(folder: Path, run: Run | None = None) -> Trainer:
    keys = ("train.batch_size=2", "train.checkpoint_every=3", f"data.source={folder}")
    recipe = load_recipe("lesion").override([*SMALL, *keys])
    data = open_domain("translation").open_data(recipe.data)
    seed_everything(0)
    game = open_domain("translation").build_game(recipe, data.spec)
    trainer = Trainer(game, data, recipe, Engine(device="cpu"), run, say=lambda text: None)
    trainer.game.train()
    return trainer


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    whole = make_trainer(folder, Run(tmp_path / "run"))
    for _ in range(3):
        whole.play_step()
    whole.save()
    for _ in range(2):
        whole.play_step()
    resumed = make_trainer(folder)
    seed_everything(99)
    resumed.load(list_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    for _ in range(2):
        resumed.play_step()
    ours, theirs = (trainer.game.state_dict() for trainer in (whole, resumed))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_volume_gets_lesions_slice_by_slice_and_keeps_its_intensities_elsewhere(folder: Path, tmp_path: Path) -> None:
    for file in [*(folder / "healthy").iterdir(), *(folder / "lesion").iterdir()]:
        Image.fromarray(np.asarray(Image.open(file)).astype(np.uint16) * 100).save(file)
    run = tmp_path / "run"
    keys = [*SMALL, "train.batch_size=2", "machine.precision=32", "machine.compile=false", "data.window=[0, 20000]"]
    api.train("lesion", data=str(folder), out=run, steps=1, set=keys, quiet=True)
    volume = np.random.default_rng(0).uniform(-500, 25000, (16, 16, 2)).astype(np.float32)
    mask = np.zeros((16, 16, 2), np.float32)
    mask[5:9, 6:10, 1] = 1
    for name, values in (("scans", volume), ("masks", mask)):
        (tmp_path / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / name / "v.nii.gz")
    made = api.translate(run, [tmp_path / "scans"], out=tmp_path / "made", mask=str(tmp_path / "masks"), label="add")
    assert not made.broken
    again = nibabel.load(tmp_path / "made" / "v.nii.gz").get_fdata()
    beyond = np.zeros_like(mask, bool)
    beyond[2:12, 3:13, 1] = True  # the mask and three pixels of feather
    assert np.array_equal(again[~beyond], volume[~beyond].astype(np.float64))
    assert (again != volume)[mask > 0].all()
    with pytest.raises(UserError, match="--mask"):
        api.translate(run, [tmp_path / "scans"], out=tmp_path / "alone", label="remove")


def test_scans_of_two_windows_are_refused() -> None:
    windows = {"windows": {"input": [0, 5], "output": [0, 6]}}
    with pytest.raises(UserError, match=r"data\.window"):
        make_game(extra={**EXTRA, **windows})


def test_data_without_masks_or_healthy_images_is_refused() -> None:
    for extra in ({**EXTRA, "roles": ["input", "output"]}, {**EXTRA, "input": None}):
        with pytest.raises(UserError, match="masks of these"):
            make_game(extra=extra)
    with pytest.raises(UserError, match="a mask says"):
        make_game().translate(Batch(source=torch.zeros(1, 1, 16, 16)))


def test_the_preset_for_256_pixels_builds() -> None:
    spec = DataSpec((1, 256, 256), (), 8, EXTRA)
    with torch.device("meta"):
        game: Any = open_domain("translation").build_game(load_recipe("lesion-256"), spec)
    assert game.stride == 128 and game.feather == 8 and game.conditions == ("add", "remove")
