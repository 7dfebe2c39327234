"""Look over a data set before training on it: one pass of decoding, then every check, one report.

Nothing is changed here; `prepare.py` writes a cleaned copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparring.data.checks.duplicates import exact_duplicates, near_duplicates
from sparring.data.checks.findings import KINDS, Finding
from sparring.data.checks.labels import label_issues
from sparring.data.checks.outliers import FEWEST_IMAGES, outliers
from sparring.data.checks.scan import Scan, scan_images
from sparring.data.checks.shape import CHANNELS, CLEAR_MAJORITY, blank_images, broken_images, odd_modes, odd_sizes
from sparring.data.source import ImageSource
from sparring.errors import UserError, nearest

# The names a user can ask for. Whether an image can be read is always checked.
CHECKS = ("blank", "exact_duplicates", "near_duplicates", "labels", "outliers", "sizes", "modes")


@dataclass
class DataReport:
    """What was found in a data set.

    source: its name.
    summary: images, readable, sizes, modes, classes, … see `summarise`; JSON-ready.
    findings: all of them, kind by kind in the order of KINDS.
    skipped: check -> why it was not run, or not in full.
    """

    source: str
    summary: dict[str, Any]
    findings: list[Finding]
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """The number of findings of each kind that occurs."""
        counted = Counter(finding.kind for finding in self.findings)
        return {kind: counted[kind] for kind in KINDS if counted[kind]}

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "source": self.source,
            "summary": self.summary,
            "counts": self.counts,
            "findings": [finding.plain() for finding in self.findings],
            "skipped": self.skipped,
        }


def check_images(
    source: ImageSource,
    *,
    checks: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    seed: int = 0,
) -> DataReport:
    """Check all images of a source: broken, blank, doubled, odd and probably mislabelled ones.

    checks: some of CHECKS; None is all. progress: called with (images decoded, all images). The report is the same for
    the same images and seed. Raises UserError for an unknown check and for a source without images.
    """
    wanted = _known(CHECKS if checks is None else checks)
    if not len(source):
        raise UserError(f"{source.name}: found no images to check; is the path right?")
    names, labels = source.names, source.labels
    scan = scan_images(source, progress)
    findings = broken_images(scan, names)
    skipped = {check: "not asked for" for check in CHECKS if check not in wanted}
    if "blank" in wanted:
        findings += blank_images(scan, names)
    copies = exact_duplicates(scan, names, labels)
    if "exact_duplicates" in wanted:
        findings += copies
    # The later checks compare images with each other: copies would be their own nearest neighbours.
    single = scan.usable
    single[[copy.index for copy in copies]] = False
    if "near_duplicates" in wanted:
        near, note = near_duplicates(scan, names, labels, np.flatnonzero(single), seed)
        findings += near
        single[[copy.index for copy in near]] = False
        _note(skipped, "near_duplicates", note)
    among = np.flatnonzero(single)
    if "labels" in wanted:
        issues, note = label_issues(scan, names, labels, among, seed)
        findings += issues
        _note(skipped, "labels", note)
    if "outliers" in wanted:
        if len(among) < FEWEST_IMAGES:
            skipped["outliers"] = f"needs at least {FEWEST_IMAGES} different images"
        else:
            findings += outliers(scan, names, among, seed)
    if "sizes" in wanted:
        findings += odd_sizes(scan, names)
    if "modes" in wanted:
        findings += odd_modes(scan, names)
    findings.sort(key=lambda finding: finding.order)
    summary = summarise(scan, labels)
    if source.vectors is not None:
        summary["label_kind"] = source.vectors.kind
        summary["label_means"] = source.vectors.means()
        if "labels" in wanted:
            skipped["labels"] = f"the labels are {source.vectors.kind}, not classes"
    if source.note:
        summary["label_note"] = source.note
    return DataReport(source.name, summary, findings, skipped)


def summarise(scan: Scan, labels: list[str]) -> dict[str, Any]:
    """The data set in numbers, JSON-ready.

    sizes: "H×W" -> count, the commonest 20, with `different_sizes` and whether they are "uniform", "mostly uniform"
    (≥ 90 %) or "diverse"; modes: "RGB" … -> count; classes: label -> count, and imbalance: largest over smallest class.
    """
    readable = [shape for shape in scan.shapes.tolist() if shape[0] > 0]
    sizes = Counter(f"{height}×{width}" for height, width, _ in readable)
    modes = Counter(CHANNELS.get(channels, f"{channels} channels") for _, _, channels in readable)
    classes = dict(sorted(Counter(labels).items()))
    top = max(sizes.values(), default=0)
    if len(sizes) <= 1:
        spread = "uniform"
    else:
        spread = "mostly uniform" if top >= CLEAR_MAJORITY * len(readable) else "diverse"
    return {
        "images": len(scan.shapes),
        "readable": len(readable),
        "sizes": dict(sizes.most_common(20)),
        "different_sizes": len(sizes),
        "size_spread": spread,
        "modes": dict(modes.most_common()),
        "classes": classes,
        "imbalance": max(classes.values()) / min(classes.values()) if classes else None,
    }


def _known(checks: Sequence[str]) -> set[str]:
    for check in checks:
        if check not in CHECKS:
            known = ", ".join(CHECKS)
            raise UserError(f"there is no check {check!r}{nearest(check, CHECKS)}; there are {known}")
    return set(checks)


def _note(skipped: dict[str, str], check: str, note: str | None) -> None:
    if note is not None:
        skipped[check] = note
