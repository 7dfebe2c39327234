"""The perceptual loss: its formulas, whose maps it compares, and that those never move."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pytest
import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.errors import UserError
from sparring.imaging.perceptual import (
    TOWERS,
    PerceptualNetwork,
    gram,
    network_at_hand,
    perceptual_loss,
    style_loss,
)
from sparring.metrics.perceptual import convolutions


class Blobs:
    """Sixty images of a smooth blob each."""

    def __init__(self, count: int = 60) -> None:
        rng = torch.Generator().manual_seed(0)
        places = torch.rand(count, 2, 1, 1, 1, generator=rng) * 16
        rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        distance = (rows - places[:, 0]).square() + (columns - places[:, 1]).square()
        self.images = (2 * torch.exp(-distance / 8) - 1).expand(-1, 3, -1, -1)
        self.spec = DataSpec((3, 16, 16), (), count)
        self.fingerprint, self.broken = f"blobs-{count}", []

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> Self:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(data=self.images[indices])


@pytest.fixture
def vgg16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of weights where they are looked for: random ones, in torchvision's layout."""
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path))
    body, _ = convolutions(TOWERS["vgg16"])
    path = tmp_path / "weights" / TOWERS["vgg16"].files[0]
    path.parent.mkdir()
    whole = {f"features.{name}": value for name, value in body.state_dict().items()}
    torch.save({**whole, "classifier.0.weight": torch.zeros(1)}, path)
    return path


def test_the_loss_is_the_weighted_sum_of_mean_absolute_differences() -> None:
    real, fake = [torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)], [torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)]
    expected = 0.5 * (real[0] - fake[0]).abs().mean() + 2 * (real[1] - fake[1]).abs().mean()
    torch.testing.assert_close(perceptual_loss(real, fake, (0.5, 2.0)), expected)


def test_the_style_loss_compares_gram_matrices_and_is_blind_to_where_things_are() -> None:
    maps = torch.randn(2, 3, 4, 4)
    products = torch.zeros(2, 3, 3)
    for one in range(3):
        for other in range(3):
            products[:, one, other] = (maps[:, one] * maps[:, other]).sum((1, 2)) / (3 * 16)
    torch.testing.assert_close(gram(maps), products)
    other = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(
        style_loss([maps], [other]), (gram(maps) - gram(other)).flatten(1).norm(dim=1).square().mean()
    )
    moved = maps.roll(1, 3)
    assert style_loss([maps], [moved]) < 1e-10 < perceptual_loss([maps], [moved], [1.0])


def test_vgg16_is_taken_where_its_file_is_and_own_elsewhere(vgg16: Path) -> None:
    assert network_at_hand("auto") == "vgg16"
    network = PerceptualNetwork("auto", (3, 16, 16))
    network.prepare(None)
    given = torch.load(vgg16)
    assert torch.equal(network.body[0].weight, given["features.0.weight"])
    maps = network(torch.rand(1, 1, 16, 20))  # grey images are seen as RGB
    assert [each.shape[1] for each in maps] == [64, 128, 256, 512, 512]
    assert [tuple(each.shape[2:]) for each in maps][-1] == (1, 1)
    vgg16.unlink()
    assert network_at_hand("auto") == "own"


def test_weights_that_are_asked_for_and_not_here_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="vgg19-dcbb9e9d"):
        PerceptualNetwork("vgg19", (3, 32, 32)).prepare(None)


def test_images_too_small_for_vgg_are_told_of_the_other_network() -> None:
    with pytest.raises(UserError, match="own"):
        PerceptualNetwork("vgg19", (3, 8, 32))


def test_the_own_network_is_learnt_once_and_stays_as_it_is() -> None:
    data = Blobs()
    network = PerceptualNetwork("own", (3, 16, 16))
    before = network(data.images[:4])
    network.prepare(data)
    learnt = network.train()(data.images[:4])
    assert not torch.allclose(before[-1], learnt[-1])
    assert not network.training and not any(weight.requires_grad for weight in network.parameters())
    again = PerceptualNetwork("own", (3, 16, 16))
    again.load_state_dict(network.state_dict())
    again.prepare(None)  # has its weights from the checkpoint, and asks no data
    for one, other in zip(learnt, again(data.images[:4]), strict=True):
        assert torch.equal(one, other)


def test_gradients_reach_the_images_and_fall_to_nothing_where_they_are_equal() -> None:
    network = PerceptualNetwork("own", (3, 16, 16))
    images = Blobs().images[:4].clone()
    wanted = network(images)
    assert perceptual_loss(wanted, network(images), network.shares) == 0
    changed = (images + 0.1 * torch.randn_like(images)).requires_grad_()
    perceptual_loss(wanted, network(changed), network.shares).backward()
    assert changed.grad is not None and (changed.grad.abs().sum((1, 2, 3)) > 0).all()


def test_larger_images_than_it_learnt_from_are_seen_at_their_own_size() -> None:
    network = PerceptualNetwork("own", (3, 128, 96))
    maps = network(torch.randn(1, 3, 128, 96))
    assert maps[0].shape[2:] == (64, 48)
