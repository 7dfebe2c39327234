"""Translation without pairs: `cyclegan`, `cut`, `fastcut` from roses to sunflowers, `stargan` between three kinds of flowers.

100 photographs of each kind are held out. Of what becomes of them are measured
    accuracy  the share that a classifier, trained on the real images that the recipes were trained on, takes for the kind
              that they should be, and beside it the same of real held-out images of that kind
    fid       the Fréchet distance of that classifier's features from those of the held-out images of that kind
    kept      SSIM of output and input: what of the picture is still there
    cycle     mean |F(G(a)) − a|, in [0, 1]
The baselines are the input as it is, and the most similar training image of the wanted kind, pixel by pixel.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from common import arguments, keep, train, unpacked
from torch import Tensor, nn
from torch.nn import functional as F

import sparring
from sparring.core.game import Batch
from sparring.domains import open_domain
from sparring.domains.translation.show import comparison
from sparring.metrics.frechet import frechet_distance
from sparring.metrics.structure import ssim

KINDS = ("daisy", "rose", "sunflower")
HELD_OUT, SHOWN = 100, 6
# Enlarged as they are in that set, the photographs have no detail beyond 32 pixels.
SIZE = ("data.size=32", "data.load=36")
MACHINE = (
    "machine.precision=32", "machine.compile=false", "machine.channels_last=false", "machine.threads=1",
    "train.sample_every=100000",
)  # fmt: skip
STEPS = {"cyclegan": 1500, "fastcut": 1500, "cut": 1500, "stargan": 400}


def main() -> None:
    """Train what `--only` names, and set it against the baselines."""
    options = arguments(__doc__, only=",".join(STEPS), steps=0)
    flowers = split(unpacked(options.data / "flowers.zip", options.out / "flowers"), options.out)
    kept = {part: read(flowers / part / "kinds") for part in ("train", "test")}
    judge = Judge(kept["train"], options.seed)
    for name in options.only.split(","):
        source = flowers / "train" / ("kinds" if name == "stargan" else "sides")
        sets = [*SIZE, *MACHINE, *(["data.layout=sides"] if name != "stargan" else [])]
        trained = train(
            options.out / name, name, source, steps=options.steps or STEPS[name], sets=sets, seed=options.seed
        )
        model = sparring.load(trained.run, checkpoint="last")
        measure = star if name == "stargan" else two_sides
        figures, baselines, columns = measure(model, judge, kept)
        keep(
            name,
            trained,
            about=f"photographs of flowers at 32 pixels, {HELD_OUT} of each kind held out",
            figures=figures,
            baselines=baselines,
            picture=comparison(columns),
        )


def split(folder: Path, out: Path) -> Path:
    """Folders of links: train and test, each as kinds and as two sides; the same ones for every seed."""
    for part in ("train", "test"):
        for kind in KINDS:
            files = sorted(next(folder.rglob(kind)).glob("*.jpg"))
            random.Random(0).shuffle(files)
            chosen = files[:HELD_OUT] if part == "test" else files[HELD_OUT:]
            sides = {"rose": "a", "sunflower": "b"}
            for where in [f"kinds/{kind}", *([f"sides/{sides[kind]}"] if kind in sides else [])]:
                target = out / "split" / part / where
                target.mkdir(parents=True, exist_ok=True)
                for file in chosen:
                    if not (target / file.name).exists():
                        (target / file.name).symlink_to(file.resolve())
    return out / "split"


def read(folder: Path) -> dict[str, Tensor]:
    """The images of each kind, (N, 3, 32, 32) in [-1, 1]."""
    data = open_domain("translation").open_data({"source": str(folder), "layout": "single", "size": 32})
    batch = data.batch(torch.arange(len(data)), augment=False)
    return {kind: batch["data"][batch["label"] == number] for number, kind in enumerate(data.spec.classes)}


class Judge:
    """A small classifier of real training images, and its features."""

    def __init__(self, images: Mapping[str, Tensor], seed: int, *, epochs: int = 30) -> None:
        torch.manual_seed(seed)
        self.kinds = list(images)
        widths = [3, 32, 64, 128]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3))
        self.head = nn.Linear(widths[-1], len(self.kinds))
        data = torch.cat(list(images.values()))
        label = torch.cat([torch.full((len(each),), number) for number, each in enumerate(images.values())])
        optimizer = torch.optim.Adam([*self.features.parameters(), *self.head.parameters()], lr=1e-3)
        fading = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        for _ in range(epochs):
            for rows in torch.randperm(len(data)).split(64):
                flipped = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, data[rows].flip(-1), data[rows])
                loss = F.cross_entropy(self.head(self.features(flipped)), label[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            fading.step()
        self.features.eval()

    @torch.no_grad()
    def accuracy(self, images: Tensor, kind: str, among: tuple[str, ...]) -> float:
        """The share of images that are taken for `kind`, where only some kinds are asked about."""
        logits = self.head(self.features(images))[:, [self.kinds.index(each) for each in among]]
        return float((logits.argmax(1) == among.index(kind)).float().mean())

    @torch.no_grad()
    def distance(self, images: Tensor, real: Tensor) -> float:
        """The Fréchet distance of features."""
        return frechet_distance(self.features(images), self.features(real))

    def figures(self, made: Tensor, given: Tensor, real: Tensor, kind: str, among: tuple[str, ...]) -> dict[str, float]:
        """What is said of outputs `made` of `given` that should be of the kind of `real`."""
        return {
            "accuracy": self.accuracy(made, kind, among),
            "fid": self.distance(made, real),
            "kept": float(ssim((made.clamp(-1, 1) + 1) / 2, (given + 1) / 2).mean()),
        }


def nearest(given: Tensor, known: Tensor) -> Tensor:
    """For each image the most similar of those that are known."""
    return known[torch.cdist(given.flatten(1), known.flatten(1)).argmin(1)]


Measured = tuple[dict[str, float], dict[str, dict[str, float]], dict[str, Tensor]]
Kept = Mapping[str, Mapping[str, Tensor]]


def two_sides(model: Any, judge: Judge, kept: Kept) -> Measured:
    """Roses as sunflowers, and the other way where the recipe goes there."""
    ways = {"a2b": ("rose", "sunflower"), "b2a": ("sunflower", "rose")}
    if not model.game.conditions:
        ways = {"a2b": ways["a2b"]}
    figures: dict[str, float] = {}
    baselines: dict[str, dict[str, float]] = {name: {} for name in ("input", "nearest", "real")}
    columns: dict[str, Tensor] = {}
    for way, (start, goal) in ways.items():
        given, real = kept["test"][start], kept["test"][goal]
        made = model.translate(Batch(source=given), label=way if model.game.conditions else None)
        about = {"given": given, "real": real, "kind": goal, "among": (start, goal)}
        figures |= _of(way, judge.figures(made["data"], **about))
        if "cycled" in made:
            figures[f"{way}_cycle"] = float((made["cycled"] - given).abs().mean() / 2)
            columns |= {f"{start} {way}": given, f"as {goal}": made["data"], f"{start} again": made["cycled"]}
        else:
            columns |= {start: given, f"as {goal}": made["data"]}
        baselines["input"] |= _of(way, judge.figures(given, **about))
        baselines["nearest"] |= _of(way, judge.figures(nearest(given, kept["train"][goal]), **about))
        baselines["real"][f"{way}_accuracy"] = judge.accuracy(real, goal, (start, goal))
        baselines["real"][f"{way}_fid"] = judge.distance(kept["train"][goal], real)
    return figures, baselines, {name: each[:SHOWN] for name, each in columns.items()}


def star(model: Any, judge: Judge, kept: Kept) -> Measured:
    """Every kind as every other: figures for each wanted kind, of the images of all others."""
    figures: dict[str, float] = {}
    baselines: dict[str, dict[str, float]] = {name: {} for name in ("input", "nearest", "real")}
    shown = torch.cat([kept["test"][kind][:2] for kind in KINDS])
    columns = {"input": shown}
    for goal in KINDS:
        given = torch.cat([kept["test"][kind] for kind in KINDS if kind != goal])
        real = kept["test"][goal]
        about = {"given": given, "real": real, "kind": goal, "among": KINDS}
        figures |= _of(goal, judge.figures(model.translate(Batch(source=given), label=goal)["data"], **about))
        baselines["input"] |= _of(goal, judge.figures(given, **about))
        baselines["nearest"] |= _of(goal, judge.figures(nearest(given, kept["train"][goal]), **about))
        baselines["real"][f"{goal}_accuracy"] = judge.accuracy(real, goal, KINDS)
        baselines["real"][f"{goal}_fid"] = judge.distance(kept["train"][goal], real)
        columns[goal] = model.translate(Batch(source=shown), label=goal)["data"]
    return figures, baselines, columns


def _of(way: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{way}_{name}": value for name, value in figures.items()}


if __name__ == "__main__":
    main()
