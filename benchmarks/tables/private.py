"""What privacy costs: `ctgan-private` on one table, at several ε, beside the same with next to no noise, and `ctgan` as it is.

    pip install -e ".[table,private]"
    python benchmarks/tables/private.py --data adult.csv [--epsilons 1,3,10] [--seeds 1] [--plot curve.png] [--keep figures.json]

A fifth of the rows is held out. All learn from the rest, and draw as many rows as they learnt from; what is measured of
them is measured by the same code. Figures are what a user of the samples sees; measuring them is no part of what is private.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from opacus.accountants import RDPAccountant

import sparring
from sparring.data.frames import read_frame
from sparring.domains.table.cells import Cells
from sparring.domains.table.data import TableData, TableOptions, open_table
from sparring.domains.table.metrics.marginals import coded, column_distances, pair_distance
from sparring.domains.table.metrics.privacy import membership_auc
from sparring.domains.table.metrics.usefulness import train_on_samples
from sparring.host import processor

HELD_OUT = 0.2
NEARLY_NONE = 1e-3  # noise that protects nothing, with all else that a private training has
NEIGHBOURS = 3000  # rows of a side of which distances are taken
PANELS = {
    "marginal_error": "marginal error",
    "pair_error": "pair error",
    "tstr": "F1 on held-out rows,\ntrained on samples",
    "membership_auc": "membership AUC",
}
BESIDE = ["machine.threads=1", "machine.compile=false", "evaluate.metric=null", "train.keep=1"]


def main() -> None:
    """Train, draw, measure, print, keep, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a table; its last column with categories is the target")
    parser.add_argument("--epsilons", default="1,3,10")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=15, help="of `ctgan` as it is; 0: leave it out")
    parser.add_argument("--set", action="append", default=[], help="overrides of `ctgan-private`")
    parser.add_argument("--out", type=Path, default=Path("runs/private"))
    parser.add_argument("--keep", type=Path, help="a JSON file for the figures")
    parser.add_argument("--plot", type=Path, help="a PNG for the curve")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    frame = read_frame(options.data)
    print(
        f"{Path(options.data).name}: {len(frame):,} rows of {len(frame.columns)} columns, {processor()}, one thread\n"
    )
    epsilons = sorted(float(each) for each in options.epsilons.split(",") if each)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(frame))
        cut = int(len(frame) * (1 - HELD_OUT))
        train, test = (frame.iloc[part].reset_index(drop=True) for part in (order[:cut], order[cut:]))
        folder = options.out / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        train.to_csv(folder / "train.csv", index=False)
        data = open_table(TableOptions(source=str(folder / "train.csv")))
        players = {f"ε = {each:g}": ("ctgan-private", [*options.set, f"private.epsilon={each}"]) for each in epsilons}
        players["ε = ∞"] = ("ctgan-private", [*options.set, "private.epsilon=null", f"private.noise={NEARLY_NONE}"])
        if options.epochs:
            players["ctgan"] = ("ctgan", [f"train.steps={int(options.epochs * cut / 500)}"])
        bounds = {"held-out rows": test, "independent": None}
        for name, rows in bounds.items():
            drawn = rows if rows is not None else learnt(folder, "independent", ["train.steps=1"], seed, cut)[0]
            report(found, seed, name, measured(drawn, train, test, data, seed))
        for name, (recipe, overrides) in players.items():
            began = time.perf_counter()
            drawn, facts = learnt(folder, recipe, overrides, seed, cut)
            minutes = (time.perf_counter() - began) / 60
            figures = {**measured(drawn, train, test, data, seed), "minutes": minutes}
            if facts:
                figures |= {
                    "epsilon": facts["epsilon"],
                    "by_opacus": by_opacus(facts),
                    "noise": facts["noise"],
                    "turns": facts["turns"],
                }
            report(found, seed, name, figures)
    table = {
        name: {key: [float(np.mean(values)), float(np.ptp(values) / 2)] for key in seeds[0] if (values := [each[key] for each in seeds])}
        for name, seeds in found.items()
    }  # fmt: skip
    print(f"\nmean of {options.seeds} seeds, ± half of the widest difference")
    for name, row in table.items():
        print(f"{name:14}", "  ".join(f"{key} {mean:.4g} ± {half:.2g}" for key, (mean, half) in row.items()))
    if options.keep:
        options.keep.write_text(json.dumps({"seeds": options.seeds, "figures": table}, indent=1) + "\n")
    if options.plot:
        plot(table, epsilons, options.plot)


def report(found: dict[str, list[dict[str, float]]], seed: int, name: str, figures: dict[str, float]) -> None:
    """Keep a line, and print it."""
    found.setdefault(name, []).append(figures)
    print(f"seed {seed}  {name:14}", "  ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)


def learnt(
    folder: Path, recipe: str, overrides: list[str], seed: int, count: int
) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """Rows of a recipe that learnt from `train.csv` of the folder, and what its guarantee is."""
    from tempfile import mkdtemp

    run = Path(mkdtemp(dir=folder, prefix=f"{recipe}-")) / "run"
    result = sparring.train(
        recipe, data=str(folder / "train.csv"), out=run, seed=seed, device="cpu", quiet=True,
        set=[*BESIDE, "train.sample_every=1000000", "train.checkpoint_every=1000000", *overrides],
    )  # fmt: skip
    model = sparring.load(run, checkpoint="last")
    rows = [model.domain.frame_of(batch) for batch in model.generate(count)]  # type: ignore[attr-defined]
    return pd.concat(rows, ignore_index=True), result.facts["privacy"]


def by_opacus(facts: dict[str, Any]) -> float:
    """ε as opacus's own accountant counts it, told step by step what was drawn."""
    accountant = RDPAccountant()
    for noise in facts["counts"]:
        accountant.step(noise_multiplier=noise, sample_rate=1.0)
    for _ in range(facts["turns"]):
        accountant.step(noise_multiplier=facts["noise"], sample_rate=facts["rate"])
    return float(accountant.get_epsilon(facts["delta"]))


def measured(
    rows: pd.DataFrame, train: pd.DataFrame, test: pd.DataFrame, data: TableData, seed: int
) -> dict[str, float]:
    """The figures of `PANELS`."""
    space = Cells(data.columns)

    def features(frame: pd.DataFrame) -> torch.Tensor:
        coded_rows = TableData("rows", frame, list(data.columns))
        return space(coded_rows.batch(torch.arange(len(frame)), augment=False))["features"]

    real, held, fake = features(train), features(test), features(rows)
    target = next(cell for cell in reversed(space.cells) if not cell.number)
    scores = train_on_samples(real, held, fake, space.cells, target, seed)
    found = {
        "marginal_error": float(np.mean(column_distances(real, fake, space.cells))),
        "pair_error": pair_distance(*coded(real, fake, space.cells)),
        "tstr": scores.on_data if rows is test else scores.on_samples,
    }
    if rows is not test:
        some = min(NEIGHBOURS, len(held), len(fake))
        found["membership_auc"] = membership_auc(real[:some], held[:some], fake)
    return found


def plot(table: dict[str, dict[str, list[float]]], epsilons: list[float], path: Path) -> None:
    """A panel a figure: its curve over ε, and as lines what it is without noise, for independent columns, and for other data."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(3.1 * len(PANELS), 2.9), layout="constrained")
    levels = {"ε = ∞": ("tab:blue", "--"), "ctgan": ("tab:green", "--"), "independent": ("tab:gray", ":"), "held-out rows": ("black", ":")}  # fmt: skip
    for place, (key, title) in zip(axes, PANELS.items(), strict=True):
        means, halves = zip(*(table[f"ε = {each:g}"][key] for each in epsilons), strict=True)
        place.errorbar(epsilons, means, halves, marker="o", color="tab:blue", label="ctgan-private", capsize=3)
        for name, (colour, style) in levels.items():
            if key in table.get(name, {}):
                label = "trained on data" if (name, key) == ("held-out rows", "tstr") else name
                place.axhline(table[name][key][0], color=colour, linestyle=style, linewidth=1.2, label=label)
        place.set(
            title=title, xscale="log", xlabel="ε", xticks=epsilons, xticklabels=[f"{each:g}" for each in epsilons]
        )
        place.minorticks_off()
        if key == "membership_auc":
            place.set_ylim(0.45, 0.55)
        else:
            place.set_ylim(bottom=0, top=1 if key == "tstr" else None)
    handles, labels = axes[2].get_legend_handles_labels()
    more = [pair for pair in zip(*axes[0].get_legend_handles_labels(), strict=True) if pair[1] not in labels]
    figure.legend([*handles, *(each for each, _ in more)], [*labels, *(name for _, name in more)], loc="outside lower center", ncols=6, frameon=False, fontsize=8)  # fmt: skip
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
