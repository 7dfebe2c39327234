"""The fast format: a folder of .npy files of bounded size, read by memory mapping, with `shards.json` that lists them.

- `shards.json`: format, version, images, shape [H, W, C], files [{name, images, digest}], labels ("labels.npy" or null),
  classes, source (where the images came from)
- `images-00000.npy` …: uint8 (n, H, W, C)
- `labels.npy`: int64 (images,), places in `classes`
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.data.labels import sort_classes
from sparring.data.source import BrokenSample, ImageSource
from sparring.errors import UserError
from sparring.files import write_json

MANIFEST = "shards.json"
SHARD_BYTES = 256 * 2**20
_FORMAT, _VERSION = "sparring-shards", 1


class ShardSource(ImageSource):
    """Images in memory-mapped shards: opening is instant, and what is read stays in the system's cache.

    folder: where `shards.json` lies. files: name and number of images of each shard. shape: (H, W, C) of every image.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        files: list[tuple[str, int]],
        shape: tuple[int, int, int],
        labels: list[str],
        fingerprint: str,
    ) -> None:
        self.name, self.folder, self.labels, self.shape = name, folder, labels, shape
        self._files = [file for file, _ in files]
        self._ends = np.cumsum([count for _, count in files]).tolist()
        self.names = [f"{name}[{index}]" for index in range(self._ends[-1])]
        self._fingerprint = fingerprint
        self._maps: dict[int, NDArray[np.uint8]] = {}

    def load(self, index: int) -> NDArray[np.uint8]:
        """One image, uint8 (H, W, C), a copy. Raises BrokenSample where its shard is damaged."""
        if index < 0:
            index += len(self)
        shard = bisect_right(self._ends, index)
        start = self._ends[shard - 1] if shard else 0
        if shard not in self._maps:
            self._maps[shard] = self._map(shard, self._ends[shard] - start)
        return np.array(self._maps[shard][index - start])

    def fingerprint(self) -> str:
        """Of `shards.json`, which holds a digest of every shard."""
        return self._fingerprint

    def _map(self, shard: int, count: int) -> NDArray[np.uint8]:
        try:
            images: NDArray[np.uint8] = np.load(self.folder / self._files[shard], mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BrokenSample(f"{self._files[shard]} cannot be read: {' '.join(str(error).split())[:80]}") from error
        if images.dtype != np.uint8 or images.shape != (count, *self.shape):
            raise BrokenSample(f"{self._files[shard]} does not hold what {MANIFEST} says")
        return images

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # a pickled memory map would carry its content


def is_shards(folder: Path) -> bool:
    """Whether a folder is one of shards."""
    return (folder / MANIFEST).is_file()


def open_shards(reference: str, folder: Path) -> ShardSource:
    """Open a folder of shards. Raises UserError where `shards.json` or the labels are damaged, or a shard is missing."""
    text = (folder / MANIFEST).read_bytes()
    try:
        manifest = json.loads(text)
        if manifest["format"] != _FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}")
        if manifest["version"] != _VERSION:
            raise UserError(
                f"{reference}: shards of version {manifest['version']}; update sparring, or prepare them again"
            )
        files = [(str(file["name"]), int(file["images"])) for file in manifest["files"]]
        height, width, channels = (int(length) for length in manifest["shape"])
        labels = _read_labels(folder, manifest, sum(count for _, count in files))
        if not files or any(count < 1 or Path(name).name != name for name, count in files):
            raise ValueError("its list of files makes no sense")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:80]
        raise UserError(
            f"{reference}: {MANIFEST} or its labels are damaged ({reason}); prepare the data again"
        ) from error
    missing = [name for name, _ in files if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{reference}: {missing[0]} is missing; copy the folder again, whole")
    fingerprint = hashlib.blake2b(text, digest_size=16).hexdigest()
    return ShardSource(reference, folder, files, (height, width, channels), labels, fingerprint)


def write_shards(
    folder: Path,
    images: Iterable[NDArray[np.uint8]],
    labels: Iterable[str],
    source: str,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Write images (H, W, C) of one shape as shards into an existing folder; returns their number.

    labels: one for each image, or none; they are taken after the images, so both may come from one stream.
    shard_bytes: the size of a shard at most (but one image at least); one shard is held in memory.
    """
    files: list[dict[str, Any]] = []
    shape: tuple[int, ...] = ()
    buffer = np.empty(0, np.uint8)
    filled = 0

    def flush() -> None:
        name = f"images-{len(files):05d}.npy"
        full = buffer[:filled]
        np.save(folder / name, full)
        digest = hashlib.blake2b(full.data, digest_size=16).hexdigest()
        files.append({"name": name, "images": filled, "digest": digest})

    for image in images:
        if not shape:
            shape = image.shape
            buffer = np.empty((max(1, shard_bytes // image.nbytes), *shape), np.uint8)
        if filled == len(buffer):
            flush()
            filled = 0
        buffer[filled] = image
        filled += 1
    if filled:
        flush()
    texts = list(labels)
    classes = sort_classes(texts)
    if texts:
        numbers = {label: number for number, label in enumerate(classes)}
        np.save(folder / "labels.npy", np.array([numbers[label] for label in texts], np.int64))
    count = sum(file["images"] for file in files)
    manifest = {"format": _FORMAT, "version": _VERSION, "images": count, "shape": list(shape), "files": files}
    manifest |= {"labels": "labels.npy" if texts else None, "classes": classes, "source": source}
    # The labels are part of the fingerprint, which is that of this file alone.
    manifest["labels_digest"] = hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()
    write_json(folder / MANIFEST, manifest)
    return count


def _read_labels(folder: Path, manifest: dict[str, Any], count: int) -> list[str]:
    if manifest["labels"] is None:
        return []
    if Path(manifest["labels"]).name != manifest["labels"]:
        raise ValueError("its labels lie elsewhere")
    numbers = np.load(folder / manifest["labels"], allow_pickle=False)
    if numbers.shape != (count,) or numbers.min() < 0:
        raise ValueError(f"labels of shape {numbers.shape} for {count} images")
    return [str(manifest["classes"][number]) for number in numbers.tolist()]
