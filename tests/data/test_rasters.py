"""Rasters: images of any sizes, decoded once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sparring.data.decode import fit
from sparring.data.rasters import Rasters, build_rasters, read_image, read_indices, read_mask, resize_nearest
from sparring.data.sources import open_source
from sparring.errors import UserError

RANDOM = np.random.default_rng(0)
PALETTE = [0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]


def folder_of(root: Path, files: dict[str, Image.Image | bytes]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (root / name).write_bytes(content)
        else:
            content.save(root / name)
    return root


def opened(root: Path, **options: object) -> Rasters:
    return build_rasters(open_source(str(root), labels="none"), workers=1, **options)  # type: ignore[arg-type]


def picture(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return RANDOM.integers(0, 256, (height, width, channels), np.uint8)


def test_images_of_all_sizes_come_back_as_they_were(tmp_path: Path) -> None:
    images = [picture(5, 9), picture(17, 3), picture(1, 1), picture(9, 5)]
    root = folder_of(tmp_path / "x", {f"{i}.png": Image.fromarray(each) for i, each in enumerate(images)})
    rasters = opened(root)
    assert len(rasters) == 4 and rasters.names == ["0.png", "1.png", "2.png", "3.png"] and not rasters.broken
    for index, image in enumerate(images):
        assert rasters[index].shape == (3, *image.shape[:2])
        assert np.array_equal(rasters[index].transpose(1, 2, 0), image)


def test_grey_colour_and_alpha_come_as_the_wanted_channels(tmp_path: Path) -> None:
    grey = picture(4, 4, 1)[:, :, 0]
    files = {
        "a.png": Image.fromarray(grey),
        "b.png": Image.fromarray(picture(4, 4, 4)),
        "c.png": Image.fromarray(picture(4, 4)),
    }
    root = folder_of(tmp_path / "x", files)  # fmt: skip
    for count in (1, 2, 3, 4):
        rasters = opened(root, count=count)
        assert [rasters[index].shape[0] for index in range(3)] == [count] * 3
    assert np.array_equal(opened(root, count=3)[0], np.repeat(grey[None], 3, axis=0))


@pytest.mark.parametrize("kind", ["palette", "grey", "16 bit", "1 bit", "grey as colour"])
def test_a_map_keeps_its_numbers_whatever_its_file_is_like(tmp_path: Path, kind: str) -> None:
    most = {"palette": 5, "1 bit": 2, "16 bit": 60000}.get(kind, 200)
    numbers = RANDOM.integers(0, most, (7, 6))
    numbers[0, 0] = most - 1
    if kind == "palette":
        image = Image.fromarray(numbers.astype(np.uint8), "P")
        image.putpalette(PALETTE)
    elif kind == "16 bit":
        image = Image.fromarray(numbers.astype(np.uint16))
    elif kind == "1 bit":
        image = Image.fromarray(numbers.astype(bool))
    elif kind == "grey as colour":
        image = Image.fromarray(np.repeat(numbers.astype(np.uint8)[:, :, None], 3, axis=2))
    else:
        image = Image.fromarray(numbers.astype(np.uint8))
    rasters = opened(folder_of(tmp_path / "x", {"1.png": image}), reader=read_indices, count=None)
    assert np.array_equal(rasters[0][0], numbers)
    assert rasters.pixels.dtype == (np.uint16 if kind == "16 bit" else np.uint8)
    assert rasters.values == sorted(set(numbers.flatten().tolist()))


def test_maps_of_8_and_of_16_bits_live_side_by_side(tmp_path: Path) -> None:
    maps = [RANDOM.integers(0, high, (5, 4)).astype(np.uint16) for high in (9, 200, 50000, 12)]
    files = {
        f"{i}.png": Image.fromarray(each if each.max() > 255 else each.astype(np.uint8)) for i, each in enumerate(maps)
    }
    rasters = opened(folder_of(tmp_path / "x", files), reader=read_indices, count=None)
    assert rasters.pixels.dtype == np.uint16
    for index, each in enumerate(maps):
        assert np.array_equal(rasters[index][0], each)


def test_a_colour_image_is_no_map(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"1.png": Image.fromarray(picture(4, 4)), "2.png": Image.new("L", (4, 4), 3)})
    rasters = opened(root, reader=read_indices, count=None)
    assert rasters.broken == {0: "is a colour image (RGB), where a map of class numbers is wanted"}


def test_masks_are_two_valued(tmp_path: Path) -> None:
    grey = np.array([[0, 100, 127], [128, 200, 255]], np.uint8)
    rasters = opened(folder_of(tmp_path / "x", {"1.png": Image.fromarray(grey)}), reader=read_mask, count=None)
    assert rasters[0][0].tolist() == [[0, 0, 0], [255, 255, 255]] and rasters.values == [0, 255]


@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.sampled_from(["crop", "pad", "stretch"]),
    st.integers(0, 300),
)  # fmt: skip
def test_resizing_a_map_invents_no_value(height: int, width: int, rows: int, columns: int, how: str, fill: int) -> None:
    image = np.random.default_rng(height * 13 + width).integers(0, 256, (height, width, 1), np.uint8)
    made = resize_nearest(image, (rows, columns), how, fill)  # type: ignore[arg-type]
    assert made.shape == (rows, columns, 1)
    allowed = set(image.flatten().tolist()) | ({fill} if how == "pad" else set())
    assert set(made.flatten().tolist()) <= allowed
    if (height, width) == (rows, columns):
        assert np.array_equal(made, image)


@given(
    st.integers(2, 30),
    st.integers(2, 30),
    st.integers(2, 30),
    st.integers(2, 30),
    st.sampled_from(["crop", "pad", "stretch"]),
)
def test_a_map_stays_in_register_with_its_picture(height: int, width: int, rows: int, columns: int, how: str) -> None:
    # A ramp has its own place as its value, so that the two ways of resizing can be set against each other. Far from 0 and 255,
    # since a Lanczos window overshoots.
    ramp = np.repeat(np.linspace(100, 180, width).round().astype(np.uint8)[None, :, None], height, axis=0)
    as_picture = fit(ramp, (rows, columns), how)[:, :, 0].astype(float)  # type: ignore[arg-type]
    as_map = resize_nearest(ramp, (rows, columns), how)[:, :, 0].astype(float)  # type: ignore[arg-type]
    assert ((as_picture == 0) == (as_map == 0)).all()
    scale = 80 / (width - 1)
    # Half a pixel of the map, and as much again for what a Lanczos window averages at the borders.
    shrunk = max(1.0, width / columns, height / rows)
    assert np.abs(as_picture - as_map).max() <= 1.5 * scale * shrunk + 1


def test_all_get_one_size_where_one_is_wanted(tmp_path: Path) -> None:
    files = {"1.png": Image.fromarray(picture(9, 20)), "2.png": Image.fromarray(picture(30, 7))}
    rasters = opened(folder_of(tmp_path / "x", files), size=(8, 6), how="stretch")
    assert rasters.shapes.tolist() == [[3, 8, 6]] * 2


def test_images_that_cannot_be_read_keep_their_number(tmp_path: Path) -> None:
    good = [picture(3, 4), picture(5, 2)]
    files = {"0.png": b"no image", "1.png": Image.fromarray(good[0]), "2.png": b"", "3.png": Image.fromarray(good[1])}
    rasters = opened(folder_of(tmp_path / "x", files))
    assert sorted(rasters.broken) == [0, 2] and rasters.broken[2] == "the file is empty"
    assert np.array_equal(rasters[1].transpose(1, 2, 0), good[0]) and np.array_equal(
        rasters[3].transpose(1, 2, 0), good[1]
    )
    assert rasters.shapes[0].tolist() == [0, 0, 0]


def test_where_nothing_can_be_read_one_line_says_so(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"0.png": b"no image", "1.png": b""})
    with pytest.raises(
        UserError, match=r"none of its 2 images can be read \(0\.png: not an image, or its header is damaged\)"
    ):
        opened(root)


def test_a_second_start_finds_what_the_first_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder_of(tmp_path / "x", {"0.png": Image.fromarray(picture(3, 4))})
    first = opened(root)

    def refuse(source: object, index: int) -> None:
        raise AssertionError("decoded again")

    refuse.__name__ = "read_image"
    again = opened(root, reader=refuse)
    assert again.fingerprint == first.fingerprint and np.array_equal(again[0], first[0])


@pytest.mark.parametrize("damage", ["shortened", "no manifest", "half a manifest", "a manifest of something else"])
def test_a_damaged_cache_is_built_anew(tmp_path: Path, damage: str) -> None:
    root = folder_of(tmp_path / "x", {"0.png": Image.fromarray(picture(3, 4))})
    first = opened(root, folder=tmp_path / "cache")
    expected = first[0].copy()
    (kept,) = (each for each in (tmp_path / "cache").iterdir() if each.is_dir())
    if damage == "shortened":
        (kept / "pixels.bin").write_bytes(b"abc")
    elif damage == "no manifest":
        (kept / "manifest.json").unlink()
    elif damage == "half a manifest":
        (kept / "manifest.json").write_text((kept / "manifest.json").read_text()[:40])
    else:
        (kept / "manifest.json").write_text(json.dumps({"shapes": [[3, 3, 4]], "dtype": "uint8"}))
    assert np.array_equal(opened(root, folder=tmp_path / "cache")[0], expected)


def test_other_settings_are_another_cache(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"0.png": Image.fromarray(picture(8, 8, 1)[:, :, 0])})
    options: list[dict[str, object]] = [
        {}, {"count": 1}, {"size": (4, 4)}, {"size": (4, 4), "how": "pad"}, {"reader": read_indices, "count": None},
        {"reader": read_indices, "count": None, "size": (4, 4), "how": "pad", "fill": 7},
        {"reader": read_mask, "count": None},
    ]  # fmt: skip
    assert len({opened(root, **each).fingerprint for each in options}) == len(options)


def test_several_processes_decode_what_one_does(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {f"{i:03}.png": Image.fromarray(picture(2 + i % 5, 3)) for i in range(70)})
    source = open_source(str(root), labels="none")
    one = build_rasters(source, reader=read_image, workers=1, folder=tmp_path / "a")
    two = build_rasters(source, reader=read_image, workers=2, folder=tmp_path / "b")
    assert np.array_equal(one.pixels, two.pixels) and np.array_equal(one.shapes, two.shapes)
