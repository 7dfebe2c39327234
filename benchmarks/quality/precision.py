"""Whether half precision costs quality: the same trainings in 32 bits and in bf16, the same steps and seeds.

    python benchmarks/quality/precision.py --mnist ../shared/data/mnist                half an hour of one core
    python benchmarks/quality/precision.py --smoke                                     digits, a few steps

Weights, losses and penalties are float32 either way; see `machine.precision`. Figures are in the features of a classifier
that was trained on the data.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import sparring
from sparring.host import processor

FIGURES = ("fid", "kid", "precision", "recall", "coverage")


def main() -> None:
    """Print a line for each training as soon as it is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", help="the folder of IDX files")
    parser.add_argument("--recipes", default="dcgan")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if not options.mnist and not options.smoke:
        parser.error("give --mnist FOLDER, or --smoke")
    data, steps, count = ("digits", 5, 100) if options.smoke else (options.mnist, options.steps, options.count)
    torch.set_num_threads(1)
    print(f"{processor()}, one thread; {data}, {steps} steps, {count} samples of each side\n")
    print("| recipe | seed | precision | seconds of processor | " + " | ".join(FIGURES) + " |")
    print("|---|---|---|---:|" + "---|" * len(FIGURES), flush=True)
    for recipe in options.recipes.split(","):
        for seed in range(options.seeds):
            for precision in ("32", "bf16"):
                with tempfile.TemporaryDirectory() as folder:
                    measure(recipe, seed, precision, data, steps, count, Path(folder) / "run")


def measure(recipe: str, seed: int, precision: str, data: str, steps: int, count: int, run: Path) -> None:
    """Train and measure one of them."""
    pinned = ["machine.threads=1", "machine.channels_last=false", "machine.compile=false", "evaluate.metric=null"]
    rare = [f"train.checkpoint_every={steps}", f"train.sample_every={steps}"]
    start = time.process_time()
    sparring.train(
        recipe,
        data=data,
        out=run,
        steps=steps,
        seed=seed,
        set=[*pinned, *rare],
        precision=precision,
        device="cpu",
        quiet=True,
    )
    seconds = time.process_time() - start
    result = sparring.evaluate(
        run, metrics=",".join(FIGURES), features="classifier", count=count, budget=30, device="cpu", seed=0
    ).plain()
    cells = " | ".join(shown(result["metrics"][figure]) for figure in FIGURES)
    print(f"| {recipe} | {seed} | {precision} | {seconds:.0f} | {cells} |", flush=True)


def shown(figure: dict[str, Any]) -> str:
    """A figure with its interval."""
    low, high = figure["interval"] or (float("nan"), float("nan"))
    return f"{figure['value']:.3g} ({low:.3g}–{high:.3g})"


if __name__ == "__main__":
    main()
