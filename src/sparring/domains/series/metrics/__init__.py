"""What can be measured of series, beside what is of any samples that are described by features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from statistics import mean, stdev

import torch
from torch import Tensor, ones

from sparring.core.game import Batch
from sparring.domains.series.metrics.autocorrelation import acf_distance, cross_correlation_error
from sparring.domains.series.metrics.forecasts import INTERVALS, bootstrap, crps, inside, pinball
from sparring.domains.series.metrics.labels import transfer
from sparring.domains.series.metrics.post_hoc import discriminative_score, predictive_score
from sparring.domains.series.metrics.tails import kurtosis, leverage, quantile_distance, tail_index
from sparring.domains.series.signature import augment, signature, size
from sparring.metrics import catalogue
from sparring.metrics.catalogue import HIGHER, LOWER, SHARE
from sparring.metrics.meter import Measure, Value, Values

LAGS = 12
LEVERAGE_LAGS = 10
SIGNATURE_DEPTH, AUGMENTED = 4, ("sum", "basepoint", "lead_lag", "time")
SIGNATURES_MOST = 2000
SIGNATURE_NUMBERS = 20_000  # at most: they grow as (2 F + 1) to the depth's power
AT_ONCE = 2**23  # numbers of signatures that are in memory together, about
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


def _tails(real: Batch, fake: Batch, seed: int) -> Values:
    left, right = real["data"], fake["data"]
    of_real = {"kurtosis": float(kurtosis(left).mean()), "tail_index": float(tail_index(left).mean())}
    mine = {"kurtosis": float(kurtosis(right).mean()), "tail_index": float(tail_index(right).mean())}
    found: dict[str, Value | float] = {
        f"{name}_error": Value(abs(mine[name] - of_real[name]), {"of_samples": mine[name], "of_real": of_real[name]})
        for name in of_real
    }
    return {**found, "tail_quantiles": quantile_distance(left, right)}


def _leverage(real: Batch, fake: Batch, seed: int) -> Values:
    lags = min(LEVERAGE_LAGS, real["data"].shape[1] - 1)
    left, right = (leverage(side["data"], lags) for side in (real, fake))
    facts = {"of_samples": float(right.mean()), "of_real": float(left.mean()), "lags": lags}
    return {"leverage": Value(float((left - right).square().sum(0).sqrt().mean()), facts)}


def _signature(real: Batch, fake: Batch, seed: int) -> Values:
    left, right = real["data"].double(), fake["data"].double()
    centre, spread = left.mean((0, 1)), left.std((0, 1), correction=0) * left.shape[1] ** 0.5

    dimensions = 2 * left.shape[2] + 1
    depth = max(n for n in range(1, SIGNATURE_DEPTH + 1) if n == 1 or size(dimensions, n) <= SIGNATURE_NUMBERS)
    lot = max(1, AT_ONCE // (2 * left.shape[1] * size(dimensions, depth)))

    def mean(data: Tensor) -> Tensor:
        scaled = (data - centre) / torch.where(spread > 0, spread, torch.inf)
        sums = [signature(augment(some, AUGMENTED), depth).sum(0) for some in scaled.split(lot)]
        return torch.stack(sums).sum(0) / len(data)

    half = len(left) // 2
    floor = float((mean(left[:half]) - mean(left[half:])).norm())
    return {"signature": Value(float((mean(left) - mean(right)).norm()), {"of_real": floor, "depth": depth})}


def of_returns(decode: Callable[[Tensor], Tensor]) -> dict[str, Measure]:
    """The measures for data whose features are coded returns: those of returns see these as they are, and are usual.

    decode: windows as games draw them → with returns in their own units.
    """

    def told(measure: Measure) -> Measure:
        def compute(real: Batch, fake: Batch, seed: int) -> Mapping[str, Value | float]:
            left, right = (Batch({**side, "data": decode(side["data"])}) for side in (real, fake))
            return measure.compute(left, right, seed)

        return replace(measure, compute=compute, usual=True)

    return {name: told(each) if name in OF_RETURNS else each for name, each in MEASURES.items()}


OF_RETURNS = ("acf", "cross_correlation", "tails", "leverage")


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
    "tails": Measure(
        dict.fromkeys(("kurtosis_error", "tail_index_error", "tail_quantiles"), LOWER), _tails, needs=("data",),
        note="how far off the tails are: excess kurtosis, Hill's index, quantiles at 0.1 to 5 % of both ends",
    ),
    "leverage": Measure(
        {"leverage": LOWER}, _leverage, needs=("data",),
        note=f"distance of the correlations of a value with later squares up to lag {LEVERAGE_LAGS}",
    ),
    "signature": Measure(
        {"signature": LOWER}, _signature, needs=("data",), most=SIGNATURES_MOST,
        note="distance of expected signatures, that of the data's halves beside it (Ni et al. 2021)",
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
