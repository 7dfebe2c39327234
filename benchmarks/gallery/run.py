"""Train every image recipe, measure it, and put a sheet and the figures of each into docs/gallery.md.

    python benchmarks/gallery/run.py                                    the embedded digits only
    python benchmarks/gallery/run.py --data ../shared/data              all collections (folders as in `exhibits.py`)
    python benchmarks/gallery/run.py --only wgan,wgan-gp --collection digits
    python benchmarks/gallery/run.py --page                             only write the page anew

Runs are kept in runs/gallery; one that is complete is not trained again, so the page can be made in several sittings. The figures
of all sittings are in docs/gallery/figures.json, and the page is made from these.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from exhibits import COLLECTIONS, EXHIBITS, Exhibit
from page import FIGURES, PICTURES, ROOT, write_page
from PIL import Image

from sparring.host import processor

RUNS = ROOT / "runs" / "gallery"
TRAIN = ("train.checkpoint_every=500", "train.keep=1", "train.sample_every=500", "evaluate.metric=null")
METRICS = ("fid", "precision", "recall", "conditional_accuracy")


def main() -> None:
    """Train and measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of data sets; none: the embedded digits only")
    parser.add_argument("--only", help="exhibits, separated by commas")
    parser.add_argument("--collection", choices=[*COLLECTIONS], help="one of the data sets")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side, one thread each")
    parser.add_argument("--page", action="store_true", help="train nothing")
    options = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    wanted = set(options.only.split(",")) if options.only else None
    chosen = [
        (exhibit, name)
        for name in COLLECTIONS
        for exhibit in EXHIBITS
        if name in exhibit.steps
        and (wanted is None or exhibit.name in wanted)
        and options.collection in (None, name)
        and (options.data or name == "digits")
    ]
    # Networks this small gain little from a second core: two trainings side by side do.
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in [] if options.page else [pool.submit(show, *each, options.data) for each in chosen]:
            outcome.result()
    if options.page or not wanted:
        collect()
        write_page()


def show(exhibit: Exhibit, name: str, data: Path | None) -> None:
    """Train and measure one exhibit, unless it is there, and keep its sheet and its figures."""
    run = RUNS / f"{exhibit.name}-{name}"
    if (run / "gallery.json").exists():
        return
    collection = COLLECTIONS[name]
    keys = (*collection.keys, *exhibit.keys, *exhibit.own.get(name, ()))
    if (run / "recipe.yaml").exists():
        trained, minutes = sparring(run, "resume", str(run))
    else:
        source = collection.source(data or Path(), RUNS)
        sets = [word for key in (*TRAIN, *keys) for word in ("--set", key)]
        words = ["train", exhibit.recipe, "--data", source, "--out", str(run), "--seed", "0"]
        trained, minutes = sparring(run, *words, "--steps", str(exhibit.steps[name]), *sets)
    if trained is None:
        return
    measured = measure(run, collection.count)
    sheet = max((run / "samples").glob("*.png"))
    PICTURES.mkdir(parents=True, exist_ok=True)
    Image.open(sheet).save(PICTURES / f"{run.name}.png", optimize=True)
    facts = {
        "exhibit": exhibit.name,
        "collection": name,
        "keys": list(keys),
        "steps": trained["steps"],
        "batch": batch_size(run),
        "minutes": round(minutes, 2),
        "precision": trained["precision"],
        "parameters": trained["parameters"],
        "processor": processor(),
        **(measured or {}),
    }
    (run / "gallery.json").write_text(json.dumps(facts))


def measure(run: Path, count: int) -> dict[str, Any] | None:
    """The figures of a run in the features of a classifier that was trained on its data."""
    options = ["--features", "classifier", "--count", str(count), "--budget", "30", "--metrics"]
    # Without labels there is no accuracy to ask for.
    for names in (METRICS, METRICS[:-1]):
        found, _ = sparring(run, "evaluate", str(run), *options, ",".join(names))
        if found is not None:
            figures = {key: each.get("value") for key, each in found["metrics"].items()}
            return {"metrics": figures, "features": found["features"], "count": count}
    return None


def sparring(run: Path, *words: str) -> tuple[dict[str, Any] | None, float]:
    """What a command says in JSON, None where it fails, and the minutes of processor time that it took."""
    print(f"{run.name}: {' '.join(words)}", flush=True)
    command = [sys.executable, "-m", "sparring", *words, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (RUNS / f"{run.name}.log").open("a") as log, (RUNS / f"{run.name}.out").open("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    (RUNS / f"{run.name}.out").unlink()
    minutes = (usage.ru_utime + usage.ru_stime) / 60
    if process.returncode:
        print(f"{run.name}: `{words[0]}` failed, see {RUNS / run.name}.log", flush=True)
        return None, minutes
    return json.loads(said), minutes


def batch_size(run: Path) -> int:
    """The batch size that a run used."""
    import yaml

    return int(yaml.safe_load((run / "recipe.yaml").read_text())["train"]["batch_size"])


def collect() -> None:
    """Take the figures of the runs that are here into those of all sittings."""
    known = (
        {(row["exhibit"], row["collection"]): row for row in json.loads(FIGURES.read_text())}
        if FIGURES.exists()
        else {}
    )
    for path in sorted(RUNS.glob("*/gallery.json")):
        row = json.loads(path.read_text())
        known[row["exhibit"], row["collection"]] = row
    FIGURES.write_text(json.dumps([known[key] for key in sorted(known)], indent=1) + "\n")


if __name__ == "__main__":
    main()
