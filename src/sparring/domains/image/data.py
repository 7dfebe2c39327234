"""Image data: from the recipe's `data` section to batches in [-1, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import pydantic
import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.data.ahead import Foreseen, MappedRows
from sparring.data.augment import Augment, build
from sparring.data.cache import ImageCache, build_cache
from sparring.data.convert import Progress
from sparring.data.decode import Fit
from sparring.data.labelling import Asked, VectorKind, describe_labels
from sparring.data.sampling import Order
from sparring.data.sources import open_source
from sparring.data.stream_index import is_stream
from sparring.domains.image.stream import ImageStream, StreamOptions, open_stream
from sparring.errors import UserError
from sparring.host import free_memory
from sparring.recipe import Section

SHARE = 0.25  # of a device's free memory that the images may take


class ImageOptions(Section):
    """The recipe's `data` section."""

    source: str = pydantic.Field("digits", description="a folder, archive, array, IDX, table, hf:NAME, or digits")
    labels_file: str | None = pydantic.Field(None, description="labels from elsewhere: a table of paths and labels, …")
    labels: Asked = pydantic.Field(
        "auto", description="classes, attributes, values; auto: as they look; none: leave them aside"
    )
    label_columns: list[str] | None = pydantic.Field(None, description="the columns of a table that are labels")
    size: int | tuple[int, int] | None = pydantic.Field(
        None, description="pixels, or [height, width]; none: as they are"
    )
    channels: int | None = pydantic.Field(
        None, ge=1, le=4, description="1 grey, 2 with alpha, 3 RGB, 4 RGBA; none: what all images together need"
    )
    fit: Fit = pydantic.Field("crop", description="how an image of other proportions gets the size")
    classes: list[str] | None = pydantic.Field(None, description="keep only these labels")
    limit: int | None = pydantic.Field(None, ge=1, description="keep so many images, chosen at random, always the same")
    cache: str | None = pydantic.Field(None, description="folder of decoded images; none: $SPARRING_CACHE or ~/.cache")
    augment: Augment = Augment()
    on_device: Literal["auto"] | bool = pydantic.Field("auto", description="keep all images in the device's memory")
    stream: StreamOptions = StreamOptions()

    @pydantic.field_validator("classes", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        # `--set data.classes=[3, 5]` means the labels "3" and "5".
        return [str(item) if isinstance(item, int) else item for item in value] if isinstance(value, list) else value

    @pydantic.field_validator("size")
    @classmethod
    def _positive(cls, value: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
        numbers = value if isinstance(value, tuple) else (value,)
        if any(number is not None and not 1 <= number <= 16384 for number in numbers):
            raise ValueError("a size is 1 to 16384 pixels")
        return value


def open_images(options: ImageOptions, *, progress: Progress | None = None) -> Images:
    """Open images, decoding them on the first start and finding them in the cache afterwards, or streaming shards.

    progress: called with (done, all) while images are decoded.
    Raises UserError where there is nothing to read, sizes differ and none is asked for, …
    """
    size = (options.size, options.size) if isinstance(options.size, int) else options.size
    folder = Path(options.cache).expanduser() if options.cache else None
    if is_stream(options.source):
        for key, usual in (
            ("labels_file", None), ("labels", "auto"), ("label_columns", None), ("classes", None), ("limit", None),
        ):  # fmt: skip
            if getattr(options, key) != usual:
                raise UserError(f"{options.source}: is streamed, and data.{key} is for data that is not: leave it out")
        return open_stream(
            options.source,
            size=size,
            channels=options.channels,
            fit=options.fit,
            augment=options.augment,
            options=options.stream,
            cache=folder,
            progress=progress,
        )
    source = open_source(
        options.source,
        labels_file=options.labels_file,
        labels=options.labels,
        label_columns=options.label_columns,
    )
    cache = build_cache(
        source,
        size=size,
        channels=options.channels,
        fit=options.fit,
        classes=options.classes,
        limit=options.limit,
        labels=options.labels,
        label_columns=options.label_columns,
        folder=folder,
        progress=progress,
    )
    return ImageData(cache, augment=options.augment, on_device=options.on_device)


def open_pair(
    fake: str, real: str, *, size: tuple[int, int] | None = None, progress: Progress | None = None
) -> tuple[Images, Images]:
    """Open samples and the data to set them against, in one form: (fake, real).

    size: (H, W) for both; None: the samples', whichever size the data has. Raises UserError.
    """

    def opened(source: str, **wanted: Any) -> Images:
        return open_images(ImageOptions(source=source, **wanted), progress=progress)

    try:
        samples = opened(fake, size=size)
    except UserError as error:
        # Here there is no recipe whose key could be set.
        raise UserError(str(error).replace("--set data.size=", "--size ")) from error
    height, width = samples.spec.shape[1:]
    data = opened(real, size=(height, width))
    channels = max(samples.spec.shape[0], data.spec.shape[0])
    if samples.spec.shape[0] != channels:
        samples = opened(fake, size=size, channels=channels)
    if data.spec.shape[0] != channels:
        data = opened(real, size=(height, width), channels=channels)
    return samples, data


class ImageData:
    """Decoded images, gathered by index into batches.

    spec: shape (C, H, W), class names, count, and in `extra` what `core.labels.Labels.of` reads.
    fingerprint: digest of the content and of the settings that decide the pixels (augmentation is not one of them).
    broken: (name, reason) of each image that could not be read.
    Images stay uint8; on the device where they fit into a quarter of its free memory, else in the memory-mapped cache.
    """

    spec: DataSpec
    fingerprint: str
    broken: list[tuple[str, str]]

    def __init__(
        self, cache: ImageCache, *, augment: Augment | None = None, on_device: Literal["auto"] | bool = "auto"
    ) -> None:
        self._images = torch.from_numpy(cache.images)
        self._rows = MappedRows(cache.images) if isinstance(cache.images, np.memmap) else None
        self._order: Foreseen | None = None
        self._labels, extra = _labels(cache)
        self._on_device, self._device = on_device, torch.device("cpu")
        channels, height, width = self._images.shape[1:]
        self.spec = DataSpec((channels, height, width), cache.classes, len(cache), extra)
        self.fingerprint, self.broken = cache.fingerprint, cache.broken
        self._cache = cache
        self._augment = build(augment or Augment(), (channels, height, width))

    def __len__(self) -> int:
        return len(self._images)

    @property
    def names(self) -> list[str]:
        """The name of each image, as its source gives it."""
        return self._cache.names

    def to(self, device: torch.device) -> Self:
        """Play on `device` from now on, and keep the images there if they fit (or `on_device` says so)."""
        self._device = torch.device(device)
        if self._device.type == "cuda" and self._device.index is None:
            self._device = torch.device("cuda", torch.cuda.current_device())
        fits = self._on_device is True or (
            self._on_device == "auto" and self._images.nbytes < SHARE * _free(self._device)
        )
        if fits and self._rows is None and self._images.device == self._device:
            return self  # a rehearsal has them there already
        if fits:
            # A copy in memory even on the CPU: gathering from a mapped file waits for the disk.
            self._rows = None
            self._images = self._images.to(self._device, copy=True)
            self._labels = None if self._labels is None else self._labels.to(self._device, copy=True)
        elif self._rows and isinstance(self._cache.images, np.memmap):
            self._rows = MappedRows(self._cache.images, pin=self._device.type == "cuda")
        return self

    def order(self, batch_size: int, seed: int) -> Order:
        """Random permutations, as for any data; from what comes next, images that lie on the disk are fetched ahead."""
        self._order = Foreseen(len(self), batch_size, seed)
        return self._order

    def choose(self, count: int, seed: int) -> Tensor:
        """Samples to measure against, at random. See `data.dataset.choose`."""
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count]

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        """The images at `indices` (N,): `data` float32 (N, C, H, W) in [-1, 1], and `label` where they are labelled.

        Labels: classes int64 (N,), otherwise float32 (N, K), of which values have mean 0 and variance 1.
        augment: apply the recipe's augmentation, with randomness from torch's global generator.
        """
        data = self._pixels(indices).to(torch.float32).div_(127.5).sub_(1.0)
        if augment and self._augment:
            data = self._augment(data)
        batch = Batch(data=data)
        if self._labels is not None:
            batch["label"] = self._gather(self._labels, indices)
        return batch

    def _pixels(self, indices: Tensor) -> Tensor:
        if self._rows is None:
            return self._gather(self._images, indices)
        chosen = self._rows.gather(indices)
        if self._order and (following := self._order.after(indices)) is not None:
            self._rows.expect(following)
        return chosen.to(self._device, non_blocking=True)

    def _gather(self, values: Tensor, indices: Tensor) -> Tensor:
        chosen = values.index_select(0, indices.to(values.device))
        if chosen.device == self._device:
            return chosen
        if self._device.type == "cuda":
            chosen = chosen.pin_memory()
        return chosen.to(self._device, non_blocking=True)


Images = ImageData | ImageStream


def _labels(cache: ImageCache) -> tuple[Tensor | None, dict[str, Any]]:
    """Labels as networks see them, and what a specification says of them."""
    extra: dict[str, Any] = {"label_note": cache.note} if cache.note else {}
    if cache.labels is None:
        return None, extra
    if cache.kind == "classes":
        numbers = torch.from_numpy(cache.labels)
        return numbers, {**extra, "label_counts": torch.bincount(numbers, minlength=len(cache.classes)).tolist()}
    seen, described = describe_labels(cache.labels, cast(VectorKind, cache.kind))
    return torch.from_numpy(seen), {**extra, **described}


def _free(device: torch.device) -> int:
    """Bytes that are free on a device."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free_memory()
