"""Scans as sides of a translation: slices that belong together, windows that stay with the game."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sparring.domains.translation.data import TranslationOptions, open_translation
from sparring.errors import UserError


def write_volume(path: Path, values: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Two MR volumes in arbitrary units, their CT in HU, and one MR without a CT."""
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        mr = rng.uniform(0, 800, (16, 16, 3)).astype(np.float32)
        write_volume(tmp_path / "mr" / f"{name}.nii.gz", mr)
        write_volume(tmp_path / "ct" / f"{name}.nii.gz", 2 * mr - 1000)
    write_volume(tmp_path / "mr" / "three.nii.gz", np.ones((16, 16, 2), np.float32))
    return tmp_path


def options(source: Path, **more: object) -> TranslationOptions:
    return TranslationOptions(source=str(source), sides=("mr", "ct"), **more)  # type: ignore[arg-type]


def test_slices_of_volumes_of_one_name_are_pairs(volumes: Path) -> None:
    data = open_translation(options(volumes, window={"input": [0, 800], "output": [-1000, 600]}))
    assert len(data) == 6
    assert data.spec.shape == (1, 16, 16) and data.spec.extra["input"]["channels"] == 1
    batch = data.batch(torch.arange(6), augment=False)
    assert (batch["data"] - batch["source"]).abs().max() < 2.1 / 65535  # the windows make them the same
    assert [name for name, why in data.broken if "partner" in why] == ["mr/three.nii.gz#0", "mr/three.nii.gz#1"]


def test_a_window_that_is_found_is_kept_and_holds_for_other_scans(volumes: Path) -> None:
    spec = open_translation(options(volumes)).spec
    low, high = spec.extra["windows"]["output"]
    assert -1000 < low < -950 and 550 < high < 600
    write_volume(volumes / "other" / "mr" / "x.nii", np.full((16, 16, 1), 400, np.float32))
    write_volume(volumes / "other" / "ct" / "x.nii", np.full((16, 16, 1), -200, np.float32))
    other = open_translation(options(volumes / "other"), known=spec.extra)
    assert other.spec.extra["windows"] == spec.extra["windows"]
    shown = other.batch(torch.tensor([0]), augment=False)["data"]
    assert shown.mean().item() == pytest.approx(2 * (-200 - low) / (high - low) - 1, abs=1e-4)


def test_another_window_is_another_cache(volumes: Path) -> None:
    first, second = (
        open_translation(options(volumes, window=[0, high])).batch(torch.tensor([0]), augment=False)
        for high in (800, 400)
    )
    assert (first["source"] != second["source"]).any()


def test_scans_are_brought_to_a_size_without_losing_their_depth(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.float32).round()
    (tmp_path / "in").mkdir()
    Image.fromarray(np.tile(ramp, (64, 1)).astype(np.uint16)).save(tmp_path / "in" / "a.png")
    data = open_translation(TranslationOptions(source=str(tmp_path / "in"), size=32, window=(0, 65535)))
    row = data.batch(torch.tensor([0]), augment=False)["data"][0, 0, 0]
    assert data.spec.extra["output_dtype"] == "uint16"
    wanted = torch.linspace(-1, 1, 64).unflatten(0, (32, 2)).mean(1)
    assert (row - wanted)[3:-3].abs().max() < 1e-4  # eight bits would be off by up to 4e-3


def test_label_volumes_are_maps_of_classes(tmp_path: Path) -> None:
    write_volume(
        tmp_path / "labels" / "a.nii.gz", np.random.default_rng(0).integers(0, 3, (8, 8, 2)).astype(np.float32)
    )
    write_volume(tmp_path / "images" / "a.nii.gz", np.random.default_rng(0).normal(size=(8, 8, 2)).astype(np.float32))
    data = open_translation(TranslationOptions(source=str(tmp_path)))
    assert data.spec.extra["input"]["kind"] == "labels" and data.spec.extra["input"]["values"] == [0, 1, 2]
    assert data.batch(torch.arange(2))["source"].sum(1).eq(1).all()


def test_a_table_names_slices_of_volumes(volumes: Path) -> None:
    (volumes / "pairs.csv").write_text(
        "input,output\nmr/one.nii.gz#2,ct/one.nii.gz#2\nmr/two.nii.gz#0,ct/two.nii.gz#0\n"
    )
    data = open_translation(
        TranslationOptions(source=str(volumes / "pairs.csv"), window={"input": (0, 800), "output": (-1000, 600)})
    )
    batch = data.batch(torch.arange(2), augment=False)
    assert len(data) == 2 and (batch["data"] - batch["source"]).abs().max() < 2.1 / 65535


def test_a_damaged_volume_is_named_and_left_out(volumes: Path) -> None:
    path = volumes / "mr" / "one.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])  # the header is whole, the slices are not
    data = open_translation(options(volumes))
    assert len(data) == 3
    assert {name for name, why in data.broken if "partner" not in why} == {
        f"mr/one.nii.gz#{index}" for index in range(3)
    }


@pytest.mark.parametrize("window", [[5, 5], {"output": [3, -3]}])
def test_a_window_that_is_none_is_refused(volumes: Path, window: object) -> None:
    with pytest.raises((UserError, ValueError), match="low to high"):
        options(volumes, window=window)
