"""The image domain, as the verbs see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor

from sparring.core.game import Batch, DataSpec
from sparring.data.dataset import Dataset
from sparring.domains.domain import Progress
from sparring.domains.image.data import ImageOptions, Images, open_images, open_pair
from sparring.domains.image.games import GAMES
from sparring.domains.image.metrics import MEASURES
from sparring.domains.pictures import PictureDomain
from sparring.imaging.likeness import ImageLikeness, open_likeness, read_images
from sparring.imaging.show import save_png, sheet
from sparring.options import validate


class ImageDomain(PictureDomain):
    """Images: any size, one to four channels."""

    name = "image"
    games = GAMES
    measures = MEASURES

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

    def show_grid(
        self,
        samples: Batch,
        columns: int,
        captions: Sequence[str] | None,
        headings: Sequence[str] | None,
        path: Path,
    ) -> bool:
        """One sheet."""
        save_png(sheet(samples["data"], columns=columns, labels=captions, headings=headings), path)
        return True

    def frame(self, samples: Batch, columns: int) -> Image:
        """One sheet."""
        return sheet(samples["data"], columns=columns)

    def open_likeness(self) -> ImageLikeness:
        """LPIPS where its weights are at hand, otherwise structure: see `imaging.likeness`."""
        return open_likeness()

    def read_samples(
        self, files: Sequence[Path], options: Mapping[str, Any], spec: DataSpec
    ) -> tuple[Batch, list[str]]:
        """Image files at the size and with the channels of the training data, fitted as it was."""
        return read_images(files, (spec.shape[0], spec.shape[1], spec.shape[2]), fit=options.get("fit", "crop"))

    def open_reference(
        self, source: str, options: Mapping[str, Any], spec: DataSpec, progress: Progress | None = None
    ) -> Images:
        """The run's own data as it was trained on; any other at the run's size and channels."""
        if source == options.get("source"):
            return open_images(ImageOptions(**validate(ImageOptions, options, where="data")), progress=progress)
        channels, height, width = spec.shape
        kept = {key: options[key] for key in ("fit", "cache", "on_device") if key in options}
        return open_images(
            ImageOptions(**{**kept, "source": source, "size": (height, width), "channels": channels}), progress=progress
        )

    def open_samples(
        self, source: str, real: str, progress: Progress | None = None, **options: Any
    ) -> tuple[Images, Images]:
        """Files of samples set the size, unless `size` does, and the data follows; both get the channels of the richer one."""
        return open_pair(source, real, progress=progress, **options)

    def check(self, source: str, progress: Progress | None = None, **options: Any) -> Any:
        """See `data.check`."""
        self.refuse(options)
        from sparring.data.check import check_images
        from sparring.data.sources import open_source

        return check_images(open_source(source), progress=progress)

    def prepare(self, source: str, out: Path, progress: Progress | None = None, **options: Any) -> Any:
        """See `data.prepare`."""
        self.refuse({key: value for key, value in options.items() if key == "images"})
        from sparring.data.prepare import prepare_images
        from sparring.data.sources import open_source

        return prepare_images(open_source(source), out, progress=progress, **options)


def _rows_by_condition(label: Tensor) -> tuple[Tensor, int] | None:
    """An order that puts each condition into a row of its own, and the rows' length."""
    if label.is_floating_point():
        return None  # vectors
    counts = label.bincount()
    counts = counts[counts > 0]
    if len(counts) < 2 or not bool((counts == counts[0]).all()):
        return None
    return label.argsort(stable=True), int(counts[0])
