"""Files of scans, in and out: DICOM, NIfTI and 16-bit images, as numbers in the file's own units.

What is read:
- DICOM: stored values through the modality's rescaling (HU for CT). MONOCHROME1, where large is dark, is turned around
  within the range of its stored bits. Padding gets the lowest of the other values. Of several frames each is a slice.
- NIfTI: turned to RAS, its axes right, anterior, superior, and cut into axial slices, anterior up, the patient's right
  on the right. Of four axes or more the first volume is read.
- PNG and TIFF of one channel: whole numbers of 16 or 32 bits, or floats, as they are.

What is written has the input's header, except for what is no longer true of it, and says that it is synthetic.
"""

from __future__ import annotations

import copy
import functools
import gzip
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparring.data.decode import quiet
from sparring.data.source import BrokenSample
from sparring.errors import UserError, missing_extra

DICOM = (".dcm", ".dicom")
NIFTI = (".nii.gz", ".nii")
IMAGES = (".png", ".tif", ".tiff")
MAKER = "sparring: synthetic image, not for diagnosis"
MAX_VALUES = 2**31  # of one file

Values = NDArray[np.float32]
Kind = Literal["dicom", "nifti", "image"]


@dataclass(frozen=True)
class Header:
    """What a scan's file says besides its values, for writing others like it.

    kind: of the file. content: a pydicom Dataset without its pixels; affine, nibabel header and shape; or the dtype of
    an image's values.
    """

    kind: Kind
    content: Any


def is_scan_file(path: Path | str) -> bool:
    """Whether a file is DICOM or NIfTI, by its name, or by DICOM's mark where the name has no ending."""
    name = Path(path).name.lower()
    if name.endswith(DICOM + NIFTI):
        return True
    return "." not in name and _marked(Path(path))


def is_deep_image(file: bytes | Path) -> bool:
    """Whether an image file (PNG, TIFF) has one channel of more than eight bits."""
    try:
        with quiet, Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=("PNG", "TIFF")) as image:
            return image.mode.startswith("I") or image.mode == "F"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def read_scan_file(path: Path) -> tuple[Values, Header]:
    """All slices of a scan, float32 (N, H, W) in its own units, and its header.

    N: axial slices of a volume from the feet up, frames of a DICOM file, 1 of an image. Raises BrokenSample for what
    cannot be read, UserError where a library for it is missing.
    """
    name = path.name.lower()
    if name.endswith(NIFTI):
        return _read_nifti(path)
    if name.endswith(IMAGES):
        return _read_image(path)
    return _read_dicom(path)


def decode_scan(data: bytes) -> Values:
    """All slices of a DICOM or NIfTI file from its bytes, float32 (N, H, W), or of a grey image. Raises BrokenSample, UserError."""
    if data[128:132] == b"DICM":
        return _read_dicom(io.BytesIO(data))[0]
    if data[:2] == b"\x1f\x8b" or data[344:347] in (b"n+1", b"n+2"):
        return _read_nifti(data)[0]
    return decode_deep(data)[0]


def read_slice(path: Path, index: int = 0) -> Values:
    """One slice of a scan's file, float32 (H, W). Raises BrokenSample, UserError."""
    try:
        status = path.stat()
    except OSError as error:
        raise BrokenSample(f"cannot be read: {error.strerror}") from error
    # Of a volume each slice is a sample of its own, and they are asked for in order.
    slices = (
        _last(path, status.st_mtime_ns, status.st_size)
        if path.name.lower().endswith(NIFTI)
        else read_scan_file(path)[0]
    )
    if not 0 <= index < len(slices):
        raise BrokenSample(f"has {len(slices)} slices, and none has the number {index}")
    return slices[index]


def count_slices(path: Path) -> int:
    """Axial slices of a NIfTI file, from its header; 1 of any other, and of what cannot be read."""
    if not path.name.lower().endswith(NIFTI):
        return 1
    nibabel = _nibabel()
    try:
        image = nibabel.load(path)
        shape = (*image.shape, 1, 1, 1)[:3]
        axes = nibabel.orientations.io_orientation(image.affine)[:, 0]
        upward = np.flatnonzero(axes == 2)
        return max(1, int(shape[upward[0]])) if len(upward) else 1
    except Exception:  # a damaged header raises nearly anything; reading it will say what
        return 1


def write_scan_file(path: Path, values: Values, header: Header) -> Path:
    """Write what was made of a scan, with the header of the scan it was made from; returns the path.

    values: (N, H, W) in the units that the scan was read in, N as it had slices; H and W may be a multiple of its own,
    and then pixels are said to be as much smaller. The path's ending must be of the header's kind.

    DICOM: uncompressed; new SOP instance and series identifiers (the same ones for the same content; slices of a series
    stay one series), image type DERIVED, the source named. The rescaling of the input is kept where it holds the
    values, and is otherwise set so that 16 bits span them. NIfTI: the input's affine; float32 turned back to the
    input's own axes. Images: rounded and clipped to the input's whole numbers. Raises UserError.
    """
    fits = {"dicom": (*DICOM, ""), "nifti": NIFTI, "image": IMAGES}[header.kind]
    name = path.name.lower()
    if not any(name.endswith(each) if each else "." not in name for each in fits):
        raise UserError(
            f"{path}: a scan is written as what it was read from: end the name in {' or '.join(filter(None, fits))}"
        )
    if not np.isfinite(values).all():
        raise UserError(f"{path}: what was made holds numbers that are not finite; the game has diverged")
    write: Callable[[Path, Values, Any], None]
    write = {"dicom": _write_dicom, "nifti": _write_nifti, "image": _write_image}[header.kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, values, header.content)
    return path


def to_unit(values: Values, window: tuple[float, float]) -> Values:
    """Values in a scan's units, as they are shown to networks: `window` becomes [-1, 1], and what lies outside is clipped."""
    low, high = window
    return np.clip((values - low) * (2 / (high - low)) - 1, -1, 1).astype(np.float32)


def from_unit(images: Values, window: tuple[float, float]) -> Values:
    """What networks made, in [-1, 1], in a scan's units: the window undone."""
    low, high = window
    return (low + (images.astype(np.float64) + 1) * ((high - low) / 2)).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _last(path: Path, time: int, size: int) -> Values:
    return read_scan_file(path)[0]


def _marked(path: Path) -> bool:
    """Whether a file has DICOM's mark behind its preamble."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _read_dicom(file: Path | io.BytesIO) -> tuple[Values, Header]:
    pydicom = _pydicom()
    try:
        dataset = pydicom.dcmread(file)
        if "PixelData" not in dataset:
            raise BrokenSample("is a DICOM file without an image")
        if int(dataset.get("SamplesPerPixel", 1)) != 1:
            raise BrokenSample(f"is a colour picture ({dataset.PhotometricInterpretation}): save it as PNG")
        stored = dataset.pixel_array
        values = _rescaled(stored, dataset)
    except (BrokenSample, UserError):
        raise
    except Exception as error:  # damaged files, and coders that are not installed, raise nearly anything
        raise BrokenSample(" ".join(str(error).split())[:100] or type(error).__name__) from error
    del dataset.PixelData
    return values.reshape(-1, *values.shape[-2:]), Header("dicom", dataset)


def _rescaled(stored: NDArray[Any], dataset: Any) -> Values:
    from pydicom.pixels import apply_modality_lut

    padding = dataset.get("PixelPaddingValue")
    if padding is not None:
        one, other = sorted((int(padding), int(dataset.get("PixelPaddingRangeLimit", padding))))
        outside = (stored >= one) & (stored <= other)
        if outside.any() and not outside.all():
            stored = np.where(outside, stored[~outside].min(), stored)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        stored = sum(_stored_range(dataset)) - stored.astype(np.int64)
    return np.asarray(apply_modality_lut(stored, dataset), np.float32)


def _stored_range(dataset: Any) -> tuple[int, int]:
    """The least and the largest number that a DICOM image can store."""
    bits = int(dataset.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)


def _write_dicom(path: Path, values: Values, header: Any) -> None:
    pydicom = _pydicom()
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    made = copy.deepcopy(header)
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stored = _stored(values, made)
    height, width = values.shape[1:]
    _smaller_pixels(made, height, width)
    made.Rows, made.Columns = height, width
    if len(values) > 1:
        made.NumberOfFrames = len(values)
    for gone in ("PixelPaddingValue", "PixelPaddingRangeLimit", "SmallestImagePixelValue", "LargestImagePixelValue"):
        if gone in made:
            delattr(made, gone)
    made.PixelData = stored.tobytes()
    made["PixelData"].VR = "OW" if made.BitsAllocated > 8 else "OB"

    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    made.SourceImageSequence = Sequence([source])
    made.ImageType = ["DERIVED", "SECONDARY", *list(made.get("ImageType", []))[2:]]
    made.DerivationDescription = MAKER
    made.SeriesDescription = f"{made.get('SeriesDescription', '')} (synthetic)".strip()[:64]
    # Identifiers follow from what they identify, so that the same translation made twice is the same object.
    made.SOPInstanceUID = generate_uid(entropy_srcs=[str(made.SOPInstanceUID), MAKER, _digest(made.PixelData)])
    made.SeriesInstanceUID = generate_uid(entropy_srcs=[str(made.get("SeriesInstanceUID", "")), MAKER])
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.save_as(path, enforce_file_format=True)


def _stored(values: Values, made: Any) -> NDArray[Any]:
    """Whole numbers that stand for `values`, with the rescaling of `made` where these fit, and another otherwise."""
    slope, intercept = float(made.get("RescaleSlope", 1)) or 1.0, float(made.get("RescaleIntercept", 0))
    low, high = _stored_range(made)
    numbers = np.rint((values.astype(np.float64) - intercept) / slope)
    if "ModalityLUTSequence" in made or numbers.min() < low or numbers.max() > high:
        if "ModalityLUTSequence" in made:
            del made.ModalityLUTSequence
        bottom, top = float(values.min()), float(values.max())
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
        # As they are written: DICOM's decimal strings have sixteen characters.
        made.RescaleSlope, made.RescaleIntercept = f"{max(top - bottom, 1e-6) / 65535:.9e}", f"{bottom:.8e}"
        made.RescaleType = made.get("RescaleType", "US")
        low, high = 0, 65535
        numbers = np.rint((values.astype(np.float64) - float(made.RescaleIntercept)) / float(made.RescaleSlope))
        numbers = numbers.clip(low, high)
    if made.PhotometricInterpretation == "MONOCHROME1":
        numbers = low + high - numbers
    kind = "i" if made.PixelRepresentation else "u"
    return numbers.astype(np.dtype(f"<{kind}{made.BitsAllocated // 8}"))


def _smaller_pixels(made: Any, height: int, width: int) -> None:
    """Say that pixels are smaller where there are more of them."""
    if (height, width) != (made.Rows, made.Columns):
        for name in ("PixelSpacing", "ImagerPixelSpacing"):
            if name in made:
                down, across = getattr(made, name)
                setattr(
                    made,
                    name,
                    [f"{float(down) * made.Rows / height:.10g}", f"{float(across) * made.Columns / width:.10g}"],
                )


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _read_nifti(file: Path | bytes) -> tuple[Values, Header]:
    nibabel = _nibabel()
    try:
        if isinstance(file, bytes):
            image = nibabel.Nifti1Image.from_bytes(gzip.decompress(file) if file[:2] == b"\x1f\x8b" else file)
        else:
            image = nibabel.load(file)
        if len(image.shape) < 2 or np.prod(image.shape[:3], dtype=np.int64) > MAX_VALUES:
            raise BrokenSample(f"has the shape {image.shape}, which is no volume of slices")
        first = (slice(None),) * min(3, len(image.shape)) + (0,) * (len(image.shape) - 3)
        volume = np.asarray(image.dataobj[first])
        if volume.dtype.names or np.iscomplexobj(volume):
            raise BrokenSample("holds colours or complex numbers, and scans are grey")
        volume = volume.reshape((*volume.shape, 1)[:3]).astype(np.float32)
        if not np.isfinite(volume).all():
            raise BrokenSample("holds numbers that are not finite")
        turned = nibabel.orientations.apply_orientation(volume, nibabel.orientations.io_orientation(image.affine))
    except (BrokenSample, UserError):
        raise
    except Exception as error:
        raise BrokenSample(" ".join(str(error).split())[:100] or type(error).__name__) from error
    slices = np.ascontiguousarray(turned.transpose(2, 1, 0)[:, ::-1])
    return slices, Header("nifti", (image.affine.copy(), image.header.copy(), volume.shape))


def _write_nifti(path: Path, values: Values, header: Any) -> None:
    nibabel = _nibabel()
    affine, old, shape = header
    to_ras = nibabel.orientations.io_orientation(affine)
    volume = nibabel.orientations.apply_orientation(values[:, ::-1].transpose(2, 1, 0), _inverse(to_ras))
    grown = np.array(shape, np.float64) / np.array(volume.shape)
    new = affine.copy()
    new[:3, :3] = affine[:3, :3] * grown
    # The volume's corner stays where it is, not the middle of its first voxel.
    new[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((grown - 1) / 2)
    fresh = old.copy()
    fresh.set_data_dtype(np.float32)
    fresh.set_slope_inter(1, 0)
    fresh["descrip"] = MAKER.encode()[:79]
    fresh["cal_min"] = fresh["cal_max"] = 0
    image = nibabel.Nifti1Image(np.ascontiguousarray(volume, np.float32), new, fresh)
    nibabel.save(image, path)


def _inverse(orientation: NDArray[Any]) -> NDArray[Any]:
    """The orientation that undoes `orientation`."""
    back = np.zeros_like(orientation)
    for axis, (to, flip) in enumerate(orientation):
        back[int(to)] = (axis, flip)
    return back


def _read_image(path: Path) -> tuple[Values, Header]:
    try:
        return decode_deep(path.read_bytes())
    except OSError as error:
        raise BrokenSample(f"cannot be read: {error.strerror}") from error


def decode_deep(data: bytes) -> tuple[Values, Header]:
    """A PNG or TIFF of one channel from its bytes: float32 (1, H, W), and its header. Raises BrokenSample."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "TIFF")) as image:
            if image.mode not in ("L", "I", "F") and not image.mode.startswith("I;16"):
                raise BrokenSample(f"is no grey image ({image.mode}), where a scan is wanted")
            values = np.asarray(image)
    except BrokenSample:
        raise
    except Exception as error:
        raise BrokenSample(" ".join(str(error).split())[:100] or type(error).__name__) from error
    if not np.isfinite(values).all():
        raise BrokenSample("holds numbers that are not finite")
    whole = values.dtype.kind != "f" and values.min() >= 0 and values.max() <= 65535
    # Some files of 16 bits open as 32.
    deep = np.dtype(np.uint16) if whole and values.itemsize > 1 else values.dtype
    return values.astype(np.float32)[None], Header("image", deep)


def _write_image(path: Path, values: Values, dtype: Any) -> None:
    if len(values) != 1:
        raise UserError(f"{path}: an image holds one slice, and there are {len(values)}")
    if np.dtype(dtype).kind == "f":
        if path.suffix.lower() == ".png":
            raise UserError(f"{path}: a PNG holds no floats: end the name in .tif")
        Image.fromarray(values[0].astype(np.float32)).save(path)
        return
    largest = np.iinfo(dtype).max
    Image.fromarray(np.rint(values[0].astype(np.float64)).clip(0, largest).astype(dtype)).save(path)


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError:
        raise missing_extra("pydicom", "medical", "reading DICOM") from None
    return pydicom


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise missing_extra("nibabel", "medical", "reading NIfTI") from None
    return nibabel
