"""What R1 and R2 cost: a step with each way to play them, against a step without and against the exact penalties.

    python benchmarks/speed/penalties.py                       `default` at 32×32 in 32 bits and bf16, and `vector-default`
    python benchmarks/speed/penalties.py --only vector-default --rounds 9
    python benchmarks/speed/penalties.py --smoke

"exact" is what the packaged recipes' `r1` and `r2` do: one pass over real and fake samples, in 32 bits the same that the loss
looks at. "apart" takes a pass for each side, and "PyTorch's" leaves the second derivatives to PyTorch as well. "every k" is lazy, "share" takes a
part of each batch, and a finite difference needs no second derivative.

Blocks of 16 steps of the trainer, one variant after the other, several rounds in one process with one thread; medians of
processor time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

# Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparring.host import processor
from sparring.recipe import load_recipe
from variants import VARIANTS, step_costs

CASES = {
    "default, 32 bits": ("default", "32", 1.0),
    "default, bf16": ("default", "bf16", 1.0),
    "vector-default": ("vector-default", "32", 0.005),
}


def main() -> None:
    """A table for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"cases, separated by ';': {'; '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="one round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor()}, one thread, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, np.random.default_rng(0).integers(0, 256, (1024, 32, 32, 3), np.uint8))
        for case in options.only.split(";") if options.only else CASES:
            name, precision, weight = CASES[case.strip()]
            recipe = load_recipe(name).override(
                [f"machine.precision={precision}", "machine.threads=1", "machine.channels_last=false"],
                data={"source": str(images)} if name == "default" else {},
            )
            costs = step_costs(recipe, weight, list(VARIANTS), rounds=1 if options.smoke else options.rounds)
            print(f"\n{case}, batches of {recipe.train.batch_size}\n")
            print("| R1 + R2 | ms a step | : none | : exact |\n|---|---:|---:|---:|")
            for variant, seconds in costs.items():
                print(
                    f"| {variant} | {1000 * seconds:.1f} | {seconds / costs['none']:.2f} | {seconds / costs['exact']:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
