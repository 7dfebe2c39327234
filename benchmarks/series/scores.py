"""The scores of Yoon et al. 2019 of games on series, beside what no game is needed for.

    python benchmarks/series/scores.py --data slow-sines --minutes 10 --out runs/scores
    python benchmarks/series/scores.py --data stock_data.csv --recipes steady,timegan --minutes 10 --out runs/scores

Discriminative and predictive scores are means of ten repeats, with the 95 % interval of their mean (Student's t): the chance of the
measuring networks, and not of the training, which is one. As many samples as there are windows are judged against the windows
of the training, as in the paper. Beside the games:

held out       one half of the data as samples of the other; of sines, new ones. What a perfect game would get.
bootstrap      windows of the data, drawn with replacement
blocks         windows of thirds, each from a window drawn on its own
shuffled       windows whose steps are in a random order, the same for all features: what must be told apart
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

import sparring
from sparring.core.game import Batch
from sparring.domains import open_domain
from sparring.domains.series.data import MADE, SeriesData, SeriesOptions, open_series, to_unit
from sparring.domains.series.metrics.post_hoc import discriminative_score, predictive_score
from sparring.recipe import load_recipe


def main() -> None:
    """Print a row a game or baseline; pictures of the games' samples go beside their runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="slow-sines", help="sines, slow-sines, or a file")
    parser.add_argument("--recipes", default="timegan,rcgan,steady", help="separated by commas; none: an empty string")
    parser.add_argument("--baselines", default="held out,bootstrap,blocks,shuffled", help="separated by commas")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each training")
    parser.add_argument("--set", action="append", default=[], help="of each recipe, as `sparring train` has it")
    parser.add_argument("--runs", nargs="*", default=[], type=Path, help="measure these runs, and train none")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/scores"))
    args = parser.parse_args()
    data = open_series(SeriesOptions(source=args.data))
    real = data.batch(torch.arange(len(data)))["data"]
    print(f"{args.data}: {len(data)} windows of {real.shape[1]} steps, {real.shape[2]} features; seed {args.seed}")
    for name, left, right in baselines(args.data, data, real, args.seed):
        if name in args.baselines.split(","):
            say(name, left, right, args.repeats, args.seed)
    runs = args.runs or [train(name, args) for name in filter(None, args.recipes.split(","))]
    for run in runs:
        samples = drawn(run, len(real), data, args.seed)
        say(run.name, real, samples, args.repeats, args.seed)
        open_domain("series").knowing(data.spec).illustrate(Batch(data=real), Batch(data=samples), run)


def say(name: str, real: Tensor, fake: Tensor, repeats: int, seed: int) -> None:
    """Both scores, mean ± half of the interval, and the seconds that they took."""
    begin = time.monotonic()
    scores = [score(real, fake, repeats=repeats, seed=seed) for score in (discriminative_score, predictive_score)]
    told = "  ".join(f"{statistics.mean(each):.4f} ± {half(each):.4f}" for each in scores)
    print(f"{name:12} discriminative, predictive  {told}  ({time.monotonic() - begin:.0f} s)", flush=True)


def half(scores: list[float]) -> float:
    """Half of the 95 % interval of the mean."""
    if len(scores) < 2:
        return float("nan")
    return float(student.ppf(0.975, len(scores) - 1) * statistics.stdev(scores) / len(scores) ** 0.5)


def baselines(source: str, data: SeriesData, real: Tensor, seed: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Names, and what is judged against what."""
    rng = torch.Generator().manual_seed(seed)
    count, steps, features = real.shape
    if source in MADE:
        fresh = to_unit(MADE[source](count, steps, features, seed=seed + 1000), data.spec.extra)
        yield "held out", real, torch.from_numpy(fresh).float()
    else:
        order = torch.randperm(count, generator=rng)
        yield "held out", real[order[::2]], real[order[1::2]]
    pick = torch.randint(count, (count,), generator=rng)
    yield "bootstrap", real, real[pick]
    thirds = [part[torch.randint(count, (count,), generator=rng)] for part in real.tensor_split(3, dim=1)]
    yield "blocks", real, torch.cat(thirds, dim=1)
    orders = torch.rand(count, steps, generator=rng).argsort(dim=1)
    yield "shuffled", real, real.gather(1, orders[:, :, None].expand_as(real))


def train(name: str, args: argparse.Namespace) -> Path:
    """A run of `minutes`, without measuring on the way."""
    run = args.out / f"{name}-{Path(args.data).stem}"
    begin = time.monotonic()
    recipe = load_recipe(name)
    sparring.train(
        recipe, data=args.data, out=run, seed=args.seed, device="cpu", quiet=True,
        set=[f"train.minutes={args.minutes}", "evaluate.metric=null", *args.set],
    )  # fmt: skip
    print(f"{run.name}: trained for {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
    return run


def drawn(run: Path, count: int, data: SeriesData, seed: int) -> Tensor:
    """Samples of a run, on the scale of the games."""
    (file,) = sparring.generate(run, count=count, out=run / "drawn.npy", format="npy", checkpoint="last", seed=seed)
    return torch.from_numpy(to_unit(np.load(file), data.spec.extra)).float()


if __name__ == "__main__":
    main()
