"""The measures of distributions that every kind of data has, once its samples are described by features."""

from __future__ import annotations

import math

import torch

from sparring.core.game import Batch
from sparring.metrics.classes import class_frechet, conditional_accuracy
from sparring.metrics.frechet import frechet_distance, frechet_infinity
from sparring.metrics.inception_score import inception_score
from sparring.metrics.kernel import kernel_distance, mmd
from sparring.metrics.memorisation import authenticity, copy_share
from sparring.metrics.meter import Measure, Value, Values
from sparring.metrics.modes import mode_counts
from sparring.metrics.prdc import prdc
from sparring.metrics.sliced_wasserstein import sliced_wasserstein
from sparring.metrics.two_sample import two_sample
from sparring.metrics.vendi import vendi

HIGHER, LOWER = True, False
ANY, SHARE = (-math.inf, math.inf), (0.0, 1.0)
NEIGHBOURS = 5
KID_SUBSET = 1000
CLASS_LEAST = 20  # of each class on each side; a half of those must still be there for the interval
VENDI_MOST = 2000  # its eigenvalues cost N³, and it grows with N: the same for everyone
SPLITS = 10  # of the Inception Score


def _fid(real: Batch, fake: Batch, seed: int) -> Values:
    return {"fid": frechet_distance(real["features"], fake["features"])}


def _fid_infinity(real: Batch, fake: Batch, seed: int) -> Values:
    return {"fid_infinity": frechet_infinity(real["features"], fake["features"], seed=seed)}


def _kid(real: Batch, fake: Batch, seed: int) -> Values:
    size = min(KID_SUBSET, real.count, fake.count)
    mean, deviation = kernel_distance(real["features"], fake["features"], subset_size=size, seed=seed)
    return {"kid": Value(mean, {"over_subsets": deviation, "subset_size": size})}


def _mmd(real: Batch, fake: Batch, seed: int) -> Values:
    return {"mmd": mmd(real["features"], fake["features"], seed=seed)}


def _sliced_wasserstein(real: Batch, fake: Batch, seed: int) -> Values:
    return {"sliced_wasserstein": sliced_wasserstein(real["features"], fake["features"], seed=seed)}


def _inception_score(real: Batch, fake: Batch, seed: int) -> Values:
    splits = min(SPLITS, real.count, fake.count)
    mean, deviation = inception_score(fake["logits"], splits=splits, seed=seed)
    of_real, _ = inception_score(real["logits"], splits=splits, seed=seed)
    return {"inception_score": Value(mean, {"splits": splits, "over_splits": deviation, "of_real": of_real})}


def _prdc(real: Batch, fake: Batch, seed: int) -> Values:
    found = prdc(real["features"], fake["features"], k=NEIGHBOURS)
    names = ("precision", "recall", "density", "coverage")
    return {name: Value(getattr(found, name), {"neighbours": NEIGHBOURS}) for name in names}


def _vendi(real: Batch, fake: Batch, seed: int) -> Values:
    return {"vendi": Value(vendi(fake["features"]), {"of_real": vendi(real["features"])})}


def _two_sample(real: Batch, fake: Batch, seed: int) -> Values:
    found = two_sample(real["features"], fake["features"], seed=seed)
    return {"two_sample": Value(found.accuracy, {"p_value": found.p_value, "indistinguishable": 0.5})}


def _memorisation(real: Batch, fake: Batch, seed: int) -> Values:
    # One in a hundred new samples would be as near by chance; of fewer training samples than that, one in all of them.
    expected = max(0.01, 1 / max(3, len(real["features"].unique(dim=0))))
    copies = copy_share(real["features"], fake["features"], expected=expected)
    return {
        "authenticity": Value(authenticity(real["features"], fake["features"]), {"of_real": _own_authenticity(real)}),
        "copies": Value(copies.share, {"expected": copies.expected}),
    }


def _own_authenticity(real: Batch) -> float:
    """Of one half of the data against the other: what samples that copy nothing get."""
    left, right = real["features"].chunk(2)
    return authenticity(left, right)


def _conditional_accuracy(real: Batch, fake: Batch, seed: int) -> Values:
    of_real = conditional_accuracy(real["class_logits"], real["label"])
    return {
        "conditional_accuracy": Value(conditional_accuracy(fake["class_logits"], fake["label"]), {"of_real": of_real})
    }


def _class_fid(real: Batch, fake: Batch, seed: int) -> Values:
    classes = [str(number) for number in range(1 + int(torch.cat([real["label"], fake["label"]]).max()))]
    each = class_frechet(
        real["features"], fake["features"], real["label"], fake["label"], classes=classes, least=CLASS_LEAST
    )
    # Where no class has enough samples there is no figure.
    return {"class_fid": Value(sum(each.values()) / len(each), {"by_class": each})} if each else {}


def _modes(real: Batch, fake: Batch, seed: int) -> Values:
    count = real["class_logits"].shape[1]
    seen = torch.bincount(real["class_logits"].argmax(1), minlength=count).double()
    # Against the classes as the classifier finds them in the data, so that its own mistakes are no fault of the samples.
    # A class that it never finds counts as half a sample: a divergence from 0 would be infinite.
    found = mode_counts(fake["class_logits"].argmax(1), count, reference=seen.clamp(min=0.5))
    return {
        "modes": Value(float(found.count), {"of": int((seen > 0).sum())}),
        "reverse_kl": Value(found.reverse_kl, {"floor": found.floor}),
    }


MEASURES = {
    "fid": Measure({"fid": LOWER}, _fid, usual=True, note="Fréchet distance (Heusel et al. 2017)"),
    "fid_infinity": Measure({"fid_infinity": LOWER}, _fid_infinity, within=ANY, note="FID without its bias (Chong & Forsyth 2020)"),
    "kid": Measure({"kid": LOWER}, _kid, within=ANY, usual=True, note="kernel distance (Bińkowski et al. 2018)"),
    "prdc": Measure(
        {"precision": HIGHER, "recall": HIGHER, "density": HIGHER, "coverage": HIGHER}, _prdc, usual=True,
        note="fidelity and diversity by neighbours (Kynkäänniemi et al. 2019; Naeem et al. 2020)",
    ),
    "memorisation": Measure(
        {"authenticity": HIGHER, "copies": LOWER}, _memorisation, resampled="fake", within=SHARE, usual=True,
        note="share of samples that are no copies (Alaa et al. 2022)",
    ),
    "vendi": Measure({"vendi": HIGHER}, _vendi, most=VENDI_MOST, usual=True, note="effective number of different samples (Friedman & Dieng 2023)"),
    "conditional_accuracy": Measure(
        {"conditional_accuracy": HIGHER}, _conditional_accuracy, within=SHARE, needs=("class_logits", "label"), usual=True,
        note="share of samples that show the class they were asked for",
    ),
    "modes": Measure(
        {"modes": HIGHER, "reverse_kl": LOWER}, _modes, needs=("class_logits",), usual=True,
        note="classes that appear, and how unevenly",
    ),
    "inception_score": Measure(
        {"inception_score": HIGHER}, _inception_score, needs=("logits",), note="(Salimans et al. 2016)"
    ),
    "class_fid": Measure(
        {"class_fid": LOWER}, _class_fid, needs=("features", "label"), note="mean over the classes of each one's FID"
    ),
    "mmd": Measure({"mmd": LOWER}, _mmd, within=ANY, note="squared, Gaussian kernels (Gretton et al. 2012)"),
    "sliced_wasserstein": Measure({"sliced_wasserstein": LOWER}, _sliced_wasserstein, note="transport along random lines"),
    "two_sample": Measure(
        {"two_sample": LOWER}, _two_sample, within=SHARE, note="accuracy of telling samples from data (Lopez-Paz & Oquab 2017)"
    ),
}  # fmt: skip
"""In the order of reporting."""
