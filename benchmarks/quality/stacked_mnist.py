"""Stacked-MNIST: how many of 1,000 modes a recipe finds in a given time, and how evenly it visits them.

    python benchmarks/quality/stacked_mnist.py                       60 minutes with stacked-mnist.yaml
    python benchmarks/quality/stacked_mnist.py --minutes 5 --set train.optimizer.lr=1e-3
    python benchmarks/quality/stacked_mnist.py --measure RUN         the curve of a run that is there
    python benchmarks/quality/stacked_mnist.py --smoke               everything once, small, in a minute

The protocol (Srivastava et al. 2017, VEEGAN; the numbers as in Lin et al. 2018, PacGAN): an image of 28×28 has three
channels, each a random digit of MNIST's train images, so there are 10³ modes. 128,000 such images are trained on; no label
is used. 26,000 generated images are told apart, channel by channel, by a classifier of MNIST's digits. *Modes* are the
classes of three digits with at least one sample; *KL* is that of the classes' shares from the uniform distribution, in
nats. Real triples have a KL above 0 too, because they are finitely many: the floor, measured here with the same
classifier. *Channels* is the part of the KL that each channel's digits alone explain; the rest lies in how they go
together.

Samples come from the averaged weights. The curve is measured when the training is over, from its checkpoints, so that
evaluation is not on the clock; writing checkpoints and the record is.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

import sparring
from sparring.data.arrays import open_idx
from sparring.errors import UserError
from sparring.files import write_json, write_whole
from sparring.host import processor
from sparring.run import Run
from sparring.training.checkpoint import list_checkpoints

ROOT = Path(__file__).resolve().parents[2]
TRAIN, TEST = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
SEED = 0
PLACES = torch.tensor([100, 10, 1])  # three digits → the number of their class

PUBLISHED = (
    # method, modes, KL, where from
    ("DCGAN", "78.9", "4.50", "PacGAN table 2, 26k samples: 6.4 M images, two generator turns a step"),
    ("PacDCGAN2", "1000", "0.06", "the same"),
    ("PacDCGAN4", "1000", "0.07", "the same"),
    ("VEEGAN", "150", "2.95", "VEEGAN, 26k samples"),
    ("WGAN-GP", "959", "0.73", "literature table of R3GAN"),
    ("StyleGAN2", "940", "0.42", "the same"),
    ("PresGAN", "1000", "0.12", "the same"),
    ("DDGAN", "1000", "0.071", "the same"),
    ("R3GAN, small", "1000", "0.078", "ablation of R3GAN"),
    ("R3GAN", "1000", "0.029", "R3GAN: 10 M images, 7 hours on 8 L40"),
)


@dataclass(frozen=True)
class Scale:
    """How much of everything. epochs, accuracy: of the classifier, and the least that it must reach."""

    minutes: float
    triples: int = 128_000
    samples: int = 26_000
    points: int = 15
    epochs: int = 4
    accuracy: float = 0.99


SMOKE = Scale(minutes=0.15, triples=12_800, samples=2_000, points=2, epochs=1, accuracy=0.97)


@dataclass(frozen=True)
class Point:
    """The curve at one checkpoint."""

    step: int
    minutes: float
    images: int
    modes: int
    kl: float
    channels: float

    def line(self) -> str:
        """As a row of the table."""
        return f"{self.minutes:8.1f} {self.images:12,} {self.modes:6} {self.kl:8.4f} {self.channels:9.4f}"


def main() -> None:
    """Build what is missing, train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mnist", default=str(ROOT.parent / "shared" / "data" / "mnist"), help="folder of IDX .gz files"
    )
    parser.add_argument("--recipe", default=str(Path(__file__).with_name("stacked-mnist.yaml")))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the recipe")
    parser.add_argument("--precision", default="bf16", help="auto, 32, bf16, 16")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--points", type=int, default=15, help="of the curve")
    parser.add_argument("--out", help="run folder, a new one")
    parser.add_argument("--measure", metavar="RUN", help="train nothing")
    parser.add_argument("--smoke", action="store_true", help="a few seconds of training, few samples")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scale = SMOKE if options.smoke else Scale(options.minutes, points=options.points)
    try:
        race(options, scale)
    except UserError as error:
        sys.exit(f"stacked_mnist: {error}")


def race(options: argparse.Namespace, scale: Scale) -> None:
    """The benchmark with the options of the command line."""
    mnist = Path(options.mnist)
    home = os.environ.get("SPARRING_CACHE")
    cache = (Path(home) if home else Path.home() / ".cache" / "sparring") / "stacked-mnist"
    classifier = digit_classifier(mnist, cache, scale)
    folder = Path(options.measure) if options.measure else train(options, scale, stacked(mnist, cache, scale.triples))
    floor = real_floor(mnist, classifier, scale.samples)
    low, high = floor.mean(), floor.std(ddof=1)
    print(f"run: {folder}\nreal triples: KL {low:.4f} ± {high:.4f} with {scale.samples:,} samples (the floor)")
    print(f"\n{'minutes':>8} {'images':>12} {'modes':>6} {'KL':>8} {'channels':>9}")
    curve = []
    for point in measure(folder, classifier, scale.samples):
        curve.append(point)
        print(point.line(), flush=True)
    facts = {"samples": scale.samples, "floor": float(low), "curve": [asdict(point) for point in curve]}
    write_json(folder / "stacked_mnist.json", facts)
    print("\npublished")
    for name, modes, kl, source in PUBLISHED:
        print(f"  {name:14} modes {modes:>5}  KL {kl:>6}  {source}")


def train(options: argparse.Namespace, scale: Scale, data: Path) -> Path:
    """The run that the recipe leaves behind, with a checkpoint for each point of the curve."""
    keys = [f"train.minutes={scale.minutes}", "train.keep=1000", *options.set]
    common = {"data": str(data), "precision": options.precision}
    rehearsal = sparring.train(options.recipe, dry_run=True, quiet=True, set=keys, **common)
    every = max(1, round(scale.minutes * 60 / rehearsal.facts["seconds_per_step"] / scale.points))
    keys.append(f"train.checkpoint_every={every}")
    result = sparring.train(options.recipe, out=options.out, quiet=not sys.stderr.isatty(), set=keys, **common)
    print(
        f"{result.recipe}: {result.steps:,} steps in {result.seconds / 60:.1f} minutes, "
        f"{result.samples_per_second:,.0f} images/s in {result.precision}, parameters {result.facts['parameters']}, "
        f"{options.threads} thread(s) of {processor()}"
    )
    return Path(str(result.run))


def measure(folder: Path, classifier: nn.Module, samples: int) -> Iterator[Point]:
    """The curve's points, checkpoint by checkpoint."""
    for checkpoint in list_checkpoints(Run.open(folder).checkpoints):
        state = checkpoint.state()["state"]
        if state["step"]:
            trained = sparring.load(folder, checkpoint=checkpoint.step)
            batches = trained.generate(samples, seed=SEED, batch_size=500)
            digits = torch.cat([tell_stacks(classifier, batch["data"].clamp(-1, 1)) for batch in batches])
            yield Point(state["step"], state["seconds"] / 60, state["seen"], *coverage(digits))


def coverage(digits: Tensor) -> tuple[int, float, float]:
    """Of the digits of stacks (N, 3): how many of the 1,000 classes are there, KL(shares ‖ uniform) in nats, and the sum
    of the KLs of each channel's ten digits, which is a part of it.
    """
    found = torch.bincount(digits @ PLACES, minlength=1000)
    channels = sum(divergence(torch.bincount(digits[:, channel], minlength=10)) for channel in range(3))
    return int((found > 0).sum()), divergence(found), channels


def divergence(counts: Tensor) -> float:
    """KL of the shares of counts (K,) from the uniform distribution, in nats."""
    shares = counts[counts > 0].double() / counts.sum()
    return float((shares * (shares * len(counts)).log()).sum())


def real_floor(mnist: Path, classifier: nn.Module, samples: int, draws: int = 20) -> NDArray[np.float64]:
    """The KL of real triples as this classifier tells them: one value a draw of so many samples."""
    told = tell(classifier, images(mnist, TRAIN))
    rng = torch.Generator().manual_seed(SEED)
    choices = [torch.randint(len(told), (samples, 3), generator=rng) for _ in range(draws)]
    return np.array([divergence(torch.bincount(told[chosen] @ PLACES, minlength=1000)) for chosen in choices])


@torch.no_grad()
def tell(classifier: nn.Module, digits: Tensor) -> Tensor:
    """The digit that each image (N, 28, 28) in [−1, 1] shows, (N,)."""
    return torch.cat([classifier(part[:, None]).argmax(1) for part in digits.split(500)])


def tell_stacks(classifier: nn.Module, stacks: Tensor) -> Tensor:
    """The digits of each image (N, 3, 28, 28), (N, 3)."""
    return tell(classifier, stacks.flatten(0, 1)).view(-1, 3)


def digit_classifier(mnist: Path, cache: Path, scale: Scale) -> nn.Module:
    """Two convolutions and two linear layers, trained once. Raises UserError where they are not accurate enough."""
    torch.manual_seed(SEED)
    network = nn.Sequential(
        nn.Conv2d(1, 24, 5, stride=2, padding=2), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 48, 5, stride=2, padding=2), nn.BatchNorm2d(48), nn.ReLU(),
        nn.Flatten(), nn.Linear(48 * 49, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip
    digest = hashlib.blake2b(f"{network} {scale.epochs} {SEED}".encode(), digest_size=4).hexdigest()
    file = cache / f"classifier-{digest}.safetensors"
    if file.exists():
        network.load_state_dict(load_file(file))
        return network.eval()
    fit(network, images(mnist, TRAIN), labels(mnist, TRAIN), scale.epochs)
    accuracy = float((tell(network.eval(), images(mnist, TEST)) == labels(mnist, TEST)).float().mean())
    print(f"classifier: {accuracy:.2%} of MNIST's test images", flush=True)
    if accuracy < scale.accuracy:
        raise UserError(
            f"the classifier is right on {accuracy:.2%} of MNIST's test images, less than {scale.accuracy:.0%}"
        )
    write_whole(file, save(network.state_dict()))
    return network


def fit(network: nn.Module, data: Tensor, label: Tensor, epochs: int) -> None:
    """Adam on the cross-entropy, in batches of 128, one cycle of the learning rate."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    batches = epochs * len(data) // 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=batches)
    rng = torch.Generator().manual_seed(SEED)
    for _ in range(batches):
        chosen = torch.randint(len(data), (128,), generator=rng)
        optimizer.zero_grad()
        F.cross_entropy(network(data[chosen][:, None]), label[chosen]).backward()
        optimizer.step()
        schedule.step()


def stacked(mnist: Path, cache: Path, count: int) -> Path:
    """An .npy file of so many images uint8 (28, 28, 3), built once: independent uniform draws for each channel."""
    file = cache / f"train-{count}-{SEED}.npy"
    if not file.exists():
        digits = pixels(mnist, TRAIN)
        chosen = np.random.default_rng(SEED).integers(len(digits), size=(count, 3))
        content = io.BytesIO()
        np.save(content, np.stack([digits[chosen[:, channel]] for channel in range(3)], axis=-1))
        write_whole(file, content.getvalue())
    return file


def pixels(mnist: Path, name: str) -> NDArray[np.uint8]:
    """MNIST's digits, uint8 (N, 28, 28)."""
    source = open_idx(str(mnist / name), mnist / name)
    return np.stack([source.load(index)[..., 0] for index in range(len(source))])


def images(mnist: Path, name: str) -> Tensor:
    """MNIST's digits (N, 28, 28) in [−1, 1]."""
    return torch.from_numpy(pixels(mnist, name)).float() / 127.5 - 1


def labels(mnist: Path, name: str) -> Tensor:
    """Which digits they are, (N,)."""
    return torch.tensor([int(label) for label in open_idx(str(mnist / name), mnist / name).labels])


if __name__ == "__main__":
    main()
