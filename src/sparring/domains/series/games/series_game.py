"""What the games on series share: how samples are drawn, a noise vector a step, and what goes with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sparring.core import chance
from sparring.core.exportable import Exportable, Input, Noise, Vector
from sparring.core.game import Batch, DataSpec
from sparring.core.labels import Labels
from sparring.domains.series.attributes import SeriesLabels, attributes_of
from sparring.domains.series.clock import Clock, calendar
from sparring.domains.series.games.shown_game import ShownGame
from sparring.errors import UserError

PASSED = ("real", "real_mask", "frame", "attributes", "label")  # of codes, on to the samples


class SeriesGame(ShownGame):
    """Noise of `noise_size` numbers a step becomes a window (T, F). A code is the noise of all steps, flat.

    What a sample has besides values is that of a window of the data, its frame: attributes, length and times go together.

    pads: whether the game's losses look only at a window's own steps, where sequences are shorter. conditional: whether its
    networks are told attributes and calendar; then `decode` gets them behind the noise of each step. uniform: noise is
    U[0, 1) and not N(0, 1).
    """

    pads: ClassVar[bool] = False
    conditional: ClassVar[bool] = False
    uniform: ClassVar[bool] = False
    of_samples = ("shown", "shown_lengths", "frames")

    shown_mask: Tensor
    frame_attributes: Tensor
    frame_mask: Tensor
    frame_calendar: Tensor

    def __init__(self, spec: DataSpec, noise_size: int) -> None:
        super().__init__()
        self.steps, self.size = spec.shape
        self.noise_size = noise_size
        self.classes = spec.classes
        extra, frames = spec.extra, spec.extra.get("frames", {})
        self._require_able(extra, frames)
        self.keep_shown(spec)
        # All are the data's, and not the training's: checkpoints do not hold them.
        self.register_buffer("shown_mask", self._mask(extra.get("shown_lengths", [])), persistent=False)
        attributes = attributes_of(extra) if self.conditional else []
        rows = torch.tensor(frames.get("attributes", []), dtype=torch.float32)
        self.label_table = SeriesLabels(attributes, extra.get("label"), rows) if attributes else None
        told = self.label_table.rows if self.label_table else torch.zeros(0, 0)
        self.register_buffer("frame_attributes", told, persistent=False)
        self.register_buffer("frame_mask", self._mask(frames.get("lengths", [])), persistent=False)
        turns = self._calendar(extra, frames) if self.conditional else torch.zeros(0, self.steps, 0)
        self.register_buffer("frame_calendar", turns, persistent=False)
        self.frames = max(map(len, (self.frame_attributes, self.frame_mask, frames.get("times", []))))
        self.given_size = told.shape[-1] + 2 * len(extra.get("calendar", [])) * self.conditional

    def _require_able(self, extra: dict[str, Any], frames: dict[str, Any]) -> None:
        kind = type(self).__name__
        if not self.pads:
            require_one_length(extra, kind)
        if extra.get("calendar") and not self.conditional:
            raise UserError(f"{kind} knows no conditions: leave out data.calendar, or use the recipe rcgan")

    def _mask(self, lengths: list[int]) -> Tensor:
        return (torch.arange(self.steps) < torch.tensor(lengths, dtype=torch.int64)[:, None]).float()

    def _calendar(self, extra: dict[str, Any], frames: dict[str, Any]) -> Tensor:
        parts = extra.get("calendar", [])
        if not parts or "times" not in frames:
            return torch.zeros(0, self.steps, 2 * len(parts))
        return torch.from_numpy(calendar(Clock(**extra["channels"]["clock"]), np.array(frames["times"]), parts)).float()

    def noise(self, count: int, rng: torch.Generator | None = None) -> Tensor:
        """Noise (count, T, noise_size), anew at each step."""
        draw = chance.uniform if self.uniform else chance.normal
        return draw(count, self.steps, self.noise_size, device=self.device, rng=rng)

    def decode(self, noise: Tensor) -> Tensor:
        """Windows (N, T, F) of noise (N, T, noise_size), of a conditional game (N, T, noise_size + given_size)."""
        raise NotImplementedError

    def typical(self, noise: Tensor, truncation: float) -> Tensor:
        """Noise drawn towards its mean: 1 leaves it."""
        mean = 0.5 if self.uniform else 0.0
        return mean + truncation * (noise - mean)

    def given(self, attributes: Tensor | None, turns: Tensor | None) -> Tensor | None:
        """What a conditional game's networks are told at each step, (N, T, given_size): attributes (N, K), calendar (N, T, C)."""
        parts = [] if attributes is None else [attributes[:, None].expand(-1, self.steps, -1)]
        if turns is not None:
            parts.append(turns)
        return torch.cat(parts, 2) if parts and self.given_size else None

    def given_of(self, batch: Batch) -> Tensor | None:
        """The same of a batch of data."""
        return self.given(batch.get("attributes"), batch.get("calendar")) if self.given_size else None

    @property
    def conditions(self) -> tuple[str, ...]:
        """The classes, of a conditional game: categories of the label."""
        return tuple(self.classes) if self.label_table else ()

    @property
    def labels(self) -> Labels | None:
        """The attributes, of a conditional game."""
        return self.label_table

    @property
    def reads_labels(self) -> bool:
        return self.label_table is not None

    def draw_codes(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        rng: torch.Generator | None = None,
        truncation: float = 1.0,
    ) -> Batch:
        """Noise as `code` (count, T·noise_size); and `real`, windows of the data to show the samples beside.

        condition: attributes (count, K), NaN where they are left to the data. Where data have frames: `frame`, their numbers,
        and of a conditional game `attributes` and `label`.
        """
        if not 0 <= truncation <= 1:
            raise UserError(f"a truncation of {truncation} cannot be: it lies between 0 and 1")
        codes = Batch(code=self.typical(self.noise(count, rng), truncation).flatten(1))
        if self.frames:
            if condition is not None:
                condition = condition.to(self.device)
            codes["frame"] = frame = self._draw_frames(count, condition, rng)
            if self.label_table:
                own = self.frame_attributes[frame]
                codes["attributes"] = own if condition is None else torch.where(condition.isnan(), own, condition)
                if self.label_table.label is not None:
                    codes["label"] = codes["attributes"][:, self.label_table.places(self.label_table.label)].argmax(1)
        if len(self.shown):
            which = self.some_shown(count, rng)
            codes["real"] = self.shown[which]
            if len(self.shown_mask):
                codes["real_mask"] = self.shown_mask[which]
        return codes

    def render(self, codes: Batch) -> Batch:
        """Windows as `data`, which are 0 where `mask` (N, T) is; and what else of the codes goes with samples."""
        noise = codes["code"].unflatten(1, (self.steps, self.noise_size))
        frame = codes.get("frame")
        turns = self.frame_calendar[frame] if frame is not None and len(self.frame_calendar) else None
        given = self.given(codes.get("attributes"), turns)
        data = self.decode(noise if given is None else torch.cat([noise, given], 2))
        samples = Batch({name: codes[name] for name in PASSED if name in codes})
        if frame is not None and len(self.frame_mask):
            samples["mask"] = self.frame_mask[frame]
            data = data * samples["mask"][:, :, None]
        return Batch({"data": data, **samples})

    def exportable(self) -> Exportable | None:
        """Windows, each feature between 0 and 1, of noise and attributes; None of data with lengths or a calendar, which go with
        frames of the data.
        """
        if len(self.frame_mask) or len(self.frame_calendar) or self.translates:
            return None
        inputs: list[Input] = [Noise("latent", self.steps * self.noise_size, "uniform" if self.uniform else "normal")]
        return WindowFunction(self, *inputs, *([Vector("label", self.label_table)] if self.label_table else []))

    def _draw_frames(self, count: int, condition: Tensor | None, rng: torch.Generator | None) -> Tensor:
        """Frames (count,) that have what is asked for, of all where none has."""
        if condition is None:
            return chance.integers(0, self.frames, count, device=self.device, rng=rng)
        frame = torch.zeros(count, dtype=torch.int64, device=self.device)
        wishes, which = condition.nan_to_num(math.inf).unique(dim=0, return_inverse=True)
        for number, wish in enumerate(wishes):
            agrees = ((self.frame_attributes == wish) | wish.isinf()).all(1).float()
            drawn = chance.choices(agrees if agrees.any() else torch.ones_like(agrees), count, rng)
            frame = torch.where(which == number, drawn, frame)
        return frame


class WindowFunction(Exportable):
    """A game's `decode` as a function of flat noise (N, T·noise_size) and attributes (N, K)."""

    def __init__(self, game: SeriesGame, *inputs: Input) -> None:
        modules = game.averaged()
        super().__init__(modules["generator"], *inputs)
        for name, module in modules.items():
            self.add_module(name, module)
        self.decode, self.given, self.uniform = game.decode, game.given, game.uniform
        self.shape = (game.steps, game.noise_size)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Windows float32 (N, T, F), each feature between 0 and 1."""
        noise = latent.unflatten(1, self.shape)
        if self.uniform:
            noise = (noise + 1) / 2
        given = self.given(label, None)
        return self.decode(noise if given is None else torch.cat([noise, given], 2)).float()


def require_one_length(extra: Mapping[str, Any], kind: str) -> None:
    """Raise UserError for data with padded windows; kind: the game that does not know them. extra: see `DataSpec`."""
    if "lengths" in extra.get("frames", {}):
        raise UserError(f"{kind} knows windows of one length only: leave out data.shortest, or use the recipe rcgan")


def own_steps(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Of logits (N, T) those of a window's own steps, (n,); all where there is no mask (N, T)."""
    return logits if mask is None else logits[mask > 0]


def repeat_lasting(noise: Tensor, lasting: int) -> Tensor:
    """Noise (N, T, L) whose last `lasting` numbers are at every step those of the first."""
    own = noise.shape[2] - lasting
    return torch.cat([noise[..., :own], noise[:, :1, own:].expand(-1, noise.shape[1], -1)], dim=2)
