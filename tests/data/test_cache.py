"""The cache: decoded once, whole or not at all, and never stopped by what one file does."""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_decode import png_header

from sparring.data import convert, folder, pool
from sparring.data.cache import build_cache
from sparring.data.decode import decode
from sparring.data.source import BrokenSample
from sparring.data.sources import open_source
from sparring.errors import UserError


def encoded(rng: np.random.Generator, form: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    """A random grey image as a file."""
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(stream, form)
    return stream.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve grey images in three classes whose order by name is not that of their numbers."""
    rng = np.random.default_rng(0)
    for index in range(12):
        file = tmp_path / "photos" / ("10", "9", "1")[index % 3] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(rng))
    return tmp_path / "photos"


def build(photos: Path, **options: Any) -> Any:
    """Build the cache beside the photos."""
    return build_cache(open_source(str(photos)), folder=photos.parent / "cache", **options)


def test_a_cache_holds_the_pixels_and_labels_of_its_source(photos: Path) -> None:
    source = open_source(str(photos))
    cache = build(photos)
    assert cache.images.shape == (12, 1, 8, 8)
    assert cache.classes == ("1", "9", "10")
    assert cache.names == source.names
    for index, label in enumerate(source.labels):
        assert np.array_equal(cache.images[index], source.load(index).transpose(2, 0, 1))
        assert cache.classes[cache.labels[index]] == label


def test_the_second_opening_decodes_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(photos)

    def fail(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(folder, "decode", fail)
    monkeypatch.setattr(convert, "probe", fail)
    assert np.array_equal(build(photos).images, first.images)


def test_changed_content_or_settings_make_another_cache(photos: Path) -> None:
    prints = {build(photos).fingerprint, build(photos, size=(4, 4)).fingerprint, build(photos, channels=3).fingerprint}
    os.utime(photos / "1" / "2.png", (1, 1))
    prints.add(build(photos).fingerprint)
    assert len(prints) == 4


@pytest.mark.parametrize("damage", ["truncate", "remove", "garble"])
def test_a_cache_that_is_damaged_on_disk_is_built_again(photos: Path, damage: str) -> None:
    first = build(photos)
    good = np.array(first.images)
    file = first.folder / ("manifest.json" if damage == "garble" else "images.npy")
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-7])
    elif damage == "remove":
        file.unlink()
    else:
        file.write_text("{")
    assert np.array_equal(build(photos).images, good)


def damaged(rng: np.random.Generator, good: list[bytes]) -> bytes:
    """One of many ways in which a file is spoilt."""
    data = bytearray(good[rng.integers(len(good))])
    kind = rng.integers(6)
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    if kind == 1:
        for _ in range(rng.integers(1, 20)):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        return bytes(data)
    if kind == 2:
        return rng.bytes(4) + bytes(data[4:])
    if kind == 3:
        return bytes(len(data))
    if kind == 4:
        return png_header(100_000, 100_000)
    return b""


def test_500_damaged_files_among_50_good_ones_stop_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "photos"
    root.mkdir()
    good = [encoded(rng, form) for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP") for _ in range(8)][:48]
    good += [encoded(rng), encoded(rng)]
    for index, data in enumerate(good):
        (root / f"good{index}.png").write_bytes(data)
    for index in range(500):
        (root / f"bad{index}.png").write_bytes(damaged(rng, good))
    source = open_source(str(root))
    cache = build_cache(source, size=(8, 8), channels=1, folder=tmp_path / "cache", workers=2)
    undecodable = set()
    for index, name in enumerate(source.names):
        try:
            decode(source.raw(index) or b"", name)
        except BrokenSample:
            undecodable.add(name)
    assert {name for name, _ in cache.broken} == undecodable
    assert all(reason for _, reason in cache.broken)
    assert len(undecodable) > 300
    assert set(cache.names) == set(source.names) - undecodable
    assert {f"good{index}.png" for index in range(50)} <= set(cache.names)


@pytest.mark.skipif(not pool.can_fork(), reason="threads can neither die alone nor be given up")
@pytest.mark.parametrize(("act", "reason"), [(lambda: os._exit(3), "crashed"), (lambda: time.sleep(99), "hangs")])
def test_a_decoder_that_dies_or_hangs_costs_one_image(
    photos: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], reason: str
) -> None:
    def vicious(data: bytes, name: str) -> Any:
        if name.endswith("/5.png"):
            act()
        return decode(data, name)

    monkeypatch.setattr(folder, "decode", vicious)
    monkeypatch.setattr(pool, "PATIENCE", 0.5)
    cache = build(photos, workers=2)
    assert len(cache) == 11
    [(name, why)] = cache.broken
    assert name == "1/5.png"
    assert reason in why


def test_classes_and_limit_choose_images(photos: Path) -> None:
    chosen = build(photos, classes=["10", "1"])
    assert chosen.classes == ("1", "10")
    assert len(chosen) == 8
    few = build(photos, limit=5)
    assert few.names == build(photos, limit=5).names
    assert len(few) == 5
    with pytest.raises(UserError, match=r"no class '99'.*there are 1, 9, 10"):
        build(photos, classes=["99"])


def test_different_sizes_must_be_settled_by_the_user(photos: Path) -> None:
    rng = np.random.default_rng(1)
    (photos / "1" / "wide.png").write_bytes(encoded(rng, size=(5, 30)))
    (photos / "9" / "big.jpg").write_bytes(encoded(rng, "JPEG", size=(40, 20)))
    with pytest.raises(UserError, match=r"different sizes \(3 sizes, from 8×8 to 20×40\): say --set data\.size=64"):
        build(photos)
    assert build(photos, size=(6, 7)).images.shape == (14, 1, 6, 7)
    assert not list((photos.parent / "cache").glob(".photos*"))


def test_channels_are_what_all_images_together_need(photos: Path) -> None:
    assert build(photos).images.shape[1] == 1
    for name, shape, expected in (("a", (8, 8, 2), 2), ("b", (8, 8, 3), 4)):
        stream = io.BytesIO()
        Image.fromarray(np.full(shape, 255, np.uint8)).save(stream, "PNG")
        (photos / "1" / f"{name}.png").write_bytes(stream.getvalue())
        assert build(photos).images.shape[1] == expected


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar", "photos.tar.gz"])
def test_archives_give_the_same_cache_as_their_folder(photos: Path, name: str) -> None:
    kind = {".zip": "zip", ".tar": "tar", ".gz": "gztar"}[Path(name).suffix]
    shutil.make_archive(str(photos.parent / "photos"), kind, photos)
    plain, packed = build(photos), build(photos.parent / name, workers=2)
    order = np.argsort([image.partition(":")[2] for image in packed.names])
    assert np.array_equal(packed.images[order], plain.images)
    assert np.array_equal(packed.labels[order], plain.labels)


def test_no_readable_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"nothing")
    for options in ({}, {"size": (4, 4), "channels": 1}):
        with pytest.raises(UserError, match=r"none of its 1 images can be read \(a\.png: not an image"):
            build(tmp_path / "photos", **options)


def test_a_full_disk_names_the_folder_and_the_room_needed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert, "_npy_header", full)
    with pytest.raises(UserError, match=r"cache: the image cache needs 1 MB .* data\.cache=FOLDER"):
        build(photos)
    assert not [path for path in (photos.parent / "cache").iterdir() if path.is_dir()]


def test_a_cache_folder_that_cannot_be_made_is_an_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be cached here"):
        build_cache(open_source(str(photos)), folder=tmp_path / "file")


def test_two_that_build_the_same_cache_at_once_both_get_it(photos: Path) -> None:
    caches: list[Any] = []
    threads = [threading.Thread(target=lambda: caches.append(build(photos))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caches) == 4
    assert all(np.array_equal(cache.images, caches[0].images) for cache in caches)
    assert len([path for path in (photos.parent / "cache").iterdir() if path.is_dir()]) == 1


def test_progress_ends_at_all(photos: Path) -> None:
    calls: list[tuple[int, int]] = []
    build(photos, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (12, 12)
