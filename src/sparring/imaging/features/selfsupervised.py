"""Teach the compact network to recognise an image in spite of small changes, where no labels can be learnt.

Representations learnt so rank generators as well as those of labelled networks do, or better (Morozov et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.imaging.features.compact import (
    FEATURES,
    CompactNetwork,
    draw_weights,
    fit,
    from_bytes,
    overlap,
    shuffled,
)

TEMPERATURE = 0.2
OVERLAP = 0.02
RATE = 0.003
BATCH = 256
HIDDEN, PROJECTED = 256, 64
SAMPLES = 60_000
MULTIPLY_ADDS = 1.2e12  # of all forward passes together: about two minutes of one AVX-512 core


def learn_views(
    images: Tensor,
    *,
    samples: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CompactNetwork:
    """A network without logits that puts two views of an image near each other, away from other images.

    SimCLR (Chen et al. 2020): the contrastive loss of `contrast` on a two-layer projection of the features, which is
    thrown away afterwards, as it forgets what views differ in. With the loss of VICReg in its place, features of
    digits told classes as well, and their distances grew a third to a half less with noise and blur.

    images: uint8 (N, C, H, W), N of at least 2. samples: images shown in all, in two views each; None: 40 times each,
    60,000 at most and fewer where they are large. progress: called with (done, all) steps.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    network = CompactNetwork(shape, 0)
    project = nn.utils.skip_init(nn.Linear, HIDDEN, PROJECTED)
    projection = nn.Sequential(
        nn.ReLU(),
        nn.utils.skip_init(nn.Linear, FEATURES, HIDDEN, bias=False),
        nn.BatchNorm1d(HIDDEN),
        nn.ReLU(),
        project,
    )
    for module in (network, projection):
        draw_weights(module, generator)
        module.to(images.device)
    if samples is None:
        samples = int(min(max(40 * len(images), 8000), SAMPLES, MULTIPLY_ADDS / (2 * network.multiply_adds)))
    batch = min(BATCH, len(images))
    steps = max(1, samples // batch)
    batches = shuffled(len(images), batch, steps, generator)

    def loss(step: int) -> Tensor:
        shown = from_bytes(images[batches[step].to(images.device)])
        features = network(torch.cat([view(shown, generator), view(shown, generator)]))
        one, other = projection(features).chunk(2)
        return contrast(one, other) + OVERLAP * overlap(features)

    fit([network, projection], loss, steps=steps, rate=RATE, progress=progress)
    return network


def contrast(one: Tensor, other: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """NT-Xent (Chen et al. 2020, eq. 1): cross-entropy of finding an image's other view among all views of a batch.

    one, other: (N, D), row by row views of the same image. Similarity is the cosine over `temperature`. A scalar.
    """
    views = F.normalize(torch.cat([one, other]), dim=1)
    similarity = views @ views.T / temperature
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    partner = torch.arange(len(views), device=views.device).roll(len(one))
    return F.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)


def view(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W) cropped, stretched, turned and moved a little, edges repeated, in slightly other colours.

    What views differ in, features learn to ignore, so this holds only what a good sample may differ in as well. There
    is no noise, blur, mirroring or loss of colour in it: a measure must see those. Channels change apart from each
    other, or the histogram of its colours would give an image away (Chen et al. 2020, section 3.1).
    """
    count, channels = images.shape[:2]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    size, stretch, angle = uniform(0.65, 1.1, count), uniform(0.85, 1.18, count), uniform(-0.2, 0.2, count)
    transform = torch.empty(count, 2, 3)
    transform[:, 0, 0], transform[:, 0, 1] = size * stretch * angle.cos(), -size * angle.sin()
    transform[:, 1, 0], transform[:, 1, 1] = size * angle.sin(), size / stretch * angle.cos()
    transform[:, :, 2] = uniform(-0.2, 0.2, count, 2)
    where = F.affine_grid(transform, list(images.shape), align_corners=False).to(images.device)
    moved = F.grid_sample(images, where, padding_mode="border", align_corners=False)
    gain, offset = uniform(0.8, 1.2, count, 1, 1, 1), uniform(-0.1, 0.1, count, channels, 1, 1)
    return moved * gain.to(images.device) + offset.to(images.device)
