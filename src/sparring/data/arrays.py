"""Images that come as arrays: scikit-learn's digits, .npy and .npz files, MNIST-style IDX files.

How numbers become pixels: bytes (or other integers in 0..255) as they are, booleans as 0 and 255; floats are taken as
[-1, 1] where any is negative and as [0, 1] otherwise. Anything else is an error, never stretched silently.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.data.archive import stamp_file
from sparring.data.labelling import Labelling, Wanted, label_by_array, label_by_columns, label_by_texts
from sparring.data.labels import read_columns
from sparring.data.source import BrokenSample, ImageSource
from sparring.errors import UserError

IMAGE_KEYS = ("data", "images", "x", "x_train", "train_images", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "y_train", "train_labels", "targets")
CLASS_KEY = "classes"  # names of classes, which whole-number labels count from 0
SMALL = 64 * 2**20  # bytes up to which an array is hashed whole

_DAMAGE = (OSError, EOFError, ValueError, KeyError, struct.error, zlib.error, zipfile.BadZipFile, MemoryError)


class ArraySource(ImageSource):
    """Images in an array (N, H, W, C), which may be memory-mapped.

    lowest: the smallest value of floats, which says whether they are in [-1, 1] or [0, 1].
    """

    def __init__(
        self, name: str, array: NDArray[Any], labelling: Labelling, fingerprint: str, lowest: float = 0
    ) -> None:
        self.name, self.labels, self.vectors = name, labelling.texts, labelling.vectors
        self.note = labelling.note
        self.names = [f"{name}[{index}]" for index in range(len(array))]
        self._array, self._fingerprint, self._lowest = array, fingerprint, lowest

    def load(self, index: int) -> NDArray[np.uint8]:
        """One image as uint8 (H, W, C). Raises BrokenSample for floats that are not finite."""
        image = self._array[index]
        if image.dtype == np.uint8:
            return np.asarray(image)
        if image.dtype == np.bool_:
            return np.asarray(image * np.uint8(255))
        if image.dtype.kind in "iu":
            return np.asarray(image.astype(np.uint8))
        if not np.isfinite(image).all():
            raise BrokenSample("holds values that are not numbers")
        image = image.astype(np.float64)
        unit = (image + 1) / 2 if self._lowest < 0 else image
        return np.rint(unit * 255).astype(np.uint8)

    def fingerprint(self) -> str:
        """Of the content, or of the file where that is big."""
        return self._fingerprint


def open_digits(wanted: Wanted = Wanted()) -> ArraySource:  # noqa: B008 (frozen)
    """scikit-learn's handwritten digits: 1,797 images of 8×8, its values 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labelling = label_by_texts("digits", [str(label) for label in digits.target], wanted)
    return ArraySource("digits", images, labelling, _digest(images))


def open_array(
    reference: str,
    file: Path,
    labels_file: Path | None = None,
    wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
) -> ArraySource:
    """Open a .npy or .npz file of images (N, H, W), (N, H, W, C) or (N, C, H, W), C in 1..4.

    The arrays of an .npz are found by the names in IMAGE_KEYS and LABEL_KEYS; a text array CLASS_KEY (K,) gives labels
    that are numbers 0..K-1, or labels (N, K) that are no classes, their names. A last axis of 1..4 is taken as channels before a second one is. labels_file: an
    .npy of N labels, or a table with N rows, for an .npy.
    Raises UserError where the arrays are not images, or the labels do not fit them or the names.
    """
    classes, table = None, None
    if file.suffix.lower() == ".npz":
        arrays = _read_npz(reference, file)
        images = _pick(arrays, IMAGE_KEYS)
        if images is None:
            found = ", ".join(arrays) or "none"
            raise UserError(f"{reference}: no array named {', '.join(IMAGE_KEYS)}; it holds {found}: rename the images")
        labels, classes = _pick(arrays, LABEL_KEYS), _pick(arrays, [CLASS_KEY])
    else:
        images = _read_npy(file)
        table = labels_file if labels_file and labels_file.suffix.lower() != ".npy" else None
        labels = _read_npy(labels_file) if labels_file and not table else None
    shaped = _channels_last(reference, images)
    lowest = _check_range(reference, shaped)
    labelling = (
        _label_rows(table, len(shaped), wanted)
        if table
        else _labelling(reference, labels, len(shaped), wanted, classes)
    )
    return ArraySource(reference, shaped, labelling, _fingerprint(file, shaped, labelling), lowest)


def is_idx(file: Path) -> bool:
    """Whether a file, compressed or not, starts like IDX: two zero bytes, a type, a number of axes."""
    try:
        head = _read_idx_bytes(file, 4)
    except _DAMAGE:
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in range(0x08, 0x0F) and 1 <= head[3] <= 4


def find_idx(folder: Path) -> Path | None:
    """The IDX file of training images in a folder, or of the only images there; None where there is none."""
    found = sorted(folder.glob("*images[-.]idx3*"))
    train = [file for file in found if "train" in file.name]
    return next(iter([*train, *found]), None)


def open_idx(
    reference: str,
    file: Path,
    labels_file: Path | None = None,
    wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
) -> ArraySource:
    """Open an IDX file of byte images (N, H, W), with the labels of the file beside it whose name says so.

    Raises UserError where a file is damaged or the counts differ.
    """
    images = _read_idx(file)
    if images.ndim != 3:
        raise UserError(f"{reference}: has {images.ndim} axes, images have 3 (N, H, W); pass the file of images")
    beside = labels_file or _idx_labels(file)
    if beside and beside.suffix.lower() != ".npy" and not is_idx(beside):
        labelling = _label_rows(beside, len(images), wanted)
    else:
        read = _read_npy if beside and beside.suffix.lower() == ".npy" else _read_idx
        labelling = _labelling(reference, read(beside) if beside else None, len(images), wanted)
    images = images[..., None]
    return ArraySource(reference, images, labelling, _fingerprint(file, images, labelling))


def _read_npz(reference: str, file: Path) -> dict[str, NDArray[Any]]:
    """The arrays that matter. Objects are refused: to read them is to run what the file says."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            wanted = {key.lower() for key in (*IMAGE_KEYS, *LABEL_KEYS, CLASS_KEY)}
            keys = [key for key in archive.files if key.lower() in wanted]
            if not any(key.lower() in IMAGE_KEYS for key in keys):
                return dict.fromkeys(archive.files, np.empty(0))
            return {key: archive[key] for key in keys}
    except _DAMAGE as error:
        raise UserError(f"{reference}: cannot be read as NumPy arrays: {_short(error)}") from error


def _read_npy(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        raise UserError(f"{file}: cannot be read as a NumPy array: {_short(error)}") from error
    return array


def _pick(arrays: dict[str, NDArray[Any]], keys: Iterable[str]) -> NDArray[Any] | None:
    lower = {key.lower(): array for key, array in arrays.items() if array.size}
    return next((lower[key] for key in keys if key in lower), None)


def _channels_last(reference: str, images: NDArray[Any]) -> NDArray[Any]:
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and images.shape[-1] in range(1, 5):
        return images
    if images.ndim == 4 and images.shape[1] in range(1, 5):
        return np.moveaxis(images, 1, -1)
    raise UserError(f"{reference}: shape {images.shape} is not (N, H, W), (N, H, W, C) or (N, C, H, W) with C in 1..4")


def _check_range(reference: str, images: NDArray[Any]) -> float:
    """The smallest value. Raises UserError where values are of a type or in a range that has no rule."""
    if images.size == 0:
        raise UserError(f"{reference}: holds no images")
    if images.dtype in (np.uint8, np.bool_):
        return 0.0
    if images.dtype.kind not in "iuf":
        raise UserError(f"{reference}: {images.dtype} is not pixels: save uint8, or floats in [0, 1] or [-1, 1]")
    lowest, highest = math.inf, -math.inf
    rows = max(1, SMALL // max(1, images[0].nbytes))
    for start in range(0, len(images), rows):
        part = images[start : start + rows]
        if part.dtype.kind == "f":
            part = part[np.isfinite(part)]  # single images may be broken; `load` names those
        if part.size:
            lowest, highest = min(lowest, float(part.min())), max(highest, float(part.max()))
    if images.dtype.kind in "iu":
        fine = lowest >= 0 and highest <= 255
    else:
        fine = lowest >= -1 and highest <= 1
    if not fine:
        raise UserError(
            f"{reference}: {images.dtype} values from {lowest:.4g} to {highest:.4g} have no rule: "
            "save uint8, or floats in [0, 1] or [-1, 1]"
        )
    return lowest


def _label_rows(file: Path, count: int, wanted: Wanted) -> Labelling:
    """Labels in the order of a table's rows."""
    table = read_columns(file)
    if len(table.paths) != count:
        raise UserError(f"{file}: {len(table.paths)} rows of labels for {count} images: there must be one for each")
    return label_by_columns(str(file), table.columns, table.label, wanted)


def _labelling(
    reference: str, labels: NDArray[Any] | None, count: int, wanted: Wanted, classes: NDArray[Any] | None = None
) -> Labelling:
    """What an array of labels means: classes, unless it holds rows of numbers, or fractions."""
    hot = labels is not None and labels.ndim == 2 and labels.shape[1] > 1 and _one_hot(labels)
    if labels is not None and len(labels) == count and not (hot and wanted.kind == "auto"):
        texts = _decoded(classes).tolist() if classes is not None and classes.dtype.kind in "US" else None
        if found := label_by_array(reference, labels, texts, wanted):
            return found
    return label_by_texts(reference, _label_names(reference, labels, count, classes), wanted)


def _one_hot(labels: NDArray[Any]) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all())


def _label_names(
    reference: str, labels: NDArray[Any] | None, count: int, classes: NDArray[Any] | None = None
) -> list[str]:
    """Labels (N,), (N, 1) or one-hot (N, K) as text: the names in `classes` where they are numbers and it is text."""
    if labels is None:
        return []
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and _one_hot(labels):
        labels = labels.argmax(axis=1)
    if labels.ndim != 1 or len(labels) != count:
        raise UserError(f"{reference}: labels of shape {labels.shape} for {count} images: there must be one for each")
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.rint(labels)).all():
        labels = labels.astype(np.int64)
    if classes is not None and classes.dtype.kind in "US" and labels.dtype.kind not in "US":
        return _class_names(reference, labels, _decoded(classes))
    return [str(label) for label in _decoded(labels).tolist()]


def _class_names(reference: str, labels: NDArray[Any], classes: NDArray[Any]) -> list[str]:
    """The name of each label (N,), a place in `classes` (K,)."""
    if classes.ndim != 1 or len(np.unique(classes)) < len(classes):
        raise UserError(f"{reference}: `{CLASS_KEY}` {classes.shape} is not a list that names each class once")
    whole = f"they must be whole numbers from 0 to {len(classes) - 1}"
    if labels.dtype.kind not in "iub":
        raise UserError(f"{reference}: labels of {labels.dtype} do not number the names in `{CLASS_KEY}`: {whole}")
    if labels.min() < 0 or labels.max() >= len(classes):
        seen = f"labels from {labels.min()} to {labels.max()}"
        raise UserError(f"{reference}: {seen} do not number the {len(classes)} names in `{CLASS_KEY}`: {whole}")
    return list(classes[labels.astype(np.int64)].tolist())


def _decoded(texts: NDArray[Any]) -> NDArray[Any]:
    return np.char.decode(texts, "utf-8", "replace") if texts.dtype.kind == "S" else texts


def _read_idx(file: Path) -> NDArray[np.uint8]:
    """An IDX file of bytes: 00 00 08 axes, big-endian lengths, values."""
    try:
        data = _read_idx_bytes(file)
        axes = data[3]
        shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    except (*_DAMAGE, IndexError) as error:
        raise UserError(f"{file}: damaged IDX file ({_short(error)}); copy it again") from error
    if data[:3] != b"\0\0\x08":
        raise UserError(f"{file}: not an IDX file of bytes (it starts with {data[:4].hex(' ')})")
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if values.size != math.prod(shape):
        raise UserError(f"{file}: damaged IDX file ({values.size} values for shape {shape}); copy it again")
    return values.reshape(shape)


def _read_idx_bytes(file: Path, count: int = -1) -> bytes:
    with file.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(file) if compressed else file.open("rb") as stream:
        return stream.read(count)


def _idx_labels(file: Path) -> Path | None:
    """The file of labels beside that of images: train-images-idx3-ubyte → train-labels-idx1-ubyte, .gz or not."""
    name = file.name.replace("images", "labels").replace("idx3", "idx1")
    stem = name.removesuffix(".gz")
    candidates = [file.with_name(candidate) for candidate in (name, stem, stem + ".gz")]
    return next((path for path in candidates if path.is_file() and path != file), None)


def _fingerprint(file: Path, images: NDArray[Any], labelling: Labelling) -> str:
    labels = [*labelling.texts, *([labelling.vectors.digest().hex()] if labelling.vectors else [])]
    if images.nbytes <= SMALL:
        return _digest(images, labels)
    return stamp_file(file, images.shape, "\0".join(labels))


def _digest(images: NDArray[Any], labels: Iterable[str] = ()) -> str:
    digest = hashlib.blake2b(f"{images.dtype}{images.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(images).data)
    digest.update("\0".join(labels).encode())
    return digest.hexdigest()


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())[:100] or type(error).__name__
    return "it holds Python objects, which are never read" if "allow_pickle" in text else text
