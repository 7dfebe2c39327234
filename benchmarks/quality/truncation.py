"""Truncation trades recall for precision: both at several ψ, of a run or of one that is trained for it.

    python benchmarks/quality/truncation.py RUN [--data SOURCE] [--out docs/gallery/truncation.png]     a few minutes
    python benchmarks/quality/truncation.py --recipe cgan --data ../shared/data/mnist --minutes 4
    python benchmarks/quality/truncation.py --smoke                                                     digits, a few steps

Improved precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), in the features of a
classifier that was trained on the data, with 95 % intervals from random halves. The latents are the same for every ψ.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.figure import Figure as Picture

import sparring
from sparring.core.game import Batch
from sparring.data.dataset import choose
from sparring.host import processor
from sparring.metrics.figure import Figure
from sparring.metrics.meter import Meter
from sparring.trained import Trained, load

PSIS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
FIGURES = ("precision", "recall", "density", "coverage")


def main() -> None:
    """Print the table, draw the plot, and say whether precision rises and recall falls all the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run's folder; none: train --recipe")
    parser.add_argument("--recipe", default="cgan")
    parser.add_argument("--data", help="a source; none: what the run was trained on")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="the plot")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or train(options.recipe, options.data, options.minutes, options.smoke, Path(folder) / "run")
        trained = load(run, device="cpu")
        count = 200 if options.smoke else options.count
        sweep(trained, str(run), options.data, count, options.out)


def train(recipe: str, data: str | None, minutes: float, smoke: bool, out: Path) -> Path:
    """A run to sweep over."""
    changes = ["train.steps=null", f"train.minutes={minutes}", "machine.threads=1", "evaluate.metric=null"]
    if smoke:
        sparring.train(recipe, data="digits", out=out, steps=5, set=changes[2:], device="cpu", quiet=True)
    else:
        sparring.train(recipe, data=data or "digits", out=out, set=changes, device="cpu", quiet=True)
    return out


def sweep(trained: Trained, run: str, source: str | None, count: int, out: Path | None) -> None:
    """Measure at every ψ."""
    domain = trained.domain
    data = domain.open_reference(source or str(trained.recipe.data["source"]), trained.recipe.data, trained.spec)
    count = min(count, len(data))
    space = domain.open_features("classifier", data)
    real = data.batch(choose(data, count, 0), augment=False)
    meter = Meter(space, domain.measures, Batch({**real, **space(real)}))
    print(f"{processor()}, one thread; {trained.recipe.name}, step {trained.step}; {count} samples of each side")
    print(f"features: {space.name}\n")
    print("| ψ | " + " | ".join(FIGURES) + " |")
    print("|---:|" + "---|" * len(FIGURES), flush=True)
    rows = []
    for psi in PSIS:
        pieces = [*trained.generate(count, truncation=psi)]
        fake = Batch({name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]})
        rows.append(meter.figures(Batch({**fake, **space(fake)}), "prdc"))
        print(f"| {psi:g} | " + " | ".join(shown(rows[-1][name]) for name in FIGURES) + " |", flush=True)
    print()
    for name, sign in (("precision", 1), ("recall", -1)):
        steps = [sign * (after[name].value - before[name].value) for before, after in pairwise(rows)]
        against = [f"{psi:g}" for psi, step in zip(PSIS[1:], steps, strict=True) if step < 0]
        way = "rises" if sign > 0 else "falls"
        print(f"{name} {way} monotonically: {'yes' if not against else 'no, not at ψ = ' + ', '.join(against)}")
    if out:
        draw(rows, f"{trained.recipe.name} on {Path(str(trained.recipe.data['source'])).name}", count, out)
        print(f"plot: {out}")


def shown(figure: Figure) -> str:
    """A value and its interval."""
    between = f" [{figure.interval[0]:.3f}, {figure.interval[1]:.3f}]" if figure.interval else ""
    return f"{figure.value:.3f}{between}"


def draw(rows: Sequence[dict[str, Figure]], title: str, count: int, out: Path) -> None:
    """Precision and recall over ψ with their intervals, and one against the other."""
    picture = Picture(figsize=(9, 3.6), layout="constrained")
    left, right = picture.subplots(1, 2)
    for name, colour in (("precision", "tab:blue"), ("recall", "tab:orange")):
        values = [row[name].value for row in rows]
        low, high = zip(*((row[name].interval or (row[name].value,) * 2) for row in rows), strict=True)
        left.plot(PSIS, values, "o-", color=colour, label=name, markersize=4)
        left.fill_between(PSIS, low, high, color=colour, alpha=0.2, linewidth=0)
    left.set(xlabel="truncation ψ", ylim=(0, 1.02), title=title)
    left.legend(frameon=False)
    right.plot([row["recall"].value for row in rows], [row["precision"].value for row in rows], "o-", color="0.3")
    for psi, row in zip(PSIS, rows, strict=True):
        right.annotate(f"{psi:g}", (row["recall"].value, row["precision"].value), (4, 4), textcoords="offset points")
    right.set(xlabel="recall", ylabel="precision", title=f"{count:,} samples of each side")
    out.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(out, dpi=80)


if __name__ == "__main__":
    main()
