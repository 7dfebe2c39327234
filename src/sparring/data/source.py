"""A source: named samples somewhere, not yet decoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparring.data.labelling import Vectors


class BrokenSample(Exception):  # noqa: N818  (an event that is counted and named, never fatal)
    """A sample that cannot be read; `str()` says why in a few words."""


class ImageSource(ABC):
    """Images somewhere: a folder, an archive, an array file, a hub.

    name: what the user passed.
    names: one for each image, as a user would look for it (a path, `archive.zip:cats/1.png`, `digits[17]`).
    labels: one for each image, or empty where the source has no labels, or these are no classes.
    vectors: attributes, values or shares of classes of each image, or None.
    note: what of the labels is not used, and why; empty where there is nothing to say.
    sequential: reading out of order is slow (a compressed tar): go through it in order, in one process.
    """

    name: str
    names: list[str]
    labels: list[str]
    vectors: Vectors | None = None
    note: str = ""
    sequential: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def load(self, index: int) -> NDArray[np.uint8]:
        """Decode one image: uint8 (H, W, C), C in 1 (grey) 2 (grey+alpha) 3 (RGB) 4 (RGBA). Raises BrokenSample.

        Safe to call from several threads and, after a fork or a pickle, from several processes.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """A short hexadecimal digest of the content (names, sizes, times or bytes), the key of caches."""

    def raw(self, index: int) -> bytes | None:
        """The encoded bytes of one image, or None where the source holds arrays."""
        return None

    def path(self, index: int) -> Path | None:
        """The file of one image, or None where it is not a file of its own."""
        return None
