"""The page docs/gallery.md, from the figures in docs/gallery/figures.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from exhibits import COLLECTIONS, EXHIBITS

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "gallery"
FIGURES = PICTURES / "figures.json"
HEAD = """\
# Gallery

Image recipes on real data, at a few minutes of one core each. Samples are drawn from fixed latents, and nothing was picked: each
sheet is the last one of its run, seed 0; conditional recipes show a row for each class. Made on one thread of an {processor} by

```
python benchmarks/gallery/run.py --data FOLDER
```

Minutes are processor time of the whole training, reading the data included; with a star, time of the clock while other work ran
beside, an upper bound, of runs from an earlier state of the package. FID, precision and recall are in the features of a
small classifier that was trained on the same data (on `faces`, which have no labels here, on telling the photographs from each
other), samples against training data, as many on both sides as each section says. They compare the rows of one table, and nothing
else. Accuracy: how often that classifier sees in a sample the class that was asked for.
"""
TRANSLATIONS = """\
## Translations

Images made from images that were not trained on, beside plain baselines, each by a script of its own:

```
python benchmarks/translation/NAME.py --data FOLDER
```

Small presets, minutes of processor time on one thread for the whole training. Distances are in the features of a small classifier that
was trained on the same data, unless the row says otherwise: they compare the lines of one table, and nothing else.
"""


def write_page() -> None:
    """All collections, a table and the sheets of each."""
    found = {(row["exhibit"], row["collection"]): row for row in json.loads(FIGURES.read_text())}
    names = sorted({row["processor"] for row in found.values()})
    lines = [HEAD.format(processor=" and an ".join(names))]
    for name, collection in COLLECTIONS.items():
        rows = [found[exhibit.name, name] for exhibit in EXHIBITS if (exhibit.name, name) in found]
        if not rows:
            continue
        lines += [
            f"## {name}",
            "",
            collection.about,
            f"{max(row.get('count', 0) for row in rows):,} samples of each side are measured.",
            "",
            "| recipe | steps | batch | minutes | G, D parameters | FID | precision | recall | accuracy | settings beside the recipe's |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(line(row, collection.keys) for row in rows),
            "",
        ]
        for row in rows:
            picture = f"{row['exhibit']}-{name}.png"
            lines += [f"### {row['exhibit']} on {name}", "", f"![{row['exhibit']} on {name}](gallery/{picture})", ""]
    lines += translations()
    (ROOT / "docs" / "gallery.md").write_text("\n".join(lines))


def translations() -> list[str]:
    """What the scripts in benchmarks/translation kept: a table of each recipe beside its baselines, and its picture."""
    rows = [json.loads(path.read_text()) for path in sorted((PICTURES / "translation").glob("*.json"))]
    if not rows:
        return []
    lines = [TRANSLATIONS]
    for row in rows:
        sides = {f"`{row['recipe']}`": row["figures"], **row["baselines"]}
        names = list(dict.fromkeys(name for figures in sides.values() for name in figures))
        sizes = ", ".join(f"{name} {size(count)}" for name, count in row["parameters"].items())
        lines += [
            f"### {row['name']}",
            "",
            f"{row['about']} {row['steps']:,} steps, {row['minutes']:.1f} minutes, seed {row['seed']}; parameters: {sizes}.",
            "",
            f"|  | {' | '.join(names)} |",
            "|---" * (len(names) + 1) + "|",
            *(
                f"| {side} | {' | '.join(cell(figures.get(name)) for name in names)} |"
                for side, figures in sides.items()
            ),
            "",
            f"![{row['name']}](gallery/{row['picture']})",
            "",
        ]
    return lines


def cell(value: Any) -> str:
    """A figure of any kind."""
    if value is None:
        return ""
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:.1f}"
        if isinstance(value, float)
        else str(value)
    )


def line(row: dict[str, Any], common: tuple[str, ...]) -> str:
    """A row of the table."""
    metrics = row.get("metrics", {})
    figures = [written(metrics.get(name), places) for name, places in (("fid", 2), ("precision", 2), ("recall", 2))]
    accuracy = written(metrics.get("conditional_accuracy"), 2)
    keys = ", ".join(f"`{key}`" for key in row["keys"] if key not in common)
    sizes = ", ".join(size(count) for count in reversed(row["parameters"].values()))
    minutes = f"{row['minutes']:.1f}" + "*" * row.get("wall", False)
    cells = [
        f"`{row['exhibit']}`",
        f"{row['steps']:,}",
        row["batch"],
        minutes,
        sizes,
        *figures,
        accuracy,
    ]
    return "| " + " | ".join(map(str, cells)) + f" | {keys} |"


def written(value: float | None, places: int) -> str:
    """A figure, or nothing where it was not measured."""
    return "" if value is None else f"{value:.{places}f}"


def size(count: int) -> str:
    """So many parameters, in thousands or millions."""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"
