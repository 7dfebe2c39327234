"""StyleGAN2: the paper's networks, its game's own terms, and the codes that steer a trained generator."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring import api
from sparring.core.adversarial import mixes_samples
from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.image.networks.stylegan2 import Stylegan2Discriminator, Stylegan2Generator
from sparring.errors import UserError
from sparring.recipe import Recipe, load_recipe
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints
from sparring.training.engine import Engine, seed_everything
from sparring.training.trainer import Trainer

torch.set_num_threads(1)
CLASSES = ("ant", "bee", "cat")
TINY = {"width": 4, "code": 8, "mapping": 2}
SMALL = (
    "model.latent=6", "model.generator.width=4", "model.generator.code=8", "model.discriminator.width=4",
    "train.batch_size=8", "train.steps=20", "model.style_mixing=0.9", "model.path_length.weight=2",
)  # fmt: skip
SHAPES = [(1, 8, 8), (3, 5, 7), (1, 28, 28), (2, 33, 20), (4, 12, 40), (1, 4, 4)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def tiny(*keys: str) -> Recipe:
    return load_recipe("stylegan2").override([*SMALL, *keys])


def make_game(*keys: str, shape: tuple[int, int, int] = (1, 8, 8), classes: tuple[str, ...] = ()) -> Any:
    seed_everything(0)
    return open_domain("image").build_game(tiny(*keys), DataSpec(shape, classes, 24))


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# The networks


def test_the_preset_for_256_pixels_has_the_published_parameters() -> None:
    recipe = load_recipe("stylegan2-256")
    with torch.device("meta"):
        game = open_domain("image").build_game(recipe.override(["model.initialize={}"]), DataSpec((3, 256, 256)))
    # What the authors' code counts for its configuration paper256, and the paper rounds to 24.8 and 24.0 million.
    assert count(game.generator) == 24_767_458
    assert count(game.discriminator) == 24_001_089
    widths = [64, 128, 256, 512, 512, 512, 512]

    def styled(inputs: int, outputs: int, kernel: int) -> int:
        # modulation, weight, bias, and the strength of the noise
        return 512 * inputs + inputs + inputs * outputs * kernel**2 + outputs + (kernel == 3)

    ways = list(zip(widths[::-1], widths[-2::-1], strict=False))
    synthesis = 512 * 4 * 4 + styled(512, 512, 3) + sum(styled(a, b, 3) + styled(b, b, 3) for a, b in ways)
    assert count(game.generator.synthesis) == synthesis + sum(styled(width, 3, 1) for width in widths)
    assert count(game.generator.mapping) == 8 * 512 * 513
    assert game.generator.layers == 14


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_networks_fit_images_of_every_shape(shape: tuple[int, int, int], classes: int, architecture: Any) -> None:
    generator = Stylegan2Generator(shape, 6, classes, architecture=architecture, **TINY)
    label = torch.tensor([0, 2]) if classes else None
    images = generator(torch.randn(2, 6), label)
    assert images.shape == (2, *shape)
    for condition in ("projection", "concat"):
        judge = Stylegan2Discriminator(shape, classes, width=4, mapping=2, condition=condition)
        assert judge.features(images, label).shape == (2, judge.feature_count)
        assert judge(images, label).shape == (2,)
        if label is not None:
            assert not torch.allclose(judge(images, label), judge(images, label.flip(0))), condition


def test_a_latent_is_one_image_but_in_training() -> None:
    generator = Stylegan2Generator((1, 8, 8), 6, 0, **TINY)
    for name, parameter in generator.named_parameters():
        if name.endswith("strength"):
            nn.init.ones_(parameter)
    latent = torch.randn(2, 6)
    assert not torch.allclose(generator(latent), generator(latent))
    generator.eval()
    assert torch.equal(generator(latent), generator(latent))


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_each_layer_has_a_code_and_every_parameter_a_gradient(architecture: Any) -> None:
    generator = Stylegan2Generator((3, 16, 16), 6, 0, architecture=architecture, **TINY)
    codes = torch.randn(2, generator.layers, 8, requires_grad=True)
    images = generator.synthesis(codes)
    images.square().sum().backward()
    assert codes.grad is not None and (codes.grad.abs().sum(dim=(0, 2)) > 0).all()
    assert all(p.grad is not None and p.grad.any() for p in generator.synthesis.parameters())


def test_images_begin_about_as_wide_as_data_at_every_depth() -> None:
    for side in (8, 64):
        generator = Stylegan2Generator((3, side, side), 64, 0, width=16, code=64, mapping=2)
        assert 0.2 < generator(torch.randn(16, 64)).std().item() < 4


def test_a_whole_synthesis_has_the_right_second_derivative_by_its_codes() -> None:
    generator = Stylegan2Generator((1, 8, 6), 4, 0, width=2, code=3, mapping=1).double()
    for name, parameter in generator.synthesis.named_parameters():
        if name.endswith(("strength", "bias")):
            nn.init.normal_(parameter, std=0.3)
    codes = torch.randn(1, generator.layers, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda codes: generator.synthesis(codes, "constant"), codes)


def test_a_gradient_penalty_has_the_right_derivative() -> None:
    judge = Stylegan2Discriminator((1, 8, 4), 3, width=2, mapping=1, minibatch=2).double()
    label = torch.tensor([0, 2])
    images = torch.randn(2, 1, 8, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: judge(x, label), images, nondet_tol=1e-10)


def test_the_discriminator_sees_its_batch_unless_it_is_told_not_to() -> None:
    for minibatch, mixes in ((4, True), (0, False)):
        judge = Stylegan2Discriminator((1, 8, 8), 0, width=4, minibatch=minibatch)
        images = torch.randn(8, 1, 8, 8)
        alone = torch.cat([judge(image[None]) for image in images])
        assert mixes_samples(judge) == mixes
        assert torch.allclose(judge(images), alone, atol=1e-5) != mixes


# The game


def test_mixed_styles_switch_once_from_one_latent_to_another() -> None:
    game = make_game("model.style_mixing=1", shape=(1, 16, 16))
    codes = game.draw_styles(64, None)
    assert codes.shape == (64, 6, 8)
    changes = (codes[:, 1:] != codes[:, :-1]).any(2)
    assert (changes.sum(1) == 1).all()
    assert changes.any(0).all()  # at every layer, in one sample or another
    for probability in (0.5, 0.0):
        game.mixing = probability
        codes = game.draw_styles(400, None)
        mixed = (codes[:, 0] != codes[:, -1]).any(1).float().mean().item()
        assert mixed == pytest.approx(probability, abs=0.1 * (probability > 0))


def test_path_lengths_are_those_of_the_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    game = make_game("model.style_mixing=0", shape=(1, 6, 5)).double()
    drawn: dict[str, Tensor] = {}
    direction = torch.randn(4, 1, 6, 5, dtype=torch.float64)
    monkeypatch.setattr("sparring.core.chance.normal_like", lambda images: direction)
    monkeypatch.setattr(game, "noise", lambda *_: drawn.setdefault("latent", torch.randn(4, 6, dtype=torch.float64)))
    lengths = game.path_lengths(Batch(data=torch.zeros(8, 1, 6, 5)))
    assert lengths.shape == (4,)  # half of the batch
    codes = game.spread(game.generator.mapping(drawn["latent"]))
    for index in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda code: game.generator.synthesis(code[None])[0].flatten(), codes[index].clone()
        )
        slope = torch.einsum("p,plw->lw", direction[index].flatten() / math.sqrt(30), jacobian)
        torch.testing.assert_close(lengths[index], slope.square().sum(1).mean().sqrt())


def test_the_path_term_draws_lengths_to_their_moving_average_every_fourth_step(monkeypatch: pytest.MonkeyPatch) -> None:
    game = make_game("model.path_length.weight=3", "model.path_length.decay=0.25")
    batch = Batch(data=torch.zeros(8, 1, 8, 8))
    lengths = torch.tensor([1.0, 2, 3, 6])
    monkeypatch.setattr(game, "path_lengths", lambda batch: lengths)
    turn = Turn("generator", fresh=False)
    for step, before in ((0, 0.0), (4, 0.75)):
        mean = before + 0.25 * (3 - before)
        term = game.loss(turn, batch, step)["path_length"]
        torch.testing.assert_close(term, 3 * 4 * (lengths - mean).square().mean())
        torch.testing.assert_close(game.state_dict()["path_mean"], torch.tensor(mean))
    assert "path_length" not in game.loss(turn, batch, 5)
    game.path.weight = 0
    assert "path_length" not in game.loss(turn, batch, 8)


def test_the_path_term_reaches_the_mapping_and_the_synthesis() -> None:
    game = make_game(classes=CLASSES)
    batch = Batch(data=torch.randn(8, 1, 8, 8), label=torch.arange(8) % 3)
    game.path_lengths(batch).square().mean().backward()
    for name in ("mapping.layers.0.weight", "mapping.embedding.weight", "synthesis.first.weight", "synthesis.constant"):
        gradient = game.generator.get_parameter(name).grad
        assert gradient is not None and gradient.isfinite().all() and gradient.any(), name


def test_a_generator_without_styles_is_one_line_of_error() -> None:
    with pytest.raises(UserError, match="'dcgan' has no styles"):
        make_game("model.generator.name=dcgan")


# Steering


def test_a_seed_means_the_same_samples_whatever_the_batch() -> None:
    game = make_game(classes=CLASSES).eval()
    for name, parameter in game.named_parameters():
        if name.endswith("strength"):
            nn.init.ones_(parameter)
    with torch.no_grad():
        codes = game.draw_codes(6, rng=torch.Generator().manual_seed(1))
        assert codes["code"].shape == (6, 4, 8)
        whole = game.render(codes)
        parts = [
            game.render(Batch({name: value[each] for name, value in codes.items()})) for each in ([0, 1], [2, 3, 4, 5])
        ]
        torch.testing.assert_close(whole["data"], torch.cat([part["data"] for part in parts]))
        again = game.generate(6, rng=torch.Generator().manual_seed(1))
    assert torch.equal(again["data"], whole["data"])
    assert torch.equal(again["label"], codes["label"])


def test_the_exported_generator_gives_the_samples_that_are_drawn() -> None:
    game = make_game(classes=CLASSES).eval()
    latent = torch.randn(3, 6)
    label = torch.tensor([2, 0, 1])
    with torch.no_grad():
        codes = game.spread(game.generator.mapping(latent, label))
        torch.testing.assert_close(
            game.exportable()(latent, label), game.render(Batch(code=codes, label=label))["data"]
        )


def test_a_trained_generator_is_exported_for_every_batch_size(tmp_path: Path) -> None:
    api.train("stylegan2", out=tmp_path / "run", set=[*SMALL, "train.steps=1"], quiet=True, device="cpu")
    found = sparring.export(tmp_path / "run", format="pt2", out=tmp_path / "out")
    assert found.facts["difference"] == 0
    whole = torch.export.load(tmp_path / "out" / "generator.pt2").module()
    assert whole(latent=torch.randn(5, 6), label=torch.arange(5)).shape == (5, 1, 8, 8)


def test_truncation_pulls_codes_to_their_mean_layer_by_layer() -> None:
    game = make_game().eval()
    game.generator.mean_code.copy_(torch.randn(8))

    def draw(**options: Any) -> Tensor:
        with torch.no_grad():
            return game.draw_codes(5, rng=torch.Generator().manual_seed(0), **options)["code"]

    plain, mean = draw(), game.generator.mean_code
    torch.testing.assert_close(draw(truncation=0.7), mean + 0.7 * (plain - mean))
    torch.testing.assert_close(draw(truncation=0.0), mean.expand(5, 4, 8))
    own = draw(truncation=[0.0, 0.5, 1.0, 1.0])
    torch.testing.assert_close(
        own, torch.stack([mean.expand(5, 8), (mean + plain[:, 1]) / 2, plain[:, 2], plain[:, 3]], 1)
    )
    coarse = draw(truncation=0.0, layers=2)
    torch.testing.assert_close(coarse, torch.cat([mean.expand(5, 2, 8), plain[:, 2:]], dim=1))
    with pytest.raises(UserError, match="each of the 4 layers, not 2"):
        draw(truncation=[0.5, 0.5])


# Training


class Noise:
    """Random images: the smallest data set."""

    def __init__(self) -> None:
        self.images = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.spec, self.fingerprint, self.broken = DataSpec((1, 8, 8), (), 24), "noise", []

    def __len__(self) -> int:
        return 24

    def to(self, device: torch.device) -> Self:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(data=self.images[indices])


def make_trainer(folder: Path) -> Trainer:
    recipe = tiny("loss.penalties.r1.every=2", "train.ema.half_life=50", "train.checkpoint_every=3", "train.steps=6")
    trainer = Trainer(make_game(), Noise(), recipe, Engine(device="cpu"), Run(folder), say=lambda text: None)
    trainer.game.train()
    return trainer


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole")
    whole.train()
    resumed = make_trainer(tmp_path / "resumed")
    (checkpoint,) = [each for each in list_checkpoints(tmp_path / "whole" / "checkpoints") if each.step == 3]
    resumed.load(checkpoint)
    resumed.train()
    ours, theirs = resumed.game.state_dict(), whole.game.state_dict()
    assert {"path_mean", "generator.mapping.mean_code", "generator.synthesis.first.noise.constant"} <= ours.keys()
    assert theirs["path_mean"] > 0
    for one, other in ((ours, theirs), (resumed.average.tensors(), whole.average.tensors())):
        assert all(torch.equal(one[name], other[name]) for name in other)
