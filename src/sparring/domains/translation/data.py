"""Data of translations: from the recipe's `data` section to batches of inputs and outputs that share their crops."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sparring.core import chance
from sparring.core.game import Batch, DataSpec
from sparring.data.convert import Progress
from sparring.data.dataset import Dataset
from sparring.data.decode import FORMATS
from sparring.data.labels import sort_classes
from sparring.data.rasters import Rasters, Reader, build_rasters, read_image, read_indices, read_mask
from sparring.data.scans import is_scan_source
from sparring.data.source import BrokenSample, ImageSource
from sparring.domains.translation.label_maps import class_numbers, distinct_colours, encode_labels
from sparring.domains.translation.layouts import Layout, Role, Sides, open_sides
from sparring.domains.translation.medical import Windows, check_windows, scan_reader, window_of
from sparring.errors import UserError
from sparring.recipe import Section

Kind = Literal["image", "labels"]
LABEL_FOLDERS = (
    "label",
    "labels",
    "seg",
    "segmentation",
    "mask",
    "masks",
    "train_label",
    "val_label",
    "test_label",
    "annotations",
    "gtfine",
)
MOST_CLASSES = 1024
CLASSES = "classes.txt"
MOST_OF_A_PALETTE = 128  # colours of a picture that is taken for a map of classes; photographs as GIF have more
LARGEST = 16384  # pixels of a side


class Change(Section):
    """The same random change of all that belongs to a row; everything is off by default."""

    flip_horizontal: float = pydantic.Field(0.0, ge=0, le=1, description="probability")
    flip_vertical: float = pydantic.Field(0.0, ge=0, le=1, description="probability")
    quarter_turns: bool = pydantic.Field(False, description="turn by 0, 90, 180 or 270 degrees; square crops only")


class TranslationOptions(Section):
    """The recipe's `data` section."""

    source: str | None = pydantic.Field(
        None, description="a folder or archive with two folders in it, a table of pairs, or images"
    )
    layout: Layout = pydantic.Field("auto", description="pairs, sides (no pairs), joined, table or single")
    sides: tuple[str, str] | None = pydantic.Field(
        None, description="folders (or columns) of inputs and outputs; none: found"
    )
    direction: Literal["a2b", "b2a"] = pydantic.Field("a2b", description="b2a: inputs and outputs change places")
    input: Literal["auto", "image", "labels"] = pydantic.Field(
        "auto", description="what inputs are: pictures, or maps of class numbers"
    )
    classes: list[str] | None = pydantic.Field(
        None, description="names of the classes of label maps, in the order of their numbers"
    )
    void: int | None = pydantic.Field(None, ge=0, description="the number in label maps that is no class")
    mask: str | None = pydantic.Field(None, description="folder (or column) of masks of the outputs")
    instance: str | None = pydantic.Field(None, description="folder (or column) of instance numbers of the label maps")
    size: int | tuple[int, int] | None = pydantic.Field(
        None, description="pixels, or [height, width], of what is trained on; none: as all are"
    )
    load: int | tuple[int, int] | None = pydantic.Field(
        None, description="the size that images are brought to, from which crops of `size` are cut; none: `size`"
    )
    fit: Literal["crop", "pad", "stretch", "patches"] = pydantic.Field(
        "crop",
        description="how an image of other proportions gets the size; patches: it keeps its own, and crops are cut from that",
    )
    channels: int | None = pydantic.Field(None, ge=1, le=4, description="of the outputs; none: 3")
    input_channels: int | None = pydantic.Field(None, ge=1, le=4, description="of input pictures; none: as the outputs")
    window: Windows = pydantic.Field(
        None,
        description="of scans: [low, high] in their units, which become black and white, or of each side, {input: …, output: …}; none: found in the data",
    )
    held_out: str | None = pydantic.Field(
        None,
        description="data that are not learnt from: what sheets show and figures are measured on during the training",
    )
    limit: int | None = pydantic.Field(None, ge=1, description="keep so many rows, chosen at random, always the same")
    cache: str | None = pydantic.Field(None, description="folder of decoded images; none: $SPARRING_CACHE or ~/.cache")
    augment: Change = Change()

    @pydantic.field_validator("size", "load")
    @classmethod
    def _positive(cls, value: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
        numbers = value if isinstance(value, tuple) else (value,)
        if any(number is not None and not 1 <= number <= LARGEST for number in numbers):
            raise ValueError(f"a size is 1 to {LARGEST} pixels")
        return value

    @pydantic.field_validator("window")
    @classmethod
    def _opens(cls, value: Windows) -> Windows:
        return check_windows(value)

    @pydantic.model_validator(mode="after")
    def _fits(self) -> TranslationOptions:
        if self.fit == "patches" and (self.size is None or self.load is not None):
            raise ValueError(
                "patches are cut from images as they are: data.size says how large, and data.load is left out"
            )
        if self.load is not None and (
            self.size is None or any(a < b for a, b in zip(pair(self.load), pair(self.size), strict=True))
        ):
            raise ValueError("crops of data.size are cut from images of data.load, which must not be smaller")
        return self


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """A size as (H, W)."""
    return (size, size) if isinstance(size, int) else size


def open_translation(
    options: TranslationOptions, *, known: dict[str, Any] | None = None, progress: Progress | None = None
) -> TranslationData:
    """Find the sides, decode them on the first start, and find them in the cache afterwards.

    known: `spec.extra` of the data that a game was trained on, whose reading of the files holds for these too.
    Raises UserError.
    """
    sides = open_sides(
        str(options.source), layout=options.layout, sides=options.sides, mask=options.mask, instance=options.instance
    )
    if options.direction == "b2a":
        sides = _turned(sides)
    if options.classes is None and known is None:
        options = options.model_copy(update={"classes": listed_classes(str(options.source))})
    size = None if options.size is None else pair(options.size)
    load = size if options.load is None else pair(options.load)
    folder = Path(options.cache).expanduser() if options.cache else None
    kind: Kind | None = kind_of(options, sides, known)
    shared: dict[str, Any] = {"folder": folder, "progress": progress}
    if options.fit != "patches":
        shared |= {"size": load, "how": options.fit}
    count = options.channels or 3
    readers: dict[Role, tuple[Reader, int | None]] = {
        "input": (read_image, options.input_channels or count) if kind == "image" else (read_indices, None),
        "output": (read_image, count),
        "mask": (read_mask, None),
        "instance": (read_indices, None),
    }
    rasters: dict[Role, Rasters] = {}
    windows: dict[str, list[float]] = {}
    for role, source in sides.sources.items():
        reader, wanted = readers[role]
        # What an image is padded with is of no class, where there is a number for that.
        shared["fill"] = (options.void or 0) if role == "input" and kind == "labels" else 0
        own, given = scan_reader(reader, source), {}
        if reader is read_image and own is not reader:
            windows[role] = list(window_of(role, source, options.window, known, folder))
            # Scans are grey, where nothing else is said.
            wanted = (options.input_channels if role == "input" else None) or options.channels or 1
            given = {"window": windows[role]}
        rasters[role] = build_rasters(source, reader=own, given=given, count=wanted, **shared)
    return TranslationData(sides, rasters, options, kind, known, windows)


class TranslationData:
    """Rows of a translation, gathered by index into batches.

    spec: shape (C, H, W) of the outputs, classes where a single folder has class folders, count, and in `extra`:
        paired: whether an output is its input's. sides: the names of both. roles: what a row has. counts: of inputs and of
        outputs, which differ where they are not paired: the first rows hold each once.
        input: None where a game makes inputs itself, otherwise `kind` (`image` or `labels`), `channels` of `source` in a
        batch, and of label maps `values` (the number in the files of each class), `classes` (names), `void`, `palette`
        (RGB of each class), `edges` (whether the last channel marks where instances meet).
        windows: of sides that are scans, the intensities [low, high] in their units that are -1 and 1 in batches.
    Pictures stay as they were decoded, in the memory-mapped cache; a batch reads its crops and no more.
    """

    spec: DataSpec
    fingerprint: str
    broken: list[tuple[str, str]]
    held_out: Dataset | None = None

    def __init__(
        self,
        sides: Sides,
        rasters: dict[Role, Rasters],
        options: TranslationOptions,
        kind: Kind | None,
        known: dict[str, Any] | None,
        windows: dict[str, list[float]],
    ) -> None:
        self._sides, self._rasters, self._device = sides, rasters, torch.device("cpu")
        self._change, self._patches = options.augment, options.fit == "patches"
        self.broken = [(name, "has no partner of its name") for name in sides.alone]
        self._rows = self._readable(options.limit)
        self.paired = sides.paired
        self._size = self._common_size(options)
        source = sides.sources["output"]
        single = sides.layout == "single"
        self._labels, classes = _labels(source, self._rows["output"], known) if single else (None, ())
        extra: dict[str, Any] = {
            "paired": sides.paired,
            "sides": list(sides.names),
            "roles": sorted(rasters),
            "input": None if kind is None else self._describe_input(kind, options, known),
            "counts": {role: len(rows) for role, rows in self._rows.items() if role in ("input", "output")},
            "output_dtype": str(rasters["output"].pixels.dtype),
        }
        if sides.hint:
            extra["hint"] = sides.hint
        if windows:
            extra["windows"] = windows
        if self._labels is not None:
            extra["label_counts"] = torch.bincount(self._labels, minlength=len(classes)).tolist()
            extra["classes"] = list(classes)
        channels = int(rasters["output"].shapes[self._rows["output"]][0, 0])
        self.spec = DataSpec((channels, *self._size), classes, len(self), extra)
        digest = hashlib.blake2b(
            json.dumps([self._size, options.limit, extra], sort_keys=True).encode(), digest_size=16
        )
        for role in sorted(rasters):
            digest.update(f"{role}{rasters[role].fingerprint}".encode())
        self.fingerprint = digest.hexdigest()
        self._numbers = self._class_numbers()

    def __len__(self) -> int:
        return max(len(rows) for rows in self._rows.values())

    @property
    def names(self) -> list[str]:
        """The name of each row's output, as its source gives it."""
        names = self._rasters["output"].names
        return [names[self._rows["output"][index % len(self._rows["output"])]] for index in range(len(self))]

    def to(self, device: torch.device) -> Self:
        """Batches are on `device` from now on; what they are gathered from stays where it is."""
        self._device = torch.device(device)
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        """The rows at `indices` (N,), cut at random places and changed at random, or cut from the middle.

        `data` float32 (N, C, H, W) in [-1, 1]. `source` (N, S, H, W), where there are inputs: pictures in [-1, 1], or
        a 1 in the channel of each place's class. `mask` (N, 1, H, W): 1 where the mask is set. `instance` int64
        (N, 1, H, W): numbers of instances, where there are any. `label` int64 (N,), where a single folder has class folders. Where nothing belongs together, a random input goes with each output,
        or, without `augment`, the one whose number is the same around the circle.
        """
        rows = indices.cpu()
        count = len(rows)
        numbers = self._row_numbers(rows, augment)
        device = torch.device("cpu")
        places = (chance.uniform(count, 4, device=device) if augment else torch.full((count, 4), 0.5)).tolist()
        changes = (chance.uniform(count, 3, device=device) if augment else torch.ones(count, 3)).tolist()
        cut: dict[Role, Tensor] = {}
        for role, raster in self._rasters.items():
            channels = int(raster.shapes[numbers[role][0], 0]) if count else 1
            made = np.empty((count, channels, *self._size), raster.pixels.dtype)
            # Sides that do not belong together are not cut at one place either.
            apart = 2 if role == "input" and not self.paired else 0
            for row, number in enumerate(numbers[role].tolist()):
                image = _cut(raster[number], self._size, places[row][apart : apart + 2])
                made[row] = self._changed(image, changes[row])
            cut[role] = self._moved(made)
        batch = Batch(data=as_pictures(cut["output"]))
        if "input" in cut:
            batch["source"] = self._inputs(cut["input"], cut.get("instance"))
        if "mask" in cut:
            batch["mask"] = (cut["mask"] > 0).float()
        if "instance" in cut:
            batch["instance"] = cut["instance"].long()
        if self._labels is not None:
            batch["label"] = self._labels[rows].to(self._device)
        return batch

    def _moved(self, values: NDArray[Any]) -> Tensor:
        """As a tensor on the device; a GPU fetches it while the processor goes on."""
        tensor = torch.from_numpy(values)
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)

    def _inputs(self, values: Tensor, instance: Tensor | None) -> Tensor:
        facts = self.spec.extra["input"]
        if facts["kind"] == "image":
            return as_pictures(values)
        return encode_labels(
            values, self._numbers.to(values.device), len(facts["values"]), instance if facts["edges"] else None
        )

    def _changed(self, image: NDArray[Any], chances: Sequence[float]) -> NDArray[Any]:
        """A view of an image (C, H, W), changed as the numbers from 0 to 1 say that decide each change."""
        if chances[0] < self._change.flip_horizontal:
            image = image[:, :, ::-1]
        if chances[1] < self._change.flip_vertical:
            image = image[:, ::-1]
        if self._change.quarter_turns and chances[2] < 1:
            image = np.rot90(image, int(chances[2] * 4), (1, 2))
        return image

    def _row_numbers(self, indices: Tensor, augment: bool) -> dict[Role, NDArray[np.int64]]:
        chosen = indices.numpy()
        if self.paired or "input" not in self._rows:
            return {role: rows[chosen] for role, rows in self._rows.items()}
        inputs, outputs = len(self._rows["input"]), len(self._rows["output"])
        here, there = chosen % inputs, chosen % outputs
        if augment:
            # The longer side goes through all of its own, the other is drawn.
            drawn = chance.uniform(len(chosen), device=torch.device("cpu")).double().numpy()
            if outputs >= inputs:
                here = (drawn * inputs).astype(np.int64)
            else:
                there = (drawn * outputs).astype(np.int64)
        # Masks are those of the outputs.
        return {role: rows[here if role == "input" else there] for role, rows in self._rows.items()}

    def _readable(self, limit: int | None) -> dict[Role, NDArray[np.int64]]:
        """The rows all of whose images could be read, and that belong together by their sizes."""
        sides = self._sides
        good: dict[Role, NDArray[np.bool_]] = {}
        for role, numbers in sides.rows.items():
            raster = self._rasters[role]
            good[role] = np.array([number not in raster.broken for number in numbers.tolist()], bool)
            self.broken += [(self._called(role, number), why) for number, why in raster.broken.items()]
        together = [role for role in good if sides.paired or role != "input"]
        whole = np.logical_and.reduce([good[role] for role in together])
        anchor = self._rasters["output"].shapes[sides.rows["output"]][:, 1:]
        for role in together:
            same = (self._rasters[role].shapes[sides.rows[role]][:, 1:] == anchor).all(axis=1)
            for number in np.flatnonzero(whole & ~same).tolist():
                (h, w), (oh, ow) = self._rasters[role].shapes[sides.rows[role][number]][1:], anchor[number]
                name = self._called(role, int(sides.rows[role][number]))
                self.broken.append((name, f"is {w}×{h}, and its partner {ow}×{oh}: they cannot be cut alike"))
            whole &= same
        rows: dict[Role, NDArray[np.int64]] = {
            role: each[whole if role in together else good[role]] for role, each in sides.rows.items()
        }
        if limit is not None:
            for role in rows:
                count = len(rows[role])
                chosen = (
                    np.sort(np.random.default_rng(0).permutation(count)[:limit]) if limit < count else np.arange(count)
                )
                rows[role] = rows[role][chosen]
        if any(not len(each) for each in rows.values()):
            first = f" ({self.broken[0][0]}: {self.broken[0][1]})" if self.broken else ""
            raise UserError(f"{sides.sources['output'].name}: no row is usable{first}")
        return rows

    def _called(self, role: Role, number: int) -> str:
        """An image's name, with its side where there are two."""
        name = self._rasters[role].names[number]
        if self._sides.layout in ("single", "joined", "table"):
            return name
        side = {"input": self._sides.names[0], "output": self._sides.names[1]}.get(role, role)
        return f"{side}/{name}"

    def _common_size(self, options: TranslationOptions) -> tuple[int, int]:
        shapes = np.concatenate([self._rasters[role].shapes[rows] for role, rows in self._rows.items()])
        sizes = np.unique(shapes[:, 1:], axis=0)
        if options.size is None and len(sizes) > 1:
            (h, w), (oh, ow) = sizes[0], sizes[-1]
            raise UserError(
                f"{options.source}: sizes differ ({w}×{h}, {ow}×{oh}): say --set data.size=256, or with "
                "data.fit=patches the size of the crops"
            )
        size = (int(sizes[0, 0]), int(sizes[0, 1])) if options.size is None else pair(options.size)
        small = sizes[(sizes < size).any(axis=1)]
        if len(small):
            raise UserError(
                f"{options.source}: an image of {small[0, 1]}×{small[0, 0]} pixels has no patch of {size[1]}×{size[0]}: "
                "say a smaller data.size"
            )
        if options.augment.quarter_turns and size[0] != size[1]:
            raise UserError(
                f"data.augment.quarter_turns needs square crops, and they are {size[1]}×{size[0]}: leave it out"
            )
        return size

    def _describe_input(self, kind: Kind, options: TranslationOptions, known: dict[str, Any] | None) -> dict[str, Any]:
        raster = self._rasters["input"]
        if kind == "image":
            return {"kind": "image", "channels": int(raster.shapes[self._rows["input"]][0, 0])}
        edges = "instance" in self._rasters
        found = raster.values
        if known is not None and (described := known.get("input")):
            if edges != described["edges"]:
                raise UserError(
                    "the game was trained with instances of its label maps: say data.instance=FOLDER"
                    if described["edges"]
                    else "the game was trained without instances: leave out data.instance"
                )
            strange = [value for value in found if value not in described["values"] and value != described["void"]]
            if strange:
                raise UserError(
                    f"{options.source}: its label maps hold class {strange[0]}, which the training data has not"
                )
            return dict(described)
        values = [value for value in found if value != options.void]
        if options.classes is not None:
            if values and max(values) >= len(options.classes):
                raise UserError(
                    f"{options.source}: its label maps hold class {max(values)}, and data.classes names {len(options.classes)}: "
                    "name all, or say which number is none with data.void"
                )
            values = list(range(len(options.classes)))
        if len(values) > MOST_CLASSES:
            raise UserError(f"{options.source}: {len(values)} different values are no classes: say data.input=image")
        names = options.classes or [str(value) for value in values]
        palette = _palette(self._sides.sources["input"], values)
        channels = len(values) + edges
        return {
            "kind": "labels", "channels": channels, "values": values, "classes": names, "void": options.void,
            "palette": palette, "edges": edges,
        }  # fmt: skip

    def _class_numbers(self) -> Tensor:
        facts = self.spec.extra["input"]
        return class_numbers(facts["values"]) if facts and facts["kind"] == "labels" else torch.empty(0)


def listed_classes(source: str) -> list[str] | None:
    """The names in a file `classes.txt` beside the sides, where a set brings one: a line a class."""
    file = Path(source).expanduser() / CLASSES
    try:
        return file.read_text(encoding="utf-8").split("\n")[:-1] or None
    except (OSError, UnicodeDecodeError):
        return None


def as_pictures(values: Tensor) -> Tensor:
    """Stored values, uint8 or uint16, as float32 in [-1, 1]."""
    half = 32767.5 if values.dtype == torch.uint16 else 127.5
    return values.to(torch.float32).div_(half).sub_(1.0)


def _cut(image: NDArray[Any], size: tuple[int, int], at: Sequence[float]) -> NDArray[Any]:
    """A part (C, *size) of an image (C, H, W); `at`: which of the possible places, as shares from 0 up to 1."""
    top, left = (int(share * (whole - part + 1)) for share, whole, part in zip(at, image.shape[1:], size, strict=True))
    return image[:, top : top + size[0], left : left + size[1]]


def _turned(sides: Sides) -> Sides:
    """Inputs and outputs change places. Raises UserError where there is one side only."""
    if "input" not in sides.sources:
        raise UserError("data.direction=b2a needs inputs and outputs, and this source has one side")
    if {"mask", "instance"} & sides.sources.keys():
        raise UserError("data.direction=b2a: masks and instances belong to their own side: leave data.direction out")
    swap: dict[Role, Role] = {"input": "output", "output": "input"}
    sides.sources = {swap[role]: source for role, source in sides.sources.items()}
    sides.rows = {swap[role]: rows for role, rows in sides.rows.items()}
    sides.names = (sides.names[1], sides.names[0])
    return sides


def kind_of(options: TranslationOptions, sides: Sides, known: dict[str, Any] | None = None) -> Kind | None:
    """What the inputs are; None where there are none. known: as for `open_translation`."""
    if "input" not in sides.sources:
        return None
    if known is not None and known.get("input"):
        kind: Kind = known["input"]["kind"]
        return kind
    if options.input != "auto":
        return options.input
    source = sides.sources["input"]
    folder = Path(sides.names[0].rpartition("*")[0] or sides.names[0])
    named = any(part.lower() in LABEL_FOLDERS for part in folder.parts)
    if is_scan_source(source):
        return "labels" if named else "image"
    judged = [_holds_numbers(file, named) for file in _first_files(source)]
    return "labels" if judged and all(judged) else "image"


def _holds_numbers(file: Image.Image, named: bool) -> bool:
    """Whether a file's values are those of classes: few of a palette, or grey ones in a folder that says so."""
    if file.format == "JPEG":  # its values are no longer what they were
        return False
    if file.mode == "P":
        colours = file.getcolors(256)
        return named or (colours is not None and len(colours) <= MOST_OF_A_PALETTE)
    return named and file.mode in ("1", "L", "I", "I;16")


def _first_files(source: ImageSource, count: int = 4) -> Iterator[Image.Image]:
    """The first images that are files and can be read."""
    for index in range(min(len(source), count)):
        try:
            data = source.raw(index)
            if data is None:
                return
            with Image.open(io.BytesIO(data), formats=FORMATS) as file:
                file.load()
                yield file
        except (OSError, ValueError, SyntaxError, BrokenSample):
            continue


def _palette(source: ImageSource, values: Sequence[int]) -> list[list[int]]:
    """A colour for each class: that of the first file's palette, or one of as many around the circle of hues."""
    for file in _first_files(source, 1):
        colours = file.getpalette("RGB") if file.mode == "P" else None
        if colours is not None and len(colours) >= 3 * (max(values, default=0) + 1):
            return [colours[3 * value : 3 * value + 3] for value in values]
    return distinct_colours(len(values))


def _labels(
    source: ImageSource, rows: NDArray[np.int64], known: dict[str, Any] | None
) -> tuple[Tensor | None, tuple[str, ...]]:
    """The class of each row, where the source has class folders; numbered as in the data that a game knows."""
    if not source.labels:
        return None, ()
    found = sort_classes(source.labels[index] for index in rows.tolist())
    classes = tuple((known or {}).get("classes") or found)
    if strange := [name for name in found if name not in classes]:
        raise UserError(f"{source.name}: holds the class {strange[0]!r}, which the training data has not")
    numbers = {name: number for number, name in enumerate(classes)}
    return torch.tensor([numbers[source.labels[index]] for index in rows.tolist()]), classes
