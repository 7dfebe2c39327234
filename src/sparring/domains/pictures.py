"""What domains whose samples are images have in common: how these are saved, set side by side and described."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from sparring.core.game import Batch
from sparring.data.dataset import Dataset
from sparring.domains.domain import Domain, Progress
from sparring.imaging.features import FEATURES, open_features
from sparring.imaging.save import save_npy, save_npz, save_pngs
from sparring.imaging.show import save_png, sheet, to_uint8
from sparring.metrics.figure import Features


class PictureDomain(Domain):
    """A domain whose samples are images (C, H, W), C from 1 to 4."""

    spaces = ("pixels", *(name for name in FEATURES if name != "pixels"))
    formats = ("png", "npz", "npy", "sheet")
    sample = "images (C, H, W) in [-1, 1], for a PNG round((x + 1) * 127.5) clipped to 0 ... 255"

    def show_pairs(self, left: Batch, right: Batch, captions: Sequence[str], path: Path) -> bool:
        """One row a pair: the left image, the right one, and the caption before them."""
        both = torch.stack([left["data"].cpu(), right["data"].cpu()], dim=1).flatten(0, 1)
        save_png(sheet(both, columns=2, labels=captions), path)
        return True

    def save(self, samples: Iterable[Batch], conditions: Sequence[str], out: Path, form: str) -> list[Path]:
        """`png`: a folder of files; `npz`, `npy`: array files; `sheet`: one picture. See `imaging.save`."""
        if form == "png":
            return save_pngs(samples, out)
        if form == "npz":
            return save_npz(samples, conditions, out)
        if form == "npy":
            return save_npy(samples, conditions, out)
        batches = [Batch({**batch, "data": to_uint8(batch["data"])}) for batch in samples]
        shown = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        self.show(Batch(shown), conditions, out)
        return [out]

    def open_features(self, which: str, data: Dataset, progress: Progress | None = None) -> Features:
        """See `imaging.features`; of `data`, which in translations are the outputs."""
        return open_features(which, data, progress=progress)
