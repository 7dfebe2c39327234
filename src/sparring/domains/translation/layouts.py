"""From what a user has to the sides of a translation: which image belongs to which.

pairs    two folders with equal names in them: `A/ B/`, `label/ photo/`, any two. `sides` says which, and in which order.
sides    two folders without: `trainA/ trainB/`, `cat/ dog/`. Nothing belongs together.
joined   images that hold both sides beside each other, the input left, as the pix2pix sets do.
table    .csv .tsv .json .jsonl with a column of paths for each role: `input`, `output`, `mask`, `instance`.
single   one folder or archive of images, whose input a game makes from them (inpainting, super-resolution, …), or whose
         sub-folders are domains to translate between.

A folder may end in a pattern with one `*`, which stands for the names that are to be equal: `gtFine/*_labelIds`.
Of a set whose parts (train, test, …) are not at its top, a part is named as if they were: `horse2zebra/test` of `testA/
testB/`, `coco/val` of `val_label/ val_img/`, `maps/train` of `A/train/ B/train/`. See `Place`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparring.data.archive import ArchiveSource, split_archive
from sparring.data.decode import EXTENSIONS
from sparring.data.folder import FileSource, stamp
from sparring.data.labelling import Labelling
from sparring.data.labels import SPLITS, read_rows
from sparring.data.scans import ScanSource, names_scan, without_ending, without_slice
from sparring.data.source import BrokenSample, ImageSource
from sparring.data.sources import INDEXES, open_source
from sparring.errors import UserError, nearest

Layout = Literal["auto", "pairs", "sides", "joined", "table", "single"]
Role = Literal["input", "output", "mask", "instance"]
ROLES: tuple[Role, ...] = ("input", "output", "mask", "instance")

ORDERS = (
    ("a", "b"), ("trainA", "trainB"), ("input", "output"), ("input", "target"), ("source", "target"), ("label", "photo"),
    ("labels", "photos"), ("label", "image"), ("labels", "images"), ("label", "img"), ("mask", "image"), ("masks", "images"),
    ("lr", "hr"), ("low", "high"), ("x", "y"), ("train_label", "train_img"), ("annotations", "images"),
    ("gtFine", "leftImg8bit"), ("edges", "photos"),
)  # fmt: skip
"""Pairs of folder names whose order is known; the case of letters does not count. Of others, the first by name is the input."""
COLUMNS: Mapping[Role, tuple[str, ...]] = {
    "input": ("input", "a", "source", "label_map", "x", "lr"),
    "output": ("output", "b", "target", "photo", "image", "y", "hr"),
    "mask": ("mask",),
    "instance": ("instance", "instances"),
}
MISSING = 5  # names of images without a partner that a message shows


@dataclass
class Sides:
    """The roles that there are, and which image plays each in which row.

    layout: the one that was found. rows: of each role in `sources`, a number into it for each row; where `paired` is
    false, those of the input and of the output have nothing to do with each other, and there may be more of one.
    alone: images without a partner, left out, as `side/name`. hint: what the source looks like and was not taken for.
    """

    layout: Layout
    sources: dict[Role, ImageSource]
    rows: dict[Role, NDArray[np.int64]]
    paired: bool
    names: tuple[str, str] = ("A", "B")
    alone: list[str] = field(default_factory=list)
    hint: str = ""


def open_sides(
    reference: str,
    *,
    layout: Layout = "auto",
    sides: Sequence[str] | None = None,
    mask: str | None = None,
    instance: str | None = None,
) -> Sides:
    """Find the sides of a source; nothing is decoded.

    sides: names of the folders (or columns) of input and output. mask, instance: of further folders (or columns), whose
    images are named as those of the output. Raises UserError where there is nothing that fits the layout.
    """
    extra: dict[Role, str | None] = {"mask": mask, "instance": instance}
    if Path(reference).suffix.lower() in INDEXES:
        if layout not in ("auto", "table"):
            raise UserError(f"{reference}: is a table, so data.layout={layout} does not fit: leave it out")
        return _table(reference, sides, extra)
    if layout == "table":
        raise UserError(f"{reference}: is no table ({' '.join(INDEXES)}): leave out data.layout")
    if layout == "joined":
        if sides:
            raise UserError("data.layout=joined has the sides in one image: leave out data.sides")
        return _joined(reference)
    place = Place(reference)
    chosen = tuple(sides) if sides else None if layout == "single" else _find_sides(place)
    if chosen is None:
        if layout in ("pairs", "sides"):
            raise UserError(f"{reference}: found no two folders of images in it: name them with data.sides=[A, B]")
        if layout != "single":
            place.refuse_parts(list(place.folders))
        single = open_source(reference)
        found = Sides("single", {"output": single}, {}, False, hint=_looks_joined(single))
        return _with_extra(place, found, extra)
    opened: dict[Role, ImageSource] = {"input": place.open(chosen[0]), "output": place.open(chosen[1])}
    found = Sides("sides", opened, {}, False, (chosen[0], chosen[1]))
    inputs, outputs, alone = _partners(found)
    if layout == "pairs" or (layout == "auto" and len(inputs) > len(alone)):
        if not len(inputs):
            raise UserError(
                f"{reference}: no image of {chosen[0]} is named like one of {chosen[1]}: pairs have equal names (or say which "
                f"part of them is: data.sides=['{chosen[0]}/*_a', '{chosen[1]}/*_b']); without pairs, say data.layout=sides"
            )
        found.layout, found.paired, found.alone = "pairs", True, alone
        found.rows = {"input": inputs, "output": outputs}
    elif len(inputs):
        found.hint = f"{len(inputs)} of their images have equal names: data.layout=pairs takes these alone"
    return _with_extra(place, found, extra)


@dataclass(frozen=True)
class Place:
    """Where folders are sought: a folder, an archive, or a part of a set that is named as if it were a folder.

    reference: what the user wrote.
    """

    reference: str

    @cached_property
    def archive(self) -> tuple[Path, str] | None:
        """The archive and the folder in it, where the reference is one."""
        return split_archive(self.reference)

    @cached_property
    def root(self) -> Path:
        """The folder that is there."""
        path = Path(self.reference).expanduser()
        return path.parent if self.part else path

    @cached_property
    def part(self) -> str:
        """What the reference names beyond `root`: `test` of testA and testB; empty where it is a folder itself."""
        path = Path(self.reference).expanduser()
        if self.archive or path.exists() or not path.parent.is_dir():
            return ""
        part = path.name.lower()
        there = _subfolders(path.parent)
        known = any(name.lower().startswith(part) for name in there)
        return path.name if known or any((path.parent / name / path.name).is_dir() for name in there) else ""

    @cached_property
    def folders(self) -> dict[str, str]:
        """The folders at the top: name, without the part → where it is, below `root`."""
        if self.archive:
            names = [name.removeprefix(self._wrapping) for name in self._inside]
            return {name: name for name in sorted({name.partition("/")[0] for name in names if "/" in name})}
        if not self.root.is_dir():
            return {}
        there = _subfolders(self.root)
        if not self.part:
            return {name: name for name in there}
        part = self.part.lower()
        begun = {name[len(part) :].lstrip("_-. "): name for name in there if name.lower().startswith(part)}
        within = {name: f"{name}/{self.part}" for name in there if (self.root / name / self.part).is_dir()}
        return {name: where for name, where in {**within, **begun}.items() if name}

    def open(self, folder: str) -> ImageSource:
        """The images of a folder, which may be several deep and end in a pattern. Raises UserError."""
        base, _, last = folder.rpartition("/")
        if "*" not in last:
            return self._open_whole(folder)
        return Part(self._open_whole(base), last, folder)

    def refuse_parts(self, folders: Sequence[str]) -> None:
        """Raise UserError where folders are the parts of a split: one must be chosen on purpose."""
        if len(folders) < 2 or not all(folder.lower() in SPLITS for folder in folders):
            return
        chosen = next((folder for folder in folders if folder.lower().startswith("train")), folders[0])
        between = ":" if self.archive and not self.archive[1] else "/"
        raise UserError(
            f"{self.reference}: holds the parts {', '.join(folders)}: choose one, e.g. "
            f"{self.reference.rstrip('/')}{between}{chosen}"
        )

    def _open_whole(self, folder: str) -> ImageSource:
        if self.archive:
            inner = f"{self._wrapping}{folder}"
            return open_source(f"{self.reference}{'/' if self.archive[1] else ':'}{inner}".rstrip(":/"), labels="none")
        first, _, rest = folder.partition("/")
        paths = [self.root / self.folders[first] / rest] if first in self.folders else []
        path = next((each for each in [*paths, self.root / folder] if each.is_dir()), None)
        if path is None:
            raise UserError(f"{self.reference}: has no folder {folder!r}{nearest(folder, self.folders)}")
        self.refuse_parts(_subfolders(path))
        return open_source(str(path), labels="none")

    @cached_property
    def _inside(self) -> list[str]:
        """The names in an archive, below the folder that is meant."""
        assert self.archive is not None
        folder = f"{self.archive[1]}/" if self.archive[1] else ""
        return [name.removeprefix(folder) for name in _own_names(open_source(self.reference, labels="none"))]

    @cached_property
    def _wrapping(self) -> str:
        """The single folders, one in the other, around everything in an archive."""
        names, wrapping = self._inside, ""
        while len({name.partition("/")[0] for name in names}) == 1 and all(name.count("/") > 1 for name in names):
            wrapping += names[0].partition("/")[0] + "/"
            names = [name.partition("/")[2] for name in names]
        return wrapping


def stems(source: ImageSource) -> list[str]:
    """Names without the folder of their side and without their ending, one for each image."""
    return [without_ending(name) for name in _own_names(source)]


class Half(ImageSource):
    """The left or the right half of each image of another source."""

    def __init__(self, whole: ImageSource, right: bool) -> None:
        self.whole, self.right = whole, right
        self.name, self.names, self.labels, self.sequential = whole.name, whole.names, [], whole.sequential

    def load(self, index: int) -> NDArray[np.uint8]:
        """Decode and cut. Raises BrokenSample for an image that has no two halves."""
        image = self.whole.load(index)
        if image.shape[1] % 2:
            raise BrokenSample(f"is {image.shape[1]} pixels wide, which has no two equal halves")
        middle = image.shape[1] // 2
        return image[:, middle:] if self.right else image[:, :middle]

    def fingerprint(self) -> str:
        """The whole's, and the side."""
        return f"{self.whole.fingerprint()}{'right' if self.right else 'left'}"


class Part(ImageSource):
    """The images of another source whose file name fits a pattern with one `*`; their names are what this stands for."""

    def __init__(self, whole: ImageSource, pattern: str, folder: str) -> None:
        before, _, after = pattern.partition("*")
        if "*" in after:
            raise UserError(f"{folder}: a pattern has one *, for the part of the names that both sides have in common")
        self.whole, self.pattern = whole, pattern
        self.numbers: list[int] = []
        self.names, self.keys = [], []
        for number, (name, own) in enumerate(zip(whole.names, _own_names(whole), strict=True)):
            inside, _, file = own.rpartition("/")
            stem = without_ending(file)
            # An ending of the pattern's own tells files of one name apart: `*.jpg`, `*_mask.png`.
            full = file if after.lower().endswith(EXTENSIONS) else stem
            if len(full) > len(before) + len(after) and full.startswith(before) and full.endswith(after):
                self.numbers.append(number)
                self.names.append(name)
                key = full[len(before) : len(full) - len(after)]
                self.keys.append(f"{inside}/{key}" if inside else key)
        if not self.numbers:
            raise UserError(f"{folder}: none of the {len(whole)} images in it is named like that ({whole.names[0]}, …)")
        self.name, self.labels, self.sequential = whole.name, [], whole.sequential

    def load(self, index: int) -> NDArray[np.uint8]:
        """Decode one. Raises BrokenSample."""
        return self.whole.load(self.numbers[index])

    def raw(self, index: int) -> bytes | None:
        """The bytes of one file."""
        return self.whole.raw(self.numbers[index])

    def path(self, index: int) -> Path | None:
        """The file of one image."""
        return self.whole.path(self.numbers[index])

    def fingerprint(self) -> str:
        """The whole's, and the pattern."""
        return f"{self.whole.fingerprint()}{self.pattern}"


def _find_sides(place: Place) -> tuple[str, str] | None:
    """The folders of input and output, or None where the source is not just two folders of images."""
    lower = {name.lower(): name for name in place.folders}
    for one, other in ORDERS:
        if one.lower() in lower and other.lower() in lower:
            return lower[one.lower()], lower[other.lower()]
    if len(lower) != 2 or all(name in SPLITS for name in lower):
        return None
    first, second = place.folders
    return first, second


def _subfolders(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def _looks_joined(source: ImageSource) -> str:
    """A sentence, where the first images are just twice as wide as high."""
    try:
        shapes = [source.load(index).shape for index in range(min(len(source), 4))]
    except BrokenSample:
        return ""
    if not shapes or any(width != 2 * height for height, width, _ in shapes):
        return ""
    return "its images are twice as wide as high: if they hold both sides, say data.layout=joined"


def _own_names(source: ImageSource) -> list[str]:
    """Names inside a source: an archive's begin with the archive."""
    own = source.whole if isinstance(source, Part) else source
    return (
        [name.removeprefix(f"{own.file.name}:") for name in source.names]
        if isinstance(own, ArchiveSource)
        else source.names
    )


def _partners(sides: Sides) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Numbers of inputs and outputs of equal names, and the names of the others."""
    inputs, outputs = _relative(sides.sources["input"]), _relative(sides.sources["output"])
    shared = [name for name in outputs if name in inputs]
    alone: list[str] = []
    for side, own in zip(sides.names, (inputs, outputs), strict=True):
        source = sides.sources["input" if own is inputs else "output"]
        taken = {own[name] for name in shared}
        alone += [f"{side}/{name}" for number, name in enumerate(_own_names(source)) if number not in taken]
    return (
        np.array([inputs[name] for name in shared], np.int64),
        np.array([outputs[name] for name in shared], np.int64),
        alone,
    )


def _relative(source: ImageSource) -> dict[str, int]:
    """Stems below the folder that all of a source's images lie in → number; of two files of one stem, the first's."""
    keys = source.keys if isinstance(source, Part) else stems(source)
    found: dict[str, int] = {}
    for index, key in enumerate(keys):
        found.setdefault(key, index)
    tops = {stem.partition("/")[0] for stem in found}
    while len(tops) == 1 and all("/" in stem for stem in found):
        found = {stem.partition("/")[2]: index for stem, index in found.items()}
        tops = {stem.partition("/")[0] for stem in found}
    return found


def _with_extra(place: Place, sides: Sides, extra: Mapping[Role, str | None]) -> Sides:
    """Masks and instances, named as the outputs (label maps have theirs too), and the rows where nothing set them yet."""
    for side in ("input", "output"):
        if side in sides.sources:
            sides.rows.setdefault(side, np.arange(len(sides.sources[side])))
    anchor: Role = "output"
    names = {index: name for name, index in _relative(sides.sources[anchor]).items()}
    for role, folder in extra.items():
        if folder is None:
            continue
        if role == "instance" and not sides.paired and sides.layout != "single":
            raise UserError(
                f"data.{role} is for pairs or single images: the sides of {place.reference} have no equal names"
            )
        source = place.open(folder) if not Path(folder).expanduser().is_absolute() else Place(folder).open("")
        own = _relative(source)
        here = np.array([names.get(index) in own for index in sides.rows[anchor].tolist()], bool)
        if not here.any():
            raise UserError(f"{folder}: none of its images is named like one of {place.reference}")
        sides.alone += [
            f"{sides.names[1]}/{sides.sources[anchor].names[index]}" for index in sides.rows[anchor][~here].tolist()
        ]
        # Inputs that are no one's have no mask to lose.
        together = [each for each in sides.rows if sides.paired or each != "input"]
        sides.rows |= {each: sides.rows[each][here] for each in together}
        sides.sources[role] = source
        sides.rows[role] = np.array([own[names[index]] for index in sides.rows[anchor].tolist()], np.int64)
    return sides


def _joined(reference: str) -> Sides:
    whole = open_source(reference, labels="none")
    rows = np.arange(len(whole))
    return Sides(
        "joined", {"input": Half(whole, False), "output": Half(whole, True)}, {"input": rows, "output": rows}, True
    )


def _table(reference: str, sides: Sequence[str] | None, extra: Mapping[Role, str | None]) -> Sides:
    file = Path(reference).expanduser()
    rows = read_rows(file)
    lower = {name.lower(): name for name in rows}
    wanted: dict[Role, str | None] = {"input": sides[0], "output": sides[1]} if sides else {}
    columns: dict[Role, str] = {}
    for role in ROLES:
        name = wanted.get(role) or extra.get(role)
        if name is not None and name not in rows:
            raise UserError(f"{reference}: has no column {name!r}{nearest(name, rows)}; there are {', '.join(rows)}")
        name = name or next((lower[known] for known in COLUMNS[role] if known in lower), None)
        if name is not None and name not in columns.values():
            columns[role] = name
    if "output" not in columns:
        raise UserError(
            f"{reference}: no column of outputs: name it {' or '.join(COLUMNS['output'][:3])}, or say data.sides=[INPUT, OUTPUT]"
        )
    sources: dict[Role, ImageSource] = {}
    for role, name in columns.items():
        if "" in rows[name]:
            raise UserError(f"{reference}: row {rows[name].index('') + 1} has no {name}; fill it in or remove it")
        stamps = [stamp(file.parent / without_slice(path)) for path in rows[name]]
        if all(size < 0 for size, _ in stamps):
            raise UserError(
                f"{reference}: no file of its column {name} exists ({rows[name][0]}, …); write paths relative to it"
            )
        files = ScanSource if any(map(names_scan, rows[name])) else FileSource
        sources[role] = files(reference, file.parent, rows[name], Labelling(), stamps)
    numbers = np.arange(len(next(iter(rows.values()))))
    names = (columns.get("input", "A"), columns["output"])
    return Sides("table", sources, dict.fromkeys(sources, numbers), "input" in sources, names)
