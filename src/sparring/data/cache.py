"""A source decoded once: every image at one size in one memory-mapped file.

A cache is a folder under `$SPARRING_CACHE` or `~/.cache/sparring`, named by a digest of the content and the settings:

    images.npy      uint8 (N, C, H, W)
    labels.npy      where there are labels: numbers int64 (N,), or vectors float32 (N, K) in the data's units
    names.json      the names of the N images
    manifest.json   shape, class names, the broken images with their reasons, settings
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.data.built import built, default_folder
from sparring.data.convert import Progress, convert
from sparring.data.decode import Fit
from sparring.data.labels import sort_classes
from sparring.data.source import ImageSource
from sparring.errors import UserError, nearest

FORMAT = 1  # raise it when the same source and settings would give other pixels: old caches are then left alone


@dataclass
class ImageCache:
    """Decoded images.

    images: uint8 (N, C, H, W), memory-mapped copy-on-write (writing to it never reaches the disk).
    labels: int64 (N,), numbers into `classes`, or float32 (N, K) where `kind` is none; None without labels.
    classes: the names of the labels, in order.
    kind: `classes`, or what the vectors are. note: what of the labels is not used, and why.
    broken: (name, reason) of each image that could not be read.
    fingerprint: hexadecimal digest of content and settings.
    """

    folder: Path
    images: NDArray[np.uint8]
    labels: NDArray[Any] | None
    classes: tuple[str, ...]
    broken: list[tuple[str, str]]
    fingerprint: str
    kind: str = "classes"
    note: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def names(self) -> list[str]:
        """The name of each image, as its source gives it."""
        return list(json.loads((self.folder / "names.json").read_text()))


def build_cache(
    source: ImageSource,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    fit: Fit = "crop",
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    labels: str = "auto",
    label_columns: Sequence[str] | None = None,
    folder: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ImageCache:
    """Decode a source, or open what an earlier start decoded.

    size: (H, W); None: as the images are, which must then all have one size.
    channels: 1 to 4; None: 1 where all images are grey, 2 where they are grey and any has alpha, 3 where any has
        colour, 4 where any has colour and any has alpha.
    fit: see `sparring.data.decode.fit`. classes: keep only these. limit: keep so many at most, chosen at random (the
        same ones every time) and left in their order; broken ones count.
    labels, label_columns: what the source was opened with. folder: where caches live. workers: processes; None: one for each core. progress: called with (done, all) images.

    Broken images are skipped and named in `ImageCache.broken`. The folder appears whole or not at all; processes that
    build the same cache at the same time wait for each other. One that is damaged on disk is built again.
    Raises UserError where no image can be read, sizes differ and none is asked for, or the disk is full.
    """
    root = folder or default_folder()
    settings: dict[str, Any] = {
        "format": FORMAT,
        "size": list(size) if size else None,
        "channels": channels,
        "fit": fit if size else None,
        "classes": sort_classes(classes) if classes is not None else None,
        "limit": limit,
    }
    # A source's content includes its labels; but some are told apart only when they are opened.
    settings |= {} if labels == "auto" else {"labels": labels}
    settings |= {} if label_columns is None else {"label_columns": list(label_columns)}
    content = f"{source.fingerprint()}{json.dumps(settings, sort_keys=True)}"
    key = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()

    def build(folder: Path) -> None:
        _build(source, _choose(source, settings["classes"], limit), settings, folder, workers, progress)

    return built(root, source.name, key, lambda path: _open(path, key), build)


def _open(path: Path, key: str) -> ImageCache | None:
    """The cache at `path`, or None where there is none or it is damaged."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        # Copy-on-write: torch warns about arrays that it could not write to.
        images = np.load(path / "images.npy", mmap_mode="c", allow_pickle=False)
        size = (path / "images.npy").stat().st_size
        labels = np.load(path / "labels.npy", allow_pickle=False) if manifest["classes"] else None
        whole = images.dtype == np.uint8 and list(images.shape) == manifest["shape"] and size == manifest["bytes"]
        kind = str(manifest.get("label_kind", "classes"))
        expected = (len(images),) if kind == "classes" else (len(images), len(manifest["classes"]))
        if not whole or (labels is not None and labels.shape != expected) or not (path / "names.json").is_file():
            return None
        broken = [(str(name), str(reason)) for name, reason in manifest["broken"]]
        note = str(manifest.get("note", ""))
        return ImageCache(path, images, labels, tuple(manifest["classes"]), broken, key, kind, note)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _choose(source: ImageSource, classes: list[str] | None, limit: int | None) -> NDArray[np.int64]:
    """The indices of the images to keep, ascending."""
    chosen = np.arange(len(source))
    if classes is not None:
        if source.vectors is not None:
            raise UserError(f"{source.name}: its labels are {source.vectors.kind}, not classes: leave out data.classes")
        if not source.labels:
            raise UserError(f"{source.name}: has no labels, so no classes can be chosen: leave out data.classes")
        known = sort_classes(source.labels)
        for name in classes:
            if name not in known:
                shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
                raise UserError(f"{source.name}: has no class {name!r}{nearest(name, known)}; there are {shown}")
        chosen = np.flatnonzero(np.isin(np.array(source.labels, dtype=object), classes))
    if limit is not None and limit < len(chosen):
        chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:limit])
    return chosen


def _build(
    source: ImageSource,
    chosen: NDArray[np.int64],
    settings: dict[str, Any],
    folder: Path,
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Decode the images `chosen` into `folder`."""
    file = folder / "images.npy"
    size, count, how = settings["size"], settings["channels"], settings["fit"]
    done = convert(source, chosen, file, size=size, channels=count, fit=how, workers=workers, progress=progress)
    classes = sort_classes(source.labels[index] for index in chosen) if source.labels else []
    if classes:
        number = {name: position for position, name in enumerate(classes)}
        ids = np.array([number[source.labels[index]] for index in done.kept], np.int64)
        np.save(folder / "labels.npy", ids, allow_pickle=False)
    if source.vectors is not None:
        classes = list(source.vectors.names)
        np.save(folder / "labels.npy", source.vectors.rows[done.kept], allow_pickle=False)
    # ASCII JSON, so that names which are no text (undecodable bytes of a file system) survive.
    (folder / "names.json").write_text(json.dumps([source.names[index] for index in done.kept]))
    manifest = {
        "source": source.name,
        "shape": [len(done.kept), *done.shape],
        "bytes": file.stat().st_size,
        "classes": classes,
        "label_kind": source.vectors.kind if source.vectors is not None else "classes",
        "note": source.note,
        "broken": done.broken,
        "content": source.fingerprint(),
        "settings": settings,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
