"""What the benchmarks on brain MRI share: slices of one size, and splits that keep pictures of one slice on one side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ALIKE = 0.95  # correlation at 24 pixels from which two pictures count as the same one: copies, other sizes, neighbours
NO_BRAINS = ("Y248.JPG", "No16.jpg")  # an abdomen; a picture that is mostly white frame


def read_brains(folder: Path, size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[str]]:
    """Slices float32 (N, size, size) in [0, 1] of `no/` and `yes/`, whether there is a tumour (N,), and their names.

    Pictures are of all sizes and modes: made grey, cut to the box of what is not background, put in a square on black
    and scaled, their 99.5 % percentile white.
    """
    images, tumour, names = [], [], []
    for kind in ("no", "yes"):
        for file in sorted((folder / kind).iterdir()):
            if file.name in NO_BRAINS:
                continue
            with Image.open(file) as opened:
                images.append(_slice(np.asarray(opened.convert("L"), np.float32) / 255, size))
            tumour.append(kind == "yes")
            names.append(f"{kind}/{file.name}")
    return np.stack(images), np.array(tumour), names


def groups_of(images: NDArray[np.float32]) -> NDArray[np.int64]:
    """A number for each image, the same for those that are alike, or alike to one that is alike, …: the set has copies."""
    small = np.stack([np.asarray(Image.fromarray(each).resize((24, 24), Image.Resampling.BOX)) for each in images])
    rows = small.reshape(len(small), -1)
    rows = rows - rows.mean(1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9
    mirrored = rows.reshape(small.shape)[:, :, ::-1].reshape(rows.shape)
    alike = (np.maximum(rows @ rows.T, rows @ mirrored.T)) > ALIKE
    groups = np.arange(len(images))
    for _ in range(len(images)):
        joined = np.where(alike, groups[None], len(images)).min(1)
        if (joined == groups).all():
            break
        groups = joined
    return groups


def split(groups: NDArray[np.int64], held_out: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the images to train on and of those held out, whole groups on one side."""
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    counts = np.cumsum([np.count_nonzero(groups == each) for each in order])
    out = order[counts <= held_out * len(groups)]
    held = np.isin(groups, out)
    return np.flatnonzero(~held), np.flatnonzero(held)


def save_slices(folder: Path, images: NDArray[np.float32], names: Sequence[str]) -> Path:
    """As grey PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for image, name in zip(images, names, strict=True):
        Image.fromarray(np.rint(image * 255).clip(0, 255).astype(np.uint8)).save(
            folder / f"{Path(name).stem.replace(' ', '')}.png"
        )
    return folder


def _slice(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    inside = image > max(0.08, 0.25 * float(np.percentile(image, 95)))
    rows, columns = np.flatnonzero(inside.mean(1) > 0.03), np.flatnonzero(inside.mean(0) > 0.03)
    if len(rows) and len(columns):
        image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(image.shape)
    square = np.zeros((side, side), np.float32)
    top, left = (side - image.shape[0]) // 2, (side - image.shape[1]) // 2
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    inner = size - 4  # a little background on all sides
    small = np.asarray(Image.fromarray(square).resize((inner, inner), Image.Resampling.LANCZOS))
    framed = np.pad(small, 2)
    return (framed / max(1e-3, float(np.percentile(framed, 99.5)))).clip(0, 1).astype(np.float32)
