"""Time drawing samples and writing them, beside the loop that scripts use, in the same run.

    python benchmarks/speed/generate.py                        28×28 DCGAN and 32×32 ResNet, 8,192 samples; minutes
    python benchmarks/speed/generate.py --smoke                256 samples; seconds
    python benchmarks/speed/generate.py --count 50000 --device cuda --precision bf16

Columns are samples a second: the forward passes alone (latents drawn, images left where they are), then the same samples
written as npz, npy and PNG files as `sparring generate` does, and a script's loop: forward passes of --peer-batch without
gradients, `.numpy()`, PIL's `save` of one image after the other. Ratios are against the forward passes alone. Generators are
untrained, which changes no speed; PNG files of their noise are larger than those of trained ones. The ways take turns, and
medians of --repeats turns are printed, with the CPU seconds beside them that 1,000 samples took in all processes: on a
machine that others use, trust those.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from sparring.api import resolve
from sparring.core.game import DataSpec
from sparring.domains import open_domain
from sparring.host import cores, processor
from sparring.recipe import load_recipe
from sparring.trained import Trained
from sparring.training.engine import seed_everything

GENERATORS = {
    "DCGAN 28×28": ("dcgan", (), DataSpec((1, 28, 28))),
    "ResNet 32×32": ("default", (), DataSpec((3, 32, 32))),
}
WAYS = ("forward", "npz", "npy", "png", "script")


def main() -> None:
    """Measure each generator in each way, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="256 samples, one turn")
    parser.add_argument("--count", type=int, default=8192, help="samples a turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="32", help="32 or bf16, of our ways")
    parser.add_argument("--peer-batch", type=int, default=64, help="samples of the script's forward pass")
    parser.add_argument("--folder", help="where to write; default: the system's temporary folder")
    options = parser.parse_args()
    count, repeats = (256, 1) if options.smoke else (options.count, options.repeats)
    print(machine(options.device))
    print(f"{count:,} samples a turn, medians of {repeats}, {options.precision} bits; samples/s (CPU s for 1,000)\n")
    print("| generator | " + " | ".join(WAYS) + " | npz / forward | npy / forward | png / forward | npz / script |")
    print("|---|" + "---:|" * (len(WAYS) + 4), flush=True)
    for title, (recipe, overrides, spec) in GENERATORS.items():
        trained = untrained(recipe, overrides, spec, options.device)
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            turns = ways(trained, count, Path(folder), options.precision, options.peer_batch)
            for way in WAYS:
                turns[way](min(count, 256))  # what the first call pays for
            seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
            for _ in range(repeats):
                for way in WAYS:
                    seconds[way].append(timed(turns[way], count))
        rate = {way: count / median(wall for wall, _ in seconds[way]) for way in WAYS}
        cpu = {way: 1000 / count * median(used for _, used in seconds[way]) for way in WAYS}
        cells = [f"{rate[way]:,.0f} ({cpu[way]:.2f})" for way in WAYS]
        ratios = [f"{rate[way] / rate['forward']:.2f}" for way in ("npz", "npy", "png")]
        print(" | ".join([f"| {title}", *cells, *ratios, f"{rate['npz'] / rate['script']:.2f} |"]), flush=True)


def untrained(name: str, overrides: tuple[str, ...], spec: DataSpec, device: str) -> Trained:
    """A generator as `sparring.load` gives it, of fresh weights."""
    recipe = resolve(load_recipe(name).override([*overrides, "train.steps=1"]))
    seed_everything(0)
    domain = open_domain("image")
    return Trained(domain.build_game(recipe, spec).to(torch.device(device)).eval(), domain, recipe, spec, 0)


def ways(
    trained: Trained, count: int, folder: Path, precision: str, peer_batch: int
) -> dict[str, Callable[[int], object]]:
    """Each way of drawing so many samples."""
    game, domain = trained.game, trained.domain

    def forward(number: int) -> None:
        for batch in trained.generate(number, precision=precision):
            last = batch["data"]
        last.flatten()[0].item()  # wait for the device

    def written(form: str) -> Callable[[int], object]:
        out = folder / {"png": "png"}.get(form, f"samples.{form}")

        def write(number: int) -> None:
            domain.save(trained.generate(number, precision=precision), game.conditions, out, form)

        return write

    def script(number: int) -> None:
        target = folder / "script"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        with torch.no_grad():
            for start in range(0, number, peer_batch):
                images = game.generate(min(peer_batch, number - start))["data"].cpu().numpy()
                for index, image in enumerate(images, start):
                    pixels = ((image + 1) * 127.5).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
                    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(target / f"{index}.png")

    return {"forward": forward, **{form: written(form) for form in ("npz", "npy", "png")}, "script": script}


def timed(work: Callable[[int], object], count: int) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process and of the children that have ended."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in used)

    start, before = time.perf_counter(), cpu()
    work(count)
    return time.perf_counter() - start, cpu() - before


def machine(device: str) -> str:
    """What the figures hold for, in a line."""
    gpu = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{processor()}, {cores()} cores usable, "
        f"{torch.get_num_threads()} threads{gpu}; torch {torch.__version__}; load before: {load}"
    )


if __name__ == "__main__":
    main()
