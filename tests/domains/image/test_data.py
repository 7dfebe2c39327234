"""Image data: options to batches."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sparring.core.game import Batch
from sparring.data.ahead import MappedRows
from sparring.data.dataset import choose
from sparring.data.sampling import Sampler
from sparring.domains.image.data import ImageData, ImageOptions, open_images
from sparring.errors import UserError
from sparring.options import validate


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    """The bundled digits."""
    return open_images(ImageOptions(cache=str(tmp_path_factory.mktemp("cache"))))


def test_the_spec_says_what_a_game_must_know(digits: ImageData) -> None:
    assert digits.spec.shape == (1, 8, 8)
    assert digits.spec.classes == tuple("0123456789")
    assert digits.spec.count == len(digits) == sum(digits.spec.extra["label_counts"]) == 1797


def test_batches_are_floats_from_minus_one_to_one_with_labels(digits: ImageData) -> None:
    batch = digits.batch(torch.arange(1797))
    assert batch["data"].dtype == torch.float32
    assert (batch["data"].min(), batch["data"].max()) == (-1, 1)
    assert torch.bincount(batch["label"]).tolist() == digits.spec.extra["label_counts"]


def test_a_batch_follows_its_indices(digits: ImageData) -> None:
    indices = torch.tensor([5, 3, 5])
    batch = digits.batch(indices)
    assert torch.equal(batch["data"][0], batch["data"][2])
    assert torch.equal(batch["data"][1], digits.batch(torch.tensor([3]))["data"][0])


@pytest.mark.parametrize("on_device", [True, False, "auto"])
def test_where_the_images_live_changes_nothing_else(tmp_path: Path, on_device: bool, digits: ImageData) -> None:
    data = open_images(ImageOptions(cache=str(tmp_path), on_device=on_device)).to(torch.device("cpu"))
    assert data.fingerprint == digits.fingerprint
    indices = torch.tensor([7, 0, 1796])
    assert torch.equal(data.batch(indices)["data"], digits.batch(indices)["data"])


def test_batches_that_were_fetched_ahead_are_the_same_bit_for_bit_and_so_is_the_randomness(tmp_path: Path) -> None:
    options = {"cache": str(tmp_path), "on_device": False, "augment": {"flip_horizontal": True, "brightness": 0.2}}
    plain, ahead = (open_images(ImageOptions.model_validate(options)).to(torch.device("cpu")) for _ in range(2))
    drawn: dict[bool, list[Batch]] = {False: [], True: []}
    for expecting, data in ((False, plain), (True, ahead)):
        torch.manual_seed(0)
        sampler = Sampler(len(data), 64, seed=3, order=data.order(64, 3) if expecting else None)
        sampler.position = 1000  # as a resumed training does
        for _ in range(40):  # over the border of two epochs
            drawn[expecting].append(data.batch(sampler.next()))
            data.batch(torch.arange(8), augment=False)  # a measurement in between
    for one, other in zip(drawn[False], drawn[True], strict=True):
        assert torch.equal(one["data"], other["data"]) and torch.equal(one["label"], other["label"])


def test_images_on_the_disk_are_fetched_before_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_images(ImageOptions(cache=str(tmp_path), on_device=False)).to(torch.device("cpu"))
    fetched: list[Tensor] = []
    monkeypatch.setattr(MappedRows, "expect", lambda self, indices: fetched.append(indices))
    sampler = Sampler(len(data), 64, seed=3, rank=1, world=2, order=data.order(64, 3))
    asked: list[Tensor] = []
    for _ in range(60):  # over the border of two epochs
        asked.append(sampler.next())
        data.batch(asked[-1])
    assert all(torch.equal(one, other) for one, other in zip(fetched, asked[1:], strict=False))
    assert len(fetched) == len(asked)


def test_measuring_is_against_the_same_images_as_for_any_data(digits: ImageData) -> None:
    expected = torch.randperm(len(digits), generator=torch.Generator().manual_seed(4))
    assert torch.equal(choose(digits, 50, 4), expected[:50])
    assert torch.equal(choose(digits, 5000, 4), expected)


def test_augmentation_can_be_left_out(tmp_path: Path) -> None:
    data = open_images(ImageOptions.model_validate({"cache": str(tmp_path), "augment": {"flip_horizontal": True}}))
    indices = torch.arange(64)
    plain = data.batch(indices, augment=False)["data"]
    assert torch.equal(plain, data.batch(indices, augment=False)["data"])
    assert not torch.equal(plain, data.batch(indices)["data"])


def test_size_and_channels_are_as_asked(tmp_path: Path) -> None:
    data = open_images(ImageOptions(cache=str(tmp_path), size=(16, 12), channels=3, classes=["3", "5"], limit=20))
    assert data.spec.shape == (3, 16, 12)
    assert data.spec.classes == ("3", "5")
    assert len(data) == 20


def test_broken_images_are_named(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(stream, "PNG")
    (photos / "good.png").write_bytes(stream.getvalue())
    (photos / "bad.png").write_bytes(stream.getvalue()[:40])
    data = open_images(ImageOptions(source=str(photos), cache=str(tmp_path / "cache")))
    assert len(data) == 1
    assert data.spec.classes == ()
    assert "label" not in data.batch(torch.tensor([0]))
    assert [name for name, _ in data.broken] == ["bad.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sise": 64}, "did you mean 'size'"),
        ({"size": 0}, "1 to 16384"),
        ({"channels": 5}, "channels"),
        ({"augment": {"flip": 1}}, r"data\.augment\.flip"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(ImageOptions, options, where="data")


def test_a_wrong_path_is_a_user_error() -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        open_images(ImageOptions(source="no/such/folder"))


def test_images_are_placed_in_memory_once() -> None:
    data = open_images(ImageOptions(source="digits")).to(torch.device("cpu"))
    placed = data._images
    assert data.to(torch.device("cpu"))._images is placed
