"""MedGAN on motion and undersampling of brain MRI: what it restores of slices that it was not trained on.

Pairs are made of real slices (brain_mri, both folders), as there are no free pairs of CT and MR: k-space of a slice is
put together of segments that were each acquired in another position of the head, a part of its outer lines is missing,
and the image is its magnitude. 64×64 pixels; slices that show the same picture are on one side of the split. Beside
MedGAN: the corrupted slices as they are, the same generator with the L1 loss alone, and pix2pix. A block of MedGAN's here
makes what is to be added to the slice (`model.generator.residual`), since most of a slice is right as it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from brains import groups_of, read_brains, save_slices, split
from common import arguments, keep, train
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

import sparring
from sparring.core.game import Batch
from sparring.domains.translation.data import TranslationOptions, open_translation
from sparring.domains.translation.show import comparison
from sparring.metrics.spectrum import spectrum_distance
from sparring.metrics.structure import psnr, ssim

SIZE = 64
SEGMENTS = 5  # of the acquisition, between which the head moves
DEGREES, PIXELS = 3.0, 1.2  # standard deviations of a movement's turn and shift
PLAIN = ("machine.precision=32", "machine.compile=false", "machine.channels_last=false", "machine.threads=1")
RESIDUAL = "model.generator.residual=true"
MISSING = 0.3  # of the lines outside the middle sixth


def main() -> None:
    options = arguments(__doc__, steps=800)
    images, _, names = read_brains(options.data / "brain_mri", SIZE)
    for part, numbers in zip(("train", "test"), split(groups_of(images), 0.2, options.seed), strict=True):
        folder = options.out / f"motion-{options.seed}" / part
        if folder.exists():
            continue
        rng = np.random.default_rng([options.seed, part == "test"])
        corrupted = np.stack([corrupt(images[each], rng) for each in numbers])
        save_slices(folder / "a", corrupted, [names[each] for each in numbers])
        save_slices(folder / "b", images[numbers], [names[each] for each in numbers])
    data = options.out / f"motion-{options.seed}"
    given = whole(data / "test")
    alone = ("loss.adversarial=0", "loss.matching=0", "loss.content=0", "loss.style=0")
    runs = {
        "MedGAN": ("medgan", (RESIDUAL,)),
        "the same generator, L1 alone": ("medgan", (RESIDUAL, *alone)),
        "pix2pix": ("pix2pix", ("data.size=64", "data.load=null", "data.channels=1", "train.batch_size=8")),
    }
    trained = {}
    for name, (recipe, sets) in runs.items():
        run = options.out / f"medical-{name.split()[0].lower().rstrip(',')}-{options.steps}-{options.seed}"
        trained[name] = train(run, recipe, data / "train", steps=options.steps, sets=(*sets, *PLAIN), seed=options.seed)
    made = {name: sparring.load(each.run).translate(given)["data"] for name, each in trained.items()}
    figures = {name: measures(each, given["data"]) for name, each in {"corrupted": given["source"], **made}.items()}
    for name, each in trained.items():
        figures[name]["minutes"] = round(each.minutes, 2)
    keep(
        "medgan",
        trained["MedGAN"],
        about=f"brain MRI with motion and {MISSING:.0%} of the outer lines missing, made of real slices (brain_mri, 64×64, "
        f"{count(data / 'train')} slices; {given.count} other slices held out)",
        figures=figures.pop("MedGAN"),
        baselines=figures,
        picture=picture(given, made),
    )


def corrupt(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A slice (H, W) in [0, 1] as a scanner would see a head that moves and lines that it leaves out.

    Lines are acquired from top to bottom, `SEGMENTS` of them in one position each; the middle one is the slice's own.
    """
    height = len(image)
    ends = np.sort(rng.choice(np.arange(4, height - 4), SEGMENTS - 1, replace=False))
    lines = np.zeros((height, height), np.complex128)
    middle = int(np.searchsorted(ends, height // 2, side="right"))
    for number, rows in enumerate(np.split(np.arange(height), ends)):
        turn, down, across = rng.normal(size=3) * (DEGREES, PIXELS, PIXELS) * (number != middle)
        moved = ndimage.shift(ndimage.rotate(image, turn, reshape=False, order=1), (down, across), order=1)
        lines[rows] = np.fft.fftshift(np.fft.fft2(moved))[rows]
    outer = np.abs(np.arange(height) - height // 2) > height / 12
    lines[outer & (rng.random(height) < MISSING)] = 0
    return np.abs(np.fft.ifft2(np.fft.ifftshift(lines))).clip(0, 1).astype(np.float32)


def whole(folder: Path) -> Batch:
    """All pairs of a folder, `source` and `data` (N, 1, H, W) in [-1, 1]."""
    pairs = open_translation(TranslationOptions(source=str(folder), channels=1))
    return pairs.batch(torch.arange(len(pairs)), augment=False)


def measures(made: Tensor, real: Tensor) -> dict[str, float]:
    """Mean PSNR in dB and SSIM, and the distance of the mean power spectra in dB, which blurring makes large."""
    ours, theirs = (((each.clamp(-1, 1) + 1) * 127.5).round() / 255 for each in (made, real))
    return {
        "psnr": float(psnr(ours, theirs).mean()),
        "ssim": float(ssim(ours, theirs).mean()),
        "spectrum": spectrum_distance(theirs, ours),
    }


def count(folder: Path) -> int:
    """Of pairs."""
    return len(list((folder / "a").iterdir()))


def picture(given: Batch, made: dict[str, Tensor]):  # type: ignore[no-untyped-def]
    """Six held-out slices in rows."""
    rows = torch.linspace(0, given.count - 1, 6).long()
    short = {"MedGAN": "medgan", "the same generator, L1 alone": "l1 alone", "pix2pix": "pix2pix"}
    columns = {
        "corrupted": given["source"],
        **{short[name]: each for name, each in made.items()},
        "real": given["data"],
    }
    return comparison({name: each[rows] for name, each in columns.items()})


if __name__ == "__main__":
    main()
