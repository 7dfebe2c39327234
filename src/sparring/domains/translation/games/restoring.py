"""What games have that make their own inputs from the images of one folder: smaller ones, ones with holes, grey ones."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.domains.translation.games.paired import PairedGame, PairedOptions
from sparring.errors import UserError
from sparring.recipe import Recipe


class RestoringGame(PairedGame):
    """A game on pairs whose inputs are what is left of its outputs; files to restore are inputs as they are."""

    channels: int
    """Of the images."""

    def complete(self, options: PairedOptions, spec: DataSpec) -> None:
        """Remember what images are like."""
        super().complete(options, spec)
        self.channels = spec.shape[0]

    @classmethod
    def source_channels(cls, spec: DataSpec, recipe: Recipe) -> int:
        """The channels of inputs. Raises UserError for data that brings its own."""
        if spec.extra.get("input"):
            raise UserError(
                f"recipe {recipe.name!r} makes its inputs itself, and the data has some: give a folder of images alone "
                "(data.layout=single), or train `pix2pix` on the pairs"
            )
        return cls.channels_of_inputs(spec)

    @classmethod
    @abstractmethod
    def channels_of_inputs(cls, spec: DataSpec) -> int:
        """The channels of `source` for images as `spec` says."""

    @property
    @abstractmethod
    def input_channels(self) -> int:
        """The channels of `source`."""

    @abstractmethod
    def degrade(self, batch: Batch, rng: torch.Generator | None = None) -> Tensor:
        """What is left of the images `data` of a batch, (N, input_channels, h, w)."""

    def source_of(self, batch: Batch, rng: torch.Generator | None = None) -> Tensor:
        """The inputs that a batch has; otherwise those made from its images, once, so that all turns see the same."""
        if "source" in batch:
            return batch["source"]
        if "source" not in batch.memo:
            with torch.no_grad():
                batch.memo["source"] = self.degrade(batch, rng)
        made: Tensor = batch.memo["source"]
        return made
