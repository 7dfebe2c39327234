"""How far two forms of one generator agree: the same samples, at what speed, and what a smaller form loses."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sparring.core.exportable import Exportable
from sparring.core.game import Batch, DataSpec
from sparring.domains import Domain
from sparring.errors import UserError
from sparring.metrics.frechet import frechet_distance

TOLERANCE = 1e-4
BATCHES = (1, 2, 7)
"""One more than any size that the export has seen, and one that divides by nothing."""
SEED = 20140610  # of the inputs that forms are compared on: any number serves, as long as it is the same one
TIMED = (1, 16)
LOSS_SAMPLES, LOSS_VALUES, LOSS_BATCH = 512, 2**24, 32

Form = Callable[[Mapping[str, Tensor]], Tensor]
"""Inputs by name, on the CPU → samples float32 (N, …), on the CPU."""


def eager(function: Exportable) -> Form:
    """The generator as PyTorch runs it. Raises UserError where its samples are not finite."""

    def call(inputs: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            samples: Tensor = function(**inputs)
        if not bool(samples.isfinite().all()):
            raise UserError(
                "the samples hold NaN or infinite values: the generator has diverged; use an earlier --checkpoint"
            )
        return samples

    return call


def disagreement(function: Exportable, form: Form) -> float:
    """The largest |difference| of samples over batches (and pictures) of several sizes, in units of max(1, largest |sample|).

    Relative where samples are larger than 1, as 32-bit arithmetic is. Infinite where shapes differ or a value is NaN.
    """
    worst = 0.0
    for index, count in enumerate(BATCHES):
        inputs = function.draw(count, seed=SEED + index, more=index)
        ours, theirs = eager(function)(inputs), form(inputs)
        if ours.shape != theirs.shape or not bool(theirs.isfinite().all()):
            return float("inf")
        worst = max(worst, float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1)))
    return worst


def require_agreement(function: Exportable, form: Form, what: str) -> float:
    """`disagreement`, of at most `TOLERANCE`. Raises UserError otherwise: such a file must not be left behind."""
    found = disagreement(function, form)
    if not found <= TOLERANCE:
        raise UserError(
            f"the {what} does not compute the samples that PyTorch computes (they differ by {found:.2g}, allowed is {TOLERANCE:g}), "
            "so nothing was written: choose another --format"
        )
    return found


def latency(function: Exportable, form: Form, *, seconds: float = 0.25) -> dict[str, float]:
    """Milliseconds that a batch takes, by batch size: the median of calls during so many seconds, after one to warm up."""
    found = {}
    for count in TIMED:
        inputs = function.draw(count, seed=SEED)
        form(inputs)
        times: list[float] = []
        while sum(times) < seconds and len(times) < 200:
            start = time.perf_counter()
            form(inputs)
            times.append(time.perf_counter() - start)
        found[str(count)] = round(1000 * statistics.median(times), 4)
    return found


def quality_loss(function: Exportable, form: Form, domain: Domain, spec: DataSpec) -> dict[str, float | int | str]:
    """What the samples of `form` lose against the generator's, on the same latents.

    mean_absolute_difference: of samples, in their own units. frechet_distance: between both sets in the domain's plainest
    space (images: pixels); frechet_of_two_draws: between two sets of the generator itself, for scale. Raises UserError.
    """
    width = max(1, torch.Size(spec.shape).numel())
    count = max(2 * LOSS_BATCH, min(LOSS_SAMPLES, LOSS_VALUES // width))
    draws = [function.draw(count, seed=SEED + index) for index in range(2)]
    ours, other = (_in_batches(eager(function), each) for each in draws)
    theirs = _in_batches(form, draws[0])
    if not bool(theirs.isfinite().all()):
        raise UserError(
            "the quantized generator gives NaN or infinite values, so nothing was written: leave --quantize out"
        )
    space = domain.open_features(domain.spaces[0], _Drawn(ours, spec))
    features = [space(Batch(data=each))["features"] for each in (ours, theirs, other)]
    return {
        "samples": count,
        "features": space.name,
        "mean_absolute_difference": float((ours - theirs).abs().mean()),
        "frechet_distance": frechet_distance(features[0], features[1]),
        "frechet_of_two_draws": frechet_distance(features[0], features[2]),
    }


def _in_batches(form: Form, inputs: Mapping[str, Tensor]) -> Tensor:
    pieces = zip(*(value.split(LOSS_BATCH) for value in inputs.values()), strict=True)
    return torch.cat([form(dict(zip(inputs, piece, strict=True))) for piece in pieces])


class _Drawn:
    """The generator's own samples as a data set, for spaces that take units from data."""

    def __init__(self, samples: Tensor, spec: DataSpec) -> None:
        self.samples, self.spec = samples, spec
        self.fingerprint = "drawn"
        self.broken: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device) -> _Drawn:
        return self

    def batch(self, indices: Tensor, *, augment: bool = True) -> Batch:
        return Batch(data=self.samples[indices])
