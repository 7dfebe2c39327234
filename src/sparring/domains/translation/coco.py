"""From annotations of instances in COCO's JSON to maps: each photograph with the class and the instance of every pixel."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparring.data.convert import Progress
from sparring.data.decode import probe
from sparring.data.source import BrokenSample
from sparring.domains.translation.data import CLASSES
from sparring.domains.translation.label_maps import distinct_colours
from sparring.errors import UserError
from sparring.files import whole_folder

BACKGROUND = "background"


@dataclass
class MappedSet:
    """What was written: `label/`, `instance/` and `photo/` with equal names, and the names of the classes.

    classes: of the numbers in `label`, 0 the background. empty: photographs in which nothing is annotated.
    missing: file → why it is left out.
    """

    out: Path
    written: int = 0
    instances: int = 0
    classes: list[str] = field(default_factory=list)
    empty: int = 0
    missing: dict[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {**vars(self), "out": str(self.out)}


def map_instances(
    annotations: Path, out: Path, *, images: Path | None = None, progress: Progress | None = None
) -> MappedSet:
    """Write the photographs of an annotation file with maps of their classes and instances, whole or not at all.

    annotations: COCO's JSON: `images`, `annotations` with polygons or run lengths, `categories`. images: the folder that its
    file names are relative to; None: found. Smaller instances lie over larger ones. Instances are numbered from 1 in each
    photograph. Raises UserError where the file is of another kind, no photograph is there, or `out` exists.
    """
    content = _read(annotations)
    categories = sorted(content["categories"], key=lambda each: int(each["id"]))
    numbers = {each["id"]: number for number, each in enumerate(categories, start=1)}
    result = MappedSet(out, classes=[BACKGROUND, *(str(each["name"]) for each in categories)])
    root = images or _folder_of(annotations, content["images"])
    own: dict[Any, list[Mapping[str, Any]]] = {}
    for each in content["annotations"]:
        own.setdefault(each.get("image_id"), []).append(each)
    if out.exists():
        raise UserError(f"{out}: is there already; choose another folder")
    palette = [part for colour in distinct_colours(256) for part in colour]
    with whole_folder(out) as folder:
        for done, image in enumerate(content["images"], start=1):
            try:
                _write(folder, root, image, own.get(image["id"], []), numbers, palette, result)
            except (BrokenSample, OSError) as error:
                result.missing[str(image["file_name"])] = getattr(error, "strerror", None) or str(error)
            if progress:
                progress(done, len(content["images"]))
        if not result.written:
            first = next(iter(result.missing.items()), ("", "it lists none"))
            raise UserError(
                f"{annotations}: none of its photographs can be used ({first[0]}: {first[1]}); give their --images folder"
            )
        (folder / CLASSES).write_text("".join(f"{name}\n" for name in result.classes))
    return result


def fill_polygon(points: Sequence[float], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels (H, W) whose middle lies inside a polygon x₁, y₁, x₂, y₂, … by the even-odd rule."""
    height, width = size
    x, y = np.asarray(points, float).reshape(-1, 2).T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    middles = np.arange(height)[:, None] + 0.5
    crossed = (np.minimum(y, next_y) <= middles) & (middles < np.maximum(y, next_y))
    rows, edges = np.nonzero(crossed)
    run = (next_x - x)[edges] / (next_y - y)[edges]
    at = x[edges] + (rows + 0.5 - y[edges]) * run
    # From a crossing on, all pixels of its row are on the other side.
    columns = np.ceil(at - 0.5).clip(0, width).astype(np.int64)
    toggles = np.zeros((height, width + 1), np.int64)
    np.add.at(toggles, (rows, columns), 1)
    inside: NDArray[np.bool_] = toggles.cumsum(axis=1)[:, :width] % 2 == 1
    return inside


def fill_runs(counts: Sequence[int] | str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels (H, W) of run lengths, column by column, outside first; also packed as text. Raises ValueError."""
    height, width = size
    runs = np.asarray(_unpacked(counts) if isinstance(counts, str) else counts, np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"run lengths of {runs.sum()} pixels, where there are {height * width}")
    values = np.arange(len(runs)) % 2 == 1
    filled: NDArray[np.bool_] = np.repeat(values, runs).reshape(width, height).T
    return filled


def _unpacked(text: str) -> list[int]:
    """Run lengths from COCO's text: five bits a character, the lowest first, from the third on as differences to the last but one."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:  # the highest bit is the sign
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return runs


def _write(
    folder: Path,
    root: Path,
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    numbers: Mapping[Any, int],
    palette: Sequence[int],
    result: MappedSet,
) -> None:
    """A photograph and its maps. Raises BrokenSample or OSError where it cannot be used."""
    size = int(image["height"]), int(image["width"])
    name = Path(str(image["file_name"]))
    if name.is_absolute() or ".." in name.parts:
        raise BrokenSample("its name leads out of the folder")
    photo = (root / name).read_bytes()
    height, width, _ = probe(photo)
    if (height, width) != size:
        raise BrokenSample(f"is {width}×{height} pixels, and was annotated as {size[1]}×{size[0]}")
    labels, instances = (np.zeros(size, np.uint16) for _ in range(2))
    filled = [(_filled(each, size), numbers[each["category_id"]]) for each in annotations]
    drawn = sorted((each for each in filled if each[0].any()), key=lambda each: -int(each[0].sum()))
    for number, (mask, label) in enumerate(drawn, start=1):
        labels[mask], instances[mask] = label, number
    for side, values in (("label", labels), ("instance", instances)):
        target = (folder / side / name).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_png(values, palette if side == "label" and len(numbers) < 256 else None))
    target = folder / "photo" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(photo)
    result.written += 1
    result.instances += len(drawn)
    result.empty += not drawn


def _filled(annotation: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of an instance, which may have several parts. Raises BrokenSample."""
    shape = annotation.get("segmentation") or []
    try:
        if isinstance(shape, Mapping):
            if tuple(shape["size"]) != size:
                raise ValueError(f"run lengths of {shape['size']}, where there are {list(size)}")
            return fill_runs(shape["counts"], size)
        whole = np.zeros(size, bool)
        for polygon in shape:
            whole |= fill_polygon(polygon, size)
        return whole
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenSample(f"annotation {annotation.get('id')}: {error}") from error


def _png(values: NDArray[np.uint16], palette: Sequence[int] | None) -> bytes:
    stream = io.BytesIO()
    small = values.astype(np.uint8) if values.max(initial=0) < 256 else values
    image = Image.fromarray(small)
    if palette is not None:
        image = Image.fromarray(small, "L")
        image.putpalette(palette)
    image.save(stream, "PNG")
    return stream.getvalue()


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The three lists of an annotation file. Raises UserError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read as JSON: {error}") from error
    needed: dict[str, Callable[[Any], bool]] = {
        "images": lambda each: {"id", "file_name", "height", "width"} <= each.keys(),
        "categories": lambda each: {"id", "name"} <= each.keys(),
        "annotations": lambda each: {"image_id", "category_id"} <= each.keys(),
    }
    for name, whole in needed.items():
        rows = content.get(name) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(each, dict) and whole(each) for each in rows):
            raise UserError(f"{file}: is no annotation file of COCO's kind: its {name!r} are missing or incomplete")
    known = {each["id"] for each in content["categories"]}
    strange = next((each for each in content["annotations"] if each["category_id"] not in known), None)
    if strange is not None:
        raise UserError(
            f"{file}: annotation {strange.get('id')} is of category {strange['category_id']}, which is not listed"
        )
    return {name: content[name] for name in needed}


def _folder_of(file: Path, images: Sequence[Mapping[str, Any]]) -> Path:
    """Where the photographs are: beside the file, or where COCO has them. Raises UserError."""
    part = file.stem.rpartition("_")[2]
    beside = file.parent
    candidates = [
        beside,
        beside / "images",
        beside / part,
        beside.parent / part,
        beside.parent / "images",
        beside.parent / "images" / part,
    ]
    found = [sum((folder / str(image["file_name"])).is_file() for image in images[:20]) for folder in candidates]
    if max(found) > 0:
        return candidates[found.index(max(found))]
    name = images[0]["file_name"] if images else "…"
    raise UserError(
        f"{file}: found no photographs ({name}) in {', '.join(str(each) for each in candidates[:4])}, …: give their --images folder"
    )
