from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from sparring.metrics.classes import class_frechet, conditional_accuracy, scarce_classes
from sparring.metrics.frechet import frechet_distance

torch.set_num_threads(1)

NAMES = [str(k) for k in range(10)]


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    return torch.as_tensor(pixels) / 16, torch.as_tensor(labels)


def test_accuracy_is_the_share_of_samples_taken_for_the_class_asked_for() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 5.0], [9.0, 1.0, 5.0]])
    assert conditional_accuracy(logits, torch.tensor([0, 1, 2, 2])) == 0.75
    assert conditional_accuracy(logits, torch.tensor([1, 2, 0, 1])) == 0


def test_each_class_has_the_distance_of_its_own_samples(digits: tuple[Tensor, Tensor]) -> None:
    pixels, labels = digits
    found = class_frechet(pixels[:900], pixels[900:], labels[:900], labels[900:], classes=NAMES)
    assert list(found) == NAMES
    own = frechet_distance(pixels[:900][labels[:900] == 3], pixels[900:][labels[900:] == 3])
    assert found["3"] == pytest.approx(own, rel=1e-9)


def test_a_class_that_went_wrong_stands_out_alone(digits: tuple[Tensor, Tensor]) -> None:
    pixels, labels = digits
    spoiled = torch.where((labels == 4)[:, None], pixels.flip(1), pixels)
    found = class_frechet(pixels, spoiled, labels, labels, classes=NAMES)
    assert found.pop("4") > 1
    assert max(found.values()) < 1e-9


def test_exchanged_labels_show_in_both_classes_though_the_whole_is_the_same(digits: tuple[Tensor, Tensor]) -> None:
    pixels, labels = digits
    exchanged = torch.where(labels == 0, 1, torch.where(labels == 1, 0, labels))
    found = class_frechet(pixels, pixels, labels, exchanged, classes=NAMES)
    assert {name for name, value in found.items() if value > 1} == {"0", "1"}


def test_class_distance_grows_with_noise(digits: tuple[Tensor, Tensor]) -> None:
    pixels, labels = digits
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    values = [
        class_frechet(pixels, pixels + level * noise, labels, labels, classes=NAMES)["7"] for level in (0.1, 0.2, 0.4)
    ]
    assert values == sorted(values) and values[0] < values[-1]


def test_classes_with_too_few_samples_are_named_and_left_out(digits: tuple[Tensor, Tensor]) -> None:
    pixels, labels = digits
    kept = (labels != 8) | (labels == 8).cumsum(0).le(20)
    fake, fake_labels = pixels[kept], labels[kept]
    found = class_frechet(pixels, fake, labels, fake_labels, classes=[*NAMES, "ten"])
    scarce = scarce_classes(labels, fake_labels, classes=[*NAMES, "ten"])
    assert scarce == {"8": (174, 20), "ten": (0, 0)}
    assert set(found) == {*NAMES} - {"8"}
    assert "8" in class_frechet(pixels, fake, labels, fake_labels, classes=[*NAMES, "ten"], least=20)


def test_labels_that_do_not_fit_are_an_error() -> None:
    features, labels = torch.randn(60, 2, generator=torch.Generator().manual_seed(1)), torch.zeros(60, dtype=torch.long)
    with pytest.raises(ValueError, match="from 0 to 1"):
        class_frechet(features, features, labels, labels + 2, classes=["a", "b"])
    with pytest.raises(ValueError, match="from 0 to 1"):
        conditional_accuracy(features, labels - 1)
    with pytest.raises(ValueError, match="whole numbers"):
        conditional_accuracy(features, labels.double())
    with pytest.raises(ValueError, match="same name"):
        class_frechet(features, features, labels, labels, classes=["a", "a"])
    with pytest.raises(ValueError, match="labels"):
        class_frechet(features, features, labels, labels[1:], classes=["a", "b"])
    with pytest.raises(ValueError, match="labels"):
        conditional_accuracy(features, labels[1:])
    with pytest.raises(ValueError, match="at least 2"):
        class_frechet(features, features, labels, labels, classes=["a", "b"], least=1)
