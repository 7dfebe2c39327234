"""Images that resemble no other: suggestions for a look, nothing is removed for it.

Two distances of a thumbnail: r, what the main principal components of all images do not explain of it (noise among
photographs stands out by it alone), and √(d² + r²), where d is the mean distance to the 5 nearest others within these
components. The logarithm of each is compared with its median, in units of 1.4826 × its median absolute deviation; the
larger of the two is the robust z. Its limit of 3.5 is Iglewicz and Hoaglin's (1993).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from sparring.data.checks.findings import Finding
from sparring.data.checks.scan import Scan

ROBUST_Z = 3.5
LARGEST_SHARE = 0.01  # of the images; the farthest ones
FEWEST_IMAGES = 20
_NEIGHBOURS = 5
_REFERENCES = 5000  # images that neighbours are sought among, drawn by the seed


def outliers(scan: Scan, names: list[str], among: NDArray[np.int64], seed: int) -> list[Finding]:
    """The images, at most 1 %, that lie farther from their neighbours than ROBUST_Z. among: indices, at least 20."""
    distance, unexplained = neighbour_distances(scan.thumbnails, among, seed)
    z = np.maximum(_robust_z(distance), _robust_z(unexplained))
    most = max(1, int(LARGEST_SHARE * len(among)))
    farthest = [place for place in np.argsort(-z, kind="stable")[:most].tolist() if z[place] > ROBUST_Z]
    reason = "far from all others: robust z {:.1f}, where " + f"{ROBUST_Z:g} is the limit"
    return [
        Finding("outlier", names[among[place]], int(among[place]), reason.format(z[place]), False) for place in farthest
    ]


def neighbour_distances(
    thumbnails: NDArray[np.uint8], among: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """√(d² + r²) and r of each image, (M,) each; pixels count from 0 to 1."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(among))[:_REFERENCES])
    references = _flat(thumbnails, among[chosen])
    components = min(32, references.shape[1], max(1, len(references) // 5))
    pca = PCA(components, svd_solver="randomized", random_state=seed).fit(references)
    search = NearestNeighbors(n_neighbors=_NEIGHBOURS + 1, algorithm="brute").fit(pca.transform(references))
    is_reference = np.zeros(len(among), bool)
    is_reference[chosen] = True
    distance, residual = np.zeros(len(among)), np.zeros(len(among))
    for start in range(0, len(among), 4096):
        part = slice(start, start + 4096)
        flat = _flat(thumbnails, among[part])
        inside = pca.transform(flat)
        squares = np.square(flat - pca.mean_).sum(axis=1) - np.square(inside).sum(axis=1)
        near, _ = search.kneighbors(inside)
        # A reference is its own nearest neighbour, at distance 0: its others are the five after it.
        others = np.where(is_reference[part, None], near[:, 1:], near[:, :-1]).mean(axis=1)
        residual[part] = np.sqrt(np.maximum(squares, 0))
        distance[part] = np.hypot(others, residual[part])
    return distance, residual


def _robust_z(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    # Half a grey level in a 32×32 thumbnail is 0.06: differences far below that are rounding, not structure.
    logarithms = np.log(distances + 0.01)
    median = np.median(logarithms)
    z: NDArray[np.float64] = (logarithms - median) / max(1.4826 * float(np.median(np.abs(logarithms - median))), 1e-3)
    return z


def _flat(thumbnails: NDArray[np.uint8], index: NDArray[np.int64]) -> NDArray[np.float32]:
    return thumbnails[index].reshape(len(index), -1).astype(np.float32) / np.float32(255)
