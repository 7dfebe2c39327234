"""Projection of held-out images: how like they are found, beside two answers that need no generator.

    python benchmarks/quality/projection.py RUN --held-out SOURCE [--count 16] [--steps 400] [--out SHEET.png]
    python benchmarks/quality/projection.py --smoke                                    digits, a few steps

The baselines: the training image that is nearest to the target (by the distance that the projection descends), and the
mean training image. LPIPS is measured where its weights are at hand. Means over the images, with their standard errors.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

import sparring
from sparring.core.game import Batch
from sparring.data.dataset import Dataset, choose
from sparring.domains.domain import Likeness
from sparring.exploring.projection import project
from sparring.exploring.sheets import Grid, save_grid
from sparring.host import processor
from sparring.trained import Trained, load


def main() -> None:
    """Print a line for each way of answering."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--held-out", help="a source of images that the run was not trained on")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument("--out", type=Path, help="a sheet of targets and answers")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if not options.smoke and not (options.run and options.held_out):
        parser.error("give RUN and --held-out SOURCE, or --smoke")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.smoke:
            run, held_out, count, steps = Path(folder) / "run", "digits", 2, 5
            sparring.train("dcgan", data="digits", out=run, steps=5, device="cpu", quiet=True)
        else:
            run, held_out, count, steps = options.run, options.held_out, options.count, options.steps
        measure(load(run, device="cpu"), held_out, count, steps, options.restarts, options.out)


def measure(trained: Trained, held_out: str, count: int, steps: int, restarts: int, out: Path | None) -> None:
    """All three answers to the same targets."""
    domain, options, spec = trained.domain, trained.recipe.data, trained.spec
    data = domain.open_reference(str(options["source"]), options, spec)
    others = domain.open_reference(held_out, options, spec)
    target = others.batch(choose(others, count, 0), augment=False)["data"]
    likeness = domain.open_likeness()
    start = time.process_time()
    found = project(trained, target, likeness, steps=steps, restarts=restarts)
    seconds = (time.process_time() - start) / len(target)
    nearest, mean = baselines(data, target, likeness)
    print(f"{processor()}, one thread; {trained.recipe.name}, step {trained.step}; {len(target)} images of {held_out}")
    print(f"descended: {found.distance}, {steps} steps, {restarts} restarts, {seconds:.1f} s of processor an image\n")
    names = [name for name in ("lpips", "ssim", "psnr") if name in found.figures]
    print("| answer | distance | " + " | ".join(names) + " |\n|---|---|" + "---|" * len(names))
    answers = {"projection": found.samples["data"], "nearest training image": nearest, "mean training image": mean}
    for answer, images in answers.items():
        values = [likeness(images, target).detach(), *(likeness.figures(images, target)[name] for name in names)]
        print(f"| {answer} | " + " | ".join(map(shown, values)) + " |")
    if out:
        sheet = torch.stack([target, *answers.values()]).flatten(0, 1)
        save_grid(trained, Grid(Batch(data=sheet), len(target), captions=["held out", *answers]), out)


def baselines(data: Dataset, target: Tensor, likeness: Likeness, chunk: int = 2000) -> tuple[Tensor, Tensor]:
    """The training image nearest to each target, and the mean one as often."""
    best = torch.full((len(target),), torch.inf)
    nearest = torch.zeros_like(target)
    total = torch.zeros_like(target[0], dtype=torch.float64)
    for start in range(0, len(data), chunk):
        images = data.batch(torch.arange(start, min(start + chunk, len(data))), augment=False)["data"]
        total += images.double().sum(0)
        for number, one in enumerate(target):
            # Those nearest in values are looked at more closely: the distance itself is dear.
            close = images[(images - one).square().flatten(1).sum(1).argsort()[:50]]
            distance, place = likeness(close, one.expand_as(close)).min(0)
            if distance < best[number]:
                best[number], nearest[number] = distance, close[place]
    return nearest, (total / len(data)).to(target.dtype).expand_as(target)


def shown(values: Tensor) -> str:
    """Mean ± standard error."""
    return f"{values.mean():.4f} ± {values.std() / len(values) ** 0.5:.4f}"


if __name__ == "__main__":
    main()
