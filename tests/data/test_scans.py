"""Scans in and out: intensities, orientations, headers, and what cannot be read."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from sparring.data.scan_files import from_unit, read_scan_file, to_unit, write_scan_file
from sparring.data.scans import find_window, is_scan, open_scans, read_scan, read_scan_indices, without_ending
from sparring.data.source import BrokenSample
from sparring.data.sources import open_source
from sparring.errors import UserError


def write_dicom(path: Path, stored: NDArray[np.uint16], **more: object) -> Path:
    """A CT slice (H, W), or frames (N, H, W), of 12 bits with HU = stored − 1024."""
    data = FileDataset(str(path), {}, preamble=b"\0" * 128)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID = generate_uid(), generate_uid()
    data.PatientID, data.Modality, data.ImageType = "17", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        data.NumberOfFrames = len(stored)
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept, data.PixelSpacing = 1, -1024, [0.5, 0.75]
    for name, value in more.items():
        setattr(data, name, value)
    data.PixelData = stored.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def stored() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 4096, (6, 8)).astype(np.uint16)


def test_dicom_is_read_in_the_units_of_its_rescaling(tmp_path: Path, stored: NDArray[np.uint16]) -> None:
    values, header = read_scan_file(write_dicom(tmp_path / "a.dcm", stored))
    assert header.kind == "dicom"
    np.testing.assert_array_equal(values, stored[None].astype(np.float32) - 1024)


def test_monochrome1_is_turned_around_and_written_back_as_it_was(tmp_path: Path, stored: NDArray[np.uint16]) -> None:
    path = write_dicom(tmp_path / "a.dcm", stored, PhotometricInterpretation="MONOCHROME1")
    values, header = read_scan_file(path)
    np.testing.assert_array_equal(values[0], 4095 - stored.astype(np.float32) - 1024)
    write_scan_file(tmp_path / "b.dcm", values, header)
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "b.dcm").pixel_array, stored)


def test_padding_does_not_count_as_air(tmp_path: Path, stored: NDArray[np.uint16]) -> None:
    stored = stored.clip(500)
    stored[0, :4] = 0
    values, _ = read_scan_file(write_dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=0))
    assert values.min() == stored[stored > 0].min() - 1024.0


def test_frames_of_a_dicom_file_are_its_slices(tmp_path: Path) -> None:
    stored = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
    write_dicom(tmp_path / "a.dcm", stored)
    assert read_scan_file(tmp_path / "a.dcm")[0].shape == (3, 4, 5)
    source = open_source(str(tmp_path))
    assert source.names == ["a.dcm"]
    np.testing.assert_array_equal(read_scan(source, 0, (-1024, 65535 - 1024))[:, :, 0], stored[0])


def test_written_dicom_keeps_values_and_says_that_it_is_synthetic(tmp_path: Path, stored: NDArray[np.uint16]) -> None:
    values, header = read_scan_file(write_dicom(tmp_path / "a.dcm", stored))
    old = pydicom.dcmread(tmp_path / "a.dcm")
    write_scan_file(tmp_path / "out" / "b.dcm", values, header)
    new = pydicom.dcmread(tmp_path / "out" / "b.dcm")
    np.testing.assert_array_equal(new.pixel_array, stored)
    assert (new.RescaleSlope, new.RescaleIntercept, new.PatientID) == (1, -1024, "17")
    assert new.SOPInstanceUID != old.SOPInstanceUID and new.SeriesInstanceUID != old.SeriesInstanceUID
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
    assert list(new.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert new.SourceImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert "synthetic" in new.SeriesDescription and "not for diagnosis" in new.DerivationDescription


def test_values_beyond_the_rescaling_of_a_dicom_file_get_another_of_sixteen_bits(
    tmp_path: Path, stored: NDArray[np.uint16]
) -> None:
    _, header = read_scan_file(write_dicom(tmp_path / "a.dcm", stored))
    values = np.linspace(-3000.25, 9000.5, 48, dtype=np.float32).reshape(1, 6, 8)
    write_scan_file(tmp_path / "b.dcm", values, header)
    again, _ = read_scan_file(tmp_path / "b.dcm")
    step = (values.max() - values.min()) / 65535
    assert np.abs(again - values).max() <= 0.51 * step + 1e-3  # and float32's own rounding
    assert pydicom.dcmread(tmp_path / "b.dcm").BitsStored == 16


def test_a_larger_dicom_image_has_smaller_pixels(tmp_path: Path, stored: NDArray[np.uint16]) -> None:
    values, header = read_scan_file(write_dicom(tmp_path / "a.dcm", stored))
    write_scan_file(tmp_path / "b.dcm", values.repeat(2, 1).repeat(2, 2), header)
    new = pydicom.dcmread(tmp_path / "b.dcm")
    assert (new.Rows, new.Columns, list(new.PixelSpacing)) == (12, 16, [0.25, 0.375])
    assert new.pixel_array.shape == (12, 16)


AXES = {"RAS": (1, 1, 1), "LPS": (-1, -1, 1), "LAI": (-1, 1, -1)}


@pytest.mark.parametrize("axes", AXES)
def test_slices_of_a_volume_are_axial_with_anterior_up_however_it_is_stored(tmp_path: Path, axes: str) -> None:
    ras = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    stored = ras[tuple(slice(None, None, sign) for sign in AXES[axes])]
    nibabel.save(nibabel.Nifti1Image(stored, np.diag([*AXES[axes], 1.0])), tmp_path / "v.nii.gz")
    slices, _ = read_scan_file(tmp_path / "v.nii.gz")
    assert slices.shape == (5, 4, 3)
    np.testing.assert_array_equal(slices[2], ras[:, ::-1, 2].T)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_written_volume_lies_where_the_read_one_lay(tmp_path: Path, order: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([1.5, -2.0, 3.0]) + 0.1 * rng.normal(size=(3, 3)))[:, list(order)]
    affine[:3, 3] = rng.normal(size=3)
    volume = rng.normal(size=(4, 5, 6)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "v.nii.gz")
    slices, header = read_scan_file(tmp_path / "v.nii.gz")
    write_scan_file(tmp_path / "w.nii.gz", slices, header)
    again = nibabel.load(tmp_path / "w.nii.gz")
    np.testing.assert_array_equal(again.get_fdata(), volume)
    np.testing.assert_allclose(again.affine, affine, atol=1e-6)


def test_a_volume_of_finer_slices_covers_the_same_space(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "v.nii")
    slices, header = read_scan_file(tmp_path / "v.nii")
    write_scan_file(tmp_path / "w.nii", slices.repeat(2, 1).repeat(2, 2), header)
    again = nibabel.load(tmp_path / "w.nii")
    assert again.shape == (8, 12, 3)
    for corner in ((-0.5, -0.5, -0.5), (3.5, 5.5, 2.5)):  # of voxels, whose numbers are their middles
        finer = [2 * (corner[0] + 0.5) - 0.5, 2 * (corner[1] + 0.5) - 0.5, corner[2]]
        np.testing.assert_allclose(again.affine @ [*finer, 1], affine @ [*corner, 1], atol=1e-6)


def test_sixteen_bit_images_keep_every_value(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7)).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        read, header = read_scan_file(tmp_path / name)
        np.testing.assert_array_equal(read[0], values)
        write_scan_file(tmp_path / f"again-{name}", read, header)
        np.testing.assert_array_equal(read_scan_file(tmp_path / f"again-{name}")[0][0], values)


def test_a_window_and_its_undoing_keep_intensities_to_half_a_step() -> None:
    values = np.random.default_rng(0).uniform(-1000, 2000, (1, 16, 16)).astype(np.float32)
    again = from_unit(to_unit(values, (-1000, 2000)), (-1000, 2000))
    assert np.abs(again - values).max() <= 0.5 * 3000 / 65535
    assert to_unit(np.array([-5000.0, 5000.0], np.float32), (-1000, 2000)).tolist() == [-1, 1]


def test_a_folder_of_scans_is_a_source_of_slices_that_other_processes_can_read(
    tmp_path: Path, stored: NDArray[np.uint16]
) -> None:
    (tmp_path / "in").mkdir()
    write_dicom(tmp_path / "in" / "b.dcm", stored)
    (tmp_path / "in" / "b.dcm").rename(tmp_path / "in" / "IM0001")  # as scanners name them
    volume = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "in" / "v.nii.gz")
    (tmp_path / "in" / "notes.txt").write_text("not a scan")
    source = pickle.loads(pickle.dumps(open_source(str(tmp_path / "in"))))
    assert source.names == ["IM0001", *(f"v.nii.gz#{index}" for index in range(4))]
    assert is_scan(source)
    np.testing.assert_array_equal(source.values(3), volume[:, ::-1, 2].T)


def test_slices_are_kept_to_half_a_step_of_sixteen_bits(tmp_path: Path, stored: NDArray[np.uint16]) -> None:
    write_dicom(tmp_path / "a.dcm", stored)
    kept = read_scan(open_source(str(tmp_path)), 0, (-1024, 3071))
    again = -1024 + kept[:, :, 0].astype(np.float64) / 65535 * 4095
    assert np.abs(again - (stored.astype(np.float64) - 1024)).max() <= 0.5 * 4095 / 65535


def test_the_window_of_a_set_is_that_of_all_its_values(tmp_path: Path) -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    for number, part in enumerate(np.split(values, 4)):
        write_dicom(tmp_path / f"{number}.dcm", part)
    low, high = find_window(open_source(str(tmp_path)), tmp_path / "cache")
    assert (low, high) == pytest.approx(np.percentile(values - 1024.0, (0.5, 99.5)))


def test_a_damaged_scan_is_named_and_says_why(tmp_path: Path, stored: NDArray[np.uint16]) -> None:
    write_dicom(tmp_path / "good.dcm", stored)
    whole = (tmp_path / "good.dcm").read_bytes()
    (tmp_path / "short.dcm").write_bytes(whole[:-40])
    (tmp_path / "text.dcm").write_text("this is no scan")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 40), np.float32), np.eye(4)), tmp_path / "v.nii")
    (tmp_path / "v.nii").write_bytes((tmp_path / "v.nii").read_bytes()[:100])
    source = open_scans("folder", tmp_path)
    assert source.names == ["good.dcm", "short.dcm", "text.dcm", "v.nii"]
    for index in (1, 2, 3):
        with pytest.raises(BrokenSample, match=r"\w"):
            read_scan(source, index)


def test_class_numbers_of_a_scan_are_whole(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.array([[[0.0], [3.0]], [[300.0], [1.0]]]), np.eye(4)), tmp_path / "v.nii")
    source = open_scans("folder", tmp_path)
    assert read_scan_indices(source, 0)[:, :, 0].tolist() == [[3, 1], [0, 300]]
    nibabel.save(nibabel.Nifti1Image(np.full((2, 2, 1), 0.5), np.eye(4)), tmp_path / "v.nii")
    with pytest.raises(BrokenSample, match="whole numbers"):
        read_scan_indices(open_scans("folder", tmp_path), 0)


def test_what_cannot_be_written_is_said(tmp_path: Path, stored: NDArray[np.uint16]) -> None:
    values, header = read_scan_file(write_dicom(tmp_path / "a.dcm", stored))
    with pytest.raises(UserError, match=r"end the name in \.dcm"):
        write_scan_file(tmp_path / "b.png", values, header)
    with pytest.raises(UserError, match="not finite"):
        write_scan_file(tmp_path / "b.dcm", values * np.nan, header)
    Image.fromarray(stored).save(tmp_path / "a.png")
    one, image = read_scan_file(tmp_path / "a.png")
    with pytest.raises(UserError, match="one slice"):
        write_scan_file(tmp_path / "c.png", np.repeat(one, 2, 0), image)


def test_a_slice_keeps_its_number_where_endings_are_left_away() -> None:
    assert without_ending("a/v.nii.gz#17") == "a/v#17"
    assert without_ending("a/v.dcm") == "a/v"
    assert without_ending("a.b/v.png") == "a.b/v"
    assert without_ending("IM0001") == "IM0001"
