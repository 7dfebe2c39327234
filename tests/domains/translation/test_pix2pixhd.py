"""pix2pixHD: stages in one run, what rests in them, features of instances, and many outputs of one input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.translation.games.pix2pixhd import EnhancedGame
from sparring.domains.translation.networks.pix2pixhd import (
    EnhancedGenerator,
    InstanceMemory,
    cluster,
    instance_classes,
    instance_means,
    spread_out,
    stages,
)
from sparring.errors import UserError
from sparring.recipe import load_recipe
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)
SMALL = (
    "model.generator.width=8", "model.generator.blocks=1", "model.generator.down=1", "model.generator.enhancer_blocks=1",
    "model.discriminator.width=4", "model.discriminator.field=16", "loss.perceptual=0", "train.steps=10",
    "train.batch_size=2",
)  # fmt: skip
CLASSES = 3


class Scenes:
    """Two halves of random classes, coloured by their class; the left half is of two instances."""

    def __init__(self, size: tuple[int, int] = (32, 32)) -> None:
        rng = torch.Generator().manual_seed(0)
        labels = torch.randint(CLASSES, (12, 2), generator=rng)
        self.maps = labels[:, None, :].repeat_interleave(size[1] // 2, 2).expand(-1, size[0], -1)
        self.source = F.one_hot(self.maps, CLASSES).permute(0, 3, 1, 2).float()
        colours = torch.tensor([[-1.0, 0, 1], [1, -1, 0], [0, 1, -1]])
        shift = torch.rand(12, 1, 1, 1, generator=rng) - 0.5
        self.images = (colours[self.maps].permute(0, 3, 1, 2) * 0.5 + shift).clamp(-1, 1)
        self.instance = torch.zeros(12, 1, *size, dtype=torch.int64)
        self.instance[..., : size[0] // 2, : size[1] // 2] = 7
        facts = {"kind": "labels", "channels": CLASSES, "values": [0, 1, 2], "classes": list("abc"), "void": None,
                 "palette": [[0, 0, 0], [255, 0, 0], [0, 255, 0]], "edges": False}  # fmt: skip
        self.spec = DataSpec((3, *size), (), 12, {"paired": True, "input": facts})
        self.fingerprint, self.broken, self.paired = "scenes", [], True

    def __len__(self) -> int:
        return 12

    def to(self, device: torch.device) -> Any:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(data=self.images[indices], source=self.source[indices], instance=self.instance[indices])


def make_game(*keys: str, size: tuple[int, int] = (32, 32)) -> EnhancedGame:
    seed_everything(0)
    game: Any = open_domain("translation").build_game(
        load_recipe("pix2pixhd").override([*SMALL, *keys]), Scenes(size).spec
    )
    return game.train()


def make_trainer(*keys: str) -> Trainer:
    recipe = load_recipe("pix2pixhd").override([*SMALL, *keys])
    trainer = Trainer(make_game(*keys), Scenes(), recipe, Engine(device="cpu"), None, say=lambda text: None)
    trainer.game.train()
    return trainer


def moved(trainer: Trainer) -> set[str]:
    """Which parts of the generator a step moves."""
    before = {name: value.detach().clone() for name, value in trainer.game.generator.named_parameters()}
    trainer.play_step()
    after = dict(trainer.game.generator.named_parameters())
    return {
        ".".join(name.split(".")[: 2 if name.startswith("enhancers") else 1])
        for name, value in before.items()
        if not torch.equal(value, after[name])
    }


def test_the_published_generator_has_183_million_parameters() -> None:
    with torch.device("meta"):
        network = EnhancedGenerator(36, (3, 512, 1024), enhancers=0)
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(182.5, abs=0.1)


def test_stages_are_shares_of_the_training() -> None:
    assert stages(1, 0.5, 0.2) == [(0.0, 0, False), (0.5, 1, True), (0.6, 1, False)]
    assert [each[1:] for each in stages(2, 0.5, 0.5)] == [(0, False), (1, True), (1, False), (2, True), (2, False)]
    assert stages(0, 0.5, 0.2) == [(0.0, 0, False)]
    game = make_game("model.stages={begin: 0.4, settle: 0.5}")
    assert [game.stage(step) for step in (0, 3, 4, 6, 7, 9)] == [(0, False)] * 2 + [(1, True)] * 2 + [(1, False)] * 2


def test_first_the_global_generator_learns_then_the_enhancer_alone_then_both() -> None:
    trainer = make_trainer("model.stages={begin: 0.2, settle: 0.25}")  # of 10 steps: 2, then 2 alone, then both
    seen = [moved(trainer) for _ in range(5)]
    assert seen == [{"coarse"}, {"coarse"}, {"enhancers.0"}, {"enhancers.0"}, {"coarse", "enhancers.0"}]
    assert int(trainer.game.generator.level) == 1  # type: ignore[arg-type]


def test_the_discriminators_judge_images_of_the_stages_size() -> None:
    game, data = make_game(), Scenes()
    sizes = []
    for step in (0, 9):
        batch = data.batch(torch.arange(2))
        game.loss(D, batch, step)
        sizes.append(tuple(batch.memo["seen"].memo["fake"].shape[2:]))
        assert batch.memo["seen"]["source"].shape[2:] == sizes[-1]
        assert batch.memo["seen"]["instance"].shape[2:] == sizes[-1]
        game.loss(G, batch, step).total.backward()
    assert sizes == [(16, 16), (32, 32)]


@pytest.mark.parametrize("step", [0, 9])
@pytest.mark.parametrize("size", [(16, 16), (10, 23)], ids=str)
@pytest.mark.parametrize("features", [0, 2])
def test_translations_have_the_inputs_size_in_every_stage(step: int, size: tuple[int, int], features: int) -> None:
    game = make_game(
        f"model.generator.features={features}", "model.generator.enhancers=2", "model.discriminator.scales=1"
    )
    game.after_turn(G, step)
    made = game.eval().translate(Batch(source=torch.rand(2, CLASSES, *size)))
    assert made["data"].shape == (2, 3, *size) and made["data"].abs().max() <= 1


def test_the_enhancer_adds_its_maps_to_those_of_the_global_generator() -> None:
    network = make_game().generator
    source = torch.randn(1, CLASSES, 16, 16)
    small = F.avg_pool2d(source, 3, 2, 1, count_include_pad=False)
    enhancer: Any = network.enhancers[0]
    expected = enhancer.picture(enhancer.up(enhancer.down(source) + network.coarse.maps(small)))
    torch.testing.assert_close(network(source), expected)
    torch.testing.assert_close(network(small, 0), network.coarse(small))


def test_the_adversarial_loss_counts_every_scale_and_square_in_full() -> None:
    game, batch = make_game(), Scenes().batch(torch.arange(2))
    game.loss(D, batch, 9)
    fake = batch.memo["seen"].memo["fake"]
    losses = game.loss(G, batch, 9)
    _, maps = game.discriminator.look(fake, batch["source"])  # type: ignore[operator]
    scales: Any = game.discriminator.scales
    each = [layers[-1](own[-1]) for layers, own in zip(scales, maps, strict=True)]
    torch.testing.assert_close(
        losses["adversarial"], sum((logits - 1).square().mean() for logits in each), rtol=0.01, atol=0
    )


def test_means_are_taken_over_each_instance_of_each_sample() -> None:
    maps = torch.arange(2 * 2 * 4.0).reshape(2, 1, 2, 4)
    regions = torch.tensor([[[0, 0, 5, 5], [0, 0, 5, 5]], [[0, 0, 0, 0], [5, 5, 5, 5]]])
    means, places = instance_means(maps, regions)
    assert means.flatten().tolist() == [2.5, 4.5, 9.5, 13.5]
    assert torch.equal(spread_out(means, places)[1, 0], torch.tensor([[9.5] * 4, [13.5] * 4]))
    assert instance_classes(regions // 5, places, 4).tolist() == [0, 1, 0, 1]


def test_k_means_finds_clusters_that_lie_apart() -> None:
    rng = torch.Generator().manual_seed(0)
    rows = torch.cat([place + 0.01 * torch.randn(20, 2, generator=rng) for place in (0.0, 5.0, 9.0)])
    assert cluster(rows, 3).mean(1).sort().values.tolist() == pytest.approx([0, 5, 9], abs=0.02)


def test_the_memory_keeps_the_last_features_of_each_class_and_draws_only_its_own() -> None:
    memory = InstanceMemory(3, 1)
    for start in range(0, 400, 50):
        memory.keep(torch.arange(start, start + 50.0)[:, None], torch.tensor([0, 2] * 25))
    assert memory.seen.tolist() == [200, 0, 200]
    assert sorted(memory.rows[0, :200, 0].tolist()) == [float(each) for each in range(0, 400, 2)]
    memory.keep(torch.full((100, 1), -1.0), torch.zeros(100, dtype=torch.int64))
    assert (memory.rows[0] == -1).sum() == 100 and memory.rows[0].min() == -1
    drawn = memory.draw(torch.tensor([1] * 5 + [2] * 50), torch.Generator().manual_seed(0))
    assert (drawn[:5] == 0).all() and (drawn[5:] > 0).all() and drawn[5:].unique().numel() > 5


def test_one_input_has_many_outputs_and_a_seed_names_one() -> None:
    trainer = make_trainer("model.generator.features=2", "train.steps=4", "model.stages.begin=0")
    for _ in range(4):
        trainer.play_step()
    game: Any = trainer.game.eval()
    given = Scenes().batch(torch.arange(2))
    first, second, again = (
        game.translate(given, rng=torch.Generator().manual_seed(seed))["data"] for seed in (0, 1, 0)
    )
    assert torch.equal(first, again) and not torch.allclose(first, second, atol=1e-4)
    shown = game.translate(Batch(given, style=given["data"]))["data"]
    assert torch.equal(shown, game.translate(Batch(given, style=given["data"]))["data"])


def test_a_resumed_run_remembers_its_stage_and_its_instances_bit_for_bit(tmp_path: Path) -> None:
    keys = ("model.generator.features=2", "train.steps=6", "model.stages={begin: 0.4, settle: 0.3}")
    whole, cut = make_trainer(*keys), make_trainer(*keys)
    cut.run = Run(tmp_path)
    seed_everything(1)
    for _ in range(6):
        whole.play_step()
    seed_everything(1)
    for _ in range(3):
        cut.play_step()
    cut.save()
    resumed = make_trainer(*keys)
    resumed.load(list_checkpoints(tmp_path / "checkpoints")[-1])
    for _ in range(3):
        resumed.play_step()
    expected, there = whole.game.state_dict(), resumed.game.state_dict()
    assert int(expected["generator.level"]) == 1 and (expected["generator.memory.seen"][:CLASSES] > 0).all()
    assert all(torch.equal(value, there[name]) for name, value in expected.items())


def test_the_encoder_learns_with_the_generator() -> None:
    assert moved(make_trainer("model.generator.features=2")) == {"coarse", "encoder"}


def test_stages_without_a_length_are_refused() -> None:
    with pytest.raises(UserError, match="steps"):
        make_game("train.steps=null", "train.epochs=3")
    make_game("train.steps=null", "train.epochs=3", "model.generator.enhancers=0")


def test_images_too_small_for_the_first_stage_are_refused() -> None:
    with pytest.raises(UserError, match=r"fewer model\.discriminator\.scales"):
        make_game(size=(16, 16))
    make_game("model.stages.begin=0", size=(16, 16))


def test_a_generator_without_stages_is_refused() -> None:
    with pytest.raises(UserError, match="pix2pixhd"):
        seed_everything(0)
        recipe = load_recipe("pix2pixhd").override(["model={generator: {name: unet}}"])
        open_domain("translation").build_game(recipe, Scenes().spec)
