"""Labels that are probably wrong: confident learning (Northcutt et al. 2021) as cleanlab does it.

Two classifiers give each image a probability for each class without having seen it; cleanlab compares their mean with
the labels given. Both look at principal components of pixels: crude, but quick and without luck in their training. One
votes among the nearest images, the other fits a Gaussian to each class; what both doubt is rarely right (0.5 % of 20,000
MNIST labels made wrong: 70 % of the doubts are right, with the neighbours alone 61 %). Where they do not understand the
images, which their agreement with the labels shows, their doubts mean nothing and the check says so instead. Among clean
labels most doubts are about unusual images that are labelled right: cleaning only moves them into the quarantine.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from sparring.data.checks.findings import Finding
from sparring.data.checks.scan import Scan

FEWEST_SAMPLES = 5  # of a class
# Of the out-of-sample guesses with the labels given, in the mean over the classes. 253 brain scans agree to 80 %, and a
# fifth of them would be called mislabelled; digits of which one in twenty is mislabelled agree to 94 %.
LOWEST_AGREEMENT = 0.85
LARGEST_TRAINING = 20_000  # images that neighbours are sought among, drawn by the seed
_FOLDS = 5
_COMPONENTS = 50
_NEIGHBOURS = 15


def label_issues(
    scan: Scan, names: list[str], labels: list[str], among: NDArray[np.int64], seed: int
) -> tuple[list[Finding], str | None]:
    """Images whose label is probably wrong, the surest first, each to be removed and with the label that fits better.

    among: the indices to judge, without duplicates (an image must not vote on its own copy).
    Returns the findings, and a sentence where the check was not run in full, else None.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return [], "needs the package 'cleanlab': pip install 'sparring[clean]'"
    if not labels:
        return [], "the images have no labels"
    counts = Counter(labels[index] for index in among.tolist())
    classes = sorted(label for label, count in counts.items() if count >= FEWEST_SAMPLES)
    if len(classes) < 2:
        return [], f"needs two classes with at least {FEWEST_SAMPLES} images each"
    notes = []
    if len(classes) < len(counts):
        notes.append(f"{len(counts) - len(classes)} classes with fewer than {FEWEST_SAMPLES} images were left out")
    numbers = {label: number for number, label in enumerate(classes)}
    among = np.array([index for index in among.tolist() if labels[index] in numbers], np.int64)
    given = np.array([numbers[labels[index]] for index in among.tolist()])
    guesses = out_of_sample_guesses(scan.thumbnails[among], given, seed)
    right = guesses.argmax(axis=1) == given
    agreement = float(np.mean([right[given == number].mean() for number in range(len(classes))]))
    if agreement < LOWEST_AGREEMENT:
        return [], (
            f"a classifier of pixels agrees with {100 * agreement:.0f} % of the labels: it does not understand these "
            f"images, or very many labels are wrong; below {100 * LOWEST_AGREEMENT:.0f} % its doubts mean nothing"
        )
    issues = find_label_issues(given, guesses, filter_by="both", return_indices_ranked_by="self_confidence", n_jobs=1)
    findings = []
    for place in issues.tolist():
        better = classes[int(guesses[place].argmax())]
        label = classes[given[place]]
        reason = (
            f"labelled {label!r} ({100 * guesses[place, given[place]]:.0f} % likely), looks like {better!r} "
            f"({100 * guesses[place].max():.0f} %)"
        )
        index = int(among[place])
        findings.append(Finding("label_issue", names[index], index, reason, True, suggestion=better))
    return findings, "; ".join(notes) or None


def out_of_sample_guesses(thumbnails: NDArray[np.uint8], given: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Class probabilities, (N, classes), each by classifiers that have not seen the image.

    Up to LARGEST_TRAINING images: 5-fold cross-validation. Beyond, that many are drawn and cross-validated among
    themselves, and all of them judge the rest, which is out of sample just as well.
    """
    flat = thumbnails.reshape(len(thumbnails), -1)
    rng = np.random.default_rng(seed)
    training = np.sort(_draw(given, LARGEST_TRAINING, rng))
    components = min(_COMPONENTS, flat.shape[1], len(training) // 2)
    pca = PCA(components, svd_solver="randomized", random_state=seed)
    pca.fit(flat[training[:: max(1, len(training) // 10_000)]].astype(np.float32) / 255)
    parts = [pca.transform(flat[start : start + 4096].astype(np.float32) / 255) for start in range(0, len(flat), 4096)]
    features = np.concatenate(parts)
    classes = int(given.max()) + 1
    guesses = np.zeros((len(flat), classes))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    for known, asked in folds.split(training, given[training]):
        guesses[training[asked]] = _guess(features, given, training[known], training[asked])
    rest = np.setdiff1d(np.arange(len(flat)), training)
    if len(rest):
        guesses[rest] = _guess(features, given, training, rest)
    return guesses


def _guess(
    features: NDArray[np.float32], given: NDArray[np.int64], known: NDArray[np.int64], asked: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The mean of both classifiers, trained on `known`, for the images `asked`."""
    typical = np.median(np.bincount(given[known]))
    neighbours = KNeighborsClassifier(int(np.clip(typical / 2, 3, _NEIGHBOURS)), weights="distance", algorithm="brute")
    votes = neighbours.fit(features[known], given[known]).predict_proba(features[asked])
    guesses: NDArray[np.float64] = (votes + gaussian_guesses(features[known], given[known], features[asked])) / 2
    return guesses


def gaussian_guesses(
    features: NDArray[np.float32], labels: NDArray[np.int64], asked: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Regularised discriminant analysis (Friedman 1989): p(class | x) with one Gaussian a class, (len(asked), classes).

    A class of n samples in D dimensions takes D / (n + D) of its covariance from the mean covariance of all classes,
    and every covariance a tenth of its mean variance in all directions, so that small classes have one too.
    """
    dimensions = features.shape[1]
    counts = np.bincount(labels)
    means = [features[labels == number].mean(axis=0, dtype=np.float64) for number in range(len(counts))]
    centred = [features[labels == number] - mean for number, mean in enumerate(means)]
    scatters = [part.T @ part for part in centred]
    pooled = sum(scatters) / len(features)
    scores = np.zeros((len(asked), len(counts)))
    for number, (count, mean, scatter) in enumerate(zip(counts, means, scatters, strict=True)):
        borrowed = dimensions / (count + dimensions)
        covariance = (1 - borrowed) * scatter / count + borrowed * pooled
        covariance = 0.9 * covariance + 0.1 * np.eye(dimensions) * (np.trace(covariance) / dimensions + 1e-9)
        factor = np.linalg.cholesky(covariance)
        whitened = np.linalg.solve(factor, (asked - mean).T)
        scores[:, number] = np.log(count) - np.log(np.diag(factor)).sum() - np.square(whitened).sum(axis=0) / 2
    likely = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances: NDArray[np.float64] = likely / likely.sum(axis=1, keepdims=True)
    return chances


def _draw(given: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most about `most` places, the same share of every class but at least FEWEST_SAMPLES of each."""
    if len(given) <= most:
        return np.arange(len(given))
    drawn = []
    for number in np.unique(given):
        places = np.flatnonzero(given == number)
        drawn.append(rng.permutation(places)[: max(FEWEST_SAMPLES, round(most * len(places) / len(given)))])
    return np.concatenate(drawn)
