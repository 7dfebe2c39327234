"""A large table: a million rows of forty columns, one of them with 50,000 levels, read, trained on for an epoch, and drawn.

    python benchmarks/tables/large.py [--rows 1000000] [--out FOLDER]

Prints the seconds of each part and the most memory that the process ever had.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd

import sparring
from sparring.host import processor

BATCH, DRAWN = 2000, 100_000


def main() -> None:
    """Make, train, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("runs/tables/large"))
    parser.add_argument("--steps", type=int, help="fewer than an epoch")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / "table.parquet"
    make(options.rows).to_parquet(table)
    print(f"{options.rows:,} rows of 40 columns, {processor()}; memory before: {memory():.2f} GiB", flush=True)
    began = time.perf_counter()
    result = sparring.train(
        "ctgan", data=str(table), out=options.out / f"run-{int(time.time())}", steps=options.steps or max(1, options.rows // BATCH), quiet=True,
        device="cpu", set=[f"train.batch_size={BATCH}", "evaluate.metric=null", "train.keep=1", "machine.compile=false"],
    )  # fmt: skip
    print(f"prepared and trained: {time.perf_counter() - began:.0f} s, of these {result.seconds:.0f} s for {result.steps} steps; {memory():.2f} GiB", flush=True)  # fmt: skip
    model = sparring.load(str(result.run), checkpoint="last")
    for where, draw in (("to frames", frames), ("to a file", files)):
        began = time.perf_counter()
        draw(model, str(result.run), options.out)
        print(
            f"{DRAWN:,} rows {where}: {DRAWN / (time.perf_counter() - began):,.0f} a second; {memory():.2f} GiB",
            flush=True,
        )


def make(rows: int) -> pd.DataFrame:
    """Numbers of several shapes, categories of several frequencies, dates, missing values, and 50,000 codes."""
    rng = np.random.default_rng(0)
    made: dict[str, object] = {"code": np.char.add("c", (rng.zipf(1.3, rows) % 50_000).astype(str))}
    made["code"] = pd.Series(made["code"], dtype=object)
    base = rng.normal(size=rows)
    for number in range(14):
        made[f"real_{number}"] = base * rng.normal() + rng.normal(size=rows) * (1 + number)
    for number in range(5):
        made[f"count_{number}"] = rng.poisson(3**number, rows)
    made["money"] = np.where(rng.random(rows) < 0.7, 0.0, rng.lognormal(5, 2, rows).round(2))
    made["gaps"] = np.where(rng.random(rows) < 0.1, np.nan, base.round(3))
    made["day"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, rows), unit="D")
    for number in range(17):
        levels = 2 + 3 * number
        shares = rng.dirichlet(np.full(levels, 0.7))
        made[f"kind_{number}"] = pd.Series(np.array([f"{number}-{level}" for level in range(levels)], object)[rng.choice(levels, rows, p=shares)], dtype=object)  # fmt: skip
    return pd.DataFrame(made)


def frames(model: sparring.Trained, run: str, out: Path) -> None:
    """Rows as tables in memory."""
    for batch in model.generate(DRAWN):
        model.domain.frame_of(batch)  # type: ignore[attr-defined]


def files(model: sparring.Trained, run: str, out: Path) -> None:
    """Rows as CSV, the model read anew."""
    sparring.generate(run, count=DRAWN, out=out / "drawn.csv", checkpoint="last")


def memory() -> float:
    """GiB that the process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
