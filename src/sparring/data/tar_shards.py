"""Writing WebDataset shards, with the index that streaming starts from."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparring.data.remote import digest_of
from sparring.data.stream_index import NAME, Index, Shard, index_json
from sparring.errors import UserError
from sparring.files import write_json

SHARD_BYTES = 256 * 2**20
SHARD_SAMPLES = 10_000  # small images in a shard at most: what a training reads first should not take long to decode


@dataclass(frozen=True)
class Encoded:
    """An image to write. data: a file's bytes. suffix: its ending. shape: (H, W, C). label: None without labels."""

    data: bytes
    suffix: str
    shape: tuple[int, ...]
    label: str | None = None


def write_tars(
    folder: Path,
    images: Iterable[Encoded],
    classes: Sequence[str] = (),
    *,
    shard_bytes: int = SHARD_BYTES,
    shard_samples: int = SHARD_SAMPLES,
) -> Index:
    """Write images as shards `images-000000.tar` …, and `index.json`, into an existing folder.

    Shards are filled in the order that images come in, so let that be random: a training mixes a few shards at a time.
    classes: the labels of all images, in the order of their numbers, which is what `cls` members hold; empty without
        labels. shard_bytes: the size of a tar at most (but one image at least). shard_samples: its images at most.
    The same images give the same bytes. Raises UserError where there is no image.
    """
    writer = _Writer(folder, shard_bytes)
    numbers = {name: number for number, name in enumerate(classes)}
    sizes: set[tuple[int, int]] = set()
    channels: set[int] = set()
    counts: Counter[str] = Counter()
    for number, image in enumerate(images):
        members = {image.suffix: image.data}
        if classes:
            assert image.label is not None
            members["cls"] = str(numbers[image.label]).encode()
            counts[image.label] += 1
        if writer.count >= shard_samples or writer.full(members):
            writer.finish()
        writer.add(f"{number:09d}", members)
        sizes.add((image.shape[0], image.shape[1]))
        channels.add(image.shape[2])
    writer.finish()
    if not writer.shards:
        raise UserError(f"{folder}: no image is left to write")
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    index = Index(
        tuple(writer.shards),
        ordered[0],
        ordered[-1],
        (3 if max(channels) >= 3 else 1) + (1 if channels & {2, 4} else 0),
        "cls" if classes else None,
        tuple(classes),
        tuple(counts[name] for name in classes),
        bool(classes),
        str(folder / NAME),
    )
    write_json(folder / NAME, index_json(index))
    return index


class _Writer:
    """One open tar after another."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._tar: tarfile.TarFile | None = None
        self._size = 0
        self.count = 0
        self.shards: list[Shard] = []

    def full(self, members: dict[str, bytes]) -> bool:
        """Whether these do not fit into the open tar any more."""
        return self.count > 0 and self._size + sum(map(_padded, members.values())) > self._most

    def add(self, key: str, members: dict[str, bytes]) -> None:
        """Write a sample."""
        if self._tar is None:
            name = f"images-{len(self.shards):06d}.tar"
            self._tar = tarfile.open(self._folder / name, "w:", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self._size = tarfile.RECORDSIZE
        for suffix, data in members.items():
            # Without time and owner, so that the same images are the same bytes.
            member = tarfile.TarInfo(f"{key}.{suffix}")
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
            self._size += _padded(data)
        self.count += 1

    def finish(self) -> None:
        """Close the open tar, if there is one."""
        if self._tar is None:
            return
        self._tar.close()
        file = Path(str(self._tar.name))
        self.shards.append(Shard(str(file), file.name, self.count, file.stat().st_size, digest_of(file)))
        self._tar, self.count = None, 0


def _padded(data: bytes) -> int:
    """What a member takes in a tar: a header, and blocks of 512 bytes."""
    return tarfile.BLOCKSIZE * (1 + -(-len(data) // tarfile.BLOCKSIZE))
