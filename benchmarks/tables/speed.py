"""How fast `ctgan` and the package of that name train and draw, in turns, on one table.

    python benchmarks/tables/speed.py --data adult.csv [--threads 1] [--rounds 3]

On a machine with other work on it wall time says little, so with one thread the processor's time is counted; with more, the
clock. The two take turns, on a sample of the rows (a step's work does not depend on how many there are), and of each the
median of all steps, and of the drawings the fastest, are printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import sparring
from sparring.data.frames import csv_text, read_frame
from sparring.host import processor

BATCH, ROWS, DRAWN = 500, 5000, 16384
Draw = Callable[[], pd.DataFrame]


def main() -> None:
    """Play in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="of each in a round")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    frame = read_frame(options.data).sample(ROWS, random_state=0).reset_index(drop=True)
    kind = "processor time" if options.threads == 1 else "by the clock"
    print(
        f"{processor()}, {options.threads} threads, {kind}, {options.rounds} rounds of {options.steps} steps",
        flush=True,
    )
    ticks: list[float] = []
    register_optimizer_step_post_hook(lambda optimizer, args, kwargs: ticks.append(clock()))
    steps: dict[str, list[float]] = {"here": [], "package": []}
    speeds: dict[str, list[float]] = {"here": [], "package": [], "here, as CSV": [], "package, as CSV": []}
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(Path(folder) / "rows.csv", index=False)
        for number in range(options.rounds):
            for name, play in (("package", theirs), ("here", ours)):
                ticks.clear()
                draw = play(frame, Path(folder) / f"{number}", options.steps, options.threads)
                steps[name] += np.diff(ticks[1::2]).tolist()[3:]  # two turns a step
                for _ in range(3):
                    began = clock()
                    rows = draw()
                    speeds[name].append(DRAWN / (clock() - began))
                    text = csv_text(rows) if name == "here" else rows.to_csv(index=False)
                    assert len(text) > DRAWN
                    speeds[f"{name}, as CSV"].append(DRAWN / (clock() - began))
            print(f"round {number}:", *(f"{name} {1e3 * np.median(each):.1f} ms a step;" for name, each in steps.items()),
                  *(f"{name} {max(each):,.0f} rows/s;" for name, each in speeds.items()), flush=True)  # fmt: skip
    print(f"training: {np.median(steps['package']) / np.median(steps['here']):.2f} times the package's speed; least {1e3 * min(steps['here']):.1f} and {1e3 * min(steps['package']):.1f} ms")  # fmt: skip
    print(f"drawing: {max(speeds['here']) / max(speeds['package']):.2f} times, as CSV {max(speeds['here, as CSV']) / max(speeds['package, as CSV']):.2f} times")  # fmt: skip


def ours(frame: pd.DataFrame, folder: Path, steps: int, threads: int) -> Draw:
    """The recipe of this package, on the table beside the folder."""
    sparring.train(
        "ctgan", data=str(folder.parent / "rows.csv"), out=folder, steps=steps, seed=0, device="cpu", quiet=True,
        set=[f"machine.threads={threads}", "machine.compile=false", "evaluate.metric=null", "train.keep=1",
             f"train.sample_every={steps + 1}", f"train.checkpoint_every={steps + 1}"],
    )  # fmt: skip
    model = sparring.load(folder, checkpoint="last", device="cpu")
    return lambda: pd.concat([model.domain.frame_of(batch) for batch in model.generate(DRAWN)], ignore_index=True)  # type: ignore[attr-defined]


def theirs(frame: pd.DataFrame, folder: Path, steps: int, threads: int) -> Draw:
    """The peer, with its own defaults."""
    from ctgan import CTGAN

    model = CTGAN(epochs=max(1, round(steps * BATCH / len(frame))), enable_gpu=False)
    model.fit(frame, [name for name in frame.columns if frame[name].dtype == object])
    return lambda: model.sample(DRAWN)


if __name__ == "__main__":
    main()
