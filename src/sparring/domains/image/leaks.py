"""Does what the discriminator was shown appear in samples: turned, tilted, mirrored, shifted, with holes, in odd colours?

A small network learns, from one half of the real images, to tell them as they are from the same images changed in each of
these ways. What it says of the other half, as it is and changed, tells what its answers are worth; what it says of samples
then gives the share of them that look changed. Generated images have faults of their own, blur and noise above all, so
the network sees both in all images, changed or not, and they tell it nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core import chance, processes
from sparring.imaging.features.compact import (
    CHUNK,
    CompactNetwork,
    draw_weights,
    fit,
    from_bytes,
    settle,
    shuffled,
    to_bytes,
    working_size,
)
from sparring.nn import diffaugment
from sparring.nn.ada import AdaptiveAugmentation
from sparring.nn.warp import scale_matrix, shift_matrix, turn_matrix, warp

FEWEST = 50  # real images that something can be learnt from
BATCH, STEPS, RATE = 64, 400, 0.01
LEAST = 0.3  # of changed images beyond the unchanged ones must be told, or the change cannot be seen in these data
SMALLEST = 1 / 16  # of the size: a shift that counts


@dataclass(frozen=True)
class Leak:
    """share: of samples that look changed in this way beyond what images as they are do, in [0, 1].

    of_real: how sure the network is, wrongly, of unchanged real images. told: how much surer of changed ones.
    """

    share: float
    of_real: float
    told: float


class Detector:
    """The network, and what its answers are worth.

    real: images (N, C, H, W) in [−1, 1]. Random numbers outside are left alone. Raises ValueError for fewer than 50.
    """

    def __init__(self, real: Tensor, *, seed: int = 0, steps: int = STEPS) -> None:
        if len(real) < FEWEST:
            raise ValueError(f"{len(real)} real images are too few to learn from; {FEWEST} are needed")
        self.size = working_size((real.shape[1], real.shape[2], real.shape[3]))
        images = from_bytes(to_bytes(real, self.size))
        with torch.inference_mode(False), torch.enable_grad(), processes.alone(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            learnt, held = (images[part] for part in torch.randperm(len(images)).chunk(2))
            self.network = _learn(learnt, seed, steps)
            found = {kind: self.answers(change(held)).mean(0) for kind, change in KINDS.items()}
        self.plain = found[AS_IT_IS]
        self.told = {kind: float(found[kind][place] - self.plain[place]) for place, kind in enumerate(KINDS)}

    def __call__(self, fake: Tensor) -> dict[str, Leak]:
        """Kind of change → what is seen of it in samples (N, C, H, W); kinds that cannot be seen in these data are left out.

        With s, f and t the mean probability of that change in samples, in unchanged and in changed held-out images, a
        share q of changed samples gives s = f + q (t − f): how a classifier's answers estimate the shares of a mixture
        (Lipton et al. 2018), for one kind at a time.
        """
        mean = self.answers(from_bytes(to_bytes(fake, self.size))).mean(0)
        found = {}
        for place, (kind, told) in enumerate(self.told.items()):
            if kind != AS_IT_IS and told >= LEAST:
                share = float(mean[place] - self.plain[place]) / told
                found[kind] = Leak(min(1.0, max(0.0, share)), float(self.plain[place]), told)
        return found

    @torch.no_grad()
    def answers(self, images: Tensor) -> Tensor:
        """The probability of each kind, (N, kinds)."""
        logits = [self.network.logits(self.network(part)) for part in images.split(CHUNK)]
        return torch.cat([each.softmax(1) for each in logits if each is not None])


def _learn(images: Tensor, seed: int, steps: int) -> CompactNetwork:
    """A network that tells kinds of change."""
    generator = torch.Generator().manual_seed(seed)
    network = CompactNetwork((images.shape[1], images.shape[2], images.shape[3]), len(KINDS))
    draw_weights(network, generator)
    batch = min(BATCH, len(images))
    batches = shuffled(len(images), batch, steps, generator)

    def loss(step: int) -> Tensor:
        # Half of them as they are: each change is to be told from these, and not only from each other.
        each = max(1, batch // (2 * (len(KINDS) - 1)))
        sizes = [batch - each * (len(KINDS) - 1), *[each] * (len(KINDS) - 1)]
        parts = images[batches[step]].split(sizes)
        changed = torch.cat([change(part) for change, part in zip(KINDS.values(), parts, strict=True)])
        kinds = torch.arange(len(KINDS)).repeat_interleave(torch.tensor(sizes))
        logits = network.logits(network(worn(changed)))
        assert logits is not None
        return F.cross_entropy(logits, kinds)

    fit([network], loss, steps=steps, rate=RATE)
    settle(network)
    return network


def worn(images: Tensor) -> Tensor:
    """Images with the faults of generated ones: half of them blurred, half noisy, each to another degree."""
    device, count = images.device, len(images)
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    amount, noise = (
        (chance.uniform(count, 1, 1, 1, device=device) * 2 - 1).clamp(min=0) for _ in range(2)
    )  # fmt: skip
    return torch.lerp(images, soft, amount) + 0.2 * noise * chance.normal_like(images)


def turned(images: Tensor) -> Tensor:
    """By one, two or three quarters of a circle."""
    quarters = chance.integers(1, 4, len(images), device=images.device)
    return warp(images, turn_matrix(quarters * (math.pi / 2))[:, :2])


def tilted(images: Tensor) -> Tensor:
    """By an angle that is seen: 10 to 80 degrees, to either side."""
    angle = (10 + 70 * chance.uniform(len(images), device=images.device)) * (math.pi / 180)
    side = torch.where(chance.uniform(len(images), device=images.device) < 0.5, -1.0, 1.0)
    return warp(images, turn_matrix(angle * side)[:, :2])


def mirrored(images: Tensor) -> Tensor:
    """Left and right exchanged."""
    return images.flip(3)


def shifted(images: Tensor) -> Tensor:
    """By whole pixels, up to an eighth of the size; the edges mirrored or empty, one as often as the other."""
    height, width = images.shape[2:]
    x, y = (_offsets(size, images) for size in (width, height))
    moved = warp(images, shift_matrix(x, y)[:, :2])
    empty = torch.zeros_like(images[:, :1]).bool()
    for offset, size, view in ((x, width, (1, 1, 1, width)), (y, height, (1, 1, height, 1))):
        places = torch.arange(size, device=images.device).view(view) + offset[:, None, None, None]
        empty = empty | (places < 0) | (places >= size)
    empty = empty & (chance.uniform(len(images), 1, 1, 1, device=images.device) < 0.5)
    return moved.masked_fill(empty, 0.0)


def resized(images: Tensor) -> Tensor:
    """Larger or smaller by a fifth to a half, and stretched."""
    count, device = len(images), images.device
    octaves = 0.25 + 0.35 * chance.uniform(count, device=device)
    factor = torch.exp2(torch.where(chance.uniform(count, device=device) < 0.5, -octaves, octaves))
    stretch = torch.exp2(0.2 * chance.normal(count, device=device))
    return warp(images, scale_matrix(factor * stretch, factor / stretch)[:, :2])


def recoloured(images: Tensor) -> Tensor:
    """As ADA's or DiffAugment's colours, one as often as the other."""
    other = AdaptiveAugmentation(operations=["colour"], p=1.0, target=None)(images)
    chosen = chance.uniform(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(chosen, other, diffaugment.colour(images)).clamp(-1, 1)


def _offsets(size: int, images: Tensor) -> Tensor:
    """Shifts that are seen, to either side, (N,)."""
    least, most = max(1, round(SMALLEST * size)), max(1, round(diffaugment.SHIFT * size))
    offset = chance.integers(least, most + 1, len(images), device=images.device)
    return torch.where(chance.uniform(len(images), device=images.device) < 0.5, -offset, offset).to(images.dtype)


AS_IT_IS = "as_it_is"
KINDS: Mapping[str, Callable[[Tensor], Tensor]] = {
    AS_IT_IS: lambda images: images,
    "turned": turned,
    "tilted": tilted,
    "mirrored": mirrored,
    "shifted": shifted,
    "resized": resized,
    "holes": diffaugment.cutout,
    "recoloured": recoloured,
}
"""Kinds of change, and how images are changed so."""
