"""What `classifier` features are worth: accuracy, time, and what their Fréchet distance notices.

    python benchmarks/quality/classifier.py                                  the embedded digits
    python benchmarks/quality/classifier.py --mnist ../shared/data/mnist     MNIST as well (a folder of IDX files)
    python benchmarks/quality/classifier.py --smoke                          short trainings, half a minute

Networks are trained afresh and kept nowhere. Distances are between one half of (at most 10,000) real images and the
other half, changed; they are printed as multiples of the distance of the unchanged halves, the floor. A useful space
grows along every row. Beside it stand the pixels in [0, 1], those of MNIST averaged over 2×2.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.game import Batch
from sparring.domains.image.data import ImageData, ImageOptions, open_images
from sparring.imaging.features.classifier import open_classifier
from sparring.metrics.frechet import frechet_distance

MOST = 10_000
Space = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure both ways of training on each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", help="folder of MNIST's IDX files")
    parser.add_argument("--smoke", action="store_true", help="short trainings on the digits")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    samples = 6000 if options.smoke else None
    for source in ["digits", *([options.mnist] if options.mnist else [])]:
        data = open_images(ImageOptions(source=source))
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:MOST]
        halves = [data.batch(part, augment=False) for part in order.chunk(2)]
        print(f"\n{source}: {len(data)} images of {tuple(data.spec.shape)}, {len(data.spec.classes)} labels")
        report("pixels", pixels, *halves)
        for use_labels in (True, False):
            name, space = learn(data, use_labels, samples)
            report(name, space, *halves)


def learn(data: ImageData, use_labels: bool, samples: int | None) -> tuple[str, Space]:
    """Train, and say how long it took."""
    with tempfile.TemporaryDirectory() as folder:
        wall, work = time.perf_counter(), time.process_time()
        features = open_classifier(data, folder=Path(folder), use_labels=use_labels, samples=samples)
        wall, work = time.perf_counter() - wall, time.process_time() - work
    name = f"{features.name}: {wall:.0f} s, {work:.0f} s of processor time"
    return name, lambda images: features(Batch(data=images))["features"]


def report(name: str, space: Space, real: Batch, other: Batch) -> None:
    """The table of one space."""
    reference = space(real["data"])
    spectrum = torch.linalg.eigvalsh(torch.cov(reference.T.double())).clamp(min=0)
    nearest = torch.cdist(space(other["data"]), reference).topk(5, largest=False).indices
    agree = float((real["label"][nearest].mode(1).values == other["label"]).float().mean())
    floor = frechet_distance(reference, space(other["data"]))
    print(f"  {name}")
    print(
        f"    5 nearest neighbours {agree:.2%}; directions: {spectrum.sum() ** 2 / spectrum.square().sum():.1f} "
        f"effective, {int((spectrum > spectrum.max() / 100).sum())} above 1 % of the first; floor {floor:.4g}"
    )
    for change, images in changes(other).items():
        row = [frechet_distance(reference, space(changed)) / floor for changed in images]
        trend = "grows" if all(b > a for a, b in zip([1.0, *row], row, strict=False)) else "NOT MONOTONE"
        print(f"    {change:<42}" + "".join(f"{value:>9.3g}" for value in row) + f"   {trend}")


def changes(real: Batch) -> dict[str, list[Tensor]]:
    """What goes wrong with samples, in growing amounts."""
    images, labels = real["data"], real["label"]
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(images.shape, generator=generator)
    count, unit = int(labels.max()) + 1, max(images.shape[2:]) / 28

    def few(share: float) -> Tensor:
        kept = [(labels == label).nonzero()[:, 0] for label in range(count)]
        kept = [which[: max(1, round(share * len(which)))] for which in kept]
        return torch.cat([images[which.repeat(-(-len(images) // (count * len(which))))] for which in kept])

    drops = [label for label in (1, 2, 4, 6, 8) if label < count]
    return {
        "noise of 0.1 0.2 0.4 0.8": [(images + amount * noise).clamp(-1, 1) for amount in (0.1, 0.2, 0.4, 0.8)],
        f"blur of {' '.join(f'{unit * s:.2g}' for s in (1.5, 2, 3))} pixels": [
            blur(images, unit * s) for s in (1.5, 2, 3)
        ],
        f"labels missing: {' '.join(map(str, drops))}": [images[labels < count - drop] for drop in drops],
        "repeated share of each label: 20 5 2 1 %": [few(share) for share in (0.2, 0.05, 0.02, 0.01)],
    }


def blur(images: Tensor, deviation: float) -> Tensor:
    """Gaussian blur, edges repeated."""
    reach = max(1, int(3 * deviation))
    kernel = torch.exp(-((torch.arange(-reach, reach + 1) / deviation) ** 2) / 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, kernel, groups=images.shape[1])
    return F.conv2d(across, kernel.transpose(2, 3), groups=images.shape[1])


def pixels(images: Tensor) -> Tensor:
    """Flattened, in [0, 1]; at most 16 across."""
    small = F.avg_pool2d(images, 2) if images.shape[-1] > 16 else images
    return (small.flatten(1) + 1) / 2


if __name__ == "__main__":
    main()
