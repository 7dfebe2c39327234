"""Mixtures in the plane: how many modes of a ring of 8 and a grid of 25 Gaussians a recipe finds, and how cleanly.

    python benchmarks/quality/mixtures.py                      10 seeds of both recipes on both mixtures
    python benchmarks/quality/mixtures.py --seeds 3 --only vector-default
    python benchmarks/quality/mixtures.py --smoke              everything once, in a minute

The protocol is PacGAN's (Lin et al. 2018, section 4.1): 100,000 training points; 2,500 generated ones, each of which goes
to its nearest centre and is of *high quality* within three standard deviations of it; a *mode* counts with one such point;
*KL* is that of the modes' shares from the uniform distribution, in nats. A perfect sampler has 98.9 % high quality (a
Gaussian in the plane keeps e^(−9/2) beyond three deviations) and a KL above 0, because its points are finitely many: the
latter is printed as the floor. *Width* is the spread of the good points around their centres in deviations: 1 is right
(0.98 with the tails cut), less says that a mode has been found but not filled.

`vector-default` trains for its own steps, and must be done within the budget; `vector-gan` trains until the budget is
over. The weights measured are the last ones, never the best. Runs are kept in runs/mixtures; one that is complete is not
trained again, so the table can be made in several sittings. Each run is a process with one thread.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

# Before torch is imported, also in the processes of the runs.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

import sparring
from sparring.domains.vector.mixtures import MIXTURES
from sparring.files import write_json
from sparring.host import processor
from sparring.metrics.modes import mode_coverage

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 2500
SEED = 12345  # of the samples that are measured

PUBLISHED = (
    # method, ring: modes, high quality, KL; grid: the same; where from
    ("GAN", "6.3±0.5", "98.2", "0.45", "17.3±0.8", "94.8", "0.70", "PacGAN table 1"),
    ("ALI", "6.6", "97.6", "0.36", "24.1", "95.7", "0.14", "the same"),
    ("PacGAN2", "7.9±0.1", "95.6±2.0", "0.07", "23.8", "91.3", "0.13", "the same"),
    ("PacGAN3", "7.8", "97.7", "0.10", "24.6", "94.2", "0.06", "the same"),
    ("PacGAN4", "7.8", "95.9", "0.07", "24.8±0.2", "93.6", "0.04", "the same"),
    ("GAN", "1", "99.3", "", "3.3", "0.5", "", "VEEGAN, 5 runs"),
    ("ALI", "2.8", "0.13", "", "15.8", "1.6", "", "the same"),
    ("Unrolled", "7.6", "35.6", "", "23.6", "16", "", "the same"),
    ("VEEGAN", "8", "52.9", "", "24.6", "40", "", "the same"),
)


@dataclass(frozen=True)
class Outcome:
    """One run, measured."""

    recipe: str
    mixture: str
    seed: int
    steps: int
    seconds: float
    processor_seconds: float
    modes: int
    of: int
    high_quality: float
    kl: float
    floor: float
    width: float


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="runs of each recipe on each mixture: seeds 0, 1, …")
    parser.add_argument("--minutes", type=float, default=2.0, help="the budget of a run")
    parser.add_argument("--only", help="recipes, separated by commas")
    parser.add_argument("--mixtures", default="ring,grid", help="mixtures, separated by commas")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="runs side by side, a core each")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "mixtures", help="where runs are kept")
    parser.add_argument("--smoke", action="store_true", help="one seed, a few steps, nothing kept: does it all work?")
    options = parser.parse_args()
    recipes = options.only.split(",") if options.only else ["vector-default", "vector-gan"]
    seeds, minutes, out = options.seeds, options.minutes, options.out
    if options.smoke:
        seeds, minutes, out = 1, 0.05, options.out.with_name("mixtures-smoke")
        shutil.rmtree(out, ignore_errors=True)
    wanted = [
        (recipe, mixture, seed)
        for recipe in recipes
        for mixture in options.mixtures.split(",")
        for seed in range(seeds)
    ]
    outcomes: list[Outcome] = []
    context = multiprocessing.get_context("spawn")
    # A process for each run, so that what one leaves in memory is no matter to the next.
    with ProcessPoolExecutor(options.jobs, mp_context=context, max_tasks_per_child=1) as pool:
        tasks = [pool.submit(play, *each, minutes, out, options.smoke) for each in wanted]
        for task in tasks:
            outcomes.append(task.result())
            print(line(outcomes[-1]), file=sys.stderr, flush=True)
    report(outcomes, minutes, options.jobs)


def play(recipe: str, mixture: str, seed: int, minutes: float, out: Path, smoke: bool) -> Outcome:
    """Train one run, unless it is there, and measure it."""
    torch.set_num_threads(1)
    run = out / f"{recipe}-{mixture}-{seed}"
    kept = run / "mixtures.json"
    if kept.exists():
        return Outcome(**json.loads(kept.read_text()))
    shutil.rmtree(run, ignore_errors=True)
    keys = ["train.checkpoint_every=1000000", "train.sample_every=1000000", "evaluate.metric=null"]
    if recipe == "vector-gan" or smoke:
        keys.append(f"train.minutes={minutes}")
    start = time.process_time()
    result = sparring.train(recipe, data=mixture, out=run, seed=seed, set=keys, device="cpu", quiet=True)
    processor_seconds = time.process_time() - start
    trained = sparring.load(run, checkpoint="last", device="cpu")
    points = torch.cat([batch["data"] for batch in trained.generate(SAMPLES, seed=SEED)]).double()
    truth = MIXTURES[mixture]()
    centres = torch.from_numpy(truth.centres)
    found = mode_coverage(points, centres, truth.deviation)
    distances = torch.cdist(points, centres).min(dim=1).values / truth.deviation
    good = distances[distances < 3]
    outcome = Outcome(
        recipe,
        mixture,
        seed,
        result.steps,
        result.seconds,
        processor_seconds,
        found.count,
        len(centres),
        found.high_quality,
        found.reverse_kl,
        found.floor,
        float((good.square().mean() / points.shape[1]).sqrt()) if len(good) else float("nan"),
    )
    write_json(kept, asdict(outcome))
    return outcome


def line(outcome: Outcome) -> str:
    """One run in one line."""
    return (
        f"{outcome.recipe} {outcome.mixture} seed {outcome.seed}: {outcome.modes}/{outcome.of} modes, "
        f"{outcome.high_quality:.1%} high quality, KL {outcome.kl:.4f} (floor {outcome.floor:.4f}), "
        f"width {outcome.width:.2f}, {outcome.steps:,} steps, {outcome.seconds:.0f} s ({outcome.processor_seconds:.0f} s of a core)"
    )


def report(outcomes: Sequence[Outcome], minutes: float, jobs: int) -> None:
    """The table: published numbers, then ours as mean ± standard error, with the worst seed."""
    print(f"\n{SAMPLES:,} points a run; a budget of {minutes:g} minutes; {jobs} runs side by side, a core each")
    print(f"{processor()}, PyTorch {torch.__version__}\n")
    print("published                              ring: modes  good %   KL       grid: modes  good %   KL")
    for method, *figures, source in PUBLISHED:
        r_modes, r_good, r_kl, g_modes, g_good, g_kl = figures
        print(f"{method:<12}{source:<27}{r_modes:>11} {r_good:>9} {r_kl:>6}    {g_modes:>11} {g_good:>9} {g_kl:>6}")
    print(
        "\nours             mixture  runs   modes              good %             KL                    width  s     core s"
    )
    for recipe, mixture in dict.fromkeys((each.recipe, each.mixture) for each in outcomes):
        runs = [each for each in outcomes if (each.recipe, each.mixture) == (recipe, mixture)]
        modes = spread([each.modes for each in runs], min, 1)
        good = spread([100 * each.high_quality for each in runs], min, 1)
        kl = spread([each.kl for each in runs], max, 4)
        width, seconds = (statistics.mean(getattr(each, name) for each in runs) for name in ("width", "seconds"))
        slowest = max(each.processor_seconds for each in runs)
        print(
            f"{recipe:<16} {mixture:<8} {len(runs):<5}  {modes:<18} {good:<18} {kl:<21} {width:.2f}   {seconds:<5.0f} {slowest:.0f}"
        )
    for mixture in dict.fromkeys(each.mixture for each in outcomes):
        found = next(each for each in outcomes if each.mixture == mixture)
        print(f"{mixture}: {found.of} modes; floor of the KL at {SAMPLES:,} points {found.floor:.4f}")
    print("Mean ± standard error, and the worst seed in brackets; seconds: mean of the clock, and the most of a core.")


def spread(values: Sequence[float], worst: type[min] | type[max], digits: int) -> str:
    """Mean ± standard error [worst]."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f}±{error:.{digits}f} [{worst(values):.{digits}f}]"


if __name__ == "__main__":
    main()
