"""WebDataset shards: plain tars in which members that share a name up to its first dot are one sample.

    000017.jpg      the image: the first member with the ending of an image
    000017.cls      its class, as text
    000017.json     or as the key `label`, `class`, … of an object
    000017.txt      or as one line of text, where these lines are classes and not captions

The convention is that of the `webdataset` library (https://github.com/webdataset/webdataset), which reads what is
written here, and the other way round.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparring.data.decode import EXTENSIONS, decode
from sparring.data.folder import MAX_BYTES
from sparring.data.labels import LABEL_KEYS
from sparring.data.source import BrokenSample, ImageSource
from sparring.errors import UserError

Labelling = Literal["cls", "json", "txt"]
LABELLINGS: tuple[Labelling, ...] = ("cls", "json", "txt")
MAX_LABEL_BYTES = 64 * 2**10  # of a member that is looked into for a label
MAX_LABEL = 100  # characters: a longer text is a caption
MAX_CLASSES = 10_000  # as many as the largest sets of labelled images have, to the power of ten


@dataclass(frozen=True)
class Sample:
    """Where an image lies in its tar, and what it is labelled with by each kind of member that says so."""

    key: str
    offset: int
    size: int
    labels: dict[Labelling, str] = field(default_factory=dict)


def read_samples(file: Path, name: str | None = None) -> list[Sample]:
    """The samples of a tar that hold an image, in order; nothing is decoded.

    name: what the user calls the file. Raises UserError where it is no plain tar, or one that ends too early.
    """
    name = name or file.name
    samples: list[Sample] = []
    key, place, labels = "", (-1, 0), dict[Labelling, str]()

    def finish() -> None:
        if place[0] >= 0:
            samples.append(Sample(key, *place, labels))

    try:
        length = file.stat().st_size
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if not member.isreg() or member.issparse():
                    continue
                if member.offset_data + member.size > length:
                    raise tarfile.ReadError("it ends in the middle of a member")
                stem, suffix = _split(member.name)
                if not stem:
                    continue
                if stem != key:
                    finish()
                    key, place, labels = stem, (-1, 0), {}
                if place[0] < 0 and f".{suffix}".endswith(EXTENSIONS):
                    place = member.offset_data, member.size
                elif suffix in LABELLINGS and member.size <= MAX_LABEL_BYTES:
                    content = archive.extractfile(member)
                    text = _label(suffix, content.read() if content else b"")
                    if text is not None:
                        labels[suffix] = text
        finish()
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:80]
        raise UserError(
            f"{name}: not a plain tar, or a damaged one ({reason}): write or copy it again, uncompressed"
        ) from error
    return samples


def labelling_of(samples: Iterable[Sample]) -> Labelling | None:
    """Which members label a set: the first of cls, json, txt that every sample has; None where none is."""
    count = 0
    found: dict[Labelling, Counter[str]] = {kind: Counter() for kind in LABELLINGS}
    for sample in samples:
        count += 1
        for kind, text in sample.labels.items():
            found[kind][text] += 1
    return choose_labelling(found, count)


def choose_labelling(found: dict[Labelling, Counter[str]], count: int) -> Labelling | None:
    """`labelling_of`, from how often each kind has which label in a set of `count` samples."""
    for kind in LABELLINGS:
        few = len(found[kind]) <= (MAX_CLASSES if kind == "cls" else min(MAX_CLASSES, max(2, count // 4)))
        if count and found[kind].total() == count and few:
            return kind
    return None


def incomplete_labels(found: Mapping[Labelling, int], count: int) -> str:
    """Says so where only some of `count` samples have a class, so that none is used; captions are no classes. Or empty."""
    classes: tuple[Labelling, ...] = ("cls", "json")
    kind = next((kind for kind in classes if 0 < found[kind] < count), None)
    if kind is None:
        return ""
    return f"{count - found[kind]} of {count} samples have no class in a .{kind}, so labels are not used: label all to use them"


class TarSamples(ImageSource):
    """Images in local WebDataset shards.

    name: what the user passed. files: the tars. samples: of each. labelling: which members label them; None: none does.
    classes: what numbers in `cls` members stand for, where an index says so.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        samples: Sequence[Sequence[Sample]],
        labelling: Labelling | None,
        classes: Sequence[str] = (),
    ) -> None:
        self.name, self.files = name, list(files)
        self._places = [(number, sample) for number, each in enumerate(samples) for sample in each]
        self.names = [f"{self.files[number].name}:{sample.key}" for number, sample in self._places]
        self.labels = label_texts([sample for _, sample in self._places], labelling, classes) if labelling else []

    def load(self, index: int) -> NDArray[np.uint8]:
        """Decode one image. Raises BrokenSample."""
        return decode(self.raw(index), self.names[index])

    def raw(self, index: int) -> bytes:
        """The bytes of one image. Raises BrokenSample."""
        number, sample = self._places[index]
        if sample.size > MAX_BYTES:
            raise BrokenSample("larger than 1 GB")
        try:
            # Opened each time: handles would not survive a fork, and opening is a hundredth of decoding.
            with self.files[number].open("rb") as stream:
                stream.seek(sample.offset)
                data = stream.read(sample.size)
        except OSError as error:
            raise BrokenSample(f"cannot be read from {self.files[number].name}: {error.strerror}") from error
        if len(data) < sample.size:
            raise BrokenSample(f"{self.files[number].name} ends before it")
        return data

    def fingerprint(self) -> str:
        """Of the names, sizes and times of the tars."""
        digest = hashlib.blake2b(digest_size=16)
        for file in self.files:
            status = file.stat()
            digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        digest.update("\0".join(self.labels).encode())
        return digest.hexdigest()


def label_texts(samples: Sequence[Sample], labelling: Labelling, classes: Sequence[str]) -> list[str]:
    """The label of each sample. classes: the names of numbers. Raises UserError for a label that is none of them."""
    texts = [sample.labels.get(labelling, "") for sample in samples]
    if not classes:
        return texts
    names = {str(number): name for number, name in enumerate(classes)}
    for sample, text in zip(samples, texts, strict=True):
        if text not in names:
            raise UserError(f"{sample.key}: its class {text!r} is none of the {len(classes)} that the index names")
    return [names[text] for text in texts]


def _split(name: str) -> tuple[str, str]:
    """`cats/17.left.png` as (`cats/17`, `left.png`); an empty key for what is no part of a sample."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return (f"{folder}{slash}{stem}", suffix.lower()) if stem and not stem.startswith("__") else ("", "")


def _label(kind: str, content: bytes) -> str | None:
    """The label that a member holds, or None where it holds none."""
    try:
        text = content.decode("utf-8").strip()
        if kind == "json":
            record = json.loads(text)
            if not isinstance(record, dict):
                return None
            value = next((record[key] for key in LABEL_KEYS if key in record), None)
            text = "" if value is None or isinstance(value, dict | list) else str(value)
    except (UnicodeDecodeError, ValueError, RecursionError):
        return None
    return text if text and len(text) <= MAX_LABEL and "\n" not in text else None
