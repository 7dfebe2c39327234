"""The index of streamed shards: what there is, without opening any.

`index.json` beside the shards, in the form of WebDataset's `wids` (`shardlist`: `url`, `nsamples`, `filesize`), with what
training must know besides: a `digest` of each shard, and under `images` the sizes, channels, classes and their counts.
`data prepare --format tar` writes it; where it is missing, one pass over all shards makes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sparring.data import remote
from sparring.data.built import default_folder
from sparring.data.convert import Progress
from sparring.data.decode import probe
from sparring.data.labels import sort_classes
from sparring.data.source import BrokenSample
from sparring.data.webdataset import (
    LABELLINGS,
    Labelling,
    Sample,
    TarSamples,
    choose_labelling,
    incomplete_labels,
    read_samples,
)
from sparring.errors import UserError
from sparring.files import write_json

NAME = "index.json"
VERSION = 1
SURVEYORS = 4  # shards that are looked through side by side where there is no index


@dataclass(frozen=True)
class Shard:
    """A tar. location: path or URL. name: in the index. count: samples. size: bytes. digest: of its content."""

    location: str
    name: str
    count: int
    size: int
    digest: str


@dataclass(frozen=True)
class Index:
    """All shards of a set, and what is in them.

    smallest, largest: (H, W) of images, by pixels; equal where all have one size. channels: what all together need.
    labelling: the members that label a sample; None without labels. classes: in the order of their numbers.
    label_counts: samples of each. numbered: whether `cls` members hold numbers into `classes`, and not the texts.
    file: where it was read from or is kept. note: which samples lack a label that others have, empty where none does.
    """

    shards: tuple[Shard, ...]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    channels: int
    labelling: Labelling | None
    classes: tuple[str, ...]
    label_counts: tuple[int, ...]
    numbered: bool
    file: str
    note: str = ""

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    def fingerprint(self) -> str:
        """A digest of what is in the shards, wherever they lie."""
        content = [[shard.name, shard.count, shard.size, shard.digest] for shard in self.shards]
        text = json.dumps([content, self.labelling, self.classes, self.numbered])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_stream(reference: str) -> bool:
    """Whether a reference means WebDataset shards: a URL, a pattern of tars, or a folder with an index or of tars alone."""
    if remote.is_remote(reference):
        return True
    if _is_pattern(reference):
        return _is_tar(reference)
    path = Path(reference).expanduser()
    if path.name == NAME:
        return path.is_file() and _is_index(path)
    if not path.is_dir():
        return False
    if (path / NAME).is_file():
        return _is_index(path / NAME)
    visible = [each for each in path.iterdir() if not each.name.startswith(".")]
    return bool(visible) and all(each.suffix.lower() == ".tar" and each.is_file() for each in visible)


def open_index(
    reference: str, *, folder: Path | None = None, patience: float = 120.0, progress: Progress | None = None
) -> Index:
    """The index of the shards that a reference means: read where it lies beside them, otherwise made and kept.

    reference: a folder or its `index.json`, a tar, a pattern such as `shards/train-{000000..000127}.tar`, or a URL of
        any of these. folder: of caches. patience: seconds to wait for a server that does not answer.
    progress: called with (shards looked through, all of them) where the index must be made.
    Raises UserError where there is nothing to read, or what is there is damaged.
    """
    if _is_pattern(reference) or _is_tar(reference):
        locations = remote.expand(reference)
        beside = remote.beside(locations[0], NAME)
        found = _read(beside, patience)
        # An index of other shards as well would count them in.
        if found and [shard.location for shard in found.shards] == locations:
            return found
        return _survey(reference, locations, folder, patience, progress)
    file = reference if reference.endswith("/" + NAME) or reference == NAME else f"{reference.rstrip('/')}/{NAME}"
    found = _read(file, patience)
    if found:
        return found
    listed = _listed(file, patience)
    if listed:
        return _survey(reference, listed, folder, patience, progress)
    if remote.is_remote(reference):
        raise UserError(
            f"{reference}: has no {NAME}; say which shards there are: {reference.rstrip('/')}/train-{{000000..000127}}.tar"
        )
    locations = sorted(str(each) for each in Path(reference).expanduser().glob("*.tar"))
    return _survey(reference, locations, folder, patience, progress)


def open_local(reference: str) -> TarSamples:
    """All images of local shards as one source, e.g. to check or convert them. Raises UserError."""
    if remote.is_remote(reference):
        raise UserError(f"{reference}: is read while training and measuring; copy it to this machine for anything else")
    index = open_index(reference)
    files = [Path(shard.location).expanduser() for shard in index.shards]
    for file, shard in zip(files, index.shards, strict=True):
        if not file.is_file() or file.stat().st_size != shard.size:
            raise remote.changed(str(file))
    samples = [read_samples(file) for file in files]
    source = TarSamples(reference, files, samples, index.labelling, index.classes if index.numbered else ())
    source.note = index.note
    return source


def index_json(index: Index) -> dict[str, Any]:
    """An index as what `index.json` holds."""
    return {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "shardlist": [
            {"url": shard.name, "nsamples": shard.count, "filesize": shard.size, "digest": shard.digest}
            for shard in index.shards
        ],
        "images": {
            "version": VERSION,
            "smallest": list(index.smallest),
            "largest": list(index.largest),
            "channels": index.channels,
            "labelling": index.labelling,
            "classes": list(index.classes),
            "label_counts": list(index.label_counts),
            "numbered": index.numbered,
            **({"note": index.note} if index.note else {}),
        },
    }


def _read(file: str, patience: float) -> Index | None:
    """The index at a location; None where there is none, or one that says nothing about the images."""
    content = remote.read(file, patience=patience)
    if content is None:
        return None
    try:
        plain = json.loads(content)
        images = plain.get("images")
        if not isinstance(images, dict):
            return None
        if images["version"] != VERSION:
            raise UserError(f"{file}: is of version {images['version']}; update sparring, or make it again")
        shards = tuple(
            Shard(
                remote.beside(file, str(each["url"])),
                str(each["url"]),
                int(each["nsamples"]),
                int(each["filesize"]),
                str(each["digest"]),
            )
            for each in plain["shardlist"]
        )
        smallest, largest = (tuple(map(int, images[key])) for key in ("smallest", "largest"))
        counts = tuple(map(int, images["label_counts"]))
        classes, labelling = tuple(map(str, images["classes"])), images["labelling"]
        sane = len(smallest) == len(largest) == 2 and len(classes) == len(counts) and images["channels"] in (1, 2, 3, 4)
        sane = sane and labelling in (None, *LABELLINGS) and all(shard.count >= 0 < shard.size for shard in shards)
        if not sane or not any(shard.count for shard in shards):
            raise ValueError("its numbers make no sense")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: is damaged ({' '.join(str(error).split())[:80]}); make it again") from error
    return Index(
        shards,
        (smallest[0], smallest[1]),
        (largest[0], largest[1]),
        images["channels"],
        labelling,
        classes,
        counts,
        bool(images["numbered"]),
        file,
        str(images.get("note", "")),
    )


@dataclass
class _Found:
    """What a look through one shard found."""

    size: int
    digest: str
    samples: list[Sample]
    sizes: set[tuple[int, int]]
    channels: set[int]


def _survey(
    reference: str, locations: Sequence[str], folder: Path | None, patience: float, progress: Progress | None
) -> Index:
    """Look through every shard, once: the result is kept in the cache."""
    root = (folder or default_folder()) / "indexes"
    key = hashlib.blake2b("\0".join(map(_stamp, locations)).encode(), digest_size=12).hexdigest()
    file = root / f"{key}.json"
    known = _read(str(file), patience)
    if known and len(known.shards) == len(locations):
        shards = [
            Shard(location, shard.name, shard.count, shard.size, shard.digest)
            for location, shard in zip(locations, known.shards, strict=True)
        ]
        return replace(known, shards=tuple(shards))
    root.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(SURVEYORS) as threads:
        jobs = [threads.submit(_look_through, location, root, patience) for location in locations]
        found: list[_Found] = []
        try:
            for job in jobs:
                found.append(job.result())
                if progress:
                    progress(len(found), len(jobs))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    index = _summed(reference, locations, found, str(file))
    write_json(file, index_json(index))
    return index


def _summed(reference: str, locations: Sequence[str], found: Sequence[_Found], file: str) -> Index:
    sizes = sorted(set().union(*(each.sizes for each in found)), key=lambda size: (size[0] * size[1], size))
    channels = set().union(*(each.channels for each in found))
    count = sum(len(each.samples) for each in found)
    if not sizes:
        raise UserError(f"{reference}: found no images in {len(found)} shards; is the path right?")
    kinds: dict[Labelling, Counter[str]] = {kind: Counter() for kind in LABELLINGS}
    for sample in (sample for each in found for sample in each.samples):
        for kind, text in sample.labels.items():
            kinds[kind][text] += 1
    labelling = choose_labelling(kinds, count)
    texts = kinds[labelling] if labelling else Counter[str]()
    classes = tuple(sort_classes(texts))
    names = [location.replace("\\", "/").rpartition("/")[2] for location in locations]
    shards = tuple(
        Shard(location, name, len(each.samples), each.size, each.digest)
        for location, name, each in zip(locations, names, found, strict=True)
    )
    needed = (3 if max(channels) >= 3 else 1) + (1 if channels & {2, 4} else 0)
    counts = tuple(texts[name] for name in classes)
    note = "" if labelling else incomplete_labels({kind: found.total() for kind, found in kinds.items()}, count)
    return Index(shards, sizes[0], sizes[-1], needed, labelling, classes, counts, False, file, note)


def _look_through(location: str, root: Path, patience: float) -> _Found:
    """Count a shard's samples and look at the header of each image."""
    with _local(location, root, patience) as (file, digest):
        samples = read_samples(file, location)
        sizes: set[tuple[int, int]] = set()
        channels: set[int] = set()
        with file.open("rb") as stream:
            for sample in samples:
                stream.seek(sample.offset)
                with contextlib.suppress(BrokenSample):
                    height, width, depth = probe(stream.read(sample.size))
                    sizes.add((height, width))
                    channels.add(depth)
        return _Found(file.stat().st_size, digest or remote.digest_of(file), samples, sizes, channels)


@contextlib.contextmanager
def _local(location: str, root: Path, patience: float) -> Iterator[tuple[Path, str | None]]:
    """A file with the content of a shard, and its digest where it is known."""
    if not remote.is_remote(location):
        path = Path(location).expanduser()
        if not path.is_file():
            raise UserError(f"{location}: is not there; is the path right?")
        yield path, None
        return
    with tempfile.TemporaryDirectory(dir=root, prefix=".survey-") as folder:
        file = Path(folder) / "shard.tar"
        yield file, remote.fetch(location, file, patience=patience)


def _stamp(location: str) -> str:
    """What tells a shard from another one of the same name, as far as it can be seen without reading it."""
    if remote.is_remote(location):
        return location
    try:
        status = Path(location).expanduser().stat()
    except OSError as error:
        raise UserError(f"{location}: is not there; is the path right?") from error
    return f"{Path(location).expanduser().absolute()}\0{status.st_size}\0{status.st_mtime_ns}"


def _listed(file: str, patience: float) -> list[str]:
    """The shards that an index names which says nothing about the images."""
    content = remote.read(file, patience=patience)
    try:
        return [remote.beside(file, str(each["url"])) for each in json.loads(content)["shardlist"]] if content else []
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: is no list of shards ({' '.join(str(error).split())[:80]}); remove it") from error


def _is_pattern(reference: str) -> bool:
    web = reference.startswith(("http://", "https://"))  # where `?` begins a query
    return any(mark in reference for mark in ("{*[" if web else "{*[?"))


def _is_tar(reference: str) -> bool:
    path = urlsplit(reference).path if remote.is_remote(reference) else reference
    return path.lower().endswith(".tar")


def _is_index(file: Path) -> bool:
    try:
        plain = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(plain, dict) and "shardlist" in plain
