"""Several outputs for one input: BicycleGAN on edges of flowers, MUNIT between roses and sunflowers, the style of a hand.

    python benchmarks/translation/several.py --data FOLDER [--only bicyclegan,munit,style] [--share 1]

FOLDER holds flowers.zip (five classes of 128×128) and bsds500 (100 + 25 photographs of 481×321). Of each, images that were
not trained on are translated, and set against plain baselines. There are no paintings here: the works of the style are
photographs, others than those it is learnt for, printed by a procedure in five inks (`printed`). --share shortens all trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from common import arguments, evaluate, keep, linked, train, unpacked
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import sparring
from sparring.core.game import Batch
from sparring.domains import open_domain
from sparring.domains.translation.data import TranslationOptions, open_translation
from sparring.imaging.features.classifier import open_classifier
from sparring.imaging.show import sheet, to_uint8
from sparring.metrics.output_diversity import feature_distance, output_diversity, sample_diversity
from sparring.metrics.structure import ms_ssim, ssim
from sparring.trained import Trained as Player

SIZE = 64
SHOWN = 12_000  # images, in the training of classifiers
OUTPUTS = 6  # of each input
FEW = 32  # pixels a side of roses and sunflowers, whose files have no finer detail
HELD_OUT = 100
MACHINE = ("machine.precision=32", "machine.compile=false", "machine.channels_last=false", "machine.threads=1")
INKS = ((27, 26, 46), (120, 44, 62), (205, 92, 60), (238, 180, 98), (247, 234, 205))


def edges(
    picture: NDArray[np.uint8], *, deviation: float = 1.0, strong: float = 0.85, weak: float = 0.4
) -> NDArray[np.uint8]:
    """Edges (Canny 1986) of an image (H, W, 3), white on black, (H, W): ridges of the slope, weak ones where they meet strong ones.

    strong: the share of the image whose slope is less than a strong edge's. weak: of a weak edge, as a share of a strong one's.
    """
    grey = ndimage.gaussian_filter(picture.astype(np.float64).mean(2) / 255, deviation)
    down, right = (ndimage.sobel(grey, axis) / 4 for axis in (0, 1))
    slope = np.hypot(down, right)
    ridge = np.zeros(slope.shape, bool)
    angle = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    padded = np.pad(slope, 1)
    height, width = slope.shape
    for number, (y, x) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        before, after = (padded[1 + s * y :][:height, 1 + s * x :][:, :width] for s in (-1, 1))
        ridge |= (angle == number) & (slope >= before) & (slope > after)
    high = np.quantile(slope, strong)
    labels, _ = ndimage.label(ridge & (slope > weak * high), np.ones((3, 3)))
    kept = np.unique(labels[ridge & (slope > high)])
    return (np.isin(labels, kept[kept > 0]) * 255).astype(np.uint8)


def printed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photograph (H, W, 3) as a print: flat areas in five inks by their brightness, dark outlines."""
    flat = ndimage.median_filter(picture.astype(np.float64).mean(2), 7)
    tones = np.digitize(flat, np.quantile(flat, (0.15, 0.4, 0.65, 0.88)))
    inked = np.asarray(INKS, np.uint8)[tones]
    outline = edges(picture, deviation=1.6, strong=0.92, weak=0.5) > 0
    inked[ndimage.binary_dilation(outline)] = INKS[0]
    return inked


def small(file: Path, size: int = SIZE) -> NDArray[np.uint8]:
    """The picture in a file, (size, size, 3)."""
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))


def drawn_flowers(flowers: Path, out: Path) -> dict[str, Path]:
    """Pairs of edges and photographs of 64×64: 100 to test on, chosen evenly from all, the rest to train on."""
    files = sorted(flowers.glob("flowers/*/*.jpg"))
    tested = set(files[:: len(files) // HELD_OUT][:HELD_OUT])
    for part in ("train", "test"):
        if (out / part).exists():
            continue
        for side in ("edge", "photo"):
            (out / f".{part}" / side).mkdir(parents=True, exist_ok=True)
        for file in files:
            if (file in tested) != (part == "test"):
                continue
            name = f"{file.parent.name}-{file.stem}.png"
            picture = small(file)
            Image.fromarray(picture).save(out / f".{part}" / "photo" / name)
            Image.fromarray(edges(picture)).save(out / f".{part}" / "edge" / name)
        (out / f".{part}").rename(out / part)
    return {part: out / part for part in ("train", "test")}


def two_kinds(flowers: Path, out: Path) -> dict[str, Path]:
    """Roses and sunflowers, the last 50 of each to test on."""
    for kind in ("rose", "sunflower"):
        files = sorted(flowers.glob(f"flowers/{kind}/*.jpg"))
        linked(out / "train" / kind, files[:-50])
        linked(out / "test" / kind, files[-50:])
    return {part: out / part for part in ("train", "test")}


def photographs_and_prints(data: Path, out: Path) -> dict[str, Path]:
    """Every other training photograph is printed, so no print is of a photograph that is trained on. Of test images both are there."""
    for part, files in (
        (part, sorted((data / "bsds500" / "images" / part).glob("*.jpg"))) for part in ("train", "test")
    ):
        photographs = linked(out / part / "photograph", files if part == "test" else files[::2]).parent
        prints = photographs / "print"
        if not prints.exists():
            (part_way := photographs / ".print").mkdir()
            for file in files if part == "test" else files[1::2]:
                with Image.open(file) as picture:
                    Image.fromarray(printed(np.asarray(picture.convert("RGB")))).save(part_way / f"{file.stem}.png")
            part_way.rename(prints)
    return {part: out / part for part in ("train", "test")}


def read(folder: Path, size: int = SIZE, *, input_channels: int = 3) -> Batch:
    """All rows of a folder of two sides, at size×size."""
    data = open_translation(
        TranslationOptions(source=str(folder), size=size, fit="stretch", input_channels=input_channels)
    )
    return data.batch(torch.arange(len(data)), augment=False)


def classifier(folder: Path, size: int = SIZE) -> Callable[[Batch], Batch]:
    """Features and logits of a network that was trained on the classes of a folder, images in folders of their class."""
    domain = open_domain("image")
    data = domain.open_data(domain.resolve_data({"source": str(folder), "size": size, "channels": 3}))
    return open_classifier(data, samples=SHOWN)


def several(trained: Player, given: Batch, count: int = OUTPUTS, **options: str) -> torch.Tensor:
    """(count, N, C, H, W): an output of each input for each of the seeds 0, 1, …"""
    return torch.stack([trained.translate(given, seed=seed, **options)["data"] for seed in range(count)])


def unlike(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """1 − MS-SSIM of images in [-1, 1], (N,)."""
    return 1 - ms_ssim(*(to_uint8(each).float() / 255 for each in (one, other)))


def alike(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean SSIM of the brightness of images in [-1, 1]."""
    grey = (to_uint8(each).float().mean(1, keepdim=True) / 255 for each in (one, other))
    return float(ssim(*grey).mean())


def best(made: torch.Tensor, real: torch.Tensor) -> float:
    """Mean over inputs of the largest SSIM that one of its outputs has with the target; made: (K, N, …)."""
    targets = to_uint8(real).float() / 255
    return float(torch.stack([ssim(to_uint8(each).float() / 255, targets) for each in made]).amax(0).mean())


def columns(names: Sequence[str], images: Sequence[torch.Tensor], rows: int = 6) -> Image.Image:
    """A row an input."""
    shown = [to_uint8(each[:rows]).expand(-1, 3, -1, -1) for each in images]
    return sheet(torch.stack(shown, 1).flatten(0, 1), columns=len(shown), headings=list(names))


def bicyclegan(data: Path, out: Path, steps: int, seed: int) -> None:
    """Edges of flowers to flowers, beside pix2pix, whose noise is dropout, and beside pix2pix with a drawn code."""
    parts = drawn_flowers(unpacked(data / "flowers.zip", out / "flowers"), out / "drawn-flowers")
    given = read(parts["test"], input_channels=1)
    features = classifier(parts["train"] / "photo")
    sets = ("data.input_channels=1", *MACHINE)
    like = (*sets, "model.generator.width=24", "model.discriminator.width=24", "train.batch_size=2")
    code = ("model.generator.code=8", "model.generator.dropout=0")
    runs = {
        "bicyclegan": train(out / "bicyclegan", "bicyclegan", parts["train"], steps=steps, sets=sets, seed=seed),
        "pix2pix (dropout)": train(
            out / "pix2pix-dropout", "pix2pix", parts["train"], steps=steps, sets=like, seed=seed
        ),
        "pix2pix (code)": train(
            out / "pix2pix-code", "pix2pix", parts["train"], steps=steps, sets=(*like, *code), seed=seed
        ),
    }
    figures, made = {}, {}
    for name, each in runs.items():
        made[name] = several(sparring.load(each.run), given)
        figures[name] = {
            "diversity": output_diversity(made[name], unlike),
            "in features": output_diversity(made[name], feature_distance(features)),
            "best ssim": best(made[name], given["data"]),
            **evaluate(each.run, parts["test"], ["fid", "ssim"]),
            "minutes": round(each.minutes, 2),
        }
    figures["photographs"] = {
        "diversity": sample_diversity(given["data"], unlike),
        "in features": sample_diversity(given["data"], feature_distance(features)),
    }
    picture = columns(
        ["input", *(f"seed {number}" for number in range(OUTPUTS)), "photograph"],
        [given["source"], *made["bicyclegan"], given["data"]],
        rows=8,
    )
    keep(
        "bicyclegan",
        runs["bicyclegan"],
        about=f"edges of flowers to flowers, 64×64: {HELD_OUT} held-out pairs, {OUTPUTS} outputs of each; diversity: 1 − MS-SSIM "
        "of two outputs of one input (of two photographs in the last row), in features: their distance for the classifier",
        figures=figures.pop("bicyclegan"),
        baselines=figures,
        picture=picture,
    )


def munit(data: Path, out: Path, steps: int, seed: int) -> None:
    """Roses to sunflowers and back."""
    parts = two_kinds(unpacked(data / "flowers.zip", out / "flowers"), out / "two-kinds")
    given = read(parts["test"], FEW)
    features = classifier(parts["train"], FEW)
    trained = train(out / "munit", "munit", parts["train"], steps=steps, sets=MACHINE, seed=seed)
    player = sparring.load(trained.run)
    figures: dict[str, float] = {}
    rows: list[torch.Tensor] = []
    for label, start, goal, number in (("a2b", "source", "data", 1), ("b2a", "data", "source", 0)):
        made = several(player, given, label=label)
        figures |= {
            f"{label} diversity": output_diversity(made, unlike),
            f"{label} taken for the other": share(features, made.flatten(0, 1), number),
            f"{label} ssim to input": alike(made.flatten(0, 1), given[start].repeat(OUTPUTS, 1, 1, 1)),
        }
        guided = [
            player.translate(Batch({**given, "style": given[goal][row : row + 1]}), label=label)["data"]
            for row in (3, 7)
        ]
        rows.append(torch.stack([given[start], *made[:5], *guided], 1)[:4])
    unchanged = {
        f"{label} {what}": value
        for label, start, number in (("a2b", "source", 1), ("b2a", "data", 0))
        for what, value in (
            ("diversity", 0.0), ("taken for the other", share(features, given[start], number)), ("ssim to input", 1.0)
        )
    }  # fmt: skip
    real = {
        f"{label} {what}": value
        for label, goal, number in (("a2b", "data", 1), ("b2a", "source", 0))
        for what, value in (
            ("diversity", sample_diversity(given[goal], unlike)),
            ("taken for the other", share(features, given[goal], number)),
            ("ssim to input", alike(given[goal], given["source" if goal == "data" else "data"])),
        )
    }
    shown = torch.cat(rows)
    headings = ["input", *(f"drawn {number}" for number in range(5)), "style of one", "of another"]
    keep(
        "munit",
        trained,
        about=f"roses (a) to sunflowers (b) and back, 32×32: 50 held-out images of each, {OUTPUTS} outputs of each image",
        figures=figures,
        baselines={"unchanged": unchanged, "photographs of the other": real},
        picture=sheet(to_uint8(shown.flatten(0, 1)), columns=shown.shape[1], headings=headings),
    )


def share(features: Callable[[Batch], Batch], images: torch.Tensor, number: int) -> float:
    """The share of images that the classifier takes for class `number`."""
    return float((features(Batch(data=images))["logits"].argmax(1) == number).float().mean())


def style(data: Path, out: Path, steps: int, seed: int) -> None:
    """Photographs to prints."""
    parts = photographs_and_prints(data, out / "prints")
    features = classifier(patches(parts["train"], out / "print-patches"))
    trained = train(
        out / "style", "style", parts["train"], steps=steps, sets=(*MACHINE, "data.layout=sides"), seed=seed
    )
    player = sparring.load(trained.run)
    found: dict[str, list[torch.Tensor]] = {
        "photograph": [],
        "style": [],
        "unchanged": [],
        "colours moved": [],
        "print": [],
    }
    works = torch.cat([as_batch(file).flatten(2) for file in sorted((parts["train"] / "print").iterdir())], 2)
    for file in sorted((parts["test"] / "photograph").iterdir()):
        photograph = as_batch(file)
        found["photograph"].append(photograph)
        found["unchanged"].append(photograph)
        found["colours moved"].append(recoloured(photograph, works))
        found["style"].append(player.translate(Batch(source=photograph))["data"])
        found["print"].append(as_batch(parts["test"] / "print" / f"{file.stem}.png"))
    figures: dict[str, dict[str, float]] = {}
    for name in ("style", "unchanged", "colours moved", "print"):
        cut = torch.cat([tiles(each) for each in found[name]])
        figures[name] = {
            "taken for a print": share(features, cut, 1),
            "ssim to photograph": float(
                np.mean([alike(a, b) for a, b in zip(found[name], found["photograph"], strict=True)])
            ),
            "ssim to print": float(np.mean([alike(a, b) for a, b in zip(found[name], found["print"], strict=True)])),
            "features from print": float(
                np.mean(
                    [
                        float(feature_distance(features)(tiles(a), tiles(b)).mean())
                        for a, b in zip(found[name], found["print"], strict=True)
                    ]
                )
            ),
        }
    wide = [number for number, each in enumerate(found["print"]) if each.shape[3] > each.shape[2]][:4]
    shown = [torch.cat([found[name][number] for number in wide]) for name in ("photograph", "style", "print")]
    keep(
        "style",
        trained,
        about="photographs to prints, learnt from 50 photographs and prints of 50 others by a procedure in five inks, in crops of "
        "64×64: 25 held-out photographs of 481×321, whole; the classifier sees tiles of 64×64",
        figures=figures.pop("style"),
        baselines={
            "unchanged": figures["unchanged"],
            "colours moved": figures["colours moved"],
            "the procedure": figures["print"],
        },
        picture=columns(["photograph", "style", "the procedure"], shown),
    )


def as_batch(file: Path) -> torch.Tensor:
    """(1, 3, H, W) in [-1, 1]."""
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def recoloured(photograph: torch.Tensor, works: torch.Tensor) -> torch.Tensor:
    """With the mean and deviation of each channel of the works (after Reinhard et al. 2001, in RGB). works: (1, 3, pixels)."""
    deviation, mean = torch.std_mean(photograph, (2, 3), keepdim=True)
    wanted, middle = torch.std_mean(works, 2, keepdim=True)
    return ((photograph - mean) / deviation * wanted[..., None] + middle[..., None]).clamp(-1, 1)


def tiles(image: torch.Tensor) -> torch.Tensor:
    """The whole tiles of 64×64 of an image, (N, 3, 64, 64)."""
    return image.unfold(2, SIZE, SIZE).unfold(3, SIZE, SIZE).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def patches(sides: Path, out: Path) -> Path:
    """The tiles of the training images, in a folder a kind."""
    for kind in ("photograph", "print"):
        if (out / kind).exists():
            continue
        (out / f".{kind}").mkdir(parents=True)
        for file in sorted((sides / kind).iterdir()):
            for number, tile in enumerate(to_uint8(tiles(as_batch(file)))):
                Image.fromarray(tile.permute(1, 2, 0).numpy()).save(out / f".{kind}" / f"{file.stem}-{number}.png")
        (out / f".{kind}").rename(out / kind)
    return out


PARTS: dict[str, tuple[Callable[[Path, Path, int, int], None], int]] = {
    "bicyclegan": (bicyclegan, 1500),
    "munit": (munit, 2000),
    "style": (style, 3000),
}
"""Name → what it does, and for how many steps it trains."""


def main() -> None:
    """Train, measure and keep each that is asked for."""
    options = arguments(__doc__, only=",".join(PARTS), share=1.0)
    torch.set_num_threads(1)
    for name in options.only.split(","):
        part, steps = PARTS[name]
        part(options.data, options.out, round(steps * options.share), options.seed)


if __name__ == "__main__":
    main()
