"""Inpainting of photographs: `inpaint` against Telea's method and a fill with the mean colour, on holes it was not trained on.

Crops of 64×64 from 25 photographs that nothing was trained on, 8 a photograph, each with a free-form hole and with the middle
half cut out. PSNR is of the pixels in the hole alone; SSIM of the whole image; FID is of the whole crops' patches of 32 pixels
that touch the hole, in features that a classifier learnt without labels of the training photographs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from common import arguments, keep, train
from restoring import MACHINE, PatchDistance, patches, read, rows
from torch import Tensor

import sparring
from sparring.core.game import Batch
from sparring.domains.translation.games.inpainting import finished, holes_shown, with_holes
from sparring.domains.translation.holes import draw_masks
from sparring.domains.translation.shrinking import as_bytes
from sparring.metrics.structure import ssim
from sparring.recipe import load_recipe

SIZE, CROPS = 64, 8
Fill = Callable[[Tensor], Tensor]


def main() -> None:
    """Train it, and set it against the two."""
    options = arguments(__doc__, recipes="inpaint")
    photographs = options.data / "bsds500" / "images"
    rng = torch.Generator().manual_seed(0)
    true = torch.cat([crop(image, rng) for image in read(photographs / "test") for _ in range(CROPS)])
    masks = {
        kind: draw_masks({kind: 1.0}, len(true), (SIZE, SIZE), torch.device("cpu"), torch.Generator().manual_seed(0))
        for kind in ("free", "centre")
    }
    distance = PatchDistance(read(photographs / "train"), options.out)
    plain: dict[str, Fill] = {"telea": telea, "mean": mean_fill}
    baselines = {name: figures(distance, fill, true, masks) for name, fill in plain.items()}
    for recipe in options.recipes.split(","):
        steps = int(load_recipe(recipe).train.steps or 0)
        trained = train(
            options.out / recipe, recipe, photographs / "train", steps=steps, sets=MACHINE, seed=options.seed
        )
        model = sparring.load(trained.run)

        def fill(source: Tensor, model: sparring.Trained = model) -> Tensor:
            return torch.cat([model.translate(Batch(source=part))["data"] for part in source.split(50)])

        shown = torch.arange(0, len(true), len(true) // 8)[:8]
        half = torch.arange(8)[:, None, None, None] % 2 == 0
        sources = with_holes(true[shown], torch.where(half, masks["free"][shown], masks["centre"][shown]))
        columns = {
            "input": holes_shown(sources).float() / 127.5 - 1,
            "telea": telea(sources),
            "made": fill(sources),
            "true": true[shown],
        }
        keep(
            recipe,
            trained,
            about="200 crops of 64×64 from 25 held-out photographs of BSDS500, free-form and centre holes; trained on 100",
            figures=figures(distance, fill, true, masks),
            baselines=baselines,
            picture=rows({name: larger(each) for name, each in columns.items()}),
        )


def figures(distance: PatchDistance, fill: Fill, true: Tensor, masks: dict[str, Tensor]) -> dict[str, float]:
    """Of each kind of hole."""
    found = {}
    for kind, mask in masks.items():
        made = as_bytes(fill(with_holes(true, mask)))
        error = ((made - true) / 2).square().mul(mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
        touched = patches([mask], step=32).amax((1, 2, 3)) > 0
        found[f"{kind}_psnr"] = float((-10 * error.clamp(min=1e-10).log10()).mean())
        found[f"{kind}_ssim"] = float(ssim((made + 1) / 2, (true + 1) / 2).mean())
        found[f"{kind}_fid"] = distance(*(patches([each], step=32)[touched] for each in (made, true)))
    return found


def telea(source: Tensor) -> Tensor:
    """Telea 2004, as OpenCV has it, with a radius of 3 pixels."""
    import cv2

    images = ((source[:, :-1] + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    holes = source[:, -1].byte().numpy()
    filled = [
        cv2.inpaint(np.ascontiguousarray(image), hole, 3, cv2.INPAINT_TELEA)
        for image, hole in zip(images, holes, strict=True)
    ]
    return torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).float() / 127.5 - 1


def mean_fill(source: Tensor) -> Tensor:
    """The mean colour of what is known of each image."""
    known = 1 - source[:, -1:]
    mean = (source[:, :-1] * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
    return finished(source, mean.expand_as(source[:, :-1]))


def crop(image: Tensor, rng: torch.Generator) -> Tensor:
    """A square from anywhere in a photograph."""
    top, left = (math.floor(float(torch.rand((), generator=rng)) * (side - SIZE + 1)) for side in image.shape[2:])
    return image[..., top : top + SIZE, left : left + SIZE]


def larger(images: Tensor) -> Tensor:
    """Twice the size, to be seen."""
    return images.repeat_interleave(2, 2).repeat_interleave(2, 3)


if __name__ == "__main__":
    main()
