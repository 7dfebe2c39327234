"""What can be measured of series, beside what is of any samples that are described by features."""

from __future__ import annotations

from functools import partial
from statistics import mean, stdev

from sparring.core.game import Batch
from sparring.domains.series.metrics.autocorrelation import acf_distance, cross_correlation_error
from sparring.domains.series.metrics.post_hoc import discriminative_score, predictive_score
from sparring.metrics import catalogue
from sparring.metrics.catalogue import LOWER
from sparring.metrics.meter import Measure, Value, Values

LAGS = 12
TOLD, FORETOLD = 2000, 5000  # iterations, the authors'
REPEATS = 3  # papers take the mean of ten, as benchmarks/series/scores.py does


def _discriminative(real: Batch, fake: Batch, seed: int) -> Values:
    scores = discriminative_score(real["data"], fake["data"], iterations=TOLD, repeats=REPEATS, seed=seed)
    return {"discriminative": _mean(scores, TOLD)}


def _predictive(real: Batch, fake: Batch, seed: int) -> Values:
    scores = predictive_score(real["data"], fake["data"], iterations=FORETOLD, repeats=REPEATS, seed=seed)
    return {"predictive": _mean(scores, FORETOLD)}


def _mean(scores: list[float], iterations: int) -> Value:
    return Value(mean(scores), {"iterations": iterations, "repeats": len(scores), "over_repeats": stdev(scores)})


def _acf(real: Batch, fake: Batch, seed: int) -> Values:
    distance = partial(acf_distance, real["data"], fake["data"], lags=LAGS)
    return {
        "acf": distance(),
        "acf_absolute": distance(what="absolute"),
        "acf_squares": distance(what="squares"),
    }


def _cross_correlation(real: Batch, fake: Batch, seed: int) -> Values:
    return {"cross_correlation": cross_correlation_error(real["data"], fake["data"])}


MEASURES = {
    "discriminative": Measure(
        {"discriminative": LOWER}, _discriminative, needs=("data",), within=(0.0, 0.5), usual=True,
        note="|accuracy − ½| of a network that tells samples from data (Yoon et al. 2019)",
    ),
    "predictive": Measure(
        {"predictive": LOWER}, _predictive, needs=("data",), usual=True,
        note="error on data of a network that learnt from samples to look a step ahead (Yoon et al. 2019)",
    ),
    "acf": Measure(
        dict.fromkeys(("acf", "acf_absolute", "acf_squares"), LOWER), _acf, needs=("data",), usual=True,
        note=f"distance of autocorrelations up to lag {LAGS}",
    ),
    "cross_correlation": Measure(
        {"cross_correlation": LOWER}, _cross_correlation, needs=("data",), usual=True, within=(0.0, 2.0),
        note="mean difference of correlations between features",
    ),
    **catalogue.MEASURES,
}  # fmt: skip
