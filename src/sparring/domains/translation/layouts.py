"""From what a user has to the sides of a translation: which image belongs to which.

pairs    two folders with equal names in them: `A/ B/`, `label/ photo/`, any two. `sides` says which, and in which order.
sides    two folders without: `trainA/ trainB/`, `cat/ dog/`. Nothing belongs together.
joined   images that hold both sides beside each other, the input left, as the pix2pix sets do.
table    .csv .tsv .json .jsonl with a column of paths for each role: `input`, `output`, `mask`, `instance`.
single   one folder or archive of images, whose input a game makes from them (inpainting, super-resolution, …), or whose
         sub-folders are domains to translate between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparring.data.archive import split_archive
from sparring.data.folder import FileSource, stamp
from sparring.data.labelling import Labelling
from sparring.data.labels import read_rows
from sparring.data.source import BrokenSample, ImageSource
from sparring.data.sources import INDEXES, open_source
from sparring.errors import UserError, nearest

Layout = Literal["auto", "pairs", "sides", "joined", "table", "single"]
Role = Literal["input", "output", "mask", "instance"]
ROLES: tuple[Role, ...] = ("input", "output", "mask", "instance")

ORDERS = (
    ("a", "b"), ("trainA", "trainB"), ("input", "output"), ("input", "target"), ("source", "target"), ("label", "photo"),
    ("labels", "photos"), ("label", "image"), ("labels", "images"), ("label", "img"), ("mask", "image"), ("masks", "images"),
    ("lr", "hr"), ("low", "high"), ("x", "y"), ("train_label", "train_img"),
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
    alone: images without a partner, left out, as `side/name`.
    """

    layout: Layout
    sources: dict[Role, ImageSource]
    rows: dict[Role, NDArray[np.int64]]
    paired: bool
    names: tuple[str, str] = ("A", "B")
    alone: list[str] = field(default_factory=list)


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
    chosen = tuple(sides) if sides else None if layout == "single" else _find_sides(reference)
    if chosen is None:
        if layout in ("pairs", "sides"):
            raise UserError(f"{reference}: found no two folders of images in it: name them with data.sides=[A, B]")
        return _with_extra(reference, Sides("single", {"output": open_source(reference)}, {}, False), extra)
    opened: dict[Role, ImageSource] = {
        "input": _inside(reference, chosen[0]), "output": _inside(reference, chosen[1])
    }  # fmt: skip
    found = Sides("sides", opened, {}, False, (chosen[0], chosen[1]))
    inputs, outputs, alone = _partners(found)
    if layout == "pairs" or (layout == "auto" and len(inputs) > len(alone)):
        if not len(inputs):
            raise UserError(
                f"{reference}: no image of {chosen[0]} is named like one of {chosen[1]}: pairs have equal names; without "
                "pairs, say data.layout=sides"
            )
        found.layout, found.paired, found.alone = "pairs", True, alone
        found.rows = {"input": inputs, "output": outputs}
    return _with_extra(reference, found, extra)


def stems(source: ImageSource) -> dict[str, int]:
    """Names without folder of their side and ending → number."""
    return {str(Path(_own_name(name)).with_suffix("")): index for index, name in enumerate(source.names)}


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


def _find_sides(reference: str) -> tuple[str, str] | None:
    """The folders of input and output, or None where the source is not just two folders of images."""
    folders = _folders(reference)
    lower = {name.lower(): name for name in folders}
    for one, other in ORDERS:
        if one.lower() in lower and other.lower() in lower:
            return lower[one.lower()], lower[other.lower()]
    return (folders[0], folders[1]) if len(folders) == 2 else None


def _folders(reference: str) -> list[str]:
    """The folders at the top of a source, by name."""
    if split_archive(reference):
        names = [_own_name(name) for name in open_source(reference, labels="none").names]
        return sorted({name.partition("/")[0] for name in names if "/" in name})
    path = Path(reference).expanduser()
    if not path.is_dir():
        return []
    return sorted(each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def _inside(reference: str, folder: str) -> ImageSource:
    """A folder of a source, which may be several deep. Raises UserError."""
    archive = split_archive(reference)
    if archive:
        return open_source(f"{reference}{'/' if archive[1] else ':'}{folder}", labels="none")
    path = Path(reference).expanduser() / folder
    if not path.is_dir():
        raise UserError(f"{reference}: has no folder {folder!r}{nearest(folder, _folders(reference))}")
    return open_source(str(path), labels="none")


def _own_name(name: str) -> str:
    """A name inside its source: an archive's begins with the archive."""
    return name.rpartition(":")[2]


def _partners(sides: Sides) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Numbers of inputs and outputs of equal names, and the names of the others."""
    inputs, outputs = _relative(sides.sources["input"]), _relative(sides.sources["output"])
    shared = [name for name in outputs if name in inputs]
    alone = [f"{sides.names[0]}/{name}" for name in inputs if name not in outputs]
    alone += [f"{sides.names[1]}/{name}" for name in outputs if name not in inputs]
    return (
        np.array([inputs[name] for name in shared], np.int64),
        np.array([outputs[name] for name in shared], np.int64),
        alone,
    )


def _relative(source: ImageSource) -> dict[str, int]:
    """Stems below the folder that all of a source's images lie in."""
    found = stems(source)
    tops = {stem.partition("/")[0] for stem in found}
    while len(tops) == 1 and all("/" in stem for stem in found):
        found = {stem.partition("/")[2]: index for stem, index in found.items()}
        tops = {stem.partition("/")[0] for stem in found}
    return found


def _with_extra(reference: str, sides: Sides, extra: Mapping[Role, str | None]) -> Sides:
    """Masks and instances, named as the outputs (label maps have theirs too), and the rows where nothing set them yet."""
    for side in ("input", "output"):
        if side in sides.sources:
            sides.rows.setdefault(side, np.arange(len(sides.sources[side])))
    anchor: Role = "output"
    names = {index: name for name, index in _relative(sides.sources[anchor]).items()}
    for role, folder in extra.items():
        if folder is None:
            continue
        if not sides.paired and sides.layout != "single":
            raise UserError(f"data.{role} is for pairs or single images: the sides of {reference} have no equal names")
        source = _inside(reference, folder) if not Path(folder).expanduser().is_absolute() else open_source(folder)
        own = _relative(source)
        here = np.array([names[index] in own for index in sides.rows[anchor].tolist()], bool)
        if not here.any():
            raise UserError(f"{folder}: none of its images is named like one of {reference}")
        sides.alone += [names[index] for index in sides.rows[anchor][~here].tolist()]
        sides.rows = {each: rows[here] for each, rows in sides.rows.items()}
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
        stamps = [stamp(file.parent / path) for path in rows[name]]
        if all(size < 0 for size, _ in stamps):
            raise UserError(
                f"{reference}: no file of its column {name} exists ({rows[name][0]}, …); write paths relative to it"
            )
        sources[role] = FileSource(reference, file.parent, rows[name], Labelling(), stamps)
    numbers = np.arange(len(next(iter(rows.values()))))
    names = (columns.get("input", "A"), columns["output"])
    return Sides("table", sources, dict.fromkeys(sources, numbers), "input" in sources, names)
