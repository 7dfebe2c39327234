"""Images that are there twice: exactly, or nearly so.

Exact: equal shape and pixels. Near: thumbnails, brought to mean 0 and deviation 1, that differ by at most
MAXIMUM_DISTANCE RMS. All pairs within it are found without comparing all pairs: a distance between projections on
orthonormal directions is never larger than the distance itself, so a k-d tree over the first principal components
proposes every pair, and the full thumbnails decide. (A difference hash proposes a hundred times more pairs on images
with an empty border, such as MNIST, and loses some that were saved as JPEG.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.utils.extmath import randomized_svd

from sparring.data.checks.findings import Finding
from sparring.data.checks.scan import Scan

# The closest distinct images: 0.108 in scikit-learn's 8×8 digits, 0.117 in the Olivetti faces, 0.133 in MNIST; the same
# image brighter by 2 or saved as JPEG of quality 90: 0.002 and 0.03 in median.
MAXIMUM_DISTANCE = 0.1
_DIRECTIONS = 16
_LARGEST_CROWD = 4096  # candidates of one image whose thumbnails are compared


def exact_duplicates(scan: Scan, names: list[str], labels: list[str]) -> list[Finding]:
    """Later images with the shape and pixels of an earlier one; with another label they are label conflicts."""
    first: dict[bytes, int] = {}
    findings = []
    for index in np.flatnonzero(scan.usable).tolist():
        kept = first.setdefault(scan.digests[index], index)
        if kept == index:
            continue
        if labels and labels[index] != labels[kept]:
            kind = "label_conflict"
            reason = f"the same pixels as {names[kept]}, labelled {labels[index]!r} here and {labels[kept]!r} there"
        else:
            kind, reason = "exact_duplicate", f"the same pixels as {names[kept]}"
        findings.append(Finding(kind, names[index], index, reason, True, names[kept]))
    return findings


def near_duplicates(
    scan: Scan, names: list[str], labels: list[str], among: NDArray[np.int64], seed: int
) -> tuple[list[Finding], str | None]:
    """Images that look like an earlier one that is kept.

    among: the indices to compare, ascending, without exact duplicates.
    Returns the findings, and a sentence where the search was bounded, else None.
    """
    findings: list[Finding] = []
    if len(among) < 2:
        return findings, None
    places = _project(scan.thumbnails, among, seed)
    tree = cKDTree(places)
    # Rounding in float32 must not lose a pair: hence a little more than the distance itself.
    radius = MAXIMUM_DISTANCE * 1.001
    nearest, _ = tree.query(places, k=2, distance_upper_bound=radius)
    removed = np.zeros(len(among), bool)
    crowds = 0
    # In order: an image that stays takes away the later ones that resemble it, so each removed image resembles one that
    # stays, and a chain of small steps (a video) is thinned out, not cut to its first image.
    for position in np.flatnonzero(np.isfinite(nearest[:, 1])).tolist():
        if removed[position]:
            continue
        near = np.array(tree.query_ball_point(places[position], radius), np.int64)
        near = np.sort(near[(near > position) & ~removed[near]])
        crowds += len(near) > _LARGEST_CROWD
        near = near[:_LARGEST_CROWD]
        kept = int(among[position])
        distances = thumbnail_distances(scan.thumbnails, kept, among[near])
        for other, distance in zip(near.tolist(), distances.tolist(), strict=True):
            if distance > MAXIMUM_DISTANCE:
                continue
            removed[other] = True
            index = int(among[other])
            reason = f"looks like {names[kept]} (distance {distance:.3f} of {MAXIMUM_DISTANCE} allowed)"
            if labels and labels[index] != labels[kept]:
                reason += f", labelled {labels[index]!r} here and {labels[kept]!r} there"
            findings.append(Finding("near_duplicate", names[index], index, reason, True, names[kept]))
    note = None
    if crowds:
        note = f"bounded: {crowds:,} images resemble so many that only {_LARGEST_CROWD:,} each were compared"
    return findings, note


def thumbnail_distances(thumbnails: NDArray[np.uint8], one: int, others: NDArray[np.int64]) -> NDArray[np.float32]:
    """RMS difference of one thumbnail from others, each of mean 0 and deviation 1: (M,); 0 is equal, √2 unrelated."""
    own = normalised(thumbnails[[one]])
    parts = [normalised(thumbnails[others[start : start + 1024]]) for start in range(0, len(others), 1024)]
    return np.concatenate([np.zeros(0, np.float32), *(np.linalg.norm(part - own, axis=1) for part in parts)])


def normalised(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Flat, mean 0, deviation 1, over √D: float32 (N, D), so that Euclidean distances are RMS differences."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    # An image that is not blank may have a blank thumbnail (fine texture): a floor of one level.
    deviation = np.maximum(flat.std(axis=1, keepdims=True), 1)
    return flat / (deviation * np.float32(np.sqrt(flat.shape[1])))


def _project(thumbnails: NDArray[np.uint8], among: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """The thumbnails on their main directions, (M, at most 16). Any orthonormal ones are right, these are quick."""
    rng = np.random.default_rng(seed)
    sample = normalised(thumbnails[np.sort(rng.permutation(among)[:4096])])
    wanted = min(_DIRECTIONS, *sample.shape)
    _, _, directions = randomized_svd(sample, wanted, random_state=seed)
    parts = [normalised(thumbnails[among[start : start + 4096]]) @ directions.T for start in range(0, len(among), 4096)]
    return np.concatenate(parts)
