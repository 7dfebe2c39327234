"""Scans as sides of a translation: which window of intensities each side has, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sparring.data.rasters import Reader, read_image, read_indices, read_mask
from sparring.data.scans import (
    Window,
    find_window,
    is_scan,
    is_scan_source,
    read_scan,
    read_scan_indices,
    read_scan_mask,
)
from sparring.data.source import ImageSource

Windows = Window | dict[Literal["input", "output"], Window] | None
"""`data.window`: of all scans, of one side or of each, or to be found in the data."""


def check_windows(windows: Windows) -> Windows:
    """The same. Raises ValueError for a window that is none."""
    for low, high in windows.values() if isinstance(windows, dict) else [windows] if windows else []:
        if not low < high:
            raise ValueError(f"a window goes from low to high, and [{low:g}, {high:g}] does not")
    return windows


def window_of(
    role: str, source: ImageSource, windows: Windows, known: Mapping[str, Any] | None, folder: Path | None
) -> Window:
    """The window of a side: the one that the game was trained with, or that the recipe says, or that the data has.

    known: `spec.extra` of the data that a game was trained on. folder: of the cache. Raises UserError.
    """
    trained = (known or {}).get("windows", {}).get(role)
    said = windows.get(role) if isinstance(windows, dict) else windows  # type: ignore[call-overload]
    low, high = trained or said or find_window(source, folder)
    return float(low), float(high)


def scan_reader(reader: Reader, source: ImageSource) -> Reader:
    """What reads of a source of scans what `reader` reads of pictures."""
    if reader is read_image:
        return read_scan if is_scan(source) else reader
    if is_scan_source(source):
        return {read_indices: read_scan_indices, read_mask: read_scan_mask}[reader]
    return reader
