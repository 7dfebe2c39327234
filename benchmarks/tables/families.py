"""Every recipe of tables on one table, for as much processor time, and `medgan-records` on another of 0 and 1.

    pip install -e ".[benchmark]"
    python benchmarks/tables/families.py --data adult.csv --protected sex --desired ">50K" [--codes nltcs.dat] [--seconds 120]

A fifth of the rows is held out. Each game plays as many steps as fit `--seconds` of processor time on one thread, by the pace
of its first steps, so that a busy machine changes nothing; its schedule is as long. All draw as many rows as they learnt
from, and one code measures them: how far columns and pairs are from the data's, how well trees trained on samples foretell
held-out rows, how well samples are told from held-out rows, and how differently the groups of the protected column fare, in
samples and under those trees.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import sparring
from sparring.data.frames import read_frame
from sparring.domains.table.cells import Cells
from sparring.domains.table.data import TableData, TableOptions, open_table
from sparring.domains.table.metrics.dimensions import dimension_prediction, dimension_probability, there
from sparring.domains.table.metrics.fairness import fairness, parity
from sparring.domains.table.metrics.marginals import coded, column_distances, pair_distance
from sparring.domains.table.metrics.usefulness import detection, train_on_samples
from sparring.host import processor

HELD_OUT, PACED = 0.2, 40  # of the rows; steps by which the pace is taken
FITTED = ("independent", "copula")
TABLES = (*FITTED, "ctgan", "tablegan", "ctabgan-plus", "tabfairgan", "fairgan")
CODES = (*FITTED, "medgan-records", "ctgan")


def main() -> None:
    """Train, draw, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a table; its last column with categories is the target")
    parser.add_argument(
        "--protected", required=True, help="a column of the table, between whose groups is to be no difference"
    )
    parser.add_argument("--desired", help="the category of the target that is a favour")
    parser.add_argument("--codes", help="a table of 0 and 1 or of counts")
    parser.add_argument("--recipes", help="only these of the recipes, with commas between")
    parser.add_argument("--seconds", type=float, default=120.0, help="of processor time for each game")
    parser.add_argument("--rows", type=int, help="only so many of each table, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/families"))
    parser.add_argument("--keep", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print(f"{options.seconds:g} s of processor time a game, seed {options.seed}, one thread of {processor()}")
    kept: dict[str, Any] = {}
    sets = [f"data.protected={options.protected}"]
    favour = [f"model.desired={json.dumps(options.desired)}"] if options.desired else []
    wanted = options.recipes.split(",") if options.recipes else [*TABLES, *CODES]
    for source, recipes, more in ((options.data, TABLES, sets), (options.codes, CODES, [])):
        if source is None:
            continue
        frame = read_frame(source)
        order = np.random.default_rng(options.seed).permutation(len(frame))
        order = order[: options.rows]
        cut = int(len(order) * (1 - HELD_OUT))
        train, test = (frame.iloc[part].reset_index(drop=True) for part in (order[:cut], order[cut:]))
        folder = options.out / Path(source).stem
        folder.mkdir(parents=True, exist_ok=True)
        train.to_csv(folder / "train.csv", index=False)
        print(f"\n{Path(source).name}: {len(train):,} rows of {len(frame.columns)} columns, {len(test):,} held out")
        data = open_table(
            TableOptions(source=str(folder / "train.csv"), **({"protected": options.protected} if more else {}))
        )
        told: dict[str, dict[str, Any]] = {"held-out rows": measured(test, train, test, data, options.seed)}
        print("held-out rows", told["held-out rows"], flush=True)
        for recipe in (each for each in recipes if each in wanted):
            own = [*more, *(favour if recipe in ("tabfairgan", "fairgan") else [])]
            rows, steps, seconds = played(folder, recipe, own, options.seconds, len(train), options.seed)
            told[recipe] = {
                "steps": steps,
                "seconds": round(seconds, 1),
                **measured(rows, train, test, data, options.seed),
            }
            print(recipe, told[recipe], flush=True)
            kept[Path(source).name] = told
            if options.keep:
                options.keep.write_text(json.dumps({"seconds": options.seconds, "figures": kept}, indent=1) + "\n")
        show(told)


def played(
    folder: Path, recipe: str, sets: list[str], seconds: float, count: int, seed: int
) -> tuple[pd.DataFrame, int, float]:
    """Rows that a recipe drew, the steps that it played before, and the processor time that these took."""
    steps = 1
    if recipe not in FITTED:
        own = ["model.pretraining=0"] if recipe == "medgan-records" else []
        ticks: list[float] = []
        hook = register_optimizer_step_post_hook(lambda *_: ticks.append(time.process_time()))
        trained(folder, recipe, [*sets, *own], PACED, seed, "pace")
        hook.remove()
        # The first steps prepare what later ones find ready.
        begun = len(ticks) // 4
        steps = max(1, round(seconds * PACED * (1 - (begun + 1) / len(ticks)) / (ticks[-1] - ticks[begun])))
    took = trained(folder, recipe, sets, steps, seed, "run")
    model = sparring.load(folder / f"{recipe}-run", checkpoint="last")
    frames = [model.domain.frame_of(batch) for batch in model.generate(count, seed=seed)]  # type: ignore[attr-defined]
    return pd.concat(frames, ignore_index=True), steps, took


def trained(folder: Path, recipe: str, sets: list[str], steps: int, seed: int, name: str) -> float:
    """Train in a folder of that name, and return the processor time that it took."""
    out = folder / f"{recipe}-{name}"
    shutil.rmtree(out, ignore_errors=True)
    began = time.process_time()
    sparring.train(
        recipe, data=str(folder / "train.csv"), out=out, steps=steps, seed=seed, device="cpu", quiet=True,
        set=["machine.threads=1", "machine.compile=false", "evaluate.metric=null", "train.keep=1",
             f"train.sample_every={steps}", f"train.checkpoint_every={steps}", *sets],
    )  # fmt: skip
    return time.process_time() - began


def measured(rows: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame, data: TableData, seed: int) -> dict[str, Any]:
    """Everything of samples, by one code for all; of held-out rows what trees make that were trained on data."""
    space = Cells(data.columns)
    real, held, fake = (
        space(TableData("rows", each, list(data.columns)).batch(torch.arange(len(each)), augment=False))["features"]
        for each in (train, test, rows)
    )
    cells = space.cells
    found = {
        "marginal_error": float(np.mean(column_distances(real, fake, cells))),
        "pair_error": pair_distance(*coded(real, fake, cells)),
    }
    itself = rows is test
    target = next(cell for cell in reversed(cells) if not cell.number)
    if data.spec.extra["protected"] is None:  # codes
        matrices = [there(each, cells) for each in (real, held, fake)]
        on_samples, on_data, apart = dimension_prediction(*matrices, seed)
        found |= {"dimension_probability": dimension_probability(matrices[0], matrices[2])}
        found |= {"f1": on_data} if itself else {"dimension_prediction": apart, "f1": on_samples}
    else:
        group = next(cell for cell in cells if cell.column.name == data.spec.extra["protected"])
        scores = train_on_samples(real, held, fake, cells, target, seed)
        model = fairness(real if itself else fake, held, cells, target, group, seed)
        own = (fake[:, cell.place].argmax(1).cpu().numpy() for cell in (target, group))
        found |= {
            "f1": scores.on_data if itself else scores.on_samples,
            "parity": float(parity(*own)),
            "model_accuracy": model.accuracy,
            "model_parity": model.parity,
            "model_odds": model.odds,
        }
    if not itself:
        found["detection_auc"] = detection(held[:5000], fake[:5000], cells, seed)
    return {key: round(float(value), 4) for key, value in found.items()}


def show(told: dict[str, dict[str, Any]]) -> None:
    """The figures as a Markdown table, a row a figure."""
    figures = list(dict.fromkeys(key for row in told.values() for key in row))
    print("\n| | " + " | ".join(told) + " |\n|" + "---|" * (len(told) + 1))
    for figure in figures:
        print(f"| {figure} | " + " | ".join(str(row.get(figure, "")) for row in told.values()) + " |")


if __name__ == "__main__":
    main()
