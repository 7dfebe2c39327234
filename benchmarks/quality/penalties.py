"""R1 and R2 at equal processor time: what exact, lazy, shared-out and finite-difference penalties bring.

    python benchmarks/quality/penalties.py                         ring, grid and Stacked-MNIST, every variant, 2 seeds
    python benchmarks/quality/penalties.py --only ring,grid --seeds 1 --variants "exact;every 8"
    python benchmarks/quality/penalties.py --smoke

First each variant's step is timed, in turns in one process (`benchmarks/variants.py`); then each trains for as many steps as
fit into the same processor time, with its learning rate's schedule over these. Measuring is not counted. The mixtures are
measured as by `mixtures.py` (2,500 samples), Stacked-MNIST as by `stacked_mnist.py` with 10,000 samples, several times along the way. Samples come from the averaged weights, at the end and not at
the best. One thread. What is done is kept in runs/penalties and not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

# Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mixtures import SAMPLES
from stacked_mnist import SMOKE, Scale, coverage, digit_classifier, real_floor, stacked, tell_stacks

from sparring.domains.vector.mixtures import MIXTURES
from sparring.files import write_json
from sparring.host import processor
from sparring.metrics.modes import mode_coverage
from sparring.recipe import Recipe, load_recipe
from sparring.training.trainer import Trainer
from variants import SAME_GAME, VARIANTS, build, step_costs, steps, timed

ROOT = Path(__file__).resolve().parents[2]
SEED = 12345  # of the samples that are measured
STACKS = 10_000
Measure = Callable[[Trainer], dict[str, float]]


def main() -> None:
    """Time, train and measure what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="ring,grid,stacked", help="tasks, separated by commas")
    parser.add_argument(
        "--variants", help=f"separated by ';': {'; '.join(name for name in VARIANTS if name not in SAME_GAME)}"
    )
    parser.add_argument("--seeds", type=int, default=2, help="seeds 0, 1, …")
    parser.add_argument("--seconds", type=float, help="of a run; none: 30 for mixtures, 90 for Stacked-MNIST")
    parser.add_argument("--weight", type=float, help="of both penalties; none: the recipe's")
    parser.add_argument("--points", type=int, default=3, help="of Stacked-MNIST's curve")
    parser.add_argument(
        "--mnist", type=Path, default=ROOT.parent / "shared" / "data" / "mnist", help="folder of IDX .gz files"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "penalties")
    parser.add_argument("--smoke", action="store_true", help="a few steps, nothing kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.variants.split(";") if options.variants else [name for name in VARIANTS if name not in SAME_GAME]
    print(f"{processor()}, one thread, torch {torch.__version__}", flush=True)
    for task in options.only.split(","):
        compare(task, [name.strip() for name in names], options)


def compare(task: str, names: Sequence[str], options: argparse.Namespace) -> None:
    """One task's table."""
    recipe, measure = stacked_task(options) if task == "stacked" else mixture_task(task)
    weight = options.weight or recipe.loss["penalties"]["r1"]["weight"]
    seconds = 1.0 if options.smoke else options.seconds or (90.0 if task == "stacked" else 30.0)
    points = options.points if task == "stacked" else 1
    costs = known_costs(options.out / f"{task}-costs.json", recipe, weight, names, options.smoke)
    print(f"\n{task}: {seconds:g} s of processor time a run, weight {weight:g}", flush=True)
    print("| R1 + R2 | seed | steps | s | figures |\n|---|---:|---:|---:|---|", flush=True)
    for seed in range(1 if options.smoke else options.seeds):
        for name in names:
            kept = options.out / f"{task}-{name}-{weight:g}-{seconds:g}-{seed}.json".replace("/", ":")
            if kept.exists():
                curve = json.loads(kept.read_text())
            else:
                planned = max(points, int(seconds / costs[name]))
                own = recipe.override(
                    [*VARIANTS[name].assignments(weight), f"train.steps={planned}", f"train.seed={seed}"]
                )
                curve = play(build(own, VARIANTS[name]), planned, points, measure)
                if not options.smoke:
                    write_json(kept, curve)
            for point in curve:
                figures = ", ".join(
                    f"{key} {value:.4g}" for key, value in point.items() if key not in ("steps", "seconds")
                )
                print(f"| {name} | {seed} | {point['steps']} | {point['seconds']:.0f} | {figures} |", flush=True)


def play(trainer: Trainer, planned: int, points: int, measure: Measure) -> list[dict[str, float]]:
    """Train for so many steps, and measure so many times along the way."""
    curve, seconds = [], 0.0
    for point in range(1, points + 1):
        with trainer.ready_to_play():
            seconds += timed(partial(steps, trainer, planned * point // points - trainer.state.step))
        curve.append({"steps": trainer.state.step, "seconds": seconds, **measure(trainer)})
    return curve


def known_costs(kept: Path, recipe: Recipe, weight: float, names: Sequence[str], smoke: bool) -> dict[str, float]:
    """What a step of each variant costs: timed once for all variants."""
    if not kept.exists() or smoke:
        every = [name for name in VARIANTS if name not in SAME_GAME]
        costs = step_costs(recipe, weight, names if smoke else every, rounds=1 if smoke else 5)
        if smoke:
            return costs
        write_json(kept, costs)
    return dict(json.loads(kept.read_text()))


def mixture_task(name: str) -> tuple[Recipe, Measure]:
    """`vector-default` on a ring or a grid of Gaussians."""
    truth = MIXTURES[name]()
    centres = torch.from_numpy(truth.centres)

    def measure(trainer: Trainer) -> dict[str, Any]:
        found = mode_coverage(draw(trainer, SAMPLES).double(), centres, truth.deviation)
        return {
            "modes": found.count,
            "of": len(centres),
            "high quality %": 100 * found.high_quality,
            "KL": found.reverse_kl,
            "floor": found.floor,
        }

    return load_recipe("vector-default").override([*pins("32"), f"data.source={name}"]), measure


def stacked_task(options: argparse.Namespace) -> tuple[Recipe, Measure]:
    """`stacked-mnist.yaml` on three digits a picture."""
    scale = SMOKE if options.smoke else Scale(minutes=0)
    home = os.environ.get("SPARRING_CACHE")
    cache = (Path(home) if home else Path.home() / ".cache" / "sparring") / "stacked-mnist"
    classifier = digit_classifier(options.mnist, cache, scale)
    count = 500 if options.smoke else STACKS
    floor = float(real_floor(options.mnist, classifier, count).mean())

    def measure(trainer: Trainer) -> dict[str, float]:
        modes, kl, channels = coverage(tell_stacks(classifier, draw(trainer, count).clamp(-1, 1)))
        return {"modes": modes, "KL": kl, "floor": floor, "channels": channels}

    recipe = load_recipe(str(Path(__file__).with_name("stacked-mnist.yaml")))
    return recipe.override(pins("bf16"), data={"source": str(stacked(options.mnist, cache, scale.triples))}), measure


def draw(trainer: Trainer, count: int) -> Tensor:
    """Samples of the averaged weights, always of the same latents."""
    rng = torch.Generator().manual_seed(SEED)
    with trainer.sampling() as game:
        return torch.cat([game.generate(min(500, count - done), rng=rng)["data"] for done in range(0, count, 500)])


def pins(precision: str) -> list[str]:
    """Nothing is chosen by measuring, so that all variants play alike."""
    settings = {"precision": precision, "threads": 1, "channels_last": "false", "compile": "false"}
    return ["evaluate.metric=null", *(f"machine.{key}={value}" for key, value in settings.items())]


if __name__ == "__main__":
    main()
