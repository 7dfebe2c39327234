"""Time the measures from features to numbers, each beside a peer in the same run, and print how far the two disagree.

    python benchmarks/speed/metrics.py                          10,000 × 10,000 samples at 2,048 features; minutes
    python benchmarks/speed/metrics.py --smoke                  600 × 600 at 64; seconds
    python benchmarks/speed/metrics.py --only fid,kid --no-peers

The peers: FID by `scipy.linalg.sqrtm` of numpy's covariances (as the reference implementation), and torchmetrics'
FID (float64), KID and Inception Score (float32, the same draws). The features are a stand-in for a classifier's: non-negative,
correlated, of steeply falling variance, in float32. A figure is the best of the repeats, a peer's is of one call.
On a machine that others use, trust the CPU seconds of OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
import torch
import torchmetrics
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from sparring.host import cores, processor
from sparring.metrics.frechet import frechet_distance, frechet_infinity
from sparring.metrics.inception_score import inception_score
from sparring.metrics.kernel import kernel_distance, mmd
from sparring.metrics.prdc import prdc


@dataclass(frozen=True)
class Case:
    """One line of the table: a measure, and peers that should give the same number."""

    title: str
    measure: Callable[[], float]
    peers: dict[str, Callable[[], float]]


def main() -> None:
    """Measure what is asked for and print a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="600 samples at 64 features, in seconds")
    parser.add_argument("--only", help="cases, separated by commas: fid, fid_infinity, prdc, kid, mmd, is")
    parser.add_argument("--no-peers", action="store_true", help="time our measures alone")
    parser.add_argument("--repeats", type=int, default=2, help="calls of each measure; the fastest counts")
    options = parser.parse_args()
    samples, width, classes, subset = (600, 64, 10, 200) if options.smoke else (10_000, 2_048, 1_000, 1_000)
    known = cases(samples, width, classes, subset)
    wanted = options.only.split(",") if options.only else list(known)
    if unknown := set(wanted) - set(known):
        parser.error(f"unknown cases: {', '.join(sorted(unknown))} (known: {', '.join(known)})")
    warnings.filterwarnings("ignore", message=".*save all extracted features.*")
    print(machine())
    print(f"{samples:,} real and {samples:,} fake samples, {width:,} features; seconds from features to number\n")
    print(
        "| measure | seconds | CPU seconds | value | peer | its seconds | its CPU seconds | its value | relative difference |"
    )
    print("|---|---:|---:|---:|---|---:|---:|---:|---:|", flush=True)
    for name in wanted:
        case = known[name]
        seconds, cpu, value = min(timed(case.measure) for _ in range(options.repeats))
        print(f"| {case.title} | {seconds:.3f} | {cpu:.3f} | {value:.6g} | | | | | |", flush=True)
        for peer, measure in () if options.no_peers else case.peers.items():
            its_seconds, its_cpu, its = timed(measure)
            theirs = f"{peer} | {its_seconds:.3f} | {its_cpu:.3f} | {its:.6g} | {abs(its - value) / abs(its):.1e}"
            print(f"| | | | | {theirs} |", flush=True)


def cases(samples: int, width: int, classes: int, subset: int) -> dict[str, Case]:
    """Everything that is timed, by the name that `--only` knows it by."""
    rng = torch.Generator().manual_seed(0)
    mix = torch.randn(width, width, generator=rng) * torch.arange(1, width + 1).sqrt().reciprocal()[:, None]
    real = (torch.randn(samples, width, generator=rng) @ mix).relu()
    fake = (torch.randn(samples, width, generator=rng) @ mix * 1.05 + 0.02).relu()
    logits = 3 * torch.randn(samples, classes, generator=rng)
    return {
        "fid": Case(
            "FID",
            lambda: frechet_distance(real, fake),
            {"scipy sqrtm": lambda: scipy_fid(real, fake), "torchmetrics": lambda: torchmetrics_fid(real, fake)},
        ),
        "fid_infinity": Case("FID∞, six distances", lambda: frechet_infinity(real, fake), {}),
        "prdc": Case("PRDC, k = 5 (value: density)", lambda: prdc(real, fake, k=5).density, {}),
        "kid": Case(
            f"KID, 100 subsets of {subset:,}",
            lambda: kernel_distance(real, fake, subset_size=subset)[0],
            {"torchmetrics (float32)": lambda: torchmetrics_kid(real, fake, subset)},
        ),
        "mmd": Case("MMD², five Gaussian kernels", lambda: mmd(real, fake), {}),
        "is": Case(
            f"Inception Score, {classes:,} classes",
            lambda: inception_score(logits)[0],
            {"torchmetrics (float32)": lambda: torchmetrics_is(logits)},
        ),
    }


def timed(measure: Callable[[], float]) -> tuple[float, float, float]:
    """Seconds of one call, CPU seconds of all its threads, and its value."""
    start, cpu = time.perf_counter(), time.process_time()
    value = measure()
    return time.perf_counter() - start, time.process_time() - cpu, value


def scipy_fid(real: Tensor, fake: Tensor) -> float:
    """FID as the reference implementation computes it: float64 covariances, and a general matrix root."""
    (mu1, s1), (mu2, s2) = (
        (x.mean(0), np.cov(x, rowvar=False)) for x in (real.double().numpy(), fake.double().numpy())
    )
    return float(np.square(mu1 - mu2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(sqrtm(s1 @ s2).real))


def torchmetrics_fid(real: Tensor, fake: Tensor) -> float:
    """FID by torchmetrics of the features themselves, in float64."""
    identity = nn.Identity()
    identity.num_features = real.shape[1]  # type: ignore[assignment]
    peer = FrechetInceptionDistance(feature=identity, normalize=True)
    peer.update(real.double(), real=True)
    peer.update(fake.double(), real=False)
    return float(peer.compute())


def torchmetrics_kid(real: Tensor, fake: Tensor, subset: int) -> float:
    """KID by torchmetrics of the features themselves, in their precision."""
    peer = KernelInceptionDistance(feature=nn.Identity(), subsets=100, subset_size=subset)
    peer.update(real, real=True)
    peer.update(fake, real=False)
    torch.manual_seed(0)  # it draws by the global state, in our order
    return float(peer.compute()[0])


def torchmetrics_is(logits: Tensor) -> float:
    """Inception Score by torchmetrics of the logits themselves."""
    peer = InceptionScore(feature=nn.Identity())
    peer.update(logits)
    torch.manual_seed(0)  # it draws by the global state, in our order
    return float(peer.compute()[0])


def machine() -> str:
    """What the figures hold for, in a line."""
    return (
        f"{processor()}, {cores()} cores usable, "
        f"{torch.get_num_threads()} threads; torch {torch.__version__}, scipy {scipy.__version__}, "
        f"torchmetrics {torchmetrics.__version__}"
    )


if __name__ == "__main__":
    main()
