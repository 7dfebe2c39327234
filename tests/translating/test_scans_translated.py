"""Scans in and out: the units, the header and the number of slices stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sparring
from sparring.core.game import Batch, DataSpec
from sparring.data.scan_files import from_unit, to_unit
from sparring.errors import UserError
from sparring.trained import load

torch.set_num_threads(1)

RESNET = "model.generator={name: resnet, width: 4, blocks: 1}"
TAKEN, MADE = (100.0, 1100.0), (-500.0, 1500.0)


def grey(**more: object) -> DataSpec:
    facts = {"kind": "image", "channels": 1}
    extra = {"paired": True, "sides": ["A", "B"], "roles": ["input", "output"], "input": facts, **more}
    return DataSpec((1, 16, 16), (), 8, extra)


@pytest.fixture(scope="module")
def scanned(make_run: Callable[..., Path]) -> Path:
    """A run whose sides were scans in different units."""
    return make_run("pix2pix", RESNET, spec=grey(windows={"input": list(TAKEN), "output": list(MADE)}))


def slices(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1500, shape).astype(np.float32)


def expected(run: Path, values: np.ndarray) -> np.ndarray:
    """A slice (H, W) through the game, in the units of its outputs."""
    source = torch.from_numpy(to_unit(values, TAKEN))[None, None]
    made = load(run, device="cpu").translate(Batch(source=source))["data"][0, 0].numpy()
    return from_unit(made, MADE)


def test_an_image_of_16_bits_becomes_one_in_the_units_of_the_outputs(scanned: Path, tmp_path: Path) -> None:
    values = slices(21, 17)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "scan.png")
    sparring.translate(scanned, [tmp_path / "scan.png"], out=tmp_path / "made", device="cpu")
    with Image.open(tmp_path / "made" / "scan.png") as image:
        made = np.asarray(image)
    assert made.dtype == np.uint16 or made.max() > 255
    wanted = expected(scanned, values).clip(0, 65535)
    assert np.abs(made - wanted).max() < 2 and wanted.std() > 10


def test_a_volume_keeps_its_slices_and_its_place_in_space(scanned: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[:3, 3] = 7, -3, 11
    volume = slices(17, 21, 3)
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "head.nii.gz")
    result = sparring.translate(scanned, [tmp_path / "head.nii.gz"], out=tmp_path / "made", device="cpu")
    assert [Path(file).name for file in result.files] == ["head.nii.gz"]
    made = nibabel.load(tmp_path / "made" / "head.nii.gz")
    assert made.shape == volume.shape and np.allclose(made.affine, affine)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["head.nii.gz"], "no temporary file stays"
    whole = np.asarray(made.dataobj)
    for index in range(3):  # axial slices: x to the right, y upwards
        wanted = expected(scanned, volume[:, ::-1, index].T)
        assert np.abs(whole[:, ::-1, index].T - wanted).max() < 2


def test_several_outputs_of_a_volume_keep_its_ending(scanned: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(slices(8, 8, 2), np.eye(4)), tmp_path / "head.nii.gz")
    result = sparring.translate(scanned, [tmp_path], out=tmp_path / "made", count=2, device="cpu")
    assert [Path(file).name for file in result.files] == ["head-1.nii.gz", "head-2.nii.gz"]


def test_pictures_of_scans_are_pictures_a_slice(make_run: Callable[..., Path], tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    run = make_run("pix2pix", RESNET, spec=grey(windows={"input": list(TAKEN)}))
    nibabel.save(nibabel.Nifti1Image(slices(8, 9, 2), np.eye(4)), tmp_path / "head.nii.gz")
    result = sparring.translate(run, [tmp_path / "head.nii.gz"], out=tmp_path / "made", device="cpu")
    assert [Path(file).name for file in result.files] == ["head-0000.png", "head-0001.png"]
    with Image.open(result.files[0]) as image:
        assert (image.size, image.mode) == ((8, 9), "L")


def test_a_game_of_pictures_refuses_scans(make_run: Callable[..., Path], tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(slices(8, 9, 2), np.eye(4)), tmp_path / "head.nii.gz")
    run = make_run("pix2pix", RESNET, spec=grey())
    with pytest.raises(UserError, match=r"head.nii.gz is a scan, and the game was trained on pictures"):
        sparring.translate(run, [tmp_path / "head.nii.gz"], out=tmp_path / "made", device="cpu")
