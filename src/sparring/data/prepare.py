"""Write a data set anew: resized, cropped, converted, cleaned, in a format that reads fast. The source is never changed.

Whatever cleaning leaves out is copied into a quarantine beside the result, with the reasons: nothing is deleted.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparring.data import decode
from sparring.data.check import DataReport, check_images
from sparring.data.checks.findings import Finding
from sparring.data.checks.threads import in_threads
from sparring.data.labelling import Vectors
from sparring.data.labels import sort_classes
from sparring.data.naming import file_stems
from sparring.data.shards import write_shards
from sparring.data.source import BrokenSample, ImageSource
from sparring.data.tar_shards import Encoded, write_tars
from sparring.errors import UserError, nearest
from sparring.files import flush_folder, whole_folder, write_json

Format = Literal["folder", "npz", "shards", "tar"]
Progress = Callable[[int, int], None]
Value = TypeVar("Value")

LABEL_TABLE = "labels.csv"  # beside the images of a folder whose labels are no classes
_MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


@dataclass
class PrepareResult:
    """What was written.

    out: the new data set; written: its images.
    removed: kind of finding -> images left out by cleaning; quarantine: where copies of them lie, None without any.
    unreadable: name -> why, for images that could not be read while writing, and are left out.
    report: what the cleaning found, None without cleaning.
    """

    out: Path
    format: Format
    written: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    quarantine: Path | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    report: DataReport | None = None

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "out": str(self.out),
            "format": self.format,
            "written": self.written,
            "removed": self.removed,
            "quarantine": str(self.quarantine) if self.quarantine else None,
            "unreadable": self.unreadable,
            "skipped_checks": self.report.skipped if self.report else {},
        }


def prepare_images(
    source: ImageSource,
    out: Path,
    *,
    size: int | tuple[int, int] | None = None,
    fit: decode.Fit = "crop",
    channels: int | None = None,
    clean: bool = False,
    labels: bool = True,
    format: Format = "folder",
    shard_mb: int = 256,
    progress: Progress | None = None,
    seed: int = 0,
) -> PrepareResult:
    """Write the images of `source` as a new data set at `out`, whole or not at all.

    size: of the new images, a side or (H, W); None keeps theirs. fit: "crop" fills it, "pad" adds black, "stretch".
    channels: 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA; None keeps theirs.
    clean: leave out what `check_images` says to remove; copies go to `<out>-quarantine/<kind>/`, the reasons to
    `findings.json` there. labels: whether that takes in what is probably mislabelled; without, labels are not checked.
    format: "folder" (PNG files, in class folders where labelled), "npz" (one file; takes the memory of the whole set,
    as reading it does), "shards" (memory-mapped, for sets of any size) or "tar" (WebDataset shards of PNG, in random
    order, to stream from anywhere); npz and shards need images of one shape.
    shard_mb: MiB of a tar at most.
    progress: called with (images done, images to do); cleaning goes through all images once more.
    Raises UserError for an `out` that exists, an impossible setting, and where no image is left.
    """
    target_size = (size, size) if isinstance(size, int) else size
    _check_settings(source, out, target_size, fit, channels, format)
    quarantine = out.with_name(out.name + "-quarantine")
    result = PrepareResult(out, format)
    total = len(source) * (2 if clean else 1)
    removed: dict[int, Finding] = {}
    if clean:
        _refuse_existing(quarantine)
        checks = ["blank", "exact_duplicates", "near_duplicates", *(["labels"] if labels else [])]
        during = (lambda done, _: progress(done, total)) if progress else None
        result.report = check_images(source, checks=checks, progress=during, seed=seed)
        for finding in result.report.findings:
            if finding.remove:
                removed.setdefault(finding.index, finding)
        result.removed = dict(Counter(finding.kind for finding in removed.values()))
    kept = [index for index in range(len(source)) if index not in removed]
    if format == "tar" and not source.sequential:
        # A training mixes a few shards at a time: each should be a fair part of the set, and not one class.
        kept = np.random.default_rng(seed).permutation(kept).tolist()

    def convert(index: int) -> NDArray[np.uint8]:
        image = source.load(index)
        image = image if target_size is None else decode.fit(image, target_size, fit)
        return image if channels is None else decode.channels(image, channels)

    def stream(work: Callable[[int], Value]) -> Iterator[tuple[int, Value]]:
        """Do `work` on every image that stays, in parallel; broken ones are noted and passed over."""

        def guarded(index: int) -> Value | BrokenSample:
            try:
                return work(index)
            except BrokenSample as problem:
                return problem

        threads = 1 if source.sequential else None
        for done, (index, value) in enumerate(zip(kept, in_threads(guarded, kept, threads=threads), strict=True), 1):
            if isinstance(value, BrokenSample):
                result.unreadable[source.names[index]] = str(value)
            else:
                result.written += 1
                yield index, value
            if progress is not None:
                progress(total - len(kept) + done, total)

    with _published(out, format) as target:
        if format == "folder":
            _write_folder(target, source, kept, convert, stream)
        elif format == "npz":
            _write_npz(target, source, len(kept), stream(convert))
        elif format == "tar":
            _write_tars(target, source, kept, convert, stream, shard_mb * 2**20)
        else:
            written: list[str] = []
            write_shards(target, _same_shape(source, stream(convert), written), written, source.name)
        if not result.written:
            why = next(iter({**result.unreadable, **{f.name: f.reason for f in removed.values()}}.items()))
            raise UserError(f"{source.name}: no image is left to write ({why[0]}: {why[1]}, …)")
        if removed:
            _write_quarantine(quarantine, source, removed)
            result.quarantine = quarantine
    return result


def _write_folder(
    folder: Path,
    source: ImageSource,
    kept: Sequence[int],
    convert: Callable[[int], NDArray[np.uint8]],
    stream: Callable[[Callable[[int], None]], Iterator[tuple[int, None]]],
) -> None:
    stems = file_stems(source, kept)

    def save(index: int) -> None:
        _save_png(convert(index), folder / f"{stems[index]}.png")

    written = [index for index, _ in stream(save)]
    if source.vectors is not None:
        _write_label_table(folder / LABEL_TABLE, source.vectors, [(f"{stems[index]}.png", index) for index in written])


def _write_label_table(file: Path, vectors: Vectors, written: Sequence[tuple[str, int]]) -> None:
    """A CSV file of each image's path and its attributes or values; `data.source` may name it."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", *vectors.names])
    table.writerows([path, *(f"{number:.9g}" for number in vectors.rows[index].tolist())] for path, index in written)
    file.write_text(text.getvalue(), encoding="utf-8")


def _write_tars(
    folder: Path,
    source: ImageSource,
    kept: Sequence[int],
    convert: Callable[[int], NDArray[np.uint8]],
    stream: Callable[[Callable[[int], Encoded]], Iterator[tuple[int, Encoded]]],
    shard_bytes: int,
) -> None:
    def encode(index: int) -> Encoded:
        image = convert(index)
        label = source.labels[index] if source.labels else None
        return Encoded(_png(image), "png", image.shape, label)

    classes = sort_classes(source.labels[index] for index in kept) if source.labels else []
    images = (image for _, image in stream(encode))
    first = next(images, None)
    if first is not None:  # otherwise the caller says why none is left
        write_tars(folder, itertools.chain([first], images), classes, shard_bytes=shard_bytes)


def _write_npz(file: Path, source: ImageSource, count: int, images: Iterator[tuple[int, NDArray[np.uint8]]]) -> None:
    labels: list[str] = []
    rows: list[NDArray[np.float32]] = []
    everything = np.empty(0, np.uint8)
    filled = 0
    for image in _same_shape(source, images, labels, rows):
        if not filled:
            everything = np.empty((count, *image.shape), np.uint8)
        everything[filled] = image
        filled += 1
    arrays: dict[str, NDArray[Any]] = {"images": everything[:filled]}
    if labels:
        classes = sort_classes(labels)
        numbers = {label: number for number, label in enumerate(classes)}
        arrays["labels"] = np.array([numbers[label] for label in labels], np.int64)
        arrays["classes"] = np.array(classes)
    if source.vectors is not None:
        arrays["labels"] = np.stack(rows)
        arrays["classes"] = np.array(source.vectors.names)
    with file.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _same_shape(
    source: ImageSource,
    images: Iterator[tuple[int, NDArray[np.uint8]]],
    labels: list[str],
    rows: list[NDArray[np.float32]] | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """The images; their labels are appended to `labels`, or `rows` (K,). Raises UserError where one has another shape."""
    shape: tuple[int, ...] = ()
    for index, image in images:
        shape = shape or image.shape
        if image.shape != shape:
            differ = "sizes: give a size" if image.shape[:2] != shape[:2] else "channels: give a number of channels"
            seen = " and ".join("×".join(map(str, one)) for one in (shape, image.shape))
            raise UserError(f"{source.name}: images of {seen} have different {differ}, or write them as a folder")
        if source.labels:
            labels.append(source.labels[index])
        if rows is not None and source.vectors is not None:
            rows.append(source.vectors.rows[index])
        yield image


def _write_quarantine(quarantine: Path, source: ImageSource, removed: dict[int, Finding]) -> None:
    """Copies of what was left out, as it was, below the kind of finding; `findings.json` says why and where."""
    stems = file_stems(source, list(removed))
    records = []
    with whole_folder(quarantine) as folder:
        for index, finding in removed.items():
            copy = _copy(source, index, folder, f"{finding.kind}/{stems[index]}")
            records.append({**finding.plain(), "file": copy})
        write_json(folder / "findings.json", records)


def _copy(source: ImageSource, index: int, folder: Path, stem: str) -> str | None:
    """Copy one image below `folder`, byte for byte where it has bytes; returns its relative path, None if it has none."""
    try:
        data = source.raw(index)
        if data is None:
            _save_png(source.load(index), folder / f"{stem}.png")
            return f"{stem}.png"
    except BrokenSample:  # not even its bytes can be had: a link that leads nowhere, say
        return None
    suffix = Path(source.names[index]).suffix.lower()
    if suffix not in decode.EXTENSIONS:
        suffix = next((known for magic, known in _MAGIC.items() if data.startswith(magic)), ".bin")
    file = folder / f"{stem}{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return f"{stem}{suffix}"


def _save_png(image: NDArray[np.uint8], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_png(image))


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else np.ascontiguousarray(image)).save(buffer, "PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def _published(out: Path, format: Format) -> Iterator[Path]:
    """A temporary folder or file to write to, which becomes `out` on success and is removed on any error."""
    if format != "npz":
        with whole_folder(out) as folder:
            yield folder
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(out)
        flush_folder(out.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _check_settings(
    source: ImageSource, out: Path, size: tuple[int, int] | None, fit: str, channels: int | None, format: str
) -> None:
    for what, value, known in (("fit", fit, get_args(decode.Fit)), ("format", format, get_args(Format))):
        if value not in known:
            raise UserError(f"there is no {what} {value!r}{nearest(value, known)}; there are {', '.join(known)}")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"size {size} is not a side or a (height, width) of at least 1 pixel")
    if channels not in (None, 1, 2, 3, 4):
        raise UserError(f"channels {channels} is not 1 (grey), 2 (grey+alpha), 3 (RGB) or 4 (RGBA)")
    kind = source.vectors.kind if source.vectors is not None else "classes"
    if kind != "classes" and format not in ("npz", "folder"):
        raise UserError(f"{out}: {format} hold classes, and the labels are {kind}: use --format npz or folder")
    if not len(source):
        raise UserError(f"{source.name}: found no images to prepare; is the path right?")
    if format == "npz" and out.suffix.lower() != ".npz":
        raise UserError(f"{out}: an npz data set is one file; name it {out.name}.npz")
    _refuse_existing(out)
    origin = Path(source.name).expanduser()
    if origin.is_dir() and out.resolve().is_relative_to(origin.resolve()):
        raise UserError(f"{out}: lies inside the data it is made from; choose a folder outside {source.name}")


def _refuse_existing(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise UserError(f"{out}: exists already, and is not overwritten; choose another name or remove it")
