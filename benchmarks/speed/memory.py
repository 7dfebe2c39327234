"""Set what `--dry-run` says of memory against the peak of the training itself, each in a process of its own.

    python benchmarks/speed/memory.py                  a few minutes
    python benchmarks/speed/memory.py --smoke          one recipe, a few steps

Settings are pinned, because measuring which are fastest takes memory of its own. The training plays STEPS steps, draws sheets, measures, writes checkpoints and the report; its peak is what the system
says of the ended process (`ru_maxrss`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sparring.host import processor

# recipe, image size (0: digits; -1: the recipe's own data), channels, further keys
CASES: dict[str, tuple[str, int, int, list[str]]] = {
    "default on digits": ("default", 0, 1, []),
    "dcgan on digits": ("dcgan", 0, 1, []),
    "dcgan 28×28": ("dcgan", 28, 1, []),
    "dcgan 64×64": ("dcgan", 64, 3, []),
    "wgan-gp 28×28": ("wgan-gp", 28, 1, []),
    "default 32×32": ("default", 32, 3, []),
    "default 64×64, bf16": ("default", 64, 3, ["machine.precision=bf16"]),
    "multires 28×28": ("multires", 28, 1, []),
    "vector-default": ("vector-default", -1, 0, []),
}


def main() -> None:
    """Print a line for each case as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="cases, separated by commas")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else ["dcgan on digits"] if options.smoke else list(CASES)
    steps = 4 if options.smoke else options.steps
    print(f"{processor()}; peak of {steps} steps\n\n| training | predicted MiB | peak MiB | predicted : peak |")
    print("|---|---:|---:|---:|", flush=True)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            predicted, peak = measure(Path(folder), *CASES[name], steps)
        print(f"| {name} | {predicted / 2**20:.0f} | {peak / 2**20:.0f} | {predicted / peak:.2f} |", flush=True)


def measure(root: Path, recipe: str, size: int, channels: int, keys: list[str], steps: int) -> tuple[int, int]:
    """Bytes that the rehearsal says, and those that the training took at most."""
    command = [sys.executable, "-m", "sparring", "train", recipe, "--device", "cpu"]
    if size > 0:
        images = np.random.default_rng(0).integers(0, 256, (4096, size, size, channels), np.uint8)
        np.save(root / "images.npy", images)
        command += ["--data", str(root / "images.npy")]
    elif size == 0:
        command += ["--data", "digits"]
    pinned = {"precision": "32", "threads": "1", "channels_last": "false", "compile": "false"}
    settings = [f"machine.{key}={value}" for key, value in pinned.items()]
    settings += [*keys, f"train.checkpoint_every={steps // 2}", f"train.sample_every={steps // 2}"]
    for setting in settings:
        command += ["--set", setting]
    environment = {**os.environ, "SPARRING_CACHE": str(root / "cache")}
    rehearsal = run([*command, "--dry-run", "--json"], environment)[0]
    peak = run([*command, "--steps", str(steps), "--out", str(root / "run"), "--json"], environment)[1]
    return int(rehearsal["memory_bytes"]), peak


def run(command: list[str], environment: dict[str, str]) -> tuple[dict[str, Any], int]:
    """A command's JSON, and its peak memory in bytes."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return json.loads(output), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
