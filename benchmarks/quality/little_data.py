"""A tenth of a data set: no augmentation, DiffAugment and ADA, three seeds each, at equal steps.

    python benchmarks/quality/little_data.py --train olivettifaces.mat            nine trainings, one after the other
    python benchmarks/quality/little_data.py --train … --arms none --seeds 0      one of them; results are kept
    python benchmarks/quality/little_data.py --train … --table                    what is there so far
    python benchmarks/quality/little_data.py --train CIFAR/train --test CIFAR/test --size 16
    python benchmarks/quality/little_data.py --smoke                              digits, a few steps, a minute

Trained on a tenth of `--train`, the same images for all; measured against images that no training saw (all of `--test`, or
else the other nine tenths), in the features of a classifier that learnt the labels of the whole of `--train`. The distance is measured four times on the way, so
that a training that was better before it overfitted shows that too. Intervals are at 95 %, of the mean of the seeds (Student's t).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ARMS = {
    "none": ["loss.augment.name=none"],
    "diffaugment": ["loss.augment.name=diffaugment"],
    "ada": ["loss.augment.name=ada", "loss.augment.speed=50000"],
}
SHARE = 10  # a tenth
QUARTERS = 4
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # by the number of seeds
RECIPE = "dcgan"
KEYS = [
    "model.generator.width=32", "model.discriminator.width=32", "train.batch_size=32", "train.ema.half_life=3000",
    "train.sample_every=1000000", "evaluate.metric=null", "train.keep=100",
    "machine.precision=32", "machine.threads=1", "machine.channels_last=false", "machine.compile=false",
]  # fmt: skip


def work(arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one arm with one seed in this process, and measure it."""
    import torch

    import sparring
    from sparring.core.game import Batch
    from sparring.domains.image.data import ImageData, ImageOptions, open_images
    from sparring.imaging.features.classifier import open_classifier
    from sparring.metrics.frechet import frechet_distance

    torch.set_num_threads(1)
    source = labelled_faces(options) if options.train.endswith(".mat") else options.train
    whole = open_images(ImageOptions(source=source, size=options.size))
    assert isinstance(whole, ImageData)
    features = open_classifier(whole, samples=3000 if options.smoke else 60_000)
    limit = len(whole) // SHARE
    test = unseen(whole, source, limit, options)
    real = features(Batch(data=test))["features"]
    run = options.out / f"{arm}-{seed}"
    shutil.rmtree(run, ignore_errors=True)  # of a sitting that was interrupted
    every = max(1, options.steps // QUARTERS)
    keys = [*KEYS, *ARMS[arm], f"data.limit={limit}", f"data.size={options.size}", f"train.checkpoint_every={every}"]
    started = time.process_time()
    result = sparring.train(
        RECIPE, data=source, out=run, steps=every * QUARTERS, seed=seed, set=keys, device="cpu", quiet=True
    )
    seconds = time.process_time() - started
    distances = {}
    for step in range(every, every * QUARTERS + 1, every):
        trained = sparring.load(run, checkpoint=step)
        drawn = torch.cat([batch["data"] for batch in trained.generate(options.count, seed=1)])
        distances[step] = frechet_distance(real, features(Batch(data=drawn))["features"])
    sparring.generate(run, checkpoint=step, count=64, out=run / "samples.png")
    images = whole.batch(
        torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[: len(test)], augment=False
    )
    return {
        "arm": arm, "seed": seed, "seconds": seconds, "distances": distances, "images": limit, "test": len(test),
        "r_t": result.losses["watch/discriminator/r_t"], "p": result.losses.get("watch/discriminator/augment_p"),
        "features": features.name, "floor": frechet_distance(real, features(images)["features"]),
    }  # fmt: skip


def unseen(whole: Any, source: str, limit: int, options: argparse.Namespace) -> Any:
    """The images to measure against: those of `--test`, or all that the trainings leave out."""
    import torch

    from sparring.domains.image.data import ImageOptions, open_images

    def images(data: Any) -> torch.Tensor:
        return data.batch(torch.arange(len(data)), augment=False)["data"]

    if options.test:
        return images(open_images(ImageOptions(source=options.test, size=options.size)))
    learnt = {
        each.numpy().tobytes()
        for each in images(open_images(ImageOptions(source=source, size=options.size, limit=limit)))
    }
    return torch.stack([each for each in images(whole) if each.numpy().tobytes() not in learnt])


def labelled_faces(options: argparse.Namespace) -> str:
    """The Olivetti faces with the number of the person, as an array file beside the results."""
    import numpy as np
    from scipy.io import loadmat

    target = options.out / "faces.npz"
    if not target.exists():
        columns: Any = loadmat(options.train)["faces"]
        faces = columns.T.reshape(-1, 64, 64).transpose(0, 2, 1).astype(np.uint8)
        np.savez(target, images=faces, labels=np.repeat(np.arange(40), 10))
    return str(target)


def launch(arm: str, seed: int, arguments: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """One training in a process of its own; its result is kept, so that the table can be made in several sittings."""
    kept = options.out / f"{arm}-{seed}.json"
    if not kept.exists():
        command = [sys.executable, __file__, *arguments, "--worker", f"{arm} {seed}"]
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True
        )
        kept.write_text(ended.stdout.splitlines()[-1])
    return dict(json.loads(kept.read_text()))


def table(found: list[dict[str, Any]]) -> str:
    """Arms with their distances on the way and at the end."""
    steps = list(found[0]["distances"])
    lines = [
        f"{found[0]['images']} images to learn from; {found[0]['test']:,} others to measure against, in the features of "
        f"{found[0]['features']}; as many of the whole training set have a distance of {found[0]['floor']:.2f}",
        "",
        "| arm | "
        + " | ".join(f"FID at {int(step):,} steps" for step in steps)
        + " | each seed at the end | r_t | p | processor s |",
        "|---" * (len(steps) + 5) + "|",
    ]
    for arm in ARMS:
        rows = [each for each in found if each["arm"] == arm]
        if not rows:
            continue
        cells = [mean_and_interval([each["distances"][step] for each in rows]) for step in steps]
        cells.append(", ".join(f"{each['distances'][steps[-1]]:.1f}" for each in rows))
        cells.append(f"{statistics.mean(each['r_t'] for each in rows):.2f}")
        cells.append("" if rows[0]["p"] is None else f"{statistics.mean(each['p'] for each in rows):.2f}")
        cells.append(f"{statistics.mean(each['seconds'] for each in rows):.0f}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_and_interval(values: list[float]) -> str:
    """Mean ± half of the 95 % interval, of two to five values."""
    mean = statistics.mean(values)
    if len(values) not in STUDENT:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values)):.1f}"


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--train", help="the whole data set, with labels: a folder of class folders, or the file of the Olivetti faces"
    )
    parser.add_argument("--test", help="images that no training sees; none: what is left of `--train`")
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--count", type=int, default=3000, help="samples to measure")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "little-data")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--smoke", action="store_true", help="the digits of scikit-learn, a few steps")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke:
        options.train = "digits"
        options.size, options.steps, options.count, options.out = 8, 40, 500, options.out / "smoke"
    elif not options.train:
        parser.error("give --train, or --smoke")
    if options.worker:
        arm, seed = options.worker.split()
        print(json.dumps(work(arm, int(seed), options)))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = [(arm, int(seed)) for arm in options.arms.split(",") for seed in options.seeds.split(",")]
    there = [pair for pair in wanted if not options.table or (options.out / f"{pair[0]}-{pair[1]}.json").exists()]
    print(table([launch(arm, seed, sys.argv[1:], options) for arm, seed in there]))


if __name__ == "__main__":
    main()
