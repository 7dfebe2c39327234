"""Drawn images in files: the same in each form, in order, whole or not there, taken batch by batch."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sparring.core.game import Batch
from sparring.data import pool
from sparring.errors import UserError
from sparring.imaging import save
from sparring.imaging.save import save_npy, save_npz, save_pngs
from sparring.imaging.show import to_uint8

torch.set_num_threads(1)

NAMES = ("ant", "bee", "cat")
WRITERS: dict[str, Callable[[Iterator[Batch], Path], list[Path]]] = {
    "pngs": lambda batches, out: save_pngs(batches, out, workers=2),
    "set.npz": lambda batches, out: save_npz(batches, NAMES, out),
    "set.npy": lambda batches, out: save_npy(batches, NAMES, out),
}


def images(count: int, channels: int = 1, height: int = 5, width: int = 7) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, height, width, generator=rng) * 2 - 1


def batches(data: Tensor, size: int, label: Tensor | None = None) -> Iterator[Batch]:
    for start in range(0, len(data), size):
        batch = Batch(data=data[start : start + size])
        if label is not None:
            batch["label"] = label[start : start + size]
        yield batch


@pytest.mark.parametrize("channels", [1, 3])
def test_npy_npz_and_pngs_hold_the_same_images(tmp_path: Path, channels: int) -> None:
    data, label = images(150, channels), torch.arange(150) % 3
    paths = {name: write(batches(data, 40, label), tmp_path / name) for name, write in WRITERS.items()}
    expected = to_uint8(data).permute(0, 2, 3, 1).numpy()
    with np.load(tmp_path / "set.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["images"], expected)
        assert np.array_equal(arrays["labels"], label) and arrays["classes"].tolist() == list(NAMES)
    assert paths["set.npy"] == [tmp_path / "set.npy", tmp_path / "set-labels.npy"]
    assert np.array_equal(np.load(tmp_path / "set.npy", mmap_mode="r"), expected)
    assert np.array_equal(np.load(tmp_path / "set-labels.npy"), label)
    pictures = np.stack([np.asarray(Image.open(path)) for path in paths["pngs"]])
    assert np.array_equal(pictures.reshape(expected.shape), expected)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_pictures_are_numbered_in_the_order_of_the_samples_whoever_encodes_them(
    tmp_path: Path, channels: int, mode: str
) -> None:
    data = images(200, channels)
    paths = save_pngs(batches(data, 30), tmp_path / "out", workers=3)
    assert [path.name for path in paths] == [f"{number:06d}.png" for number in range(200)]
    assert sorted((tmp_path / "out").iterdir()) == paths
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    for image, path in zip(to_uint8(data), paths, strict=True):
        saved = Image.open(path)
        assert saved.mode == mode
        assert np.array_equal(np.asarray(saved), image.permute(1, 2, 0).squeeze(2).numpy())


def test_pictures_join_what_lies_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "000000.png").write_text("old")
    save_pngs(batches(images(2), 2), tmp_path, workers=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.png", "000001.png", "notes.txt"]
    assert Image.open(tmp_path / "000000.png").size == (7, 5)


@pytest.mark.parametrize("name", WRITERS)
def test_a_generator_that_diverges_halfway_leaves_nothing(tmp_path: Path, name: str) -> None:
    data = images(100)
    data[-1] = torch.nan
    with pytest.raises(UserError, match="diverged"):
        WRITERS[name](batches(data, 10), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "disk")


def test_a_full_disk_leaves_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "000000.png").write_text("old")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_pngs(batches(images(100), 10), tmp_path, workers=2)
    assert [path.name for path in tmp_path.iterdir()] == ["000000.png"]
    assert (tmp_path / "000000.png").read_text() == "old"


def test_what_the_writing_thread_meets_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space left"):
        save._write_behind(iter(images(4).split(1)), full)


@pytest.mark.skipif(not pool.can_fork(), reason="threads cannot die alone")
def test_a_process_that_dies_is_an_error_and_not_a_missing_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", lambda *_: os._exit(3))
    with pytest.raises(OSError, match="could not be written"):
        save_pngs(batches(images(3), 3), tmp_path / "out", workers=2)
    assert list(tmp_path.iterdir()) == []


def test_batches_are_taken_one_by_one_and_never_far_ahead_of_the_disk() -> None:
    drawn: list[int] = []
    written: list[int] = []
    lead: list[int] = []

    def draw() -> Iterator[Tensor]:
        for number in range(12):
            drawn.append(number)
            lead.append(len(drawn) - len(written))
            yield images(1)

    def write(_: object) -> None:
        time.sleep(0.005)
        written.append(0)

    save._write_behind(draw(), write)
    assert len(written) == 12
    # The slow disk holds them up: one is being drawn, and AHEAD wait or are being written.
    assert save.AHEAD < max(lead) <= save.AHEAD + 1
