"""What is wrong with the data of a translation: partners that are missing or do not fit, maps that are none, leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparring.data.check import DataReport
from sparring.data.checks.duplicates import exact_duplicates, near_duplicates
from sparring.data.checks.findings import Finding
from sparring.data.checks.scan import Scan, scan_images
from sparring.data.checks.shape import blank_images, broken_images
from sparring.data.checks.threads import in_threads
from sparring.data.convert import Progress
from sparring.data.decode import channels
from sparring.data.rasters import read_indices
from sparring.data.source import BrokenSample, ImageSource
from sparring.domains.translation.data import TranslationOptions, kind_of
from sparring.domains.translation.layouts import Role, Sides, open_sides

MOST_VALUES = 256  # of one map: a picture has more
SHOWN_SIZES = 5
CHUNK = 32


def check_translation(
    options: TranslationOptions,
    *,
    against: TranslationOptions | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> DataReport:
    """Look over the sides of a source, each image once; nothing is resized, and nothing kept.

    against: other data, whose outputs must not be among these (training data and a test set, say).
    Raises UserError where there is nothing that can be opened.
    """
    sides = _opened(options)
    kind = kind_of(options, sides)
    findings = [
        Finding("no_partner", name, -1, "has no partner of its name, and is left out", True) for name in sides.alone
    ]
    summary: dict[str, Any] = {"layout": sides.layout, "paired": sides.paired}
    if sides.hint:
        summary["note"] = sides.hint
    shapes: dict[Role, NDArray[np.int64]] = {}
    scans: dict[Role, tuple[Scan, list[str]]] = {}
    for role, source in sides.sources.items():
        names = [_called(sides, role, name) for name in source.names]
        if role in ("mask", "instance") or (role == "input" and kind == "labels"):
            looked = _Maps(source, masks=role == "mask", progress=progress)
            shapes[role] = looked.shapes
            findings += [Finding("unreadable", names[index], index, why, True) for index, why in looked.broken.items()]
            findings += looked.findings(names)
            summary[role] = looked.summary(options if role == "input" else None)
            if role == "input":
                findings += looked.gaps(sides.names[0], options)
            continue
        scan = scan_images(source, progress)
        scans[role] = scan, names
        shapes[role] = scan.shapes[:, :2].astype(np.int64)
        copies = exact_duplicates(scan, names, [])
        findings += [*broken_images(scan, names), *blank_images(scan, names), *copies]
        single = scan.usable
        single[[copy.index for copy in copies]] = False
        findings += near_duplicates(scan, names, [], np.flatnonzero(single), seed)[0]
        summary[role] = {"images": len(source), "sizes": _sizes(shapes[role])}
    findings += _partner_sizes(sides, shapes)
    summary["rows"] = len(sides.rows["output"])
    if against is not None:
        other = _opened(against).sources["output"]
        findings += leaks(*scans["output"], scan_images(other, progress), other.names, seed=seed)
    findings.sort(key=lambda finding: finding.order)
    return DataReport(str(options.source), summary, findings)


def leaks(scan: Scan, names: list[str], other: Scan, other_names: list[str], *, seed: int = 0) -> list[Finding]:
    """Images that look like one of other data (see `data.checks.duplicates`), so that the one cannot be a test of the other."""
    size = (
        max(scan.thumbnails.shape[1], other.thumbnails.shape[1]),
        max(scan.thumbnails.shape[2], other.thumbnails.shape[2]),
    )
    both = Scan(
        np.concatenate([other.shapes, scan.shapes]),
        np.concatenate([_thumbnails(each, size) for each in (other.thumbnails, scan.thumbnails)]),
        [*other.digests, *scan.digests],
        np.concatenate([other.blank, scan.blank]),
        {},
    )
    count = len(other_names)
    # The other data first: an image is then said to look like one of them, and not like a copy of its own kind.
    labelled = [f"\0{name}" for name in other_names] + names
    found, _ = near_duplicates(both, labelled, [], np.flatnonzero(both.usable), seed)
    return [
        replace(
            each, kind="leak", index=each.index - count, related=each.related[1:], remove=False,
            reason=f"looks like {each.related[1:]} of the other data: they are no test of each other",
        )
        for each in found
        if each.index >= count and each.related is not None and each.related.startswith("\0")
    ]  # fmt: skip


class _Maps:
    """One pass over maps of numbers or masks.

    shapes: int64 (N, 2), zeros for what cannot be read. values: of each, how many different ones. pixels: number → how
    many pixels of all maps have it. broken: index → why.
    """

    def __init__(self, source: ImageSource, *, masks: bool, progress: Progress | None) -> None:
        count = len(source)
        self.masks = masks
        self.shapes = np.zeros((count, 2), np.int64)
        self.values = np.zeros(count, np.int64)
        self.pixels: Counter[int] = Counter()
        self.holders: Counter[int] = Counter()
        self.broken: dict[int, str] = {}

        def look(start: int) -> list[tuple[tuple[int, ...], NDArray[Any], NDArray[np.int64]] | str]:
            return [self._look(source, index) for index in range(start, min(start + CHUNK, count))]

        done = 0
        for looks in in_threads(look, range(0, count, CHUNK), threads=1 if source.sequential else None):
            for index, one in enumerate(looks, done):
                if isinstance(one, str):
                    self.broken[index] = one
                    continue
                shape, numbers, counts = one
                self.shapes[index], self.values[index] = shape[:2], len(numbers)
                if len(numbers) <= MOST_VALUES:
                    self.pixels.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
                    self.holders.update(numbers.tolist())
            done += len(looks)
            if progress:
                progress(done, count)

    def _look(self, source: ImageSource, index: int) -> tuple[tuple[int, ...], NDArray[Any], NDArray[np.int64]] | str:
        try:
            image = channels(source.load(index), 1) if self.masks else read_indices(source, index)
        except BrokenSample as problem:
            return str(problem)
        numbers, counts = np.unique(image, return_counts=True)
        return image.shape, numbers, counts

    def findings(self, names: Sequence[str]) -> list[Finding]:
        """Masks of more than two values, maps of more than a map can have."""
        if self.masks:
            return [
                Finding(
                    "mask_values",
                    names[index],
                    index,
                    f"has {self.values[index]} values: 128 and above count as marked",
                    False,
                )
                for index in np.flatnonzero(self.values > 2).tolist()
            ]
        return [
            Finding(
                "map_values",
                names[index],
                index,
                f"has {self.values[index]} values, as a picture has: is it a map?",
                False,
            )
            for index in np.flatnonzero(self.values > MOST_VALUES).tolist()
        ]

    def gaps(self, side: str, options: TranslationOptions) -> list[Finding]:
        """Numbers of classes that are not 0, 1, 2, … one after the other, or that nobody named."""
        there = sorted(value for value in self.pixels if value != options.void)
        if not there:
            return []
        known = len(options.classes) if options.classes is not None else None
        if known is not None:
            strange = [value for value in there if value >= known]
            why = f"holds {_listed(strange)}, and data.classes names 0 to {known - 1}"
        else:
            strange = sorted(set(range(there[-1] + 1)) - set(there))
            why = f"holds {_listed(there)}, and not {_listed(strange)}: "
            if there[-1] - 1 in strange:
                why += f"if {there[-1]} is no class, say data.void={there[-1]}; "
            why += "data.classes=[…] names all, so that data that have others can be measured on"
        return [Finding("class_numbers", side, -1, why, False)] if strange else []

    def summary(self, options: TranslationOptions | None) -> dict[str, Any]:
        """Sizes, and each class's share of all pixels and of the maps that hold it."""
        total, readable = sum(self.pixels.values()), int((self.shapes[:, 0] > 0).sum())
        found: dict[str, Any] = {"images": len(self.shapes), "sizes": _sizes(self.shapes)}
        if options is not None and total:
            names = options.classes or []
            found["classes"] = {
                (names[value] if value < len(names) else "void" if value == options.void else str(value)): {
                    "pixels": round(self.pixels[value] / total, 6), "images": round(self.holders[value] / readable, 6)
                }
                for value in sorted(self.pixels)
            }  # fmt: skip
        return found


def _opened(options: TranslationOptions) -> Sides:
    return open_sides(
        str(options.source), layout=options.layout, sides=options.sides, mask=options.mask, instance=options.instance
    )


def _partner_sizes(sides: Sides, shapes: dict[Role, NDArray[np.int64]]) -> list[Finding]:
    """What is of another size than the output it belongs to."""
    found: list[Finding] = []
    anchor = shapes["output"][sides.rows["output"]]
    for role, rows in sides.rows.items():
        if role == "output" or (role == "input" and not sides.paired):
            continue
        own = shapes[role][rows]
        for row in np.flatnonzero((own != anchor).any(axis=1) & (own[:, 0] > 0) & (anchor[:, 0] > 0)).tolist():
            name = _called(sides, role, sides.sources[role].names[rows[row]])
            (h, w), (oh, ow) = own[row].tolist(), anchor[row].tolist()
            why = f"is {w}×{h} pixels, and what belongs to it {ow}×{oh}: data.size brings both to one"
            found.append(Finding("partner_size", name, int(rows[row]), why, False))
    return found


def _called(sides: Sides, role: Role, name: str) -> str:
    side = {"input": sides.names[0], "output": sides.names[1]}.get(role, role)
    return f"{side}/{name}" if sides.layout in ("pairs", "sides") else name


def _sizes(shapes: NDArray[np.int64]) -> dict[str, int]:
    sizes = Counter(f"{height}×{width}" for height, width in shapes.tolist() if height)
    return dict(sizes.most_common(SHOWN_SIZES))


def _thumbnails(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Thumbnails (N, H, W, C) as colour ones of a size."""
    colour = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
    if colour.shape[1:3] == size:
        return colour
    resized = [Image.fromarray(each).resize(size[::-1], Image.Resampling.BILINEAR) for each in colour]
    return np.stack([np.asarray(each) for each in resized])


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
