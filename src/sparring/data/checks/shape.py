"""Images that show nothing, and images unlike the others in size or channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from sparring.data.checks.findings import Finding
from sparring.data.checks.scan import Scan

CLEAR_MAJORITY = 0.9  # of the images, before the rest counts as odd
CHANNELS = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGBA"}

Shape = tuple[int, int, int]


def broken_images(scan: Scan, names: list[str]) -> list[Finding]:
    """Images that cannot be read, and those that would fill the memory."""
    findings = []
    for index, why in scan.broken.items():
        bomb = any(word in why.lower() for word in ("bomb", "pixel limit", "million pixels"))
        findings.append(Finding("bomb" if bomb else "unreadable", names[index], index, why, True))
    return findings


def blank_images(scan: Scan, names: list[str]) -> list[Finding]:
    """Images of one colour, or wholly transparent."""
    return [
        Finding("blank", names[index], index, "shows one colour only, or is wholly transparent", True)
        for index in np.flatnonzero(scan.blank).tolist()
    ]


def odd_sizes(scan: Scan, names: list[str]) -> list[Finding]:
    """Images of another size than a clear majority has."""
    return _odd(scan, names, "odd_size", lambda shape: f"{shape[0]}×{shape[1]} pixels (height×width)")


def odd_modes(scan: Scan, names: list[str]) -> list[Finding]:
    """Images with other channels than a clear majority has."""
    return _odd(scan, names, "odd_mode", lambda shape: CHANNELS.get(shape[2], f"{shape[2]} channels"))


def _odd(scan: Scan, names: list[str], kind: str, describe: Callable[[Shape], str]) -> list[Finding]:
    described = {index: describe((h, w, c)) for index, (h, w, c) in enumerate(scan.shapes.tolist()) if h > 0}
    if not described:
        return []
    usual, count = Counter(described.values()).most_common(1)[0]
    if count < CLEAR_MAJORITY * len(described):
        return []
    share = 100 * count / len(described)
    return [
        Finding(kind, names[index], index, f"{text}, where {share:.4g} % are {usual}", False)
        for index, text in described.items()
        if text != usual
    ]
