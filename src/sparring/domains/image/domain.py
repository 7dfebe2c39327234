"""The image domain, as the verbs see it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.data.dataset import Dataset
from sparring.domains.domain import Domain, Progress
from sparring.domains.image.data import ImageOptions, open_images
from sparring.domains.image.games import GAMES
from sparring.domains.image.show import save_images, save_png, sheet, to_uint8
from sparring.files import write_whole
from sparring.metrics.frechet import frechet_distance
from sparring.metrics.sliced_wasserstein import sliced_wasserstein
from sparring.options import choose, validate

# In pixels in [0, 1], flattened: honest for small images, and for watching one training against itself.
METRICS = {"sliced_wasserstein": sliced_wasserstein, "frechet": frechet_distance}


class ImageDomain(Domain):
    """Images: any size, one to four channels."""

    name = "image"
    games = GAMES
    metrics = METRICS
    formats = ("png", "npz", "sheet")

    def resolve_data(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Validate against `ImageOptions`."""
        return validate(ImageOptions, options, where="data")

    def open_data(self, options: Mapping[str, Any], progress: Progress | None = None) -> Dataset:
        """Decode into the cache, or find it there."""
        return open_images(ImageOptions(**validate(ImageOptions, options, where="data")), progress=progress)

    def show(self, samples: Batch, conditions: Sequence[str], path: Path) -> None:
        """One sheet; where each condition is there equally often, a row each, with its name."""
        images, label = samples["data"], samples.get("label")
        columns, names = None, None
        if label is not None and (rows := _rows_by_condition(label)) is not None:
            order, columns = rows
            images, names = images[order], [conditions[number] for number in label[order][::columns].tolist()]
        save_png(sheet(images, columns=columns, labels=names), path)

    def save(self, samples: Iterable[Batch], conditions: Sequence[str], out: Path, form: str) -> list[Path]:
        """`png`: a folder of files; `npz`: one array file `images` uint8 (N, H, W, C) and `labels`, `classes`; `sheet`: one picture."""
        if form == "png":
            paths: list[Path] = []
            for batch in samples:
                paths += save_images(batch["data"], out, start=len(paths))
            return paths
        batches = list(samples)
        images = torch.cat([batch["data"] for batch in batches])
        labels = torch.cat([batch["label"] for batch in batches]) if "label" in batches[0] else None
        if form == "sheet":
            self.show(Batch(data=images) if labels is None else Batch(data=images, label=labels), conditions, out)
        else:
            _save_npz(out, images, labels, conditions)
        return [out]

    def measure(self, metric: str, real: Batch, fake: Batch) -> float:
        """A distance of pixels in [0, 1], flattened."""
        pixels = [(to_uint8(batch["data"]).float() / 255).flatten(1).cpu() for batch in (real, fake)]
        value: float = choose(METRICS, metric, what="metric")(*pixels)
        return value

    def check(self, source: str, progress: Progress | None = None) -> Any:
        """See `data.check`."""
        from sparring.data.check import check_images
        from sparring.data.sources import open_source

        return check_images(open_source(source), progress=progress)

    def prepare(self, source: str, out: Path, progress: Progress | None = None, **options: Any) -> Any:
        """See `data.prepare`."""
        from sparring.data.prepare import prepare_images
        from sparring.data.sources import open_source

        return prepare_images(open_source(source), out, progress=progress, **options)


def _rows_by_condition(label: Tensor) -> tuple[Tensor, int] | None:
    """An order that puts each condition into a row of its own, and the rows' length."""
    counts = label.bincount()
    counts = counts[counts > 0]
    if len(counts) < 2 or not bool((counts == counts[0]).all()):
        return None
    return label.argsort(stable=True), int(counts[0])


def _save_npz(out: Path, images: Tensor, labels: Tensor | None, conditions: Sequence[str]) -> None:
    arrays = {"images": to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()}
    if labels is not None:
        arrays["labels"] = labels.cpu().numpy().astype(np.int64)
        arrays["classes"] = np.array(conditions)
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    write_whole(out, stream.getvalue())
