"""Every image recipe on MNIST at equal compute, measured in the features of a classifier that was trained on MNIST.

    python benchmarks/quality/families.py --mnist ../shared/data/mnist                 3 minutes of one core each
    python benchmarks/quality/families.py --mnist ../shared/data/mnist --minutes 20 --only default,dcgan
    python benchmarks/quality/families.py --smoke                                      all of them on digits, in a minute or two

Equal compute is equal time of one CPU core, counted in processor seconds, so that what else the machine does is not charged: a
short rehearsal tells what a step of a recipe takes, and the steps follow from that. The numbers of Lucic et al. 2018 beside are
FIDs in Inception's features after 20 epochs, the best of a wide search: only their order can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LUCIC = {"gan": "6.8 (NS)", "lsgan": 7.8, "wgan": 6.7, "wgan-gp": 20.3, "dragan": 7.6}
METRICS = "fid,kid,precision,recall,coverage,modes,reverse_kl,conditional_accuracy"
COLUMNS = ("fid", "kid", "precision", "recall", "coverage", "reverse_kl", "conditional_accuracy")


@dataclass(frozen=True)
class Settings:
    """What all recipes share."""

    data: str
    minutes: float
    count: int
    seed: int
    out: Path


def work(recipe: str, settings: Settings) -> dict[str, Any]:
    """Train and measure one recipe, in this process; one thread."""
    import torch

    import sparring

    torch.set_num_threads(1)
    run = settings.out / recipe
    shutil.rmtree(run, ignore_errors=True)  # of a sitting that was interrupted
    keys = ["train.checkpoint_every=100000000", "train.sample_every=100000000", "train.keep=1", "evaluate.metric=null"]
    # Settings that suit one recipe and not another would make equal time another thing.
    keys += ["machine.precision=32", "machine.threads=1", "machine.channels_last=false", "machine.compile=false"]
    steps = affordable(recipe, settings, keys)
    started = time.process_time()
    result = sparring.train(
        recipe, data=settings.data, out=run, steps=steps, seed=settings.seed, set=keys, device="cpu", quiet=True
    )
    minutes = (time.process_time() - started) / 60
    wanted = METRICS if sparring.load(run).game.conditions else METRICS.replace(",conditional_accuracy", "")
    measured = sparring.evaluate(
        run, data=settings.data, features="classifier", metrics=wanted, count=settings.count, budget=60, device="cpu"
    )
    return {
        "recipe": recipe,
        "steps": steps,
        "minutes": minutes,
        "parameters": result.facts["parameters"],
        "features": measured.features,
        "metrics": measured.plain()["metrics"],
    }


def affordable(recipe: str, settings: Settings, keys: list[str]) -> int:
    """Steps that take `minutes` of processor time, by the slope between two short rehearsals in this process."""
    import sparring

    def seconds(steps: int) -> float:
        folder = settings.out / f".rehearsal-{recipe}-{steps}"
        started = time.process_time()
        sparring.train(recipe, data=settings.data, out=folder, steps=steps, seed=0, set=keys, device="cpu", quiet=True)
        taken = time.process_time() - started
        shutil.rmtree(folder)
        return taken

    seconds(2)  # imports, the first use of every operator
    few, many = 3, 13
    each = (seconds(many) - seconds(few)) / (many - few)
    return max(1, round(60 * settings.minutes / max(each, 1e-4)))


def main() -> None:
    """Train and measure every recipe, each in a process of its own, and print the table as it grows."""
    from sparring.recipe import load_recipe, named_recipes

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", help="a folder of MNIST's IDX files")
    parser.add_argument("--minutes", type=float, default=3.0, help="processor minutes for each recipe")
    parser.add_argument("--count", type=int, default=10_000, help="samples of each side")
    parser.add_argument("--only", help="comma-separated recipes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="recipes at a time, a core each")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "families")
    parser.add_argument(
        "--smoke", action="store_true", help="three processor seconds each, on the digits of scikit-learn"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.smoke:
        settings = Settings("digits", 0.05, 500, arguments.seed, arguments.out / "smoke")
    elif arguments.mnist:
        settings = Settings(arguments.mnist, arguments.minutes, arguments.count, arguments.seed, arguments.out)
    else:
        parser.error("give --mnist FOLDER, or --smoke")
    if arguments.worker:
        print(json.dumps(work(arguments.worker, settings)))
        return

    names = arguments.only.split(",") if arguments.only else [
        name for name in named_recipes() if load_recipe(name).domain == "image" and load_recipe(name).data.get("source") == "digits"
    ]  # fmt: skip
    settings.out.mkdir(parents=True, exist_ok=True)
    print(
        f"{settings.data}: {settings.minutes:g} processor minutes of one core each, seed {settings.seed}, "
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n"
    )
    print(
        "| recipe | steps | min | "
        + " | ".join(COLUMNS)
        + " | Lucic et al. |\n|---|---"
        + "|---" * (len(COLUMNS) + 2)
        + "|"
    )
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for found in pool.map(lambda name: launch(name, settings), names):
            print(row(found), flush=True)
    print(
        f"\nfeatures: {found.get('features', '?')}; intervals at 95 %, from chance in drawing {settings.count:,} samples alone"
    )


def launch(recipe: str, settings: Settings) -> dict[str, Any]:
    """One recipe in a process of its own; its row is kept, so that the table can be made in several sittings."""
    kept = settings.out / f"{recipe}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    command = [
        sys.executable,
        __file__,
        "--worker",
        recipe,
        "--minutes",
        str(settings.minutes),
        "--count",
        str(settings.count),
    ]
    command += ["--seed", str(settings.seed), "--out", str(settings.out)]
    command += ["--mnist", settings.data]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    if ended.returncode:
        return {"recipe": recipe, "failed": ended.stderr.strip().splitlines()[-1:]}
    kept.write_text(ended.stdout)
    return dict(json.loads(ended.stdout))


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    if "failed" in found:
        return f"| `{found['recipe']}` | failed: {found['failed']} |"
    cells = []
    for name in COLUMNS:
        figure = found["metrics"].get(name)
        if figure is None:
            cells.append("")
            continue
        width = "" if figure["interval"] is None else f" ± {(figure['interval'][1] - figure['interval'][0]) / 2:.2g}"
        floor = f" (floor {figure['floor']:.2g})" if "floor" in figure else ""
        cells.append(f"{figure['value']:.3g}{width}{floor}")
    return (
        f"| `{found['recipe']}` | {found['steps']:,} | {found['minutes']:.1f} | "
        + " | ".join(cells)
        + f" | {LUCIC.get(found['recipe'], '')} |"
    )


if __name__ == "__main__":
    main()
