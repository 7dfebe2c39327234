"""Projected GANs: what projects is frozen and holds known weights; only the heads learn."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from sparring import api
from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.image.networks.projected import ProjectedDiscriminator
from sparring.errors import UserError
from sparring.imaging.features.classifier import open_classifier
from sparring.imaging.features.efficientnet import EfficientNetLite0, SameConv2d, as_rgb
from sparring.recipe import load_recipe
from sparring.training.checkpoint import list_checkpoints

torch.set_num_threads(1)

SHAPES = [(1, 8, 8), (3, 5, 7), (1, 28, 28), (2, 33, 20), (4, 64, 32), (3, 128, 100)]
each_backbone = pytest.mark.parametrize("backbone", ["compact", "efficientnet_lite0"])


def judge_of(shape: tuple[int, int, int] = (1, 16, 12), classes: int = 0, **options: Any) -> ProjectedDiscriminator:
    torch.manual_seed(0)
    return ProjectedDiscriminator(
        shape, classes, **{"backbone": "compact", "weights": "random", "width": 4, **options}
    ).train()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Sixty blurred dots, grey, 12×12."""
    rows, columns = np.mgrid[:12, :12]
    rng = np.random.default_rng(0)
    where = rng.uniform(2, 10, (60, 2, 1, 1))
    images = np.exp(-((rows - where[:, 0]) ** 2 + (columns - where[:, 1]) ** 2) / 4)
    np.save(tmp_path / "dots.npy", (255 * images).astype(np.uint8))
    return tmp_path / "dots.npy"


@each_backbone
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_heads_judge_images_of_every_shape(backbone: str, shape: tuple[int, int, int], classes: int) -> None:
    judge = judge_of(shape, classes, backbone=backbone, resolution=32 if backbone != "compact" else None)
    images, label = torch.randn(3, *shape), torch.arange(3) if classes else None
    judge.eval()
    features = judge.features(images, label)
    assert features.shape == (3, judge.feature_count)
    logits = judge(images, label)
    torch.testing.assert_close(logits, judge.score(features, label))
    if label is not None:
        assert not torch.allclose(logits, judge(images, label.flip(0)))
        soft = nn.functional.one_hot(label, classes).float()
        torch.testing.assert_close(logits, judge(images, soft))


def test_efficientnet_lite0_has_the_published_parameters_and_timms_names() -> None:
    with torch.device("meta"):
        network = EfficientNetLite0()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["conv_stem.weight"] == (32, 3, 3, 3)
    assert shapes["blocks.0.0.conv_dw.weight"] == (32, 1, 3, 3) and shapes["blocks.0.0.conv_pw.weight"] == (
        16,
        32,
        1,
        1,
    )
    assert shapes["blocks.2.0.conv_dw.weight"] == (144, 1, 5, 5) and shapes["blocks.5.3.conv_pwl.weight"] == (
        192,
        1152,
        1,
        1,
    )
    assert shapes["blocks.6.0.bn3.running_var"] == (320,) and shapes["conv_head.weight"] == (1280, 320, 1, 1)
    assert shapes["classifier.weight"] == (1000, 1280)
    maps = EfficientNetLite0().eval().maps(torch.randn(1, 3, 64, 40))
    assert [tuple(each.shape[1:]) for each in maps] == [(24, 16, 10), (40, 8, 5), (112, 4, 3), (320, 2, 2)]


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    layer = SameConv2d(1, 1, kernel, stride)
    x = torch.randn(1, 1, size, size)
    places = -(-size // stride)
    before = max((places - 1) * stride + kernel - size, 0) // 2
    expected = torch.zeros(1, 1, places, places)
    for row in range(places):
        for column in range(places):
            for i in range(kernel):
                for j in range(kernel):
                    y, z = row * stride + i - before, column * stride + j - before
                    if 0 <= y < size and 0 <= z < size:
                        expected[..., row, column] += x[..., y, z] * layer.weight[0, 0, i, j]
    torch.testing.assert_close(layer(x), expected)


def test_other_images_become_rgb() -> None:
    grey, alpha = torch.rand(2, 1, 3, 3) * 2 - 1, torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1).expand(2, 1, 3, 3)
    assert torch.equal(as_rgb(grey), grey.repeat(1, 3, 1, 1))
    laid = as_rgb(torch.cat([grey, grey, grey, alpha], 1))
    assert torch.equal(laid[0], as_rgb(grey)[0]) and not laid[1].any()


def test_what_projects_is_no_players_and_stays_while_the_heads_learn() -> None:
    torch.manual_seed(0)
    recipe = load_recipe("projected").override(["model.discriminator.weights=random", "model.generator.width=2"])
    game = open_domain("image").build_game(recipe, DataSpec((1, 16, 12))).train()
    assert not game.discriminator.projector.training
    learn = [*game.players()["discriminator"].parameters()]
    frozen_ones = {id(each) for each in game.discriminator.projector.parameters()}
    assert learn and not frozen_ones & {id(each) for player in game.players().values() for each in player.parameters()}
    assert not any(each.requires_grad for each in game.discriminator.projector.parameters())
    frozen = {name: value.clone() for name, value in game.discriminator.projector.state_dict().items()}
    batch, optimizer = Batch(data=torch.rand(4, 1, 16, 12)), torch.optim.Adam(learn, lr=0.1)
    before = [each.clone() for each in learn]
    game.loss(Turn("discriminator", keep=True), batch, 0).total.backward(inputs=learn)
    optimizer.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, learn, strict=True))
    game.loss(Turn("generator", fresh=False), batch, 0).total.backward(inputs=[*game.generator.parameters()])
    assert game.generator.to_image.parametrizations.weight.original.grad.abs().sum() > 0
    after = game.discriminator.projector.state_dict()
    assert all(torch.equal(frozen[name], after[name]) for name in frozen)


def test_a_recipes_initialiser_leaves_the_mixing_alone() -> None:
    recipe = load_recipe("projected").override(["model.discriminator.weights=random", "model.initialize.std=0.5"])
    torch.manual_seed(0)
    game = open_domain("image").build_game(recipe, DataSpec((1, 16, 12)))
    mixing = game.discriminator.projector.across_scales[0].weight
    assert float(mixing.std()) == pytest.approx((2 / mixing[0].numel()) ** 0.5, rel=0.2)


@each_backbone
def test_gradient_penalties_differentiate_through_the_projection_twice(backbone: str) -> None:
    judge = judge_of((1, 8, 8), backbone=backbone, resolution=32 if backbone != "compact" else None).double().eval()
    images = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)

    def slope(x: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(judge(x).tanh().sum(), x, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(slope, (images,), eps=1e-7, rtol=1e-2, atol=1e-4, fast_mode=True)


def test_weights_are_those_of_the_file_and_of_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    saved = EfficientNetLite0()
    path = tmp_path / "weights" / "tf_efficientnet_lite0.safetensors"
    path.parent.mkdir()
    safetensors.torch.save_file(saved.state_dict(), path)
    judge = judge_of((3, 32, 32), backbone="efficientnet_lite0", resolution=32, weights=str(path))
    assert not judge.prepared
    judge.prepare(None)
    network = judge.projector.backbone.network
    assert judge.prepared and torch.equal(network.conv_head.weight, saved.conv_head.weight)
    assert not any(each.requires_grad for each in network.parameters()) and not network.training
    torch.testing.assert_close(network(torch.ones(1, 3, 32, 32)), saved.eval()(torch.ones(1, 3, 32, 32)))

    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path))
    found = judge_of((3, 32, 32), backbone="efficientnet_lite0", resolution=32, weights=None)
    found.prepare(None)
    assert torch.equal(found.projector.backbone.network.conv_head.weight, saved.conv_head.weight)
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="efficientnet_lite0 needs pretrained weights: put http"):
        judge_of((3, 32, 32), backbone="efficientnet_lite0", weights=None).prepare(None)
    with pytest.raises(UserError, match="not the weights of the compact network"):
        judge_of(weights=str(path)).prepare(None)


def test_the_backbone_is_learnt_once_and_comes_back_with_the_checkpoint(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))
    learn = "sparring.domains.image.networks.projected.open_classifier"
    monkeypatch.setattr(learn, partial(open_classifier, samples=128))
    keys = [
        "model.generator.width=2", "model.discriminator.width=4", "train.batch_size=4", "train.checkpoint_every=2",
        "train.sample_count=4", "machine.precision=32",
    ]  # fmt: skip
    api.train("projected", data=str(photos), out=tmp_path / "whole", steps=4, set=keys, quiet=True, device="cpu")
    api.train("projected", data=str(photos), out=tmp_path / "cut", steps=2, set=keys, quiet=True, device="cpu")

    def learn_again(*arguments: Any, **options: Any) -> None:
        raise AssertionError("learnt again")

    monkeypatch.setattr(learn, learn_again)
    api.resume(tmp_path / "cut", steps=4, quiet=True, device="cpu")
    whole, cut = (list_checkpoints(tmp_path / run / "checkpoints")[-1].tensors("game") for run in ("whole", "cut"))
    assert bool(whole["discriminator.prepared"])
    for name, value in whole.items():
        assert torch.equal(value, cut[name]), name
    # Drawing samples asks for no weights at all.
    assert sum(batch.count for batch in api.load(tmp_path / "whole").generate(3, seed=1)) == 3


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("model.discriminator={name: dcgan, width: 4}", "needs the discriminator projected"),
        ("model.spectral_norm=[discriminator]", "have it already"),
        ("model.discriminator.resolution=32", "at their own size"),
    ],
)
def test_what_cannot_be_projected_is_explained(key: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_domain("image").build_game(load_recipe("projected").override([key]), DataSpec((1, 16, 12)))
