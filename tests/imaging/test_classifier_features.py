"""Features learnt from the data itself: with labels, without, and from what little there is."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sparring.core.game import Batch, DataSpec
from sparring.domains.image.data import ImageData, ImageOptions, open_images
from sparring.errors import UserError
from sparring.imaging.features import supervised as supervised_training
from sparring.imaging.features.classifier import ClassifierFeatures, open_classifier
from sparring.imaging.features.compact import (
    CompactNetwork,
    draw_weights,
    from_bytes,
    settle,
    standardise,
    to_bytes,
    working_size,
)
from sparring.imaging.features.selfsupervised import contrast
from sparring.imaging.features.supervised import shift
from sparring.metrics.frechet import frechet_distance

torch.set_num_threads(1)


class Images:
    """Images in memory, as a data set."""

    def __init__(self, images: Tensor, labels: Tensor | None = None, classes: tuple[str, ...] = ()) -> None:
        self.images, self.labels = images, labels
        self.spec = DataSpec(tuple(images.shape[1:]), classes, len(images))
        content = (images, labels, classes)
        self.fingerprint = str(hash(tuple(str(part.tolist() if torch.is_tensor(part) else part) for part in content)))
        self.broken: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> Images:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        assert not augment, "features are learnt from the images as they are"
        batch = Batch(data=self.images[indices])
        if self.labels is not None:
            batch["label"] = self.labels[indices]
        return batch


def random_images(count: int, *shape: int) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(count)) * 2 - 1


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    return open_images(ImageOptions(cache=str(tmp_path_factory.mktemp("digits"))))


@pytest.fixture(scope="module")
def everything(digits: ImageData) -> Batch:
    """All digits, in random order."""
    return digits.batch(torch.randperm(1797, generator=torch.Generator().manual_seed(3)), augment=False)


@pytest.fixture(scope="module")
def supervised(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> ClassifierFeatures:
    return open_classifier(digits, folder=tmp_path_factory.mktemp("features"), samples=8000)


@pytest.fixture(scope="module")
def selfsupervised(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> ClassifierFeatures:
    return open_classifier(digits, folder=tmp_path_factory.mktemp("features"), samples=4000, use_labels=False)


@pytest.fixture(params=["supervised", "selfsupervised"])
def features(request: pytest.FixtureRequest) -> ClassifierFeatures:
    space: ClassifierFeatures = request.getfixturevalue(request.param)
    return space


def small(count: int) -> Images:
    """So many images of 8×8, without labels."""
    return Images(random_images(count, 1, 8, 8))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network of `small(60)`, trained on 120 samples."""
    folder = tmp_path_factory.mktemp("kept")
    open_classifier(small(60), folder=folder, samples=120)
    return folder


def neighbours_agree(features: Tensor, labels: Tensor) -> float:
    """How often the nearest five of the first thousand images say an image's label."""
    nearest = torch.cdist(features[1000:], features[:1000]).topk(5, largest=False).indices
    return float((labels[:1000][nearest].mode(1).values == labels[1000:]).float().mean())


def distances(space: ClassifierFeatures, everything: Batch, changed: list[Tensor]) -> list[float]:
    """The Fréchet distance of the first half of the digits to each of `changed`."""
    real = space(Batch(data=everything["data"][:900]))["features"]
    return [frechet_distance(real, space(Batch(data=images))["features"]) for images in changed]


def growing(values: list[float]) -> bool:
    return all(later > 1.1 * earlier for earlier, later in itertools.pairwise(values))


def test_a_classifier_tells_nearly_every_digit_and_says_how_many(
    supervised: ClassifierFeatures, everything: Batch
) -> None:
    assert supervised.accuracy is not None and supervised.accuracy >= 0.97
    told = supervised(everything)["logits"].argmax(1)
    assert (told == everything["label"]).float().mean() > 0.97
    assert supervised.classes == tuple("0123456789")
    assert supervised.name.startswith(f"classifier {supervised.digest[:8]} (10 labels, 9")
    assert supervised.name.endswith(" % held out, 128)")


def test_features_without_labels_tell_digits_as_pixels_do(
    selfsupervised: ClassifierFeatures, everything: Batch
) -> None:
    answer = selfsupervised(everything)
    assert "logits" not in answer and selfsupervised.accuracy is None and selfsupervised.classes == ()
    assert "self-supervised" in selfsupervised.name
    pixels = neighbours_agree(everything["data"].flatten(1), everything["label"])
    assert neighbours_agree(answer["features"], everything["label"]) > max(0.95, pixels - 0.02)


def test_features_of_the_real_images_have_mean_zero_and_variance_one(
    features: ClassifierFeatures, everything: Batch
) -> None:
    found = features(everything)["features"]
    assert found.shape == (1797, 128) and found.dtype == torch.float32
    torch.testing.assert_close(found.mean(0), torch.zeros(128), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.std(0), torch.ones(128), atol=1e-3, rtol=0)


def test_the_overlap_term_keeps_a_classifier_from_collapsing_onto_a_point_a_label(
    digits: ImageData, everything: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directions = []
    for weight in (0.0, supervised_training.OVERLAP):
        monkeypatch.setattr(supervised_training, "OVERLAP", weight)
        space = open_classifier(digits, folder=tmp_path / str(weight), samples=3000)
        spectrum = torch.linalg.eigvalsh(torch.cov(space(everything)["features"].T))
        directions.append(int((spectrum > spectrum.max() / 100).sum()))
    assert directions[1] > 1.5 * directions[0]


def test_distance_grows_with_noise(features: ClassifierFeatures, everything: Batch) -> None:
    images = everything["data"][900:]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noisy = [images + amount * noise for amount in (0, 0.2, 0.4, 0.8, 1.6)]
    assert growing(distances(features, everything, noisy))


def test_distance_grows_with_blur(features: ClassifierFeatures, everything: Batch) -> None:
    images = everything["data"][900:]
    blurred = [images]
    for _ in range(3):
        blurred.append(F.avg_pool2d(F.pad(blurred[-1], (1, 1, 1, 1), mode="replicate"), 3, stride=1))
    assert growing(distances(features, everything, blurred))


def test_distance_grows_with_every_class_that_is_missing(features: ClassifierFeatures, everything: Batch) -> None:
    images, labels = everything["data"][900:], everything["label"][900:]
    assert growing(distances(features, everything, [images[labels < kept] for kept in (10, 8, 6, 4, 2)]))


def test_distance_sees_few_images_repeated_inside_every_class(features: ClassifierFeatures, everything: Batch) -> None:
    images, labels = everything["data"][900:], everything["label"][900:]
    few = [torch.cat([images[labels == digit][:count] for digit in range(10)]) for count in (60, 20, 5, 2)]
    repeated = [kept.repeat(2, 1, 1, 1) for kept in few]
    assert growing(distances(features, everything, repeated))


def test_equal_data_and_seed_give_equal_networks_and_another_seed_another(tmp_path: Path) -> None:
    data = small(60)
    before = torch.get_rng_state()
    opened = [
        open_classifier(data, folder=tmp_path / str(number), samples=120, seed=seed)
        for number, seed in enumerate((0, 0, 1))
    ]
    assert opened[0].digest == opened[1].digest != opened[2].digest
    assert torch.equal(torch.get_rng_state(), before), "training left a trace in torch's global generator"


def test_a_second_start_finds_the_network_and_trains_nothing(tmp_path: Path) -> None:
    data = small(60)
    heard: list[tuple[int, int]] = []
    first = open_classifier(data, folder=tmp_path, samples=120, progress=lambda done, all_: heard.append((done, all_)))
    assert heard and heard[-1][0] == heard[-1][1] == len(heard)
    again = open_classifier(data, folder=tmp_path, samples=120, progress=lambda *_: pytest.fail("trained again"))
    assert (again.digest, again.name) == (first.digest, first.name)
    samples = data.batch(torch.arange(60), augment=False)
    assert torch.equal(again(samples)["features"], first(samples)["features"])


@pytest.mark.parametrize("damage", ["cut", "flipped", "no record", "no weights", "foreign record"])
def test_a_damaged_network_is_trained_again(tmp_path: Path, kept: Path, damage: str) -> None:
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    (weights,), (record,) = tmp_path.glob("*.safetensors"), tmp_path.glob("*.json")
    whole = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        weights.write_bytes(whole[:-4] + b"\x00\x00\x80\x3f")
    elif damage == "no record":
        record.unlink()
    elif damage == "no weights":
        weights.unlink()
    else:
        record.write_text(json.dumps([1, 2]))
    heard: list[int] = []
    open_classifier(small(60), folder=tmp_path, samples=120, progress=lambda done, _: heard.append(done))
    assert heard and weights.read_bytes() == whole


def test_large_images_are_shrunk_and_the_resizer_says_so(tmp_path: Path) -> None:
    data = Images(random_images(3, 3, 96, 150))
    space = open_classifier(data, folder=tmp_path)
    assert space.resizer == "area, to 41×64"
    assert working_size((3, 64, 64)) == (64, 64) and working_size((1, 1, 1000)) == (1, 64)
    assert space(Batch(data=data.images))["features"].shape == (3, 128)


def test_shrinking_takes_the_mean_of_what_a_pixel_covers() -> None:
    chequered = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).repeat(2, 2)[None, None]
    assert to_bytes(chequered, (2, 2)).unique().tolist() == [128]


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 5, 3), (3, 28, 20), (4, 1, 9), (1, 1, 1)])
def test_any_size_and_one_to_four_channels_work(tmp_path: Path, shape: tuple[int, ...]) -> None:
    space = open_classifier(Images(random_images(60, *shape)), folder=tmp_path, samples=60)
    found = space(Batch(data=random_images(7, *shape)))["features"]
    assert found.shape == (7, 128) and found.isfinite().all()


def test_samples_of_another_shape_are_refused_with_the_remedy(selfsupervised: ClassifierFeatures) -> None:
    with pytest.raises(UserError, match=r"learnt on images of 8×8 with 1 channel.*9×9 with 3 channels.*data.size"):
        selfsupervised(Batch(data=random_images(2, 3, 9, 9)))


@pytest.mark.parametrize("count", [1, 2, 49])
def test_few_images_get_an_untrained_network_that_says_so(tmp_path: Path, count: int) -> None:
    data = Images(random_images(count, 1, 8, 8), torch.arange(count) % 2, ("a", "b"))
    space = open_classifier(data, folder=tmp_path)
    assert f"(untrained: {count} image" in space.name
    near, far = data.images + 0.02, random_images(count + 100, 1, 8, 8)
    here, there, elsewhere = (space(Batch(data=images))["features"] for images in (data.images, near, far))
    assert torch.dist(here[0], there[0]) < 0.5 * torch.dist(here[0], elsewhere[0])


@pytest.mark.parametrize(
    ("labels", "classes", "reason"),
    [
        (None, (), "no labels"),
        (torch.zeros(60, dtype=torch.long), ("a",), "one label"),
        (torch.arange(60), tuple(map(str, range(60))), "60 labels for 60 images"),
        (torch.arange(60) % 2, ("", "b"), "30 of 60 images have no label"),
        (torch.arange(60) % 2 - 1, ("a",), "30 of 60 images have no label"),
        (torch.arange(60) % 2 * 7, ("a", "b"), "30 of 60 images have no label"),
    ],
)
def test_labels_that_teach_nothing_are_left_out_with_the_reason(
    tmp_path: Path, labels: Tensor | None, classes: tuple[str, ...], reason: str
) -> None:
    space = open_classifier(Images(random_images(60, 1, 8, 8), labels, classes), folder=tmp_path, samples=60)
    assert f"(self-supervised: {reason}, 128)" in space.name


def test_labels_drawn_by_lot_are_found_out(tmp_path: Path) -> None:
    lot = torch.randint(2, (300,), generator=torch.Generator().manual_seed(1))
    space = open_classifier(Images(random_images(300, 1, 8, 8), lot, ("a", "b")), folder=tmp_path, samples=600)
    assert "self-supervised: labels not learnable, " in space.name


def test_images_without_any_content_give_finite_features(tmp_path: Path) -> None:
    space = open_classifier(Images(torch.full((60, 1, 8, 8), -1.0)), folder=tmp_path, samples=500)
    assert space(Batch(data=random_images(5, 1, 8, 8)))["features"].abs().max() < 1e4


def test_features_of_samples_and_of_their_png_files_are_equal(
    selfsupervised: ClassifierFeatures, tmp_path: Path
) -> None:
    samples = random_images(3, 1, 8, 8) * 1.2  # generators may overshoot
    for number, pixels in enumerate(to_bytes(samples, (8, 8))):
        Image.fromarray(np.asarray(pixels[0])).save(tmp_path / f"{number}.png")
    files = open_images(ImageOptions(source=str(tmp_path)))
    reread = files.batch(torch.arange(3), augment=False)
    assert torch.equal(selfsupervised(reread)["features"], selfsupervised(Batch(data=samples))["features"])


def test_a_folder_that_cannot_be_written_is_an_error_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be kept here"):
        open_classifier(small(60), folder=tmp_path / "file", progress=lambda *_: pytest.fail("trained"))


def test_training_works_inside_of_inference_mode(tmp_path: Path) -> None:
    with torch.inference_mode():
        space = open_classifier(small(60), folder=tmp_path, samples=60)
    assert space(Batch(data=random_images(2, 1, 8, 8)))["features"].isfinite().all()


def test_shifts_move_every_image_as_a_whole_within_reach() -> None:
    images = torch.zeros(200, 1, 9, 7)
    images[:, 0, 4, 3] = 1
    moved = shift(images, 2, torch.Generator().manual_seed(0))
    assert moved.sum(dim=(1, 2, 3)).eq(1).all()
    assert {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()} == {
        (row, column) for row in range(2, 7) for column in range(1, 6)
    }


def test_contrast_is_the_cross_entropy_of_finding_the_other_view() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 4, 6, dtype=torch.float64, generator=generator)
    views = [row / row.norm() for row in torch.cat([one, other])]
    terms = []
    for i in range(8):
        partner = (i + 4) % 8
        others = sum((views[i] @ views[j] / 0.2).exp() for j in range(8) if j != i)
        terms.append(-torch.log((views[i] @ views[partner] / 0.2).exp() / others))
    torch.testing.assert_close(contrast(one, other, temperature=0.2), torch.stack(terms).mean())


def test_standardising_leaves_the_logits_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    network = CompactNetwork((1, 8, 8), 3)
    draw_weights(network, generator)
    settle(network)
    images = torch.randint(256, (40, 1, 8, 8), generator=generator, dtype=torch.uint8)
    before = network.logits(network(from_bytes(images)))
    standardise(network, images)
    features = network(from_bytes(images))
    torch.testing.assert_close(features.var(0, correction=0), torch.ones(128), atol=1e-3, rtol=0)
    torch.testing.assert_close(network.logits(features), before)
