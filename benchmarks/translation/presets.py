"""Every published setting of a translation, built and played for two steps of one image: parameters, memory, seconds.

    python benchmarks/translation/presets.py                 all of them, on images that it makes
    python benchmarks/translation/presets.py --only spade-256,cyclegan-256

Each in a process of its own (`sparring train --dry-run`), with a batch of one and one generator turn a step, in 32 bits on one
thread: the networks and losses are the published ones, the batch is not. Memory is the peak of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from sparring.host import processor
from sparring.recipe import named_recipes

PINNED = ("machine.precision=32", "machine.threads=1", "machine.compile=false", "machine.channels_last=false")
CLASSES = 12
LABELLED = ("pix2pixhd", "spade")
ALONE = ("colorize", "inpaint", "srgan", "esrgan")
UNPAIRED = ("cyclegan", "cut", "fastcut", "munit", "style")
OWN = {"pix2pixhd-1024": ("data.size=[256, 512]",), "style-768": ("data.size=256",)}
"""Smaller images where the published ones take more memory than a laptop has: the networks are the same."""


def main() -> None:
    """Play, and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="comma-separated names")
    options = parser.parse_args()
    here = {name for name, path in named_recipes().items() if path.parent.parent.name == "translation"}
    names = options.only.split(",") if options.only else sorted(name for name in here if name[-1].isdigit())
    print(f"{processor()}, one thread, batches of one\n")
    print(f"{'preset':16} {'image':>9} {'parameters':>40} {'seconds a step':>15} {'GiB':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            said = play(name, Path(folder))
            if said is None:
                print(f"{name:16} failed", flush=True)
                continue
            sizes = ", ".join(f"{role} {count / 1e6:.1f} M" for role, count in said["parameters"].items())
            image = "×".join(map(str, said["data"]["shape"][1:]))
            print(
                f"{name:16} {image:>9} {sizes:>40} {said['seconds_per_step']:15.1f} {said['memory_bytes'] / 2**30:6.2f}",
                flush=True,
            )


def play(name: str, folder: Path) -> dict | None:
    """What a dry run of a preset says; None where it fails."""
    source, keys = data_for(name, folder)
    words = [word for key in (*PINNED, "train.batch_size=1", *keys, *OWN.get(name, ())) for word in ("--set", key)]
    command = [sys.executable, "-m", "sparring", "train", name, "--data", str(source), "--dry-run", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1], file=sys.stderr)
        return None
    return json.loads(done.stdout)


def data_for(name: str, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Images of the kind that a recipe wants, 288 pixels a side and wider, and the keys that go with them."""
    family = name.rpartition("-")[0]
    kind = (
        "labelled"
        if family in LABELLED
        else "alone"
        if family in ALONE
        else "classes"
        if family == "stargan"
        else "sides"
    )
    root = folder / kind
    wanted = {"labelled": ("label", "photo"), "alone": ("",), "classes": ("one", "other"), "sides": ("A", "B", "mask")}[
        kind
    ]
    if not root.exists():
        rng = np.random.default_rng(0)
        for side in wanted:
            (root / side).mkdir(parents=True, exist_ok=True)
            for number in range(4):
                noise = rng.integers(0, 256, (9, 18, 3), np.uint8)
                if side == "label":
                    image = Image.fromarray(noise[:, :, 0] % CLASSES).resize((576, 288), Image.Resampling.NEAREST)
                elif side == "mask":
                    image = Image.fromarray(np.where(noise[:, :, 0] > 200, 255, 0).astype(np.uint8)).resize((576, 288))
                else:
                    image = Image.fromarray(noise).resize((576, 288), Image.Resampling.BICUBIC)
                image.save(root / side / f"{number}.png")
    if kind == "sides":
        layout = "sides" if family in (*UNPAIRED, "lesion") else "pairs"
        keys: tuple[str, ...] = ("data.sides=[A,B]", f"data.layout={layout}")
        return root, (*keys, "data.mask=mask") if family == "lesion" else keys
    return root, ("data.layout=single",) if kind in ("alone", "classes") else ()


if __name__ == "__main__":
    main()
