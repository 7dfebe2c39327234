"""One picture of any size through a game: whole where it fits, in tiles where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparring.core.game import Batch, Game
from sparring.data.decode import fit
from sparring.domains.domain import Make
from sparring.domains.translation.inputs import Inputs, Stored, encode_picture
from sparring.domains.translation.tiles import (
    Grid,
    Span,
    bytes_per_pixel,
    choose_tile,
    common_statistics,
    lay,
    translate_tiled,
)
from sparring.errors import UserError
from sparring.imaging.show import to_uint8

COUNTED = 128
"""Pixels a side, at least, of the piece on which the memory of a pass is counted."""

Finish = Callable[[Tensor], NDArray[Any]]
"""Outputs (C, h, w), float32 → (h, w, C) of the values of a file."""


def as_bytes(made: Tensor) -> NDArray[np.uint8]:
    """Outputs in [-1, 1], (C, h, w), as bytes (h, w, C). Raises UserError for NaN."""
    pixels: NDArray[np.uint8] = to_uint8(made).permute(1, 2, 0).numpy()
    return pixels


class WholePictures:
    """Translates stored pictures with a game, bit for bit the same for the same seed.

    make: what the game makes of a batch with a seed. inputs: what the game takes. style: a picture (H, W, C) whose look
    outputs are to have, for games that take one: the same for all tiles, unless it is of the input's layout. tile: pixels a side, of the input; 0 never cuts; None: tiles where the activations of the whole picture
    would take more than `tiles.BUDGET` bytes, as large as fit into that. overlap: of tiles; None: a quarter.
    """

    def __init__(
        self,
        game: Game,
        make: Make,
        inputs: Inputs,
        *,
        style: Stored | None = None,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        self.make, self.inputs, self.style = make, inputs, style
        self.laid_out = bool(getattr(game, "style_of_layout", False))
        self.norms: list[nn.Module] = [*game.averaged().values()]
        self.stride, self.scale = stride_of(game), int(getattr(game, "scale", 1))
        self.tile, self.overlap = tile, overlap
        self.tiled = 0
        """Pictures that were cut, so far."""
        self._cost: float | None = None
        if tile:
            lay(tile, tile, tile, self._overlap(tile), self.stride)

    def translate(self, stored: Stored, seed: int, finish: Finish = as_bytes) -> NDArray[Any]:
        """What becomes of a picture (H, W, C), as `finish` gives it, H and W times `scale`. Raises UserError."""
        height, width = stored.shape[:2]
        mirrored, top, left = self._mirrored(stored)
        style = self._style(height, width)
        grid = self.grid(stored)

        def cut(rows: Span, columns: Span) -> Batch:
            piece = self.inputs.encode(mirrored[slice(*rows), slice(*columns)])
            if style is not None:
                part = style[slice(*rows), slice(*columns)] if self.laid_out else style
                piece["style"] = encode_picture(part)
            return piece

        def make(piece: Batch) -> Tensor:
            return self.make(piece, seed)["data"].float().cpu()

        if len(grid) == 1:
            whole = translate_tiled(make, cut, grid, finish, scale=self.scale)
        else:
            self.tiled += 1

            def look() -> None:
                patches = [cut(*patch) for patch in grid.patches(self.stride)]
                make(Batch({name: torch.cat([each[name] for each in patches]) for name in patches[0]}))

            with common_statistics(self.norms, look):
                whole = translate_tiled(make, cut, grid, finish, scale=self.scale)
        rows, columns = (
            slice(at * self.scale, (at + size) * self.scale) for at, size in ((top, height), (left, width))
        )
        return whole[rows, columns]

    def _style(self, height: int, width: int) -> Stored | None:
        """The style for a picture of this size, with what is mirrored around it where both are laid out alike."""
        if self.style is None or not self.laid_out:
            return self.style
        return self._mirrored(fit(self.style, (height, width), "stretch"))[0]

    def _mirrored(self, stored: Stored) -> tuple[Stored, int, int]:
        """Continued by mirroring to multiples of `stride`, evenly on both sides, as `any_size` does; what lies before."""
        height, width = stored.shape[:2]
        down, across = -height % self.stride, -width % self.stride
        if not down and not across:
            return stored, 0, 0
        top, left = down // 2, across // 2
        margins = ((top, down - top), (left, across - left), (0, 0))
        return np.pad(stored, margins, mode="reflect"), top, left

    def grid(self, stored: Stored) -> Grid:
        """Where the tiles of a picture (H, W, C) lie, once its sides are multiples of `stride`."""
        height, width = (side + -side % self.stride for side in stored.shape[:2])
        tile = self.tile
        if tile is None:
            tile = choose_tile(height, width, self._counted(stored), self.stride)
        if not tile:
            return Grid(((0, height),), ((0, width),))
        return lay(height, width, tile, self._overlap(tile), self.stride)

    def _overlap(self, tile: int) -> int:
        return tile // 4 if self.overlap is None else self.overlap

    def _counted(self, stored: Stored) -> float:
        """Bytes a pixel of a pass, counted on a corner of the first picture."""
        if self._cost is None:
            side = -(-COUNTED // self.stride) * self.stride
            corner = stored[:side, :side]
            given = self.inputs.encode(corner)
            if self.style is not None:
                given["style"] = encode_picture(
                    fit(self.style, corner.shape[:2], "stretch") if self.laid_out else self.style
                )
            self._cost = bytes_per_pixel(lambda: self.make(given, 0), corner.shape[0] * corner.shape[1])
        return self._cost


def stride_of(game: Game) -> int:
    """What the sides of a game's inputs must be multiples of, for it not to continue them by mirroring."""
    own = getattr(game, "stride", None)
    if own is not None:
        return int(own)
    modules = [each for module in game.averaged().values() for each in (module, *module.children())]
    found = [each.stride for each in modules if isinstance(getattr(each, "stride", None), int)]
    return max([1, *(int(each) for each in found)])  # type: ignore[arg-type]


def require_tiles(tile: int | None, overlap: int | None) -> None:
    """Raise UserError for an overlap of nothing."""
    if overlap is not None and not tile:
        raise UserError("--overlap is between tiles: say how large these are with --tile")
