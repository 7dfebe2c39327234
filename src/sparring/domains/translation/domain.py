"""The translation domain, as the verbs see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparring.core.game import Batch, DataSpec, Game
from sparring.data.dataset import Dataset
from sparring.domains.domain import Make, Progress, Translated
from sparring.domains.pictures import PictureDomain
from sparring.domains.translation.check import check_translation
from sparring.domains.translation.coco import map_instances
from sparring.domains.translation.data import TranslationData, TranslationOptions, open_translation
from sparring.domains.translation.files import translate_files
from sparring.domains.translation.games import GAMES
from sparring.domains.translation.metrics import MEASURES
from sparring.domains.translation.show import translations
from sparring.errors import UserError
from sparring.imaging.show import save_png
from sparring.options import validate


class TranslationDomain(PictureDomain):
    """Images made from images: maps to photographs, horses to zebras, small to large, grey to colour."""

    name = "translation"
    games = GAMES
    measures = MEASURES

    def resolve_data(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Validate against `TranslationOptions`."""
        return validate(TranslationOptions, options, where="data")

    def open_data(self, options: Mapping[str, Any], progress: Progress | None = None) -> TranslationData:
        """Find the sides, and decode them into the cache; those of `held_out` too."""
        data = open_translation(self.options(options), progress=progress)
        if options.get("held_out"):
            data.held_out = self.open_reference(str(options["held_out"]), options, data.spec, progress)
        return data

    def options(self, values: Mapping[str, Any]) -> TranslationOptions:
        """The `data` section as a record. Raises UserError."""
        if not values.get("source"):
            raise UserError("a translation needs data of yours: --data FOLDER (two folders in it, say A and B)")
        return TranslationOptions(**validate(TranslationOptions, values, where="data"))

    def show(self, samples: Batch, conditions: Sequence[str], path: Path) -> None:
        """A row a sample: its input, what was made of it, and what should have been where that is known. See `show`."""
        save_png(translations(samples, conditions), path)

    def translate_files(
        self, inputs: Sequence[str | Path], out: Path, game: Game, spec: DataSpec, make: Make,
        *, progress: Progress | None = None, **options: Any,
    ) -> Translated:  # fmt: skip
        """Images, films, folders and archives of them. options: see `files.translate_files`."""
        return translate_files(inputs, out, game, spec, make, progress=progress, **options)

    def open_reference(
        self, source: str, options: Mapping[str, Any], spec: DataSpec, progress: Progress | None = None
    ) -> TranslationData:
        """Any data as the run's was read, without its random crops and changes."""
        kept = {**options, "source": source, "load": None, "augment": {}}
        if source != options.get("source"):
            kept["limit"] = None
        return open_translation(self.options(kept), known=spec.extra, progress=progress)

    def open_samples(
        self, source: str, real: str, progress: Progress | None = None, **options: Any
    ) -> tuple[Dataset, Dataset]:
        """Images are compared as images."""
        raise UserError("files of images are compared with --domain image: leave --domain out")

    def check(
        self, source: str, progress: Progress | None = None, *, against: str | None = None, **options: Any
    ) -> Any:
        """See `domains.translation.check`. options: keys of the recipe's `data` section."""
        own = self.options({**options, "source": source})
        other = self.options({**options, "source": against}) if against else None
        return check_translation(own, against=other, progress=progress)

    def prepare(
        self, source: str, out: Path, progress: Progress | None = None, *, images: str | None = None, **options: Any
    ) -> Any:
        """Maps from annotations, see `coco.map_instances`; the sides of other data are prepared one by one."""
        if Path(source).suffix.lower() != ".json":
            raise UserError(
                "what is prepared for translations are annotations of COCO's kind (.json); prepare sides one by one, as "
                "images: sparring data prepare FOLDER/A OUT/A, then B"
            )
        self.refuse(options)
        return map_instances(Path(source), out, images=Path(images) if images else None, progress=progress)
