"""Scans as training data: folders of DICOM and NIfTI files, and the window of intensities that is kept of them.

A window [low, high] is in the units of the files (HU for CT). Within it values are kept in 65,536 steps.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparring.data.built import built, default_folder
from sparring.data.folder import FileSource, files_below
from sparring.data.labelling import Wanted
from sparring.data.labels import label_files
from sparring.data.rasters import Pixels
from sparring.data.scan_files import (
    DICOM,
    NIFTI,
    Values,
    count_slices,
    decode_deep,
    is_deep_image,
    is_scan_file,
    read_slice,
)
from sparring.data.source import BrokenSample, ImageSource
from sparring.errors import UserError

SHARES = (0.5, 99.5)  # percentiles that a window spans where none is given
SAMPLE = 2**24  # values of a whole set that percentiles are taken of
PER_SLICE = 2**14
_SLICE = re.compile(rf"^(.*(?:{'|'.join(map(re.escape, DICOM + NIFTI))}))#(\d+)$", re.IGNORECASE)

Window = tuple[float, float]


class ScanSource(FileSource):
    """Slices of scans that are files: `brain.dcm` (its first frame), `brain.dcm#3`, `volume.nii.gz#17` (an axial slice)."""

    def load(self, index: int) -> NDArray[np.uint8]:
        """Raises BrokenSample: eight bits would need a window of intensities, which a picture has not."""
        raise BrokenSample("is a scan, which --domain translation reads")

    def values(self, index: int) -> Values:
        """A slice in its own units, float32 (H, W). Raises BrokenSample."""
        return read_slice(self.path(index), _parted(self.names[index])[1])

    def raw(self, index: int) -> None:  # type: ignore[override]
        """A slice has no bytes of its own."""

    def path(self, index: int) -> Path:
        """The file that a slice is in."""
        return Path(self.root, _parted(self.names[index])[0])


def has_scans(root: Path) -> bool:
    """Whether there is a DICOM or NIfTI file below a folder."""
    return any(True for _ in files_below(root, lambda path: is_scan_file(path)))


def open_scans(reference: str, root: Path, wanted: Wanted = Wanted()) -> ScanSource:  # noqa: B008 (frozen)
    """Every DICOM and NIfTI file below `root` by name, every axial slice of a volume a sample; other files are passed over.

    Sub-folders are classes as those of pictures are. Raises UserError where there are no scans.
    """
    names: list[str] = []
    stamps: list[tuple[int, int]] = []
    for name, size, time in sorted(files_below(root, lambda path: is_scan_file(path))):
        count = count_slices(root / name)
        names += [f"{name}#{index}" for index in range(count)] if count > 1 else [name]
        stamps += [(size, time)] * count
    if not names:
        raise UserError(f"{reference}: found no scans (looked for {' '.join(DICOM + NIFTI)}); is the path right?")
    return ScanSource(reference, root, names, label_files(reference, names, None, wanted, separator="/"), stamps)


def names_scan(path: str) -> bool:
    """Whether a path in a table is a scan's, by its ending; `#17` behind it names a slice."""
    return without_slice(path).lower().endswith(DICOM + NIFTI)


def without_slice(name: str) -> str:
    """The file that a sample is in, of its name."""
    return _parted(name)[0]


def without_ending(name: str) -> str:
    """A sample's name without the ending of its file; a slice keeps its number."""
    path, index = _parted(name)
    lower = path.lower()
    ending = next((each for each in DICOM + NIFTI if lower.endswith(each)), Path(path).suffix)
    bare = path[: len(path) - len(ending)] if ending else path
    return f"{bare}#{index}" if _SLICE.match(name) else bare


def is_scan_source(source: ImageSource) -> bool:
    """Whether samples are slices of DICOM or NIfTI files, also where the source is a part of another."""
    return isinstance(getattr(source, "whole", source), ScanSource)


def is_scan(source: ImageSource) -> bool:
    """Whether samples have more than eight bits: DICOM, NIfTI, or grey images whose first one that can be read has."""
    if is_scan_source(source):
        return True
    for index in range(min(len(source), 8)):
        try:
            data = source.raw(index)
        except BrokenSample:
            continue
        return data is not None and is_deep_image(data)
    return False


def find_window(source: ImageSource, folder: Path | None = None) -> Window:
    """The intensities between which 99 % of a set of scans lie, found once and then known to the cache.

    Of pixels evenly spread over all slices. Raises UserError where none can be read, or all values are the same.
    """

    def opening(path: Path) -> Window | None:
        try:
            low, high = json.loads((path / "window.json").read_text())
            return float(low), float(high)
        except (OSError, ValueError, TypeError):
            return None

    def build(target: Path) -> None:
        (target / "window.json").write_text(json.dumps(_window(source)))

    return built(folder or default_folder(), source.name, f"{source.fingerprint()[:24]}window", opening, build)


def read_scan(source: ImageSource, index: int, window: Window = (0.0, 65535.0)) -> Pixels:
    """A slice within a window, uint16 (H, W, 1): `low` and less is 0, `high` and more 65535. Raises BrokenSample."""
    return windowed(_values(source, index)[:, :, None], window)


def read_scan_mask(source: ImageSource, index: int) -> Pixels:
    """What is marked in a scan, uint8 (H, W, 1): 255 where it is above 0. Raises BrokenSample."""
    return np.where(_values(source, index) > 0, np.uint8(255), np.uint8(0))[:, :, None]


def read_scan_indices(source: ImageSource, index: int) -> Pixels:
    """A scan that holds class numbers, (H, W, 1). Raises BrokenSample for others."""
    values = _values(source, index)
    if values.min() < 0 or values.max() > 65535 or (values != np.rint(values)).any():
        raise BrokenSample(f"holds {values.min():.6g} to {values.max():.6g}, and classes are whole numbers up to 65535")
    return values.astype(np.uint8 if values.max() < 256 else np.uint16)[:, :, None]


def windowed(values: Values, window: Window) -> NDArray[np.uint16]:
    """Values in their own units in 65,536 steps of a window."""
    low, high = window
    shares = (values.astype(np.float64) - low) / (high - low)
    return np.rint(shares.clip(0, 1) * 65535).astype(np.uint16)


def _values(source: ImageSource, index: int) -> Values:
    if isinstance(source, ScanSource):
        return source.values(index)
    if is_scan_source(source):  # a part of one
        whole: ScanSource = source.whole  # type: ignore[attr-defined]
        return whole.values(source.numbers[index])  # type: ignore[attr-defined]
    data = source.raw(index)
    if data is None:
        raise BrokenSample("is no file of its own")
    return decode_deep(data)[0][0]


def _window(source: ImageSource) -> Window:
    each = max(16, min(PER_SLICE, SAMPLE // max(1, len(source))))
    found, reason = [], ""
    for index in range(len(source)):
        try:
            values = _values(source, index).ravel()
        except BrokenSample as error:
            reason = reason or f" ({source.names[index]}: {error})"
            continue
        found.append(values[np.linspace(0, len(values) - 1, min(each, len(values))).astype(np.int64)])
    if not found:
        raise UserError(f"{source.name}: none of its {len(source)} scans can be read{reason}")
    low, high = _spanned(np.concatenate(found))
    if not low < high:
        raise UserError(
            f"{source.name}: nearly all values are {low:.6g}: say data.window=[LOW, HIGH] in the scans' units"
        )
    return low, high


def _spanned(values: Values) -> Window:
    low, high = np.percentile(values, SHARES)
    return float(low), float(high)


def _parted(name: str) -> tuple[str, int]:
    """The file of a sample, and the number of its slice."""
    found = _SLICE.match(name)
    return (found[1], int(found[2])) if found else (name, 0)
