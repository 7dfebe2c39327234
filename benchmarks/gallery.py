"""Train every image recipe on digits and on MNIST and put a sheet of each into docs/gallery.md.

    python benchmarks/gallery.py                                  the embedded digits only
    python benchmarks/gallery.py --mnist ../shared/data/mnist     MNIST as well (a folder of IDX files)
    python benchmarks/gallery.py --only wgan,wgan-gp --data digits

Runs are kept in runs/gallery; one that is complete is not trained again, so the page can be made in several sittings.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sparring.host import processor

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "gallery"
PICTURES = ROOT / "docs" / "gallery"


@dataclass(frozen=True)
class Exhibit:
    """One recipe on both data sets; everything that is not said here is the recipe's own."""

    recipe: str
    digits: int
    mnist: int  # steps; 0: left out
    keys: tuple[str, ...] = ()
    mnist_keys: tuple[str, ...] = ()
    title: str = ""


FUSION = "model.generator.fusion={0} model.discriminator.fusion={0}"
HALF = ("model.generator.width=32", "model.discriminator.width=32")
SMALL_BATCH = ("train.batch_size=32",)
EXHIBITS = (
    Exhibit("default", digits=1500, mnist=800),
    Exhibit("gan", digits=12000, mnist=6000),
    Exhibit("dcgan", 4000, 3000, mnist_keys=HALF),
    Exhibit("lsgan", 4000, 3000, mnist_keys=HALF),
    Exhibit("wgan", 3000, 1500, mnist_keys=HALF),
    Exhibit("wgan-gp", 1500, 600, mnist_keys=HALF),
    Exhibit("dragan", 5000, 2000, mnist_keys=HALF),
    Exhibit("sngan", 1500, 1200, mnist_keys=HALF),
    Exhibit("rgan", 4000, 3000, mnist_keys=HALF),
    Exhibit("cgan", 4000, 3000, mnist_keys=HALF),
    Exhibit("cgan", 4000, 3000, ("model.discriminator.condition=projection",), HALF, "cgan-projection"),
    Exhibit("acgan", 3000, 3000, mnist_keys=HALF),
    Exhibit("infogan", 3000, 3000, mnist_keys=HALF),
    Exhibit("aae", digits=8000, mnist=6000),
    Exhibit("multires", 1000, 400, (), SMALL_BATCH),
    Exhibit("multires", 500, 0, (*FUSION.format("attention").split(),), title="multires-attention"),
    Exhibit("multires", 500, 0, (*FUSION.format("recurrent").split(),), title="multires-recurrent"),
)
SETS = {
    "digits": "`multires` learns slowly in steps, and a step at three scales costs much: its last two sheets are short trainings.",
    "mnist": "Budgets of a few minutes on one core, one to three epochs: strokes are right, not every digit is one. `multires` is "
    "far from done after 400 steps of 32, and its attention and recurrent fusions were left out: 1 to 2 s a step on one core. "
    "`default` was given 800 steps of its 1,500.",
}
COMMON = ("evaluate.metric=sliced_wasserstein", "train.checkpoint_every=500", "train.keep=1", "train.sample_every=500")


def main() -> None:
    """Train what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", help="folder of MNIST's IDX files")
    parser.add_argument("--only", help="exhibits, separated by commas")
    parser.add_argument("--data", choices=["digits", "mnist"], help="one of the data sets")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side; they share the cores")
    options = parser.parse_args()
    wanted = set(options.only.split(",")) if options.only else None
    sources = {"digits": "digits", **({"mnist": options.mnist} if options.mnist else {})}
    chosen = [
        (exhibit, name, source)
        for name, source in sources.items()
        for exhibit in EXHIBITS
        if (wanted is None or title(exhibit) in wanted) and options.data in (None, name)
    ]
    # Networks this small gain little from a second core: two trainings side by side do.
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in [pool.submit(train, *each, threads) for each in chosen]:
            outcome.result()
    write_page(threads)


def title(exhibit: Exhibit) -> str:
    """The exhibit's name: the recipe's where nothing else is said."""
    return exhibit.title or exhibit.recipe


def train(exhibit: Exhibit, name: str, source: str, threads: int) -> None:
    """Train one exhibit in a process of its own, unless it is there, and keep its sheet and its figures."""
    run = RUNS / f"{title(exhibit)}-{name}"
    RUNS.mkdir(parents=True, exist_ok=True)
    facts = run / "gallery.json"
    if facts.exists():
        return
    steps = exhibit.mnist if name == "mnist" else exhibit.digits
    if not steps:
        return
    keys = (*COMMON, *exhibit.keys, *(exhibit.mnist_keys if name == "mnist" else ()))
    words = [
        "train",
        exhibit.recipe,
        "--data",
        source,
        "--out",
        str(run),
        "--steps",
        str(steps),
        "--seed",
        "0",
        "--precision",
        "bf16" if name == "mnist" else "32",
        "--json",
    ]
    verb = (
        ["resume", str(run), "--json"]
        if (run / "recipe.yaml").exists()
        else [*words, *(w for key in keys for w in ("--set", key))]
    )
    print(f"{run.name}: {' '.join(verb)}", flush=True)
    command = [sys.executable, "-m", "sparring", *verb]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (RUNS / f"{run.name}.log").open("w") as log:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, check=False)
    if result.returncode:
        print(f"{run.name} failed, see {RUNS / run.name}.log", flush=True)
        return
    figures = json.loads(result.stdout)
    sheet = max((run / "samples").glob("*.png"))
    PICTURES.mkdir(parents=True, exist_ok=True)
    Image.open(sheet).save(PICTURES / f"{run.name}.png", optimize=True)
    figures["keys"] = list(exhibit.keys) + list(exhibit.mnist_keys if name == "mnist" else ())
    facts.write_text(json.dumps({"exhibit": title(exhibit), "set": name, **figures}))


def write_page(threads: int) -> None:
    """docs/gallery.md from all the figures that are there."""
    found = {}
    for path in RUNS.glob("*/gallery.json"):
        facts = json.loads(path.read_text())
        found[facts["exhibit"], facts["set"]] = facts
    lines = [
        "# Gallery",
        "",
        "Every image recipe on the embedded digits (1,797 of 8×8) and on MNIST (60,000 of 28×28), 64 samples each from fixed",
        "latents; conditional recipes show a row for each class. Nothing was picked: each sheet is the last one of its run,",
        "seed 0. Made by `python benchmarks/gallery.py --mnist FOLDER` on",
        f"{threads} core(s) of an {processor()}; digits in 32-bit, MNIST in bf16 with 32-bit weights and penalties.",
        "Trainings ran side by side and shared the cores with other work, so the minutes are upper bounds and img/s lower ones.",
        "",
        "The distance is sliced Wasserstein (512 projections) between 1,000 samples and 1,000 training images, in pixels in",
        "[0, 1], flattened; smaller is better, and only figures of one table can be compared.",
        "",
    ]
    for name in SETS:
        rows = [found[title(exhibit), name] for exhibit in EXHIBITS if (title(exhibit), name) in found]
        if not rows:
            continue
        lines += [
            f"## {name}",
            "",
            SETS[name],
            "",
            "| recipe | steps | batch | minutes | img/s | distance | settings beside the recipe's |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            distance = row["metrics"].get("sliced_wasserstein")
            settings = ", ".join(f"`{key}`" for key in row["keys"])
            shown = "" if distance is None else f"{distance:.4f}"
            lines.append(
                f"| `{row['exhibit']}` | {row['steps']:,} | {batch(row)} | {row['seconds'] / 60:.1f} "
                f"| {row['samples_per_second']:,.0f} | {shown} | {settings} |"
            )
        lines.append("")
        for row in rows:
            lines += [
                f"### {row['exhibit']} on {name}",
                "",
                f"![{row['exhibit']} on {name}](gallery/{row['exhibit']}-{name}.png)",
                "",
            ]
    (ROOT / "docs" / "gallery.md").write_text("\n".join(lines))


def batch(facts: dict[str, object]) -> str:
    """The batch size that a run used."""
    import yaml

    recipe = yaml.safe_load(
        (ROOT / "runs" / "gallery" / f"{facts['exhibit']}-{facts['set']}" / "recipe.yaml").read_text()
    )
    return str(recipe["train"]["batch_size"])


if __name__ == "__main__":
    main()
