"""Names of files for images that came from anywhere: safe on every system, each used once."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sparring.data.archive import ARCHIVES
from sparring.data.decode import EXTENSIONS
from sparring.data.source import ImageSource


def file_stems(source: ImageSource, indices: Sequence[int]) -> dict[int, str]:
    """Index -> relative path without a suffix, `/` between its parts, no two alike even where case does not count.

    Labelled images lie in a folder named for their class, below it as they lay below the class folder of the source;
    others keep their folders, unless these would read as classes.
    """
    folders = _class_folders(source.labels)
    stems: dict[int, str] = {}
    for index in indices:
        parts = _parts(source.names[index])
        if source.labels:
            label = source.labels[index]
            above = parts[:-1]
            below = above[above.index(label) + 1 :] if label in above else above
            parts = [folders[label], *below, parts[-1]]
        stems[index] = "/".join(_safe(part) for part in parts)
    if not source.labels and len({stem.partition("/")[0] for stem in stems.values() if "/" in stem}) > 1:
        stems = {index: stem.replace("/", "-") for index, stem in stems.items()}
    taken: set[str] = set()
    return {index: _unused(stem, taken) for index, stem in stems.items()}


def _class_folders(labels: Sequence[str]) -> dict[str, str]:
    taken: set[str] = set()
    return {label: _unused(_safe(label), taken) for label in sorted(set(labels))}


def _parts(name: str) -> list[str]:
    """`photos.zip:cats/1.png` -> [cats, 1]; `data/x.npz[17]` -> [000017]."""
    numbered = re.search(r"\[(\d+)\]$", name)
    if numbered:
        return [f"{int(numbered[1]):06d}"]
    archive, mark, inside = name.partition(":")
    if mark and archive.lower().endswith(ARCHIVES):
        name = inside
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")] or ["_"]
    suffix = next((suffix for suffix in EXTENSIONS if parts[-1].lower().endswith(suffix)), "")
    parts[-1] = parts[-1][: len(parts[-1]) - len(suffix)]
    return parts


def _safe(part: str) -> str:
    return re.sub(r'[<>:"|?*/\\\x00-\x1f]', "_", part).strip(" .") or "_"


def _unused(stem: str, taken: set[str]) -> str:
    candidate, number = stem, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{stem}-{number}"
    taken.add(candidate.casefold())
    return candidate
