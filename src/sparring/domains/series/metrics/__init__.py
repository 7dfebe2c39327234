"""What can be measured of series, beside what is of any samples that are described by features."""

from __future__ import annotations

from functools import partial

from torch import Tensor, ones

from sparring.core.game import Batch
from sparring.domains.series.metrics.autocorrelation import acf_distance, cross_correlation_error
from sparring.domains.series.metrics.forecasts import INTERVALS, bootstrap, crps, inside, pinball
from sparring.domains.series.metrics.labels import transfer
from sparring.domains.series.metrics.post_hoc import discriminative_score, predictive_score
from sparring.metrics import catalogue
from sparring.metrics.catalogue import HIGHER, LOWER, SHARE
from sparring.metrics.meter import Measure, Value, Values

LAGS = 12
TOLD, FORETOLD = 2000, 5000  # iterations, the authors'


def _discriminative(real: Batch, fake: Batch, seed: int) -> Values:
    (score,) = discriminative_score(real["data"], fake["data"], iterations=TOLD, seed=seed)
    return {"discriminative": Value(score, {"iterations": TOLD, "repeats": 1})}


def _predictive(real: Batch, fake: Batch, seed: int) -> Values:
    (score,) = predictive_score(real["data"], fake["data"], iterations=FORETOLD, seed=seed)
    return {"predictive": Value(score, {"iterations": FORETOLD, "repeats": 1})}


def _acf(real: Batch, fake: Batch, seed: int) -> Values:
    distance = partial(acf_distance, real["data"], fake["data"], lags=LAGS)
    return {
        "acf": distance(),
        "acf_absolute": distance(what="absolute"),
        "acf_squares": distance(what="squares"),
    }


def _cross_correlation(real: Batch, fake: Batch, seed: int) -> Values:
    return {"cross_correlation": cross_correlation_error(real["data"], fake["data"])}


def _forecasts(real: Batch, fake: Batch, seed: int) -> Values:
    paths = fake["paths"]
    horizon = paths.shape[2]
    past, came = real["data"][:, :-horizon], real["data"][:, -horizon:]
    plain = bootstrap(past, horizon, paths.shape[1], seed)
    shares = {interval: [inside(side, came, interval) for side in (paths, plain)] for interval in INTERVALS}
    apart = [sum(abs(share[side] - interval) for interval, share in shares.items()) / len(shares) for side in (0, 1)]
    return {
        "crps": Value(crps(paths, came), {"of_bootstrap": crps(plain, came)}),
        "pinball": Value(pinball(paths, came), {"of_bootstrap": pinball(plain, came)}),
        "interval_error": Value(
            apart[0],
            {
                "of_bootstrap": apart[1],
                **{f"inside_{100 * interval:.0f}": share[0] for interval, share in shares.items()},
            },
        ),
    }


def _labels(real: Batch, fake: Batch, seed: int) -> Values:
    one, other = (_labelled(real, half) for half in (slice(None, None, 2), slice(1, None, 2)))
    made = _labelled(fake, slice(None))
    classes = 1 + max(int(side["label"].max()) for side in (real, fake))
    of_real = transfer(one, other, classes, seed)
    return {
        "tstr": Value(transfer(made, other, classes, seed), {"of_real": of_real}),
        "trts": Value(transfer(one, made, classes, seed), {"of_real": of_real}),
    }


def _labelled(side: Batch, part: slice) -> tuple[Tensor, Tensor, Tensor]:
    data = side["data"][part].float()
    mask = side["mask"][part][: len(data)].float() if "mask" in side else ones(data.shape[:2])
    return data, mask.to(data.device), side["label"][part]


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
    "forecasts": Measure(
        dict.fromkeys(("crps", "pinball", "interval_error"), LOWER), _forecasts, needs=("data", "pairs"),
        needs_fake=("paths",), usual=True, resampled="pairs",
        note="of paths that go on from a past: continuous ranked probability score, pinball loss, what lies in 50 and 90 % intervals",
    ),
    "labels": Measure(
        dict.fromkeys(("tstr", "trts"), HIGHER), _labels, needs=("data", "label"), usual=True, within=SHARE,
        note="accuracy of a network that learns labels on samples and is asked on data, and the other way (Esteban et al. 2017)",
    ),
    **catalogue.MEASURES,
}  # fmt: skip
