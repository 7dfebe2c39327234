"""Files through a game: what is given is found, read, translated, and written under its own name.

Endings stay: PNG, TIFF, BMP and PNM lose nothing, WebP is written lossless, JPEG with quality 95 and full colour
resolution. A GIF that does not move becomes a PNG, which is not held to 256 colours.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparring.core.game import DataSpec, Game
from sparring.data.archive import split_archive
from sparring.data.decode import EXTENSIONS, fit
from sparring.data.scan_files import DICOM, NIFTI, is_scan_file
from sparring.data.scans import without_ending
from sparring.data.source import BrokenSample
from sparring.data.sources import open_source
from sparring.domains.domain import Make, Progress, Translated
from sparring.domains.translation.films import FILMS, change_film, change_images, film_of, moves
from sparring.domains.translation.inputs import Beside, inputs_of, read_style
from sparring.domains.translation.scanned import Scans
from sparring.domains.translation.whole import WholePictures, require_tiles
from sparring.errors import UserError, nearest
from sparring.files import write_whole

WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"compress_level": 3}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".ppm": ("PPM", {}),
    ".pgm": ("PPM", {}),
}
"""Ending → what Pillow calls the format, and how it is written."""
CHANNELS = {"JPEG": (1, 3), "BMP": (1, 3, 4), "PPM": (1, 3), "WEBP": (3, 4)}
"""How many channels a format holds where it does not hold 1 to 4; others are written as PNG."""


KNOWN = (*EXTENSIONS, *FILMS)


@dataclass(frozen=True)
class Given:
    """A file to translate.

    name: its path below what was named, with its ending. load: reads its bytes. path: where it is, unless in an archive.
    """

    name: str
    load: Callable[[], bytes]
    path: Path | None = None

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return without_ending(self.name)

    @property
    def ending(self) -> str:
        """Of the name, in small letters."""
        return PurePosixPath(self.name).suffix.lower()


def translate_files(
    inputs: Sequence[str | Path], out: Path, game: Game, spec: DataSpec, make: Make,
    *, seed: int = 0, count: int = 1, backwards: bool = False, tile: int | None = None, overlap: int | None = None,
    mask: str | None = None, instance: str | None = None, style: str | None = None, progress: Progress | None = None,
) -> Translated:  # fmt: skip
    """Translate files, folders, archives and films into the folder `out`, each file written whole or not at all.

    make: what the game makes of a batch with a seed. count: outputs of each input, `name-1.png` … with seeds from `seed`
    on; 1: `name.png`. backwards: from the side of outputs to that of inputs. tile, overlap: see `whole.WholePictures`.
    mask: of holes, a file for all or a folder with files of the inputs' names; instance: a folder (or file) of instance
    numbers likewise. style: a picture whose look outputs are to have. Raises UserError; a file that cannot be read is
    named in what is returned.
    """
    require_tiles(tile, overlap)
    taken = inputs_of(game, spec, backwards=backwards)
    given = find_files(inputs)
    besides = {"mask": _companions(mask, "--mask"), "instance": _companions(instance, "--instance")}
    _refuse_unused(game, spec, mask, instance, style)
    look = None if style is None else read_style(_read(Path(style)), str(style), spec.shape[0])
    if look is not None and not getattr(game, "style_of_layout", False):
        look = fit(look, (spec.shape[1], spec.shape[2]))  # as the looks of images were learnt
    whole = WholePictures(game, make, taken, style=look, tile=tile, overlap=overlap)
    scans = Scans(spec, taken, backwards=backwards)
    done = Translated()
    names = _targets(given, count)
    for number, file in enumerate(given):
        if progress:
            progress(number, len(given))
        targets = [out / name for name in names[number]]
        for target in targets:
            if file.path is not None and target.exists() and target.samefile(file.path):
                raise UserError(f"{target}: would be written over what it is made from: name another --out")
        try:
            found = {role: find(file) for role, find in besides.items()}
            done.files += _translate(file, targets, whole, scans, found, seed)
        except BrokenSample as error:
            done.broken.append((file.name, str(error)))
    if progress:
        progress(len(given), len(given))
    done.facts["tiled"] = whole.tiled
    return done


def find_files(inputs: Sequence[str | Path]) -> list[Given]:
    """Every image and film that is named: files, what lies in folders (sub-folders too), what archives hold.

    Raises UserError for what does not exist, and for a folder without any.
    """
    found: list[Given] = []
    for each in map(str, inputs):
        path = Path(each).expanduser()
        if split_archive(each):
            found += _inside(each)
        elif path.is_dir():
            files = sorted(file for file in _below(path) if file.suffix.lower() in KNOWN or is_scan_file(file))
            if not files:
                looked = " ".join(KNOWN + DICOM + NIFTI)
                raise UserError(f"{each}: found no images and no films (looked for {looked}); is the path right?")
            found += [_file(file, file.relative_to(path).as_posix()) for file in files]
        elif path.is_file():
            found.append(_file(path, path.name))
        else:
            beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(f"{each}: no such file or folder{nearest(path.name, beside)}; is the path right?")
    return found


def write_picture(pixels: NDArray[Any], path: Path) -> Path:
    """Write a picture (H, W, C), C 1 to 4 of bytes or 1 of 16 bits, in the format of the path's ending, whole or not at all; returns the path.

    An ending that no still picture is written as, or whose format does not hold so many channels or bits, becomes `.png`.
    """
    form, options = WRITTEN.get(path.suffix.lower(), ("", {}))
    deep = pixels.dtype == np.uint16
    if not form or pixels.shape[2] not in CHANNELS.get(form, (1, 2, 3, 4)) or (deep and form not in ("PNG", "TIFF")):
        path, (form, options) = path.with_suffix(".png"), WRITTEN[".png"]
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(stream, form, **options)
    write_whole(path, stream.getbuffer())  # type: ignore[arg-type]
    return path


def _translate(
    file: Given, targets: list[Path], whole: WholePictures, scans: Scans, beside: dict[str, bytes | None], seed: int
) -> list[Path]:
    """Everything that is made of one file. Raises BrokenSample."""
    if file.path is not None and scans.takes(file.path):
        made = [
            scans.translate(file.path, target, whole, seed + number, write_picture, beside["mask"])
            for number, target in enumerate(targets)
        ]
        return [path for paths in made for path in paths]
    if file.ending in FILMS:
        if file.path is None:
            with film_of(file.load(), file.name) as path:
                return [_film(path, target, whole, seed + number) for number, target in enumerate(targets)]
        return [_film(file.path, target, whole, seed + number) for number, target in enumerate(targets)]
    data = file.load()
    if moves(data, file.name):
        for number, target in enumerate(targets):
            change_images(data, target, _changing(whole, seed + number))
        return targets
    stored = whole.inputs.read(data, file.name, Beside(**beside))
    return [
        write_picture(whole.translate(stored, seed + number, scans.deep), target)
        for number, target in enumerate(targets)
    ]


def _film(source: Path, target: Path, whole: WholePictures, seed: int) -> Path:
    change_film(source, target, _changing(whole, seed))
    return target


def _changing(whole: WholePictures, seed: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    # One seed for all frames: noise that changed from frame to frame would flicker.
    return lambda frame: whole.translate(whole.inputs.take(frame), seed)


def _targets(given: Sequence[Given], count: int) -> list[list[str]]:
    """Names of outputs, no two alike even where case does not count."""
    used: set[str] = set()
    names = []
    for file in given:
        stem, ending, number = file.stem, file.name[len(file.stem) :], 1
        while f"{stem}{ending}".casefold() in used:
            number += 1
            stem = f"{file.stem}-{number}"
        used.add(f"{stem}{ending}".casefold())
        names.append([f"{stem}{ending}"] if count == 1 else [f"{stem}-{each}{ending}" for each in range(1, count + 1)])
    return names


def _companions(where: str | None, option: str) -> Callable[[Given], bytes | None]:
    """What finds the file that goes with an input: the one for all, or the one in a folder with the input's name."""
    if where is None:
        return lambda file: None
    if not Path(where).expanduser().is_dir():
        data = _read(Path(where).expanduser())
        return lambda file: data
    known = {each.stem: each for each in find_files([where])}

    def find(file: Given) -> bytes | None:
        if file.stem not in known:
            raise BrokenSample(f"has no partner of its name in {where} ({option})")
        return known[file.stem].load()

    return find


def _refuse_unused(game: Game, spec: DataSpec, mask: str | None, instance: str | None, style: str | None) -> None:
    """Raise UserError for what the game would pass over."""
    edges = bool((spec.extra.get("input") or {}).get("edges"))
    asked = (
        ("--mask", mask, getattr(game, "takes_mask", False), "fills no holes"),
        ("--instance", instance, edges, "was trained without maps of instances"),
        ("--style", style, getattr(game, "takes_style", False), "takes no style from a picture"),
    )
    for option, value, used, why in asked:
        if value is not None and not used:
            raise UserError(f"{option} {value}: the game {why}: leave it out")


def _file(path: Path, name: str) -> Given:
    return Given(name, lambda: _read(path, broken=True), path)


def _inside(reference: str) -> list[Given]:
    source = open_source(reference, labels="none")

    def load(index: int) -> Callable[[], bytes]:
        return lambda: source.raw(index) or b""

    return [Given(name.rpartition(":")[2], load(index)) for index, name in enumerate(source.names)]


def _below(folder: Path) -> Iterator[Path]:
    """Files that are not hidden."""
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [each for each in folders if not each.startswith(".")]
        yield from (Path(root, each) for each in files if not each.startswith("."))


def _read(path: Path, broken: bool = False) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise (
            BrokenSample(f"cannot be read: {error.strerror}") if broken else UserError(f"{path}: {error.strerror}")
        ) from error
