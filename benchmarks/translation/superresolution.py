"""Super-resolution ×4 on Set5: `srresnet`, `srgan` and `esrgan`, trained on 100 photographs, against bicubic enlargement.

Set5 as the papers measure it: sides cut to multiples of 4, inputs made by bicubic shrinking and rounded to bytes, outputs
rounded to bytes, PSNR and SSIM of the luma Y (ITU-R BT.601, 16 … 235) without the 4 outermost pixels. How much an output
looks like a photograph is the Fréchet distance of its patches of 32 pixels from the true ones, in features that a classifier
learnt without labels of the training photographs: for Set5, and for 25 photographs that nothing was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from common import arguments, keep, train
from PIL import Image
from restoring import MACHINE, PatchDistance, read, rows
from torch import Tensor

import sparring
from sparring.core.game import Batch
from sparring.domains.translation.networks.enlarging import bicubic
from sparring.domains.translation.shrinking import as_bytes, cut_to_multiple, shrink
from sparring.metrics.structure import psnr, ssim
from sparring.recipe import load_recipe

SCALE = 4
LUMA = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1) / 255
Sets = dict[str, list[Tensor]]


def main() -> None:
    """Train the three, and set them against bicubic enlargement."""
    options = arguments(__doc__, recipes="srresnet,srgan,esrgan")
    photographs = options.data / "bsds500" / "images"
    true: Sets = {
        name: [cut_to_multiple(each, SCALE) for each in read(folder)]
        for name, folder in (("set5", options.data / "set5_set14" / "CSet5"), ("bsds", photographs / "test"))
    }
    distance = PatchDistance(read(photographs / "train"), options.out)
    enlarged = made_of(true, lambda small: bicubic(small, SCALE))
    baseline = figures(distance, enlarged, true)
    for recipe in options.recipes.split(","):
        steps = int(load_recipe(recipe).train.steps or 0)
        trained = train(
            options.out / recipe, recipe, photographs / "train", steps=steps, sets=MACHINE, seed=options.seed
        )
        model = sparring.load(trained.run)
        made = made_of(true, enlarging(model))
        others = {"bicubic": baseline}
        if getattr(model.game, "pretrained", None) is not None:
            for share in (0.0, 0.5):
                model.game.interpolation = share
                name = "before the game" if share == 0 else f"interpolated, {share}"
                others[name] = figures(distance, made_of(true, enlarging(model)), true)
        keep(
            recipe,
            trained,
            about="×4, Set5 (Y, borders cut) and 25 held-out photographs, after 100 photographs of BSDS500; FID of patches of 32 pixels",
            figures=figures(distance, made, true),
            baselines=others,
            picture=picture(enlarged["set5"], made["set5"], true["set5"]),
        )


def made_of(true: Sets, enlarge: Callable[[Tensor], Tensor]) -> Sets:
    """What comes of the shrunk images, rounded to bytes."""
    return {name: [as_bytes(enlarge(shrink(each, SCALE))) for each in images] for name, images in true.items()}


def enlarging(model: Any) -> Callable[[Tensor], Tensor]:
    """A trained generator as a function."""
    return lambda small: model.translate(Batch(source=small))["data"]


def figures(distance: PatchDistance, made: Sets, true: Sets) -> dict[str, float]:
    """PSNR and SSIM of the luma, and distances of patches."""
    found = {}
    for name, images in true.items():
        pairs = [(luma(ours), luma(theirs)) for ours, theirs in zip(made[name], images, strict=True)]
        found[f"{name}_psnr"] = float(torch.cat([psnr(*each) for each in pairs]).mean())
        found[f"{name}_ssim"] = float(torch.cat([ssim(*each) for each in pairs]).mean())
        found[f"{name}_fid"] = distance(made[name], images)
    return found


def luma(image: Tensor) -> Tensor:
    """Y of an image in [-1, 1], in [0, 1], without the outermost pixels."""
    y = ((image + 1) / 2 * LUMA).sum(1, keepdim=True) + 16 / 255
    return y[..., SCALE:-SCALE, SCALE:-SCALE]


def picture(enlarged: list[Tensor], made: list[Tensor], true: list[Tensor]) -> Image.Image:
    """The middle of each image: bicubic, made, true."""
    columns = {"bicubic": enlarged, "made": made, "true": true}
    return rows({name: torch.cat([middle(each) for each in images]) for name, images in columns.items()})


def middle(image: Tensor, size: int = 128) -> Tensor:
    """A square from the middle."""
    top, left = ((side - size) // 2 for side in image.shape[2:])
    return image[..., top : top + size, left : left + size]


if __name__ == "__main__":
    main()
