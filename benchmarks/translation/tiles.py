"""A photograph of 12 million pixels through a small generator, in tiles: memory, time, and whether seams show.

    python benchmarks/translation/tiles.py --data FOLDER [--run RUN] [--steps 800] [--out FOLDER]

Trains `pix2pix` with a residual generator, whose instance norms look at whole pictures and so make tiles differ, to bring
photographs of BSDS500 back from darkened grey. A held-out photograph is enlarged to 4000×3000 and translated by
`sparring translate` in a process of its own, whose peak memory is read. `seam` is `metrics.seams.seam_ratio` at the lines
where tiles give way to each other: 1 where nothing shows, across one pixel and across 32.
The same photograph at 1440×960 is translated whole as well, and in tiles in three ways.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from common import arguments, train
from PIL import Image

from sparring.domains.translation.inputs import inputs_of
from sparring.domains.translation.tiles import Grid
from sparring.domains.translation.whole import WholePictures
from sparring.metrics.seams import seam_ratio
from sparring.trained import load

LARGE, MEDIUM = (4000, 3000), (1440, 960)
SPANS = (1, 32)
SETS = (
    "data.layout=joined", "data.fit=patches", "data.size=64", "data.load=null", "model.generator={name: resnet, width: 16, blocks: 3}",
    "model.discriminator={name: patch, width: 16, field: 34, norm: instance}",
)  # fmt: skip


def main() -> None:
    """Train, translate, print."""
    options = arguments(__doc__, run="", steps=800)
    photos = sorted((options.data / "bsds500" / "images").rglob("*.jpg"))
    kept_back = [photo for photo in photos if "test" in photo.parts or "val" in photo.parts] or photos[-1:]
    if options.run:
        run = Path(options.run)
    else:
        learnt = [photo for photo in photos if photo not in kept_back]
        source = joined(learnt, options.out / "tiles-pairs")
        trained = train(options.out / "tiles-run", "pix2pix", source, steps=options.steps, sets=SETS, seed=options.seed)
        run = trained.run
        print(
            f"trained {options.steps} steps on {len(learnt)} photographs, {trained.minutes:.1f} minutes, seed {options.seed}"
        )
    photo = Image.open(next(each for each in kept_back if Image.open(each).width > Image.open(each).height))
    large = options.out / "tiles-input" / "large.png"
    large.parent.mkdir(parents=True, exist_ok=True)
    dark(photo).resize(LARGE, Image.Resampling.LANCZOS, box=four_to_three(photo)).save(large)
    measure_large(run, large, options.out / "tiles-output")
    compare_ways(run, dark(photo).resize(MEDIUM, Image.Resampling.LANCZOS))


def measure_large(run: Path, picture: Path, out: Path) -> None:
    """Translate in a process of its own, and read its peak memory."""
    command = [sys.executable, "-m", "sparring", "translate", str(run), str(picture), "--out", str(out), "--json"]
    start = time.perf_counter()
    process = subprocess.Popen([*command], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("`sparring translate` failed")
    whole = whole_pictures(run)
    stored = np.asarray(Image.open(picture))
    grid = whole.grid(stored)
    made = tensor(Image.open(out / picture.name))
    print(
        f"{LARGE[0]}×{LARGE[1]}: peak memory {usage.ru_maxrss / 2**20:.2f} GiB, {usage.ru_utime + usage.ru_stime:.0f} s of one core "
        f"({time.perf_counter() - start:.0f} s by the clock), {len(grid)} tiles of {grid.rows[0][1]}×{grid.columns[0][1]}; "
        + seams(made, grid)
        + f"; the input itself: {seams(tensor(Image.open(picture)), grid)}"
    )


def compare_ways(run: Path, picture: Image.Image) -> None:
    """The same picture whole and in tiles of 256, set against each other."""
    stored = np.asarray(picture)
    whole = whole_pictures(run, tile=0).translate(stored, 0)
    ways = {
        "as it is": whole_pictures(run, tile=256),
        "each tile its own statistics": whole_pictures(run, tile=256),
        "cut without overlap": whole_pictures(run, tile=256, overlap=0),
        "without overlap, own statistics": whole_pictures(run, tile=256, overlap=0),
    }
    for name, way in ways.items():
        if "own statistics" in name:
            way.norms = []
        made = way.translate(stored, 0)
        grid = way.grid(stored)
        difference = np.abs(made.astype(float) - whole).mean()
        print(
            f"{MEDIUM[0]}×{MEDIUM[1]} in {len(grid)} tiles, {name}: {difference:.3f} of 255 from the whole on average; "
            f"{seams(tensor(Image.fromarray(made)), grid)} (whole: {seams(tensor(Image.fromarray(whole)), grid)})"
        )


def whole_pictures(run: Path, tile: int | None = None, overlap: int | None = None) -> WholePictures:
    """As the verb makes them."""
    trained = load(run, device="cpu")
    inputs = inputs_of(trained.game, trained.spec)
    return WholePictures(
        trained.game, lambda given, seed: trained.translate(given, seed=seed), inputs, tile=tile, overlap=overlap
    )


def seams(picture: torch.Tensor, grid: Grid) -> str:
    """The ratio at the lines of a grid, for each span."""
    rows, columns = grid.seams
    found = {span: seam_ratio(picture, rows, columns, span=span, clear=2 * span) for span in SPANS}
    return "seam " + ", ".join(f"{value:.3f} across {span}" for span, value in found.items())


def joined(photos: list[Path], out: Path) -> Path:
    """Images that hold the darkened grey photograph and beside it the photograph itself."""
    out.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        image = Image.open(photo).convert("RGB")
        both = Image.new("RGB", (2 * image.width, image.height))
        both.paste(dark(image), (0, 0))
        both.paste(image, (image.width, 0))
        both.save(out / f"{photo.stem}.png")
    return out


def dark(image: Image.Image) -> Image.Image:
    """Grey, at half the brightness."""
    return image.convert("L").point(lambda value: value // 2).convert("RGB")


def four_to_three(image: Image.Image) -> tuple[float, float, float, float]:
    """The middle of a picture in the proportions 4:3."""
    width = min(image.width, image.height * 4 / 3)
    left = (image.width - width) / 2
    return left, 0, left + width, image.height


def tensor(image: Image.Image) -> torch.Tensor:
    """(C, H, W)."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)


if __name__ == "__main__":
    main()
