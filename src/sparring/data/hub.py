"""Images through Hugging Face `datasets`: from the hub, or from a local folder or Parquet file."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.data.decode import decode
from sparring.data.labelling import SEPARATOR, Wanted, label_by_texts
from sparring.data.source import BrokenSample, ImageSource
from sparring.errors import UserError, missing_extra

IMAGE_COLUMNS = ("image", "img", "picture", "photo", "pixels")
LABEL_COLUMNS = ("label", "labels", "class", "category", "fine_label", "target", "y")


class HubSource(ImageSource):
    """The rows of a `datasets.Dataset`: a column of encoded images, and one of labels or none."""

    def __init__(
        self,
        name: str,
        rows: Any,
        image_column: str,
        label_column: str | None,
        wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
    ) -> None:
        self.name = name
        self.names = [f"{name}[{index}]" for index in range(len(rows))]
        texts = _label_names(name, rows, label_column, wanted) if label_column else []
        labelling = label_by_texts(name, texts, wanted, label_column or "label", guess=True)
        self.labels, self.vectors, self.note = labelling.texts, labelling.vectors, labelling.note
        self._column, self._images = image_column, rows.select_columns([image_column])
        self._fingerprint = hashlib.blake2b(
            f"{rows._fingerprint}\0{image_column}\0{label_column}".encode(), digest_size=16
        ).hexdigest()
        if self.vectors is not None:
            self._fingerprint = hashlib.blake2b(
                self.vectors.digest() + self._fingerprint.encode(), digest_size=16
            ).hexdigest()

    def load(self, index: int) -> NDArray[np.uint8]:
        """Decode one row. Raises BrokenSample."""
        return decode(self.raw(index), self.names[index])

    def raw(self, index: int) -> bytes:
        """The encoded bytes of one row. Raises BrokenSample."""
        value = self._images[index][self._column]
        if isinstance(value, dict) and value.get("bytes") is None and value.get("path"):
            try:
                return Path(value["path"]).read_bytes()
            except (OSError, ValueError) as error:
                raise BrokenSample(f"cannot be read: {error}") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise BrokenSample("the row holds no image")
        return data

    def fingerprint(self) -> str:
        """The data set's own fingerprint, with the columns."""
        return self._fingerprint


def open_hub(reference: str, wanted: Wanted = Wanted()) -> HubSource:  # noqa: B008 (frozen)
    """Open `hf:NAME`, `hf:NAME@CONFIG`, `hf:NAME#SPLIT`, `hf:FOLDER`, or a local Parquet file (with or without `hf:`).

    The split is `train` where none is named, or the only one there. Code that a data set brings is never run.
    Raises UserError where `datasets` is missing, nothing can be loaded or no column holds images.
    """
    try:
        import datasets
    except ImportError as error:
        raise missing_extra("datasets", "hf", f"data.source={reference}") from error
    name, _, split = reference.removeprefix("hf:").partition("#")
    rows = _load(datasets, reference, name, split)
    image_column = _image_column(datasets, reference, rows)
    if isinstance(rows.features[image_column], datasets.Image):
        rows = rows.cast_column(image_column, datasets.Image(decode=False))
    others = set(rows.features) - {image_column}
    if wanted.columns and (len(wanted.columns) > 1 or wanted.columns[0] not in others):
        known = ", ".join(sorted(others)) or "none but the images"
        raise UserError(f"{reference}: data.label_columns names one of its columns; there are {known}")
    names = wanted.columns or LABEL_COLUMNS
    return HubSource(reference, rows, image_column, next((name for name in names if name in others), None), wanted)


def _load(datasets: Any, reference: str, name: str, split: str) -> Any:
    arguments: dict[str, Any] = {}
    if "trust_remote_code" in inspect.signature(datasets.load_dataset).parameters:
        arguments["trust_remote_code"] = False  # older versions would ask; newer ones have no such thing
    path = Path(name).expanduser()
    if path.suffix.lower() == ".parquet":
        if not path.is_file():
            raise UserError(f"{reference}: no such file; is the path right?")
        positional, arguments["data_files"] = ["parquet"], str(path)
    elif path.is_dir():
        positional = [str(path.resolve())]
    else:
        positional = [part for part in name.split("@", 1) if part]
    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(*positional, **arguments)
    except Exception as error:  # the library raises its own, and those of every library below it
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{reference}: cannot be loaded: {reason}") from error
    finally:
        if not quiet:
            datasets.enable_progress_bars()
    wanted = split or ("train" if "train" in loaded else "")
    if not wanted and len(loaded) == 1:
        wanted = next(iter(loaded))
    if wanted not in loaded:
        first = next(iter(loaded), "train")
        raise UserError(f"{reference}: choose one of its parts ({', '.join(loaded)}), e.g. hf:{name}#{first}")
    return loaded[wanted]


def _image_column(datasets: Any, reference: str, rows: Any) -> str:
    """The column whose type is Image; else one of bytes or of {bytes, path}, the likeliest name first."""
    typed = [column for column, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    encoded = [column for column, feature in rows.features.items() if _is_encoded(datasets, feature)]
    for candidates in (typed, encoded):
        if candidates:
            return next((column for column in IMAGE_COLUMNS if column in candidates), candidates[0])
    raise UserError(f"{reference}: no column holds images; its columns are {', '.join(rows.features)}")


def _is_encoded(datasets: Any, feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature
    return isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary")


def _label_names(reference: str, rows: Any, column: str, wanted: Wanted) -> list[str]:
    """Each row's label as text, by the names of a ClassLabel where there are some; lists are attributes.

    Raises UserError where some rows have none.
    """
    values = rows.with_format(None)[column]
    missing = sum(value is None for value in values)
    if missing == len(values) or wanted.kind == "none" or any(isinstance(value, dict) for value in values):
        return []
    if missing:
        raise UserError(
            f"{reference}: {missing} of {len(values)} rows have no {column}; fill them in, or leave all labels aside with "
            "--set data.labels=none"
        )
    feature = rows.features[column]
    names = getattr(getattr(feature, "feature", feature), "names", None)

    def text(value: Any) -> str:
        if isinstance(value, list):
            return SEPARATOR.join(text(each) for each in value) + SEPARATOR
        return names[value] if names and 0 <= value < len(names) else str(value)

    return [text(value) for value in values]
