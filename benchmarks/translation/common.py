"""What the benchmarks of translations share: data made ready, trainings in processes of their own, rows of the gallery.

Every script beside this one is run as

    python benchmarks/translation/NAME.py --data FOLDER [--out FOLDER]

where FOLDER holds the data sets (camvid, flowers.zip, bsds500, …). It trains, sets the results against plain baselines on
images that were not trained on, prints the figures, and keeps a row and a picture for docs/gallery.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sparring.host import processor

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "gallery"
ROWS = PICTURES / "translation"
TRAIN = ("train.keep=1", "evaluate.metric=null")


def arguments(about: str | None, **more: Any) -> argparse.Namespace:
    """`--data`, `--out`, `--seed`, and whatever else a script wants: name → its default."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "translation", help="where runs and prepared data go"
    )
    parser.add_argument("--seed", type=int, default=0)
    for name, default in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options


@dataclass(frozen=True)
class Trained:
    """A training. run: its folder. minutes: of processor time, the reading of the data included. said: its JSON."""

    run: Path
    minutes: float
    said: dict[str, Any]


def train(
    run: Path, recipe: str, source: str | Path, *, steps: int, sets: Iterable[str] = (), seed: int = 0
) -> Trained:
    """Train a recipe on one thread, unless a run of that name is complete already."""
    note = run / "training.json"
    if note.exists():
        kept = json.loads(note.read_text())
        return Trained(run, kept["minutes"], kept["said"])
    if (run / "recipe.yaml").exists():
        said, minutes = sparring("resume", str(run))
    else:
        words = [word for key in (*TRAIN, *sets) for word in ("--set", key)]
        said, minutes = sparring(
            "train",
            recipe,
            "--data",
            str(source),
            "--out",
            str(run),
            "--steps",
            str(steps),
            "--seed",
            str(seed),
            *words,
        )
    note.write_text(json.dumps({"minutes": minutes, "said": said}))
    return Trained(run, minutes, said)


def sparring(*words: str) -> tuple[dict[str, Any], float]:
    """What a command says in JSON, and the minutes of processor time that it took. A failure ends the script."""
    print("sparring", " ".join(words), file=sys.stderr, flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sparring", *words, "--json"], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"`sparring {words[0]}` failed with {process.returncode}")
    return json.loads(said), (usage.ru_utime + usage.ru_stime) / 60


def evaluate(
    run: Path, source: str | Path, metrics: Sequence[str], *, features: str = "classifier"
) -> dict[str, float]:
    """Figures of a run on data that it was not trained on."""
    said, _ = sparring(
        "evaluate",
        str(run),
        "--data",
        str(source),
        "--features",
        features,
        "--metrics",
        ",".join(metrics),
        "--budget",
        "30",
    )
    return {name: each["value"] for name, each in said["metrics"].items()}


def keep(
    name: str,
    trained: Trained,
    *,
    about: str,
    figures: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, Any]] | None = None,
    picture: Image.Image | Path,
) -> None:
    """Print the figures, and keep them and a picture for the gallery.

    about: the data, the split and the size, in a sentence. figures: name → number of the recipe. baselines: name of a
    baseline → its figures under the same names. picture: held-out inputs, outputs, and targets where there are any.
    """
    ROWS.mkdir(parents=True, exist_ok=True)
    image = Image.open(picture) if isinstance(picture, Path) else picture
    if image.width > 1200:
        image = image.resize((1200, round(image.height * 1200 / image.width)), Image.Resampling.LANCZOS)
    # Photographs are large as PNG; a sheet of few colours is not.
    small = (
        image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE) if image.width * image.height < 40_000 else image
    )
    path = PICTURES / f"translation-{name}.png"
    small.save(path, optimize=True)
    if path.stat().st_size > 300_000:
        path.unlink()
        path = path.with_suffix(".jpg")
        image.convert("RGB").save(path, quality=88)
    row = {
        "name": name,
        "recipe": trained.said["recipe"],
        "about": about,
        "steps": trained.said["steps"],
        "minutes": round(trained.minutes, 2),
        "seed": trained.said["seed"],
        "parameters": trained.said["parameters"],
        "processor": processor(),
        "picture": path.name,
        "figures": dict(figures),
        "baselines": {key: dict(each) for key, each in (baselines or {}).items()},
    }
    (ROWS / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")
    print(
        f"\n{name}: {about}\n{row['steps']:,} steps, {row['minutes']} minutes of one core of an {row['processor']}, seed {row['seed']}"
    )
    for key, each in {trained.said["recipe"]: figures, **(baselines or {})}.items():
        print(f"  {key:24} " + "  ".join(f"{figure} {_written(value)}" for figure, value in each.items()))


def unpacked(archive: Path, out: Path) -> Path:
    """A zip, unpacked once."""
    if not out.exists():
        temporary = out.with_name(f".{out.name}.tmp")
        with zipfile.ZipFile(archive) as file:
            file.extractall(temporary)
        temporary.rename(out)
    return out


def linked(folder: Path, files: Iterable[Path]) -> Path:
    """A folder of links to files, made once; names that come twice get their folder's before them."""
    if not folder.exists():
        folder.mkdir(parents=True)
        for file in files:
            target = folder / file.name
            (folder / f"{file.parent.name}-{file.name}" if target.exists() else target).symlink_to(file.resolve())
    return folder


def _written(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
