"""Images streamed from shards: the batches of `ImageData`, of a set that may be larger than the disk."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any, Self

import numpy as np
import pydantic
import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.data.augment import Augment, build
from sparring.data.built import default_folder
from sparring.data.convert import Progress
from sparring.data.decode import Fit
from sparring.data.order import SPREAD, ShardOrder, choose_from_shards
from sparring.data.stream_cache import Entry, ShardCache
from sparring.data.stream_index import open_index
from sparring.data.stream_loader import Reading, ShardLoader
from sparring.errors import UserError
from sparring.recipe import Section


class StreamOptions(Section):
    """The recipe's `data.stream` section: how shards are read. Only `lanes` and `open` decide what comes when."""

    lanes: int = pydantic.Field(
        8, ge=1, le=4096, description="parts of an epoch read side by side; a multiple of the number of processes"
    )
    open: int = pydantic.Field(2, ge=1, description="shards of a lane that are mixed at a time")
    cache_gb: float = pydantic.Field(20.0, gt=0, description="GiB of decoded shards kept on the disk of each machine")
    workers: int | None = pydantic.Field(
        None, ge=1, description="processes that decode a shard; none: half of a process's share of the cores"
    )
    patience: float = pydantic.Field(120.0, gt=0, description="seconds to go on asking a server that does not answer")


def open_stream(
    source: str,
    *,
    size: tuple[int, int] | None,
    channels: int | None,
    fit: Fit,
    augment: Augment,
    options: StreamOptions,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> ImageStream:
    """Open the shards that `source` means; only their index is read now. See `sparring.data.stream_index.open_index`.

    size, channels: None for what the index says that all images have, or need together. cache: the folder of caches.
    Raises UserError where there is nothing to read, or sizes differ and none is asked for.
    """
    folder = cache or default_folder()
    index = open_index(source, folder=folder, patience=options.patience, progress=progress)
    if size is None and index.smallest != index.largest:
        (low_height, low_width), (high_height, high_width) = index.smallest, index.largest
        raise UserError(
            f"{source}: images have different sizes (from {low_width}×{low_height} to {high_width}×{high_height}): "
            "say --set data.size=64"
        )
    reading = Reading(
        index,
        size or index.smallest,
        channels or index.channels,
        fit,
        resize=size is not None,
        patience=options.patience,
    )
    return ImageStream(reading, ShardCache(folder / "streamed", int(options.cache_gb * 2**30)), options, augment)


class ImageStream:
    """Images in shards, gathered by index into batches; a shard is fetched and decoded when it is needed, or just before.

    spec: shape (C, H, W), class names, count, and in `extra` the `label_counts` where there are labels.
    fingerprint: digest of the index and of the settings that decide the pixels, wherever the shards lie.
    broken: (name, reason) of each image that could not be read, of the shards that this process has opened so far. In
        its place stands the next image of its shard.
    """

    spec: DataSpec
    fingerprint: str
    broken: list[tuple[str, str]]

    def __init__(
        self, reading: Reading, cache: ShardCache, options: StreamOptions, augment: Augment | None = None
    ) -> None:
        index = reading.index
        shape = (reading.channels, *reading.size)
        extra: dict[str, Any] = {"label_counts": list(index.label_counts)} if index.classes else {}
        extra |= {"label_note": index.note} if index.note else {}
        self.spec = DataSpec(shape, index.classes, len(index), extra)
        content = f"{index.fingerprint()}{json.dumps(reading.settings)}"
        self.fingerprint = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
        self.broken = []
        self._counts = [shard.count for shard in index.shards]
        self._starts = np.concatenate([[0], np.cumsum(self._counts)])
        self._reading, self._cache, self._options = reading, cache, options
        self._device = torch.device("cpu")
        self._augment = build(augment or Augment(), shape)
        self._open: OrderedDict[int, Entry] = OrderedDict()
        self._window: set[int] = set()  # the shards that the training reads now
        self._told: set[int] = set()  # the shards whose broken images are named already
        self._loader = ShardLoader(reading, cache, workers=options.workers)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def to(self, device: torch.device) -> Self:
        """Play on `device` from now on."""
        self._device = torch.device(device)
        return self

    def order(self, batch_size: int, seed: int) -> Ahead:
        """The order of a training: few shards at a time, and those that come next are made ready meanwhile."""
        stream = self._options
        return Ahead(self, ShardOrder(self._counts, batch_size, seed, lanes=stream.lanes, open=stream.open))

    def choose(self, count: int, seed: int) -> Tensor:
        """At most `count` different samples in random order, from few shards: int64, on the CPU."""
        return choose_from_shards(self._counts, count, seed)

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        """The images at `indices` (N,): `data` float32 (N, C, H, W) in [-1, 1], and `label` int64 (N,) if labelled.

        augment: apply the recipe's augmentation, with randomness from torch's global generator.
        Raises UserError for a shard that cannot be had, or is not what the index says.
        """
        pixels, labels = self._gather(indices.cpu().numpy())
        data = self._move(pixels).to(torch.float32).div_(127.5).sub_(1.0)
        if augment and self._augment:
            data = self._augment(data)
        batch = Batch(data=data)
        if labels is not None:
            batch["label"] = self._move(labels)
        return batch

    def ready(self, now: list[int], soon: list[int]) -> None:
        """Keep the shards `now` open, have those of `soon` made ready, and let go of all others."""
        self._window = set(now)
        self._release(keep=self._window)
        self._loader.want([*now, *soon])

    def require(self, shards: list[int]) -> None:
        """Raise UserError where the cache cannot hold these shards together."""
        needed = sum(map(self._reading.bytes, shards))
        if needed > self._cache.bound:
            raise UserError(
                f"{len(shards)} shards are open at a time and take {needed / 2**30:.3g} GB decoded; data.stream.cache_gb "
                f"allows {self._cache.bound / 2**30:.3g}: raise it, or lower data.stream.lanes or data.stream.open"
            )

    def close(self) -> None:
        """Let go of all shards, and end the background process."""
        self._release()
        self._loader.close()

    def _gather(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Pixels uint8 (N, C, H, W) and labels int64 (N,), on the CPU."""
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        pixels = torch.empty((len(indices), *self.spec.shape), dtype=torch.uint8)
        labels = torch.empty(len(indices), dtype=torch.int64) if self.spec.classes else None
        needed = dict.fromkeys(shards.tolist())
        if not self._window.issuperset(needed):  # a look outside the training's order: to measure, say
            self._loader.want(list(needed))
        rows = indices - self._starts[shards]
        for shard in needed:
            entry = self._entry(shard)
            places = (shards == shard).nonzero()[0]
            own = rows[places]
            pixels.numpy()[places] = entry.images[entry.rows[own]]
            if labels is not None and entry.labels is not None:
                labels.numpy()[places] = entry.labels[own]
        while len(self._open) > max(SPREAD, len(self._window)):
            self._open.popitem(last=False)[1].close()
        return pixels, labels

    def _entry(self, shard: int) -> Entry:
        if shard not in self._open:
            entry = self._loader.open(shard, crowded=self._release)
            self._open[shard] = entry
            if shard not in self._told:
                self.broken += entry.broken
                self._told.add(shard)
        self._open.move_to_end(shard)
        return self._open[shard]

    def _release(self, keep: set[int] | None = None) -> None:
        """Close what is open; all that was gathered from it is a copy."""
        for shard in [shard for shard in self._open if shard not in (keep or ())]:
            self._open.pop(shard).close()

    def _move(self, values: Tensor) -> Tensor:
        if self._device.type == "cuda":
            values = values.pin_memory()
        return values.to(self._device, non_blocking=True)


class Ahead:
    """An order whose reader makes ready what it is asked for next."""

    def __init__(self, stream: ImageStream, order: ShardOrder) -> None:
        self._stream, self._order = stream, order
        self._told: tuple[list[int], list[int]] | None = None

    def indices(self, start: int, stop: int) -> Tensor:
        """The samples at positions [start, stop): int64 (stop - start,), on the CPU."""
        shards = self._order.shards(start, stop)
        if shards is not self._told:
            if self._told is None:
                self._stream.require(shards[0])
            self._stream.ready(*shards)
            self._told = shards
        return self._order.indices(start, stop)
