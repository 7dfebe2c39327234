"""Scans through a game: DICOM, NIfTI and 16-bit images in, and out again in their own units, slice by slice.

The windows are those of the training: its intensities became [-1, 1], and what is made of these becomes intensities again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparring.core.game import DataSpec
from sparring.data.decode import channels
from sparring.data.scan_files import (
    DICOM,
    NIFTI,
    Values,
    decode_scan,
    from_unit,
    is_deep_image,
    is_scan_file,
    read_scan_file,
    to_unit,
    write_scan_file,
)
from sparring.data.scans import windowed
from sparring.data.source import BrokenSample
from sparring.domains.translation.inputs import Holes, Inputs, LabelMaps, Stored
from sparring.domains.translation.whole import WholePictures, as_bytes

Window = tuple[float, float]
Write = Callable[[NDArray[np.uint8], Path], Path]
DEEP = (".png", ".tif", ".tiff")


class Scans:
    """The scans that a game takes, and what it makes of them.

    spec: of the data that the game was trained on. backwards: from the side of outputs to that of inputs.
    """

    def __init__(self, spec: DataSpec, inputs: Inputs, *, backwards: bool) -> None:
        windows: dict[str, Any] = spec.extra.get("windows", {})
        # A game that makes its inputs of its outputs has one side.
        sides = ("input", "output") if spec.extra.get("input") else ("output", "output")
        taken, made = reversed(sides) if backwards else sides
        self.inputs = inputs
        self.taken: Window | None = windows.get(taken)
        self.made: Window | None = windows.get(made)

    def takes(self, path: Path) -> bool:
        """Whether a file is to be read as a scan: one by its kind, or a 16-bit image where the training's were scans."""
        if is_scan_file(path):
            return True
        return self.taken is not None and path.suffix.lower() in DEEP and is_deep_image(path)

    def translate(
        self, path: Path, target: Path, whole: WholePictures, seed: int, write: Write, mask: bytes | None = None
    ) -> list[Path]:
        """Write what becomes of a scan, as a scan where the training's outputs were; otherwise a picture a slice.

        mask: of games that paint where one says: a file with as many slices, above 0 where there is something to do.
        What such a game leaves as it is keeps its intensities, those beyond the window too.
        Raises BrokenSample for what cannot be read, or a game that was not trained on scans.
        """
        values, header = read_scan_file(path)
        holes = self._holes(mask, values.shape)
        stored = (self._stored(each, hole) for each, hole in zip(values, holes, strict=True))
        if self.made is None:
            bare = _bare(target)
            names = [bare] if len(values) == 1 else [f"{bare}-{number:04d}" for number in range(len(values))]
            return [
                write(whole.translate(each, seed), target.with_name(f"{name}.png"))
                for name, each in zip(names, stored, strict=True)
            ]
        slices = [whole.translate(each, seed, as_floats)[:, :, 0] for each in stored]
        made = from_unit(np.stack(slices).clip(-1, 1), self.made)
        if isinstance(self.inputs, Holes):
            shown = from_unit(to_unit(values, self.made), self.made)
            step = (self.made[1] - self.made[0]) / 65535
            made = np.where(np.abs(made - shown) <= step, values, made)
        temporary = target.with_name(
            f".{os.getpid()}.{target.name}" if "." in target.name else f"{target.name}{os.getpid()}"
        )
        try:
            write_scan_file(temporary, made, header)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return [target]

    def deep(self, made: Tensor) -> NDArray[Any]:
        """Outputs as the values of an image file: 16 bits where the training's were scans and grey, bytes otherwise."""
        if self.made is None or made.shape[0] != 1:
            return as_bytes(made)
        deep: NDArray[np.uint16] = np.rint((as_floats(made).astype(np.float64).clip(-1, 1) + 1) * 32767.5).astype(
            np.uint16
        )
        return deep

    def _holes(self, mask: bytes | None, shape: tuple[int, ...]) -> Sequence[NDArray[np.bool_] | None]:
        """Where something is to be painted in each slice; None for games that take no masks."""
        if not isinstance(self.inputs, Holes):
            return [None] * shape[0]
        if mask is None:
            raise BrokenSample("is a scan, and nothing says where to paint in it: give --mask")
        marked = decode_scan(mask) > 0
        if marked.shape != shape:
            raise BrokenSample(
                f"has {shape[0]} slices of {shape[2]}×{shape[1]}, and its mask {len(marked)} of {marked.shape[2]}×{marked.shape[1]}"
            )
        return list(marked)

    def _stored(self, values: Values, hole: NDArray[np.bool_] | None) -> Stored:
        """A slice (H, W) as a stored input."""
        if isinstance(self.inputs, LabelMaps):
            if self.inputs.facts["edges"]:
                raise BrokenSample("is a scan, and the game was trained with maps of instances")
            if values.min() < 0 or values.max() > 65535 or (values != np.rint(values)).any():
                raise BrokenSample(f"holds {values.min():.6g} to {values.max():.6g}, and classes are whole numbers")
            return self.inputs.known(values.astype(np.uint16)[:, :, None])
        if self.taken is None:
            raise BrokenSample("is a scan, and the game was trained on pictures: no window of intensities is known")
        grey: Stored = windowed(values, self.taken)[:, :, None]
        whole = channels(grey, self.inputs.count)
        if hole is None:
            return whole
        return np.concatenate([whole, np.where(hole, np.uint16(65535), np.uint16(0))[:, :, None]], axis=2)


def as_floats(made: Tensor) -> NDArray[np.float32]:
    """Outputs (C, h, w) as they are, (h, w, C)."""
    values: NDArray[np.float32] = made.permute(1, 2, 0).numpy().copy()
    return values


def _bare(path: Path) -> str:
    """A file's name without its ending."""
    ending = next((each for each in DICOM + NIFTI if path.name.lower().endswith(each)), path.suffix)
    return path.name[: len(path.name) - len(ending)] if ending else path.name
