"""From a file to what a game takes: a picture with the channels it was trained on, or a map of classes it knows.

What is read is kept as small as a file holds it, (H, W, C) of whole numbers, and becomes what the game takes piece by
piece: a label map of a large picture with a channel a class would fill the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparring.core.game import Batch, DataSpec, Game
from sparring.data.decode import channels, decode, decode_indices
from sparring.data.source import BrokenSample
from sparring.domains.translation.data import as_pictures
from sparring.domains.translation.label_maps import class_numbers, encode_labels
from sparring.errors import UserError

Stored = NDArray[Any]
"""(H, W, C), uint8 or uint16."""


@dataclass(frozen=True)
class Beside:
    """The bytes of what goes with an input, where there is any: a mask, a map of instances."""

    mask: bytes | None = None
    instance: bytes | None = None


@dataclass(frozen=True)
class Pictures:
    """Inputs are pictures of so many channels."""

    count: int

    def read(self, data: bytes, name: str, beside: Beside) -> Stored:
        """The picture in a file. Raises BrokenSample."""
        return self.take(decode(data, name))

    def take(self, picture: NDArray[np.uint8]) -> Stored:
        """A picture (H, W, C) with the channels that the game takes."""
        return channels(picture, self.count)

    def encode(self, stored: Stored) -> Batch:
        """As the game takes it: `source` (1, S, H, W)."""
        return Batch(source=as_pictures(_channels_first(stored)))


@dataclass(frozen=True)
class Holes:
    """Inputs are pictures with something missing: `count` channels in [-1, 1], 0 where it is, and a mask, 1 where it is.

    What is missing is bright in the mask beside the picture, or transparent in the picture itself.
    """

    count: int

    def read(self, data: bytes, name: str, beside: Beside) -> Stored:
        """The picture and its hole (0 or 255) as one more channel. Raises BrokenSample."""
        picture = decode(data, name)
        if beside.mask is not None:
            hole = channels(decode(beside.mask, name), 1) >= 128
            if hole.shape[:2] != picture.shape[:2]:
                raise BrokenSample(
                    f"is {picture.shape[1]}×{picture.shape[0]}, and its mask {hole.shape[1]}×{hole.shape[0]}: they must be alike"
                )
        elif picture.shape[2] in (2, 4):
            hole = picture[:, :, -1:] < 128
            picture = picture[:, :, :-1]
        else:
            raise BrokenSample("does not say what is missing: give --mask, or make the hole transparent")
        whole = channels(np.ascontiguousarray(picture), self.count)
        return np.concatenate([whole, np.where(hole, np.uint8(255), np.uint8(0))], axis=2)

    def take(self, picture: NDArray[np.uint8]) -> Stored:
        """Not for frames of a film, which say nothing of a hole. Raises BrokenSample."""
        raise BrokenSample("is a film, and nothing says what is missing in its frames")

    def encode(self, stored: Stored) -> Batch:
        """As the game takes it: `source` (1, count + 1, H, W)."""
        values = _channels_first(stored)
        hole = (values[:, -1:].int() > 0).float()
        return Batch(source=torch.cat([as_pictures(values[:, :-1]) * (1 - hole), hole], dim=1))


@dataclass(frozen=True)
class LabelMaps:
    """Inputs are maps of class numbers: grey or palette images, or images in the colours of the palette of the training's.

    facts: `spec.extra["input"]` of the data that the game was trained on.
    """

    facts: Mapping[str, Any]
    _numbers: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", class_numbers(self.facts["values"]))

    def read(self, data: bytes, name: str, beside: Beside) -> Stored:
        """The map, and where the game looks at edges of instances their numbers as a second channel. Raises BrokenSample."""
        values = self._known(data, name)
        if not self.facts["edges"]:
            return values
        if beside.instance is None:
            raise BrokenSample("has no map of instances, and the game was trained with them: give --instance FOLDER")
        instance = decode_indices(beside.instance, name)
        if instance.shape != values.shape:
            raise BrokenSample("and its map of instances differ in size")
        return np.concatenate([values.astype(np.uint16), instance.astype(np.uint16)], axis=2)

    def take(self, picture: NDArray[np.uint8]) -> Stored:
        """A frame of a film in the palette's colours. Raises BrokenSample."""
        if self.facts["edges"]:
            raise BrokenSample("is a film, and the game was trained with maps of instances")
        return self._by_colour(picture)

    def encode(self, stored: Stored) -> Batch:
        """As the game takes it: `source` (1, classes, H, W), and where it looks at instances their edges and `instance`."""
        values = _channels_first(stored)
        instance = values[:, 1:] if self.facts["edges"] else None
        made = Batch(source=encode_labels(values[:, :1], self._numbers, len(self.facts["values"]), instance))
        if instance is not None:
            made["instance"] = instance.long()
        return made

    def _known(self, data: bytes, name: str) -> Stored:
        try:
            values = decode_indices(data, name)
        except BrokenSample:
            picture = decode(data, name)  # says what is wrong where it is no image at all
            if picture.shape[2] < 3:
                raise
            return self._by_colour(picture)
        return self.known(values)

    def known(self, values: Stored) -> Stored:
        """The same numbers of classes. Raises BrokenSample where one was not in the training data."""
        strange = [
            value
            for value in np.unique(values).tolist()
            if value not in self.facts["values"] and value != self.facts["void"]
        ]
        if strange:
            known = ", ".join(map(str, self.facts["values"]))
            raise BrokenSample(
                f"holds the class {', '.join(map(str, strange[:5]))}, which the training data has not: it has {known}"
            )
        return values

    def _by_colour(self, picture: NDArray[np.uint8]) -> Stored:
        """The class of each place, by its colour."""
        coded = picture[:, :, :3].astype(np.int32) @ np.array([65536, 256, 1], np.int32)
        palette = np.array(self.facts["palette"], np.int32) @ np.array([65536, 256, 1], np.int32)
        colours, places = np.unique(coded, return_inverse=True)
        strange = colours[~np.isin(colours, palette)]
        if len(strange):
            colour = tuple(int(strange[0]) >> shift & 255 for shift in (16, 8, 0))
            raise BrokenSample(
                f"holds the colour {colour}, which is no class's in the training data's palette: give class numbers, or "
                "those colours"
            )
        order = np.argsort(palette, kind="stable")
        numbers = np.array(self.facts["values"])[order[np.searchsorted(palette[order], colours)]]
        stored: Stored = numbers[places].reshape(coded.shape)[:, :, None].astype(np.uint16)
        return stored


Inputs = Pictures | Holes | LabelMaps


def inputs_of(game: Game, spec: DataSpec, *, backwards: bool = False) -> Inputs:
    """What a trained game is given. backwards: from the side of outputs. Raises UserError for label maps as outputs."""
    facts = spec.extra.get("input")
    made: int | None = getattr(game, "input_channels", None)
    if backwards:
        return Pictures(spec.shape[0])
    if getattr(game, "takes_mask", False):
        return Holes((made or spec.shape[0] + 1) - 1)
    if facts is None or made is not None:
        return Pictures(made or spec.shape[0])
    return LabelMaps(facts) if facts["kind"] == "labels" else Pictures(int(facts["channels"]))


def read_style(data: bytes, name: str, count: int) -> Stored:
    """A picture of `count` channels whose look outputs are to have. Raises UserError."""
    try:
        return channels(decode(data, name), count)
    except BrokenSample as error:
        raise UserError(f"{name}: {error}") from error


def encode_picture(stored: Stored) -> Tensor:
    """A picture (H, W, C) as (1, C, H, W) in [-1, 1]."""
    return as_pictures(_channels_first(stored))


def _channels_first(stored: Stored) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(stored.transpose(2, 0, 1)))[None]
