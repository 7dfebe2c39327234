"""Scans: images of more than eight bits, and the intensities that are shown as black and white."""

from __future__ import annotations

from sparring.data.rasters import Reader
from sparring.data.source import ImageSource


def is_scan(source: ImageSource) -> bool:
    """Whether the first image has more than eight bits a channel."""
    return False


def read_scan(window: tuple[float, float] | None) -> Reader:
    """A reader of scans."""
    raise NotImplementedError
