"""Teach the compact network the data set's labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.imaging.features.compact import (
    CHUNK,
    CompactNetwork,
    draw_weights,
    fit,
    from_bytes,
    overlap,
    shuffled,
)

HELD_OUT = 0.1
SMOOTHING = 0.1
OVERLAP = 0.02  # more keeps more directions in use, and dilutes those that tell classes apart
RATE = 0.01
SHIFT = 1 / 14  # of the longer side: 2 of 28 pixels
MULTIPLY_ADDS = 1.2e12  # of all forward passes together: about two minutes of one AVX-512 core


def learn_labels(
    images: Tensor,
    labels: Tensor,
    count: int,
    *,
    samples: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[CompactNetwork, float, bool]:
    """A network that tells `count` labels apart: (network, held-out accuracy, whether it learnt anything).

    Cross-entropy with label smoothing (Szegedy et al. 2016, section 7), on images shifted by up to a fourteenth of
    their size, edges repeated. They are not mirrored or turned: digits and letters would change their label.
    A tenth of the images, chosen at random, is held out; something was learnt where the accuracy on them is above the
    largest label's share by more than chance explains in one case of twenty.

    images: uint8 (N, C, H, W), N of at least 50. labels: int64 (N,), below `count`; both on one device.
    samples: images shown in all; None: 40 times each, fewer where there are many or they are large.
    progress: called with (done, all) steps.
    """
    generator = torch.Generator().manual_seed(seed)
    device = images.device
    order = torch.randperm(len(images), generator=generator)
    held, kept = order[: int(HELD_OUT * len(images))].to(device), order[int(HELD_OUT * len(images)) :].to(device)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    network = CompactNetwork(shape, count)
    draw_weights(network, generator)
    network.to(device)
    if samples is None:
        # Few images need more rounds for as many steps; many are known well after four.
        samples = int(min(max(40 * len(kept), 8000), 120_000 + 2 * len(kept), MULTIPLY_ADDS / network.multiply_adds))
    batch = min(128, max(16, len(kept) // 16))
    steps = max(1, samples // batch)
    batches = shuffled(len(kept), batch, steps, generator)
    reach = max(1, round(SHIFT * max(shape[1:])))

    def loss(step: int) -> Tensor:
        chosen = kept[batches[step].to(device)]
        features = network(from_bytes(shift(images[chosen], reach, generator)))
        wrong = F.cross_entropy(_head(network, features), labels[chosen], label_smoothing=SMOOTHING)
        return wrong + OVERLAP * overlap(features)

    fit([network], loss, steps=steps, rate=RATE, progress=progress)
    network.eval()
    with torch.no_grad():
        guesses = torch.cat([_head(network, network(from_bytes(images[part]))).argmax(1) for part in held.split(CHUNK)])
    right = int((guesses == labels[held]).sum())
    share = float(torch.bincount(labels).max()) / len(labels)
    by_chance = share * len(held) + 1.645 * (share * (1 - share) * len(held)) ** 0.5
    return network, right / len(held), right > by_chance


def shift(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Each image (N, C, H, W) moved by up to `reach` pixels along both axes, edges repeated."""
    count, _, height, width = images.shape
    moves = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator)
    rows = (moves[0] + torch.arange(height)).clamp_(0, height - 1).to(images.device)
    columns = (moves[1] + torch.arange(width)).clamp_(0, width - 1).to(images.device)
    which = torch.arange(count, device=images.device)[:, None, None]
    # Indexing with slices between puts the channels last; they go back to where they belong.
    return images[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _head(network: CompactNetwork, features: Tensor) -> Tensor:
    logits = network.logits(features)
    assert logits is not None  # the network was built with labels
    return logits
