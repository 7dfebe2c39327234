"""Comparison: several runs in one table and one picture, measured in one way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparring.errors import UserError
from sparring.measuring.evaluation import EvaluateResult, Progress, evaluate
from sparring.measuring.picture import Lane, draw_comparison
from sparring.metrics.figure import Figure
from sparring.run import Run


@dataclass
class CompareResult:
    """Runs in the order they were given.

    differs: figure → whether the best run's interval lies apart from all others'.
    """

    data: str
    features: str
    runs: dict[str, EvaluateResult]
    picture: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def figures(self) -> list[str]:
        """The figures that every run has."""
        results = list(self.runs.values())
        return [name for name in results[0].figures if all(name in each.figures for each in results)]

    def best(self, figure: str) -> tuple[str, bool]:
        """The best run by a figure, and whether its interval is apart from every other's."""
        found = {name: result.figures[figure] for name, result in self.runs.items()}
        higher = next(iter(found.values())).higher_is_better
        best = (max if higher else min)(found, key=lambda name: found[name].value)
        return best, all(apart(found[best], other) for name, other in found.items() if name != best)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        best = {name: dict(zip(("run", "apart"), self.best(name), strict=True)) for name in self.figures}
        return {
            "data": self.data,
            "features": self.features,
            "runs": {name: result.plain() for name, result in self.runs.items()},
            "best": best,
            "picture": self.picture,
            "notes": self.notes,
        }


def compare(
    runs: Sequence[str | Path],
    *,
    data: str | None = None,
    metrics: str | Iterable[str] | None = None,
    features: str = "auto",
    count: int | None = None,
    checkpoint: str | int = "best",
    budget: float = 10.0,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    trust: bool = False,
    progress: Progress | None = None,
) -> CompareResult:
    """Measure runs against the same data in the same way.

    data: None takes what the runs were trained on, which must then be the same. budget: minutes for all of them.
    out: the picture; None: `compare.png` in the folder that the runs share. Other arguments as in `evaluate`.
    Raises UserError.
    """
    if len(runs) < 2:
        raise UserError("compare needs at least two runs; for one there is `sparring evaluate`")
    opened = [Run.open(run) for run in runs]
    names = _names(opened)
    if data is None:
        sources = {str(run.read_recipe().data.get("source")): run for run in opened}
        if len({run.read_spec()[1] for run in opened}) > 1:
            raise UserError(
                f"the runs were trained on different data ({', '.join(sources)}): give the data to measure all against with --data"
            )
        data = next(iter(sources))
    if not isinstance(metrics, str | None):
        metrics = list(metrics)
    results: dict[str, EvaluateResult] = {}
    notes: list[str] = []
    for name, run in zip(names, opened, strict=True):
        results[name] = evaluate(
            run.folder, data=data, metrics=metrics, features=features, count=count, checkpoint=checkpoint,
            budget=budget / len(opened), seed=seed, device=device, trust=trust,
            progress=None if progress is None else _named(progress, name),
        )  # fmt: skip
        notes += [f"{name}: {note}" for note in results[name].notes]
    spaces = {result.features for result in results.values()}
    if len(spaces) > 1:
        raise UserError(f"the runs cannot be measured in one space ({'; '.join(sorted(spaces))}): give --features")
    counts = {(each.real, each.fake) for result in results.values() for each in result.figures.values()}
    if len({result.figures[name].fake for result in results.values() for name in result.figures if name == "fid"}) > 1:
        notes.append(f"different sample counts ({sorted(counts)}): give a smaller --count or a larger --budget")
    result = CompareResult(data, spaces.pop(), results, notes=notes)
    target = Path(out) if out else _shared_folder(opened) / "compare.png"
    lanes = [Lane(name, run, results[name]) for name, run in zip(names, opened, strict=True)]
    draw_comparison(lanes, result.figures, target)
    result.picture = str(target)
    return result


def apart(one: Figure, other: Figure) -> bool:
    """Whether two figures' 95 % intervals do not meet; without an interval nothing is known."""
    if one.interval is None or other.interval is None:
        return False
    return one.interval[1] < other.interval[0] or other.interval[1] < one.interval[0]


def _names(runs: Sequence[Run]) -> list[str]:
    """Folder names, or whole paths where these are not all different."""
    short = [run.folder.resolve().name for run in runs]
    names = short if len(set(short)) == len(short) else [str(run.folder) for run in runs]
    if len(set(names)) < len(names):
        raise UserError(f"{next(name for name in names if names.count(name) > 1)}: named twice; name different runs")
    return names


def _shared_folder(runs: Sequence[Run]) -> Path:
    parents = {run.folder.resolve().parent for run in runs}
    return parents.pop() if len(parents) == 1 else Path()


def _named(progress: Progress, name: str) -> Progress:
    return lambda what, done, total: progress(f"{name}: {what}", done, total)
