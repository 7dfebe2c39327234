"""`ctgan` beside the package of that name, on one table, for as many epochs, in one run.

    pip install -e ".[benchmark]"
    python benchmarks/tables/adult.py --data adult.csv [--epochs 20] [--seeds 3]

A fifth of the rows is held out. Both learn from the rest, on one thread, one after the other, seed by seed; both draw as many
rows as they learnt from. What is measured of them is measured by the same code: `sparring`'s measures on rows coded as
the data's, and `sdmetrics`' quality report on the tables themselves. Beside them stand the rows held out, columns drawn
one by one, and a Gaussian copula.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import sparring
from sparring.data.frames import read_frame
from sparring.domains.table.cells import Cells
from sparring.domains.table.data import TableData
from sparring.domains.table.metrics.marginals import coded, column_distances, pair_distance
from sparring.domains.table.metrics.privacy import closest, exact_copies, membership_auc
from sparring.domains.table.metrics.usefulness import detection, train_on_samples
from sparring.host import processor

HELD_OUT, BATCH = 0.2, 500
ASKED, CATEGORIES = 200, 24  # rows for each category that is asked for, and how many of the categories
NEIGHBOURS = 3000  # rows of a side of which distances are taken
Ask = Callable[[str, str, int], pd.DataFrame]


@dataclass
class Player:
    """A trained model: seconds that a step took, rows drawn, rows drawn a second, and how it is asked for a category."""

    step: float
    rows: pd.DataFrame
    speed: float
    ask: Ask | None


def main() -> None:
    """Train, draw, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a table; its last column with categories is the target")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--keep", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    frame = read_frame(options.data)
    print(f"{Path(options.data).name}: {len(frame):,} rows of {len(frame.columns)} columns, {options.epochs} epochs, {processor()}, one thread\n")  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(frame))
        cut = int(len(frame) * (1 - HELD_OUT))
        train, test = (frame.iloc[part].reset_index(drop=True) for part in (order[:cut], order[cut:]))
        folder = options.out / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        train.to_csv(folder / "train.csv", index=False)
        steps = options.epochs * (len(train) // BATCH)
        rows = len(train)
        players: dict[str, Callable[[], Player]] = {
            "held-out rows": lambda test=test: Player(0, test, 0, None),
            "independent": lambda folder=folder, count=rows: ours(folder, "independent", 1, count, 0),
            "copula": lambda folder=folder, count=rows: ours(folder, "copula", 1, count, 0),
            "sparring ctgan": lambda f=folder, s=steps, n=rows, e=seed: ours(f, "ctgan", s, n, e),
            "ctgan (PyPI)": lambda t=train, e=options.epochs, s=seed: theirs(t, e, s),
        }
        for name, play in players.items():
            figures = measured(play(), train, test, folder, seed)
            found.setdefault(name, []).append(figures)
            print(
                f"seed {seed}  {name:15}", "  ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True
            )
    print(f"\nmean of {options.seeds} seeds, ± half of the widest difference")
    table = {
        name: {key: [float(np.mean(values)), float(np.ptp(values) / 2)] for key in seeds[0] if (values := [each[key] for each in seeds])}
        for name, seeds in found.items()
    }  # fmt: skip
    for name, row in table.items():
        print(f"{name:15}", "  ".join(f"{key} {mean:.4g} ± {half:.2g}" for key, (mean, half) in row.items()))
    a, b = table["sparring ctgan"], table["ctgan (PyPI)"]
    ratios = {
        "marginal error, ours over theirs": a["marginal_error"][0] / b["marginal_error"][0],
        "training speed, ours over theirs": b["step_ms"][0] / a["step_ms"][0],
        "sampling speed, ours over theirs": a["rows_a_second"][0] / b["rows_a_second"][0],
    }
    print("\n" + "\n".join(f"{key}: {value:.2f}" for key, value in ratios.items()))
    if options.keep:
        options.keep.write_text(
            json.dumps({"epochs": options.epochs, "figures": table, "ratios": ratios}, indent=1) + "\n"
        )


def ours(folder: Path, recipe: str, steps: int, count: int, seed: int) -> Player:
    """A recipe of this package, on the table `train.csv` of the folder."""
    run = folder / recipe
    result = sparring.train(
        recipe, data=str(folder / "train.csv"), out=run, steps=steps, seed=seed, device="cpu", quiet=True,
        set=["machine.threads=1", "machine.compile=false", "evaluate.metric=null", "train.keep=1", f"train.sample_every={steps}",
             f"train.checkpoint_every={steps}"],
    )  # fmt: skip
    model = sparring.load(run, checkpoint="last")

    def draw(number: int, label: Any = None) -> pd.DataFrame:
        return pd.concat(
            [model.domain.frame_of(batch) for batch in model.generate(number, label=label)], ignore_index=True
        )  # type: ignore[attr-defined]

    began = time.perf_counter()
    rows = draw(count)
    speed = count / (time.perf_counter() - began)
    ask = None if model.game.labels is None else lambda column, level, number: draw(number, {column: level})
    return Player(BATCH / max(result.samples_per_second, 1e-9), rows, speed, ask)


def theirs(train: pd.DataFrame, epochs: int, seed: int) -> Player:
    """The peer, with its own defaults."""
    from ctgan import CTGAN

    torch.manual_seed(seed)
    np.random.seed(seed)
    discrete = [name for name in train.columns if train[name].dtype == object]
    fitted = CTGAN(epochs=1, enable_gpu=False)
    began = time.perf_counter()
    fitted.fit(train, discrete)
    once = time.perf_counter() - began  # the modes of columns, and an epoch
    torch.manual_seed(seed)
    model = CTGAN(epochs=epochs, enable_gpu=False)
    began = time.perf_counter()
    model.fit(train, discrete)
    step = (time.perf_counter() - began - once) / max(1, epochs - 1) / (len(train) // BATCH)
    began = time.perf_counter()
    rows = model.sample(len(train))
    speed = len(train) / (time.perf_counter() - began)
    return Player(step, rows, speed, lambda column, level, number: model.sample(number, column, level))


def measured(player: Player, train: pd.DataFrame, test: pd.DataFrame, folder: Path, seed: int) -> dict[str, float]:
    """Everything of a player, by one code for all."""
    data = opened(folder)
    space = Cells(data.columns)
    real, held, fake = (features(each, data, space) for each in (train, test, player.rows))
    distances = column_distances(real, fake, space.cells)
    target = next(cell for cell in reversed(space.cells) if not cell.number)
    scores = train_on_samples(real, held, fake, space.cells, target, seed)
    some = min(NEIGHBOURS, len(held), len(fake))
    found = {
        "quality": quality(train, player.rows),
        "marginal_error": float(np.mean(distances)),
        "pair_error": pair_distance(*coded(real, fake, space.cells)),
        "trtr": scores.on_data,
        "exact_copies": exact_copies(fake, real),
        "closest_record": float(closest(fake[:some], real).median()),
    }
    if player.rows is not test:  # which are no samples, and are not told from themselves
        found |= {
            "tstr": scores.on_samples,
            "detection_auc": detection(held[:5000], fake[:5000], space.cells, seed),
            "membership_auc": membership_auc(real[:some], held[:some], fake),
        }
    if player.ask:
        found |= {"adherence": adherence(player.ask, data), "step_ms": player.step * 1e3, "rows_a_second": player.speed}
    return found


def opened(folder: Path) -> TableData:
    """The table that was learnt from."""
    from sparring.domains.table.data import TableOptions, open_table

    return open_table(TableOptions(source=str(folder / "train.csv")))


def features(frame: pd.DataFrame, data: TableData, space: Cells) -> torch.Tensor:
    """Rows as points."""
    coded_rows = TableData("rows", frame, list(data.columns))
    return space(coded_rows.batch(torch.arange(len(frame)), augment=False))["features"]


def adherence(ask: Ask, data: TableData) -> float:
    """Share of rows that have the category they were asked for: the most frequent categories of all columns, and rare ones."""
    choices = [(column.name, level) for column in data.columns if column.kind == "category" for level in column.levels]
    some = [choices[number] for number in np.linspace(0, len(choices) - 1, CATEGORIES).round().astype(int)]
    return float(
        np.mean([(ask(column, level, ASKED)[column].astype(str) == str(level)).mean() for column, level in some])
    )


def quality(real: pd.DataFrame, fake: pd.DataFrame) -> float:
    """The score of sdmetrics' quality report."""
    from sdmetrics.reports.single_table import QualityReport

    columns = {name: {"sdtype": "categorical" if real[name].dtype == object else "numerical"} for name in real.columns}
    report = QualityReport()
    report.generate(real, fake, {"columns": columns}, verbose=False)
    return float(report.get_score())


if __name__ == "__main__":
    main()
