"""Lesions that are painted: does a classifier of few real images learn more from them?

Brain MRI (brain_mri), 64×64. The set says which slices have a tumour; where it is, it does not say. Masks are derived: of
what is inside the head the largest part that is brighter than the tissue around it and than the other side of the head,
see `tumour_mask`; they were looked at, and those in `PLAUSIBLE` follow what the eye takes for the tumour (an amateur's eye).

For each of three seeds: 30 slices with such a mask and 30 without a tumour to learn from, all other slices held out (one of
each group of pictures alike). The recipe `lesion` learns from the 60; then 120 lesions are painted into the healthy ones.
A small convolutional classifier of tumour or none, judged by the labels of the set, learns from

    real       the 60 slices
    painted    and the 120 painted ones
    pasted     or, instead of these, 120 into which a real lesion was laid with the same feathered edge: no network at all

with flips, shifts and changes of contrast, each twice from other first weights, whose probabilities are averaged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from brains import groups_of, read_brains, save_slices
from common import Trained, arguments, keep, train
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

import sparring
from sparring.core.game import Batch
from sparring.domains.translation.games.lesion import feathered
from sparring.domains.translation.show import comparison

SIZE, FEW, PAINTED, SEEDS, REPEATS = 64, 30, 120, 3, 2
FEATHER = 3
PLAUSIBLE = (
    1, 3, 4, 7, 11, 13, 14, 16, 18, 19, 20, 21, 22, 23, 24, 28, 29, 31, 35, 36, 39, 40, 41, 42, 44, 45, 46, 51, 52, 53, 56, 58,
    66, 67, 81, 82, 86, 90, 96, 97, 99, 100, 102, 103, 104, 106, 107, 113, 115, 154, 155, 157, 158, 160, 161, 165, 166, 168, 184,
    187, 192, 193, 194, 195, 242, 243, 245, 249, 250, 252, 254, 255, 256,
)  # fmt: skip
"""Numbers of the pictures (`Y1.jpg`, …) whose derived mask was taken; one of each group of pictures alike."""
PLAIN = ("machine.precision=32", "machine.compile=false", "machine.channels_last=false", "machine.threads=1")


def main() -> None:
    options = arguments(__doc__, steps=800)
    images, tumour, names = read_brains(options.data / "brain_mri", SIZE)
    groups = groups_of(images)
    found: dict[str, list[float]] = {"real": [], "painted": [], "pasted": []}
    shown: tuple[Trained, Any] | None = None
    for seed in range(options.seed, options.seed + SEEDS):
        parts = divide(tumour, names, groups, seed)
        masks = np.stack([tumour_mask(images[each]) for each in parts["lesion"]])
        data = options.out / f"lesion-{seed}"
        if not data.exists():
            save_slices(data / "healthy", images[parts["healthy"]], [names[each] for each in parts["healthy"]])
            save_slices(data / "mask", masks.astype(np.float32), [names[each] for each in parts["lesion"]])
            save_slices(data / "lesion", images[parts["lesion"]], [names[each] for each in parts["lesion"]])
        run = options.out / f"lesion-{options.steps}-{seed}"
        trained = train(run, "lesion", data, steps=options.steps, sets=(*PLAIN, "train.batch_size=4"), seed=seed)
        lesion, healthy = (torch.from_numpy(images[parts[kind]])[:, None] * 2 - 1 for kind in ("lesion", "healthy"))
        into, regions, sources = places(healthy, torch.from_numpy(masks)[:, None].float(), seed)
        painted = sparring.load(run).translate(Batch(source=into, mask=regions), seed=seed, label="add")["data"]
        sets = {
            "real": torch.cat([lesion]),
            "painted": torch.cat([lesion, painted]),
            "pasted": torch.cat([lesion, pasted(into, regions, sources(lesion))]),
        }
        held = torch.from_numpy(images[parts["test"]])[:, None] * 2 - 1
        for name, positives in sets.items():
            scores = [classify(positives, healthy, held, 10 * seed + repeat) for repeat in range(REPEATS)]
            found[name].append(float(roc_auc_score(tumour[parts["test"]], np.mean(scores, axis=0))))
            print(f"seed {seed}: {name} {found[name][-1]:.4f}", flush=True)
        if shown is None:
            shown = trained, sheet(run, into, regions, lesion, torch.from_numpy(masks)[:, None].float())
    assert shown is not None
    keep(
        "lesion",
        shown[0],
        about=f"AUC of a classifier of tumour or none on held-out brain MRI (brain_mri, 64×64; {FEW} slices with and {FEW} "
        f"without to learn from, {PAINTED} lesions painted), mean ± s.d. of {SEEDS} splits",
        figures=summary(found["painted"], found["real"]),
        baselines={
            "real slices alone": summary(found["real"]),
            "lesions pasted": summary(found["pasted"], found["real"]),
        },
        picture=shown[1],
    )


def divide(
    tumour: NDArray[np.bool_], names: list[str], groups: NDArray[np.int64], seed: int
) -> dict[str, NDArray[np.int64]]:
    """Numbers of the slices to learn from, `lesion` and `healthy`, and of those held out: one of each group."""
    first = np.unique(groups, return_index=True)[1]
    usable = np.array([name.split("/Y")[-1].split(".")[0] in map(str, PLAUSIBLE) for name in names])
    of_masks = {int(groups[each]): int(each) for each in np.flatnonzero(tumour & usable)}
    rng = np.random.default_rng(seed)
    lesion = np.array([of_masks[each] for each in rng.permutation(sorted(of_masks))[:FEW]])
    healthy = rng.permutation(first[~tumour[first]])[:FEW]
    taken = np.isin(groups, groups[np.concatenate([lesion, healthy])])
    return {"lesion": lesion, "healthy": healthy, "test": first[~taken[first]]}


def tumour_mask(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """A region (H, W) of a slice in [0, 1] that may be a tumour; empty where nothing stands out.

    Brighter by 1.5 robust standard deviations and 0.05 than the median inside the head, and by 0.08 than the place
    mirrored at the head's middle; opened, the largest piece, closed and filled, and a pixel more on all sides.
    """
    none = np.zeros(image.shape, bool)
    head = _largest(ndimage.binary_opening(image > 0.12))
    if not head.any():
        return none
    head = ndimage.binary_fill_holes(head)
    inner = image[ndimage.binary_erosion(head, iterations=6)]
    if len(inner) < 200:
        return none
    median = np.median(inner)
    spread = 1.4826 * np.median(np.abs(inner - median))
    columns = np.flatnonzero(head.any(0))
    mirrored = (columns[0] + columns[-1] - np.arange(image.shape[1])).clip(0, image.shape[1] - 1)
    smooth = ndimage.gaussian_filter(image, 1.5)
    bright = (ndimage.gaussian_filter(image, 0.7) > median + 1.5 * spread + 0.05) & (
        smooth - smooth[:, mirrored] > 0.08
    )
    piece = _largest(ndimage.binary_opening(bright & ndimage.binary_erosion(head, iterations=3)))
    closed = ndimage.binary_closing(np.pad(piece, 4), iterations=3)[4:-4, 4:-4]
    mask = ndimage.binary_dilation(ndimage.binary_fill_holes(closed))
    return mask if piece.any() and 16 <= mask.sum() <= 700 else none


def places(healthy: Tensor, masks: Tensor, seed: int) -> tuple[Tensor, Tensor, Any]:
    """Healthy slices (120, 1, H, W), where in each a lesion shall be (of a real one, perhaps mirrored), and whose it is.

    Only places of which nine tenths are in the head: brighter than background after filling.
    """
    rng = np.random.default_rng(seed + 1000)
    heads = [ndimage.binary_fill_holes(_largest(ndimage.binary_opening(each[0].numpy() > -0.76))) for each in healthy]
    heads = [ndimage.binary_erosion(each, iterations=3) for each in heads]
    into, regions, chosen, turned = [], [], [], []
    while len(into) < PAINTED:
        number, mask, flip = len(into) % len(healthy), int(rng.integers(len(masks))), bool(rng.integers(2))
        region = masks[mask].flip(-1) if flip else masks[mask]
        if (region[0].numpy() * heads[number]).sum() < 0.9 * float(region.sum()) and rng.random() < 0.98:
            continue
        into.append(healthy[number])
        regions.append(region)
        chosen.append(mask)
        turned.append(flip)

    def sources(lesions: Tensor) -> Tensor:
        return torch.stack(
            [lesions[mask].flip(-1) if flip else lesions[mask] for mask, flip in zip(chosen, turned, strict=True)]
        )

    return torch.stack(into), torch.stack(regions), sources


def pasted(into: Tensor, regions: Tensor, sources: Tensor) -> Tensor:
    """Lesions as they are, laid over healthy slices by the feathered mask."""
    cover = feathered(regions, FEATHER)
    return into * (1 - cover) + sources * cover


def classify(positives: Tensor, negatives: Tensor, held: Tensor, seed: int, steps: int = 250) -> NDArray[np.float64]:
    """Train on slices (N, 1, H, W) with and without a tumour, half of each in a batch; probabilities of the held-out ones."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU()]
    for before, after in ((16, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    real = min(FEW, len(positives))
    for _ in range(steps):
        # Half of the positives of a batch are real, whatever there is beside them.
        some = torch.randint(real, (8,))
        if len(positives) > real:
            some[4:] = torch.randint(real, len(positives), (4,))
        batch = changed(torch.cat([positives[some], negatives[torch.randint(len(negatives), (8,))]]))
        target = torch.cat([torch.ones(8), torch.zeros(8)])
        loss = F.binary_cross_entropy_with_logits(network(batch)[:, 0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        both = torch.sigmoid(network(held)[:, 0]) + torch.sigmoid(network(held.flip(-1))[:, 0])
    return (both / 2).double().numpy()


def changed(images: Tensor) -> Tensor:
    """Mirrored half of the time, shifted, turned and scaled a little, with another contrast and brightness."""
    count = len(images)
    angle, scale = (torch.rand(count) - 0.5) * 0.4, 1 + (torch.rand(count) - 0.5) * 0.2
    mirror = torch.randint(2, (count,)) * 2.0 - 1
    shift = (torch.rand(count, 2) - 0.5) * 0.2
    rows = torch.stack(
        [
            torch.stack([mirror * angle.cos() * scale, -angle.sin() * scale, shift[:, 0]], 1),
            torch.stack([mirror * angle.sin() * scale, angle.cos() * scale, shift[:, 1]], 1),
        ],
        1,
    )
    moved = F.grid_sample(images + 1, F.affine_grid(rows, list(images.shape), align_corners=False), align_corners=False)
    contrast, gamma = 1 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.4, 1 + (torch.rand(count, 1, 1, 1) - 0.5) * 0.5
    return (contrast * 2 * (moved / 2).clamp(1e-4, 1) ** gamma).clamp(0, 2) - 1


def summary(values: list[float], beside: list[float] | None = None) -> dict[str, Any]:
    """Mean and standard deviation, and the differences from `beside`, seed by seed."""
    figures: dict[str, Any] = {"auc": float(np.mean(values)), "s.d.": float(np.std(values, ddof=1))}
    if beside is not None:
        figures["differences"] = " ".join(f"{one - other:+.3f}" for one, other in zip(values, beside, strict=True))
    return figures


def sheet(run: Path, into: Tensor, regions: Tensor, lesion: Tensor, masks: Tensor) -> Image.Image:
    """Healthy slices, where a lesion shall be, lesions of two codes; then real ones and what is left when they are taken out."""
    game, rows = sparring.load(run), slice(0, 6)
    with_region = Batch(source=into[rows], mask=regions[rows])
    removed = game.translate(Batch(source=lesion[rows], mask=masks[rows]), label="remove")["data"]
    columns = {
        "healthy": into[rows],
        "region": regions[rows] * 2 - 1,
        **{f"added {seed}": game.translate(with_region, seed=seed, label="add")["data"] for seed in (1, 2)},
        "tumour": lesion[rows],
        "mask": masks[rows] * 2 - 1,
        "removed": removed,
    }
    return comparison(columns)


def _largest(parts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    numbers, count = ndimage.label(parts)
    if not count:
        return np.zeros(parts.shape, bool)
    found: NDArray[np.bool_] = numbers == 1 + np.argmax(ndimage.sum(parts, numbers, range(1, count + 1)))
    return found


if __name__ == "__main__":
    main()
