"""The image domain as the verbs see it: data, games, pictures, files, figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparring.core.game import Batch, DataSpec
from sparring.domains import open_domain
from sparring.domains.domain import Domain
from sparring.domains.image.games import GAMES, ImageGame
from sparring.errors import UserError
from sparring.metrics.meter import Meter
from sparring.recipe import load_recipe

NAMES = ("ant", "bee", "cat")


@pytest.fixture
def images() -> Domain:
    return open_domain("image")


def samples(count: int = 6, labels: list[int] | None = None) -> Batch:
    """Each image is of one grey: the n-th of n/(count − 1)."""
    greys = torch.linspace(-1, 1, count)[:, None, None, None].expand(count, 1, 4, 5).clone()
    return Batch(data=greys) if labels is None else Batch(data=greys, label=torch.tensor(labels))


def test_an_unknown_domain_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown domain 'imag' \(did you mean 'image'\?\)"):
        open_domain("imag")


def test_resolved_data_options_have_every_default_and_reading_them_again_changes_nothing(images: Domain) -> None:
    resolved = images.resolve_data({"source": "photos", "size": [8, 6]})
    assert resolved["source"] == "photos" and tuple(resolved["size"]) == (8, 6) and resolved["fit"] == "crop"
    assert resolved["augment"]["flip_horizontal"] == 0
    assert images.resolve_data(resolved) == resolved


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sise": 8}, r"unknown key 'data\.sise' \(did you mean 'size'\?\)"),
        ({"augment": {"flip": 1}}, r"unknown key 'data\.augment\.flip'"),
        ({"channels": 5}, r"data\.channels: input should be less than or equal to 4"),
        ({"size": 0}, r"data\.size: a size is 1 to 16384 pixels"),
        ({"fit": "zoom"}, r"data\.fit: input should be 'crop'"),
    ],
)
def test_wrong_data_options_are_one_line(images: Domain, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        images.resolve_data(options)


def test_opened_data_are_batches_in_the_range_of_the_networks(images: Domain) -> None:
    data = images.open_data({"source": "digits", "limit": 50, "size": [6, 10], "channels": 3})
    batch = data.batch(torch.tensor([3, 1]))
    assert data.spec.shape == (3, 6, 10) and len(data) == data.spec.count == 50
    assert batch["data"].shape == (2, 3, 6, 10)
    assert batch["data"].min() >= -1 and batch["data"].max() <= 1
    assert data.spec.classes == tuple("0123456789") and sum(data.spec.extra["label_counts"]) == 50


def test_a_game_is_one_of_the_domains_by_name(images: Domain) -> None:
    assert type(images.build_game(load_recipe("dcgan"), DataSpec((1, 8, 8)))) is ImageGame
    for name in named_games():
        with pytest.raises(UserError, match=rf"unknown game '{name}s' \(did you mean '{name}'\?\)"):
            images.build_game(load_recipe("dcgan").override([f"game={name}s"]), DataSpec((1, 8, 8)))


def named_games() -> list[str]:
    return list(GAMES)


def test_png_numbers_files_across_batches_and_keeps_every_grey(images: Domain, tmp_path: Path) -> None:
    paths = images.save(iter([samples(6), samples(3)]), (), tmp_path / "out", "png")
    assert [path.name for path in paths] == [f"{number:06d}.png" for number in range(9)]
    pictures = [np.asarray(Image.open(path)) for path in paths]
    assert all(picture.shape == (4, 5) for picture in pictures)
    assert [int(picture[0, 0]) for picture in pictures] == [0, 51, 102, 153, 204, 255, 0, 128, 255]


def test_npz_is_channels_last_with_labels_where_there_are_any(images: Domain, tmp_path: Path) -> None:
    labels = [2, 1, 0, 2, 1, 0]
    (path,) = images.save(iter([samples(6, labels)] * 2), NAMES, tmp_path / "with.npz", "npz")
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["images"].shape == (12, 4, 5, 1) and arrays["images"].dtype == np.uint8
        assert arrays["images"][:, 0, 0, 0].tolist() == [0, 51, 102, 153, 204, 255] * 2
        assert arrays["labels"].tolist() == labels * 2 and arrays["labels"].dtype == np.int64
    (path,) = images.save(iter([samples(6)]), (), tmp_path / "without.npz", "npz")
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == {"images"}


def test_a_saved_set_can_be_trained_on(images: Domain, tmp_path: Path) -> None:
    (path,) = images.save(iter([samples(6, [0, 1, 2, 0, 1, 2])]), NAMES, tmp_path / "set.npz", "npz")
    data = images.open_data({"source": str(path)})
    # Eight bits a pixel is all that is lost.
    torch.testing.assert_close(data.batch(torch.arange(6))["data"], samples(6)["data"], atol=1 / 255, rtol=0)
    assert data.batch(torch.arange(6))["label"].tolist() == [0, 1, 2, 0, 1, 2]


def test_a_sheet_is_one_picture_of_all_batches(images: Domain, tmp_path: Path) -> None:
    (path,) = images.save(iter([samples(4), samples(4)]), (), tmp_path / "sheet.png", "sheet")
    assert len(np.unique(np.asarray(Image.open(path).convert("L")))) >= 4
    images.show(Batch(data=torch.cat([samples(4)["data"]] * 2)), (), tmp_path / "shown.png")
    assert (tmp_path / "shown.png").read_bytes() == path.read_bytes()


def test_a_sheet_has_a_row_for_each_class_in_the_order_of_the_classes(images: Domain, tmp_path: Path) -> None:
    images.show(samples(6, [2, 0, 1, 1, 2, 0]), NAMES, tmp_path / "mixed.png")
    greys = samples(6)["data"]
    ordered = Batch(data=greys[[1, 5, 2, 3, 0, 4]], label=torch.tensor([0, 0, 1, 1, 2, 2]))
    images.show(ordered, NAMES, tmp_path / "ordered.png")
    assert (tmp_path / "mixed.png").read_bytes() == (tmp_path / "ordered.png").read_bytes()
    picture = Image.open(tmp_path / "mixed.png")
    assert picture.height > picture.width / 2  # three rows of two, not one of six


def test_a_metric_is_zero_between_equal_samples_and_grows_with_the_distance(images: Domain) -> None:
    generator = torch.Generator().manual_seed(0)
    real = Batch(data=torch.rand(60, 1, 4, 4, generator=generator) * 2 - 1)
    near, far = Batch(data=real["data"] * 0.9), Batch(data=real["data"] * 0.2)
    features = images.open_features("pixels", images.open_data({"source": "digits"}))
    meter = Meter(features, images.measures, real)
    for metric in ("fid", "sliced_wasserstein", "spectrum"):
        values = [meter.values(other, metric)[metric].number for other in (real, near, far)]
        assert values[0] == pytest.approx(0, abs=1e-3)
        assert values[0] < values[1] < values[2]


def test_checking_and_preparing_open_the_source_by_name(images: Domain, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        images.check(str(tmp_path / "missing"))
    seen = []
    result = images.prepare(
        "digits", tmp_path / "out.npz", lambda done, total: seen.append((done, total)), format="npz", size=4
    )
    assert result.plain()["written"] == 1797
    assert seen[-1] == (1797, 1797)
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["images"].shape[1:3] == (4, 4)
