"""Colour for grey photographs: `colorize` on flowers that it has not seen, against grey, and against the same without its game.

Flowers of 64×64 pixels; the first ninth of each kind, by name, is held out. Colourfulness is that of Hasler & Süsstrunk 2003 (M^(3)),
beside that of the true images; FID is in features that a classifier learnt of the five kinds of the training images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from common import arguments, keep, linked, train, unpacked
from restoring import MACHINE, rows
from torch import Tensor

import sparring
from sparring.core.game import Batch
from sparring.domains import open_domain
from sparring.domains.translation.colour import grey_of, lab_of
from sparring.domains.translation.shrinking import as_bytes
from sparring.imaging.features import open_features
from sparring.metrics.frechet import frechet_distance
from sparring.metrics.structure import psnr
from sparring.recipe import load_recipe

SIZE = 64


def main() -> None:
    """Train with a discriminator and without, and set both against grey."""
    options = arguments(__doc__)
    train_folder, held_out = split(unpacked(options.data / "flowers.zip", options.out / "flowers"), options.out)
    true = images(held_out)
    features: Any = open_features(
        "classifier", open_domain("image").open_data({"source": str(train_folder), "size": SIZE})
    )
    grey = grey_of(true)
    figures = {"grey": measured(features, grey.expand(-1, 3, -1, -1), true)}
    runs = {}
    for name, sets in (("colorize", ()), ("without the game", ("loss.adversarial=0",))):
        steps = int(load_recipe("colorize").train.steps or 0)
        folder = options.out / name.replace(" ", "-")
        runs[name] = train(folder, "colorize", train_folder, steps=steps, sets=(*MACHINE, *sets), seed=options.seed)
        model = sparring.load(runs[name].run)
        made = torch.cat([model.translate(Batch(source=part))["data"] for part in grey.split(100)])
        figures[name] = measured(features, made, true)
        if name == "colorize":
            shown = torch.arange(0, len(true), len(true) // 8)[:8]
            columns = {"input": grey[shown].expand(-1, 3, -1, -1), "made": made[shown], "true": true[shown]}
    keep(
        "colorize",
        runs["colorize"],
        about=f"{len(true)} held-out flowers of 64×64; colourfulness of the true ones {colourfulness(true):.1f}",
        figures=figures["colorize"],
        baselines={name: figures[name] for name in ("without the game", "grey")},
        picture=rows({name: each.repeat_interleave(2, 2).repeat_interleave(2, 3) for name, each in columns.items()}),
    )


def split(flowers: Path, out: Path) -> tuple[Path, Path]:
    """Two folders of links, class by class: what is trained on, and the first ninth by name."""
    train_folder, held_out = out / "flowers-train", out / "flowers-test"
    files = sorted(flowers.rglob("*.jp*g"))
    for kind in sorted({file.parent.name for file in files}):
        own = [file for file in files if file.parent.name == kind]
        linked(held_out / kind, own[: len(own) // 9])
        linked(train_folder / kind, own[len(own) // 9 :])
    return train_folder, held_out


def images(folder: Path) -> Tensor:
    """All images of a folder at the size of the training, (N, 3, SIZE, SIZE)."""
    data = open_domain("translation").open_data(
        {"source": str(folder), "layout": "single", "size": SIZE, "fit": "stretch"}
    )
    return data.batch(torch.arange(len(data)), augment=False)["data"]


def measured(features: Any, made: Tensor, true: Tensor) -> dict[str, float]:
    """Colourfulness, the distance of features, and how far a, b and the pixels are from the true ones."""
    ours, theirs = (
        torch.cat([features(Batch(data=part))["features"] for part in x.split(256)]) for x in (as_bytes(made), true)
    )
    return {
        "colourfulness": colourfulness(made),
        "fid": float(frechet_distance(theirs, ours)),
        "psnr": float(psnr((made.clamp(-1, 1) + 1) / 2, (true + 1) / 2).mean()),
        "ab_error": float((lab_of(made)[:, 1:] - lab_of(true)[:, 1:]).abs().mean()),
    }


def colourfulness(images: Tensor) -> float:
    """M^(3) = σ_rgyb + 0.3 μ_rgyb (Hasler & Süsstrunk 2003, eq. 7), the mean over images (N, 3, H, W) in [-1, 1]."""
    red, green, blue = ((images + 1) * 127.5).unbind(1)
    first, second = red - green, (red + green) / 2 - blue
    deviation = (first.var((1, 2)) + second.var((1, 2))).sqrt()
    mean = (first.mean((1, 2)).square() + second.mean((1, 2)).square()).sqrt()
    return float((deviation + 0.3 * mean).mean())


if __name__ == "__main__":
    main()
