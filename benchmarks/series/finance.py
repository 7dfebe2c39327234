"""Do simulated prices behave as an index does, and is its risk theirs? `quantgan` beside a GARCH model, on daily returns.

    pip install -e ".[benchmark]"
    python benchmarks/series/finance.py [--data prices.csv --column close] [--recipe quantgan] [--steps N] [--seed 0]

Without --data it is the S&P 500 from 1999 to 2018, which comes with the package `arch`. Each model learns the whole series and
draws paths as long as it. Of every statistic the data's 95 % interval is that of a block bootstrap of the one series there is,
and a model's is the range of 95 % of its paths. GJR-GARCH(1,1) with Student's t (Glosten et al. 1993) is fitted by `arch`;
`normal` are independent Gaussian returns. Value at risk (VaR) and expected shortfall (ES) are losses in per cent.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sparring
from sparring.domains.figures import save_figure
from sparring.domains.series.finance import fan, memory
from sparring.domains.series.metrics.risk import (
    Array,
    block_interval,
    expected_shortfall,
    losses,
    memory_band,
    value_at_risk,
)
from sparring.domains.series.metrics.tails import kurtosis, leverage, tail_index
from sparring.host import processor

LAGS, BLOCK, PATHS = 50, 250, 100
TURNS: dict[str, Callable[[Array], Array]] = {"returns": lambda r: r, "size": np.abs, "squares": np.square}
SCENARIO_DAYS, SCENARIOS = 250, 500


def main() -> None:
    """Train, draw, print, draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a .csv of prices, a row a day; none: the S&P 500")
    parser.add_argument("--column", default="close")
    parser.add_argument("--recipe", default="quantgan")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--set", action="append", default=[], help="of the recipe, key=value")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help="a run that was trained already on this series")
    parser.add_argument("--out", type=Path, default=Path("runs/finance"))
    parser.add_argument("--keep", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    prices = read(options.data, options.column)
    source = options.out / "prices.csv"
    source.write_text(f"{options.column}\n" + "\n".join(f"{price:.10g}" for price in prices) + "\n")
    real = np.diff(np.log(prices))
    print(f"{len(real):,} daily returns, {PATHS} paths of each model, seed {options.seed}, {processor()}, one thread\n")
    started, used = time.monotonic(), time.process_time()
    run = options.run or train(options, source)
    if options.run is None:
        print(f"{options.recipe} trained in {(time.monotonic() - started) / 60:.1f} minutes, {(time.process_time() - used) / 60:.1f} of processor\n")  # fmt: skip
    model = sparring.load(run, checkpoint="last")
    models = {
        options.recipe: draw(model, PATHS, len(real), options.seed),
        "GJR-GARCH-t": garch(real, PATHS, options.seed),
        "normal": np.random.default_rng(options.seed).normal(real.mean(), real.std(), (PATHS, len(real))),
    }
    found = {"memory": remembered(real, models), "statistics": described(real, models)}
    if options.keep:
        options.keep.write_text(json.dumps(found, indent=1) + "\n")
    pictures(real, prices, models[options.recipe], draw(model, SCENARIOS, SCENARIO_DAYS, options.seed), options.out)


def read(path: Path | None, column: str) -> Array:
    """Prices (T,)."""
    import pandas as pd

    if path is None:
        from arch.data import sp500

        return sp500.load()["Adj Close"].to_numpy(np.float64)
    return pd.read_csv(path)[column].to_numpy(np.float64)


def train(options: argparse.Namespace, source: Path) -> Path:
    """A run of the recipe on the prices."""
    folder: Path = options.out / options.recipe
    sparring.train(
        options.recipe, data=str(source), out=folder, steps=options.steps, seed=options.seed, device="cpu", quiet=True,
        set=["machine.threads=1", "machine.compile=false", "evaluate.metric=null", *options.set],
    )  # fmt: skip
    return folder


def draw(model: Any, count: int, steps: int, seed: int) -> Array:
    """Log returns (count, steps) that a run draws."""
    pieces = [
        model.domain.log_returns(batch["data"]).cpu().numpy()
        for batch in model.generate(count, length=steps, seed=seed, batch_size=10)
    ]
    return np.concatenate(pieces)[:, :, 0]


def garch(real: Array, count: int, seed: int) -> Array:
    """Log returns of the fitted GJR-GARCH(1,1) with Student's t."""
    from arch import arch_model
    from arch.univariate import StudentsT

    fitted = arch_model(100 * real, mean="Constant", vol="GARCH", p=1, o=1, q=1, dist="t").fit(disp="off")
    simulator = arch_model(None, mean="Constant", vol="GARCH", p=1, o=1, q=1, dist="t")
    simulator.distribution = StudentsT(seed=seed)
    paths = [simulator.simulate(fitted.params, len(real), burn=500)["data"].to_numpy() / 100 for _ in range(count)]
    return np.stack(paths)


def remembered(real: Array, models: dict[str, Array]) -> dict[str, Any]:
    """Print the share of lags at which a model's mean autocorrelation is inside the data's interval."""
    print(
        f"share of {LAGS} lags at which the autocorrelation is inside the data's 95 % interval (blocks of {BLOCK} days)"
    )
    table: dict[str, Any] = {}
    for title, turn in TURNS.items():
        curve, low, high = memory_band(turn(real), LAGS, block=BLOCK)
        shares = {
            name: float(((low <= (own := curve_of(turn(paths)))) & (own <= high)).mean())
            for name, paths in models.items()
        }
        table[title] = {"shares": shares, "data": curve.tolist(), "low": low.tolist(), "high": high.tolist()}
        table[title] |= {name: curve_of(turn(paths)).tolist() for name, paths in models.items()}
        print(f"  {title:8}", "  ".join(f"{name} {share:.0%}" for name, share in shares.items()))
    return table


def curve_of(paths: Array) -> Array:
    """Mean over paths (N, T) of each one's autocorrelation (lags,), as the data's is taken of one path."""
    centred = paths - paths.mean(axis=1, keepdims=True)
    products = [(centred[:, lag:] * centred[:, : paths.shape[1] - lag]).sum(axis=1) for lag in range(LAGS + 1)]
    return np.stack([each / products[0] for each in products[1:]], axis=1).mean(axis=0)


def described(real: Array, models: dict[str, Array]) -> dict[str, Any]:
    """Print every statistic of the data and of each model's paths, with intervals."""
    names = ["data", *models]
    print(f"\n{'':26}" + "".join(f"{name:>28}" for name in names))
    table: dict[str, Any] = {}
    for title, statistic in statistics().items():
        rows = {"data": (statistic(real), *block_interval(real, statistic, block=BLOCK, resamples=300))}
        for name, paths in models.items():
            each = np.array([statistic(path) for path in paths])
            rows[name] = (float(np.median(each)), *map(float, np.quantile(each, [0.025, 0.975])))
        table[title] = rows
        cells = (f"{value:.3g} ({low:.3g} to {high:.3g})" for value, low, high in rows.values())
        print(f"{title:26}" + "".join(f"{cell:>28}" for cell in cells))
    return table


def statistics() -> dict[str, Callable[[Array], float]]:
    """Of log returns (T,)."""

    def windows(path: Array) -> torch.Tensor:
        return torch.from_numpy(path)[None, :, None]

    found: dict[str, Callable[[Array], float]] = {
        "deviation, % a day": lambda path: float(100 * path.std()),
        "excess kurtosis": lambda path: float(kurtosis(windows(path))),
        "tail index of losses": lambda path: float(tail_index(windows(path), side="losses")),
        "tail index of gains": lambda path: float(tail_index(windows(path), side="gains")),
        "leverage, mean of 10 lags": lambda path: float(leverage(windows(path), 10).mean()),
    }
    for days in (1, 10):
        for level in (0.95, 0.99):
            for name, risk in (("VaR", value_at_risk), ("ES", expected_shortfall)):
                found[f"{name} {level:.0%}, {days} days"] = lambda path, days=days, level=level, risk=risk: (
                    100 * risk(losses(path, days), level)
                )
    return found


def pictures(real: Array, prices: Array, drawn: Array, scenarios: Array, out: Path) -> None:
    """How long large changes stay together, and a year of scenarios beside the years there were."""
    curves, bands = {}, {}
    for title, turn in TURNS.items():
        curve, low, high = memory_band(turn(real), LAGS, block=BLOCK)
        curves[title], bands[title] = (curve, curve_of(turn(drawn))), (low, high)
    save_figure(memory(curves, bands), out / "memory.png")
    years = np.lib.stride_tricks.sliding_window_view(real, SCENARIO_DAYS)[:: SCENARIO_DAYS // 10]

    def from_last(returns: Array) -> Array:
        start = np.zeros((len(returns), 1))
        return prices[-1] * np.exp(np.concatenate([start, returns.cumsum(axis=1)], axis=1))

    sides = {"years of the data, from its last price": from_last(years), "scenarios": from_last(scenarios)}
    save_figure(fan(sides, "price"), out / "scenarios.png")
    print(f"\npictures: {out / 'memory.png'}, {out / 'scenarios.png'}")


if __name__ == "__main__":
    main()
