"""The compact network behind the `classifier` features: a few convolutions, quick on two CPU cores."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.imaging.show import to_uint8

LONGEST = 64  # pixels of the longer side that the network looks at
FEATURES = 128
SMALLEST_MAP = 3.5  # pixels: halving goes on while the longer side stays above
# Strides of the stages by the number of halvings. Large images are halved at once: most time goes where maps are large.
STRIDES = {1: (1, 2, 1), 2: (1, 2, 2), 3: (2, 2, 2), 4: (2, 2, 2, 2)}
LEAST_VARIANCE = 1e-2
CHUNK = 512  # images that go through the network at once, where nothing is learnt


class CompactNetwork(nn.Module):
    """Images (N, C, H, W) in [-1, 1] to features (N, 128), and features to logits (N, K).

    Stages of 3×3 convolution, batch norm and ReLU, as wide as `width`, 2 · width, then 4 · width, down to a map of
    about 4×4, which is flattened, so that features know where things are, and projected to the features.

    The features are the output of a batch norm without scale, shift or ReLU: every one has mean 0 and variance 1 on the
    training images. A Fréchet distance fits Gaussians, which rectified features (half of a bell, many at 0) are far
    from, and sums squared units, so that without a common scale a few loud features would decide it alone.
    See `overlap` for the directions between them.

    shape: (C, H, W). labels: K; 0 leaves the logits out. Weights are undefined until `draw_weights`.
    """

    def __init__(self, shape: tuple[int, int, int], labels: int, *, width: int = 32) -> None:
        super().__init__()
        channels, *size = shape
        # On `meta`, layers draw no weights: building a network leaves torch's global generator where it was.
        with torch.device("meta"):
            layers: list[nn.Module] = [nn.BatchNorm2d(channels, affine=False)]
            self.multiply_adds = 0
            for stage, stride in enumerate(STRIDES[_halvings(max(size))]):
                wide = min(width * 2**stage, 4 * width)
                # The second stage has two layers: with fewer, strokes and edges never meet at this resolution.
                for step in (stride, 1) if stage == 1 else (stride,):
                    layers += [nn.Conv2d(channels, wide, 3, step, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
                    size = [-(-side // step) for side in size]
                    self.multiply_adds += 9 * channels * wide * math.prod(size)
                    channels = wide
            self.body = nn.Sequential(*layers)
            self.project = nn.Linear(channels * math.prod(size), FEATURES, bias=False)
            self.norm = nn.BatchNorm1d(FEATURES, affine=False)
            self.head = nn.Linear(FEATURES, labels) if labels else None
        self.to_empty(device="cpu")

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 128) of images (N, C, H, W)."""
        # Channels last is the layout that convolutions on AVX-512 want: 1.2 times as fast.
        maps = self.body(images.contiguous(memory_format=torch.channels_last))
        features: Tensor = self.norm(self.project(maps.flatten(1)))
        return features

    def logits(self, features: Tensor) -> Tensor | None:
        """Logits (N, K) of features (N, 128), None where there are no labels."""
        return None if self.head is None else self.head(features)


def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Fill every layer of `module` in place: N(0, 2 / inputs) (He et al. 2015), biases 0, norms as at their start."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_parameters()


def settle(network: nn.Module) -> None:
    """Evaluation mode for good: no gradients, and no channel that hardly ever varied blown up to unit variance."""
    network.eval().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_var is not None:
            layer.running_var.clamp_(min=LEAST_VARIANCE)


def standardise(network: CompactNetwork, images: Tensor) -> None:
    """Give the features of these images, uint8 (N, C, H, W), mean 0 and variance 1; the logits stay what they are.

    What the last norm gathered while training belongs to changed images and to weights that were still moving. The
    network must be settled. Of more than 10,000 images, every so manieth is used.
    """
    chosen = images[:: -(-len(images) // 10_000)]
    with torch.no_grad():
        old = torch.cat([network(from_bytes(part)) for part in chosen.split(CHUNK)]).double()
        variance, mean = torch.var_mean(old, 0, correction=0)
        scale, mean = variance.clamp(min=LEAST_VARIANCE).sqrt().float(), mean.float()
        if network.head is not None:  # it reads old features: old = mean + scale · new
            network.head.bias.add_(network.head.weight @ mean)
            network.head.weight.mul_(scale)
        norm = network.norm
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.add_(mean * (norm.running_var + norm.eps).sqrt())
        norm.running_var.copy_((norm.running_var + norm.eps) * scale.square() - norm.eps)


def overlap(features: Tensor) -> Tensor:
    """Sum of the squared correlations between features (N, D) of mean 0 and variance 1, divided by D: a scalar.

    The covariance term of VICReg (Bardes et al. 2022, eq. 3). A classifier left to itself collapses its features onto
    K − 1 directions, one point a class (Papyan et al. 2020), and a Fréchet distance there is blind to what happens
    inside a class, few prototypes repeated, say. A little of this term keeps the other directions in use.
    """
    correlation = features.T @ features / len(features)
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / features.shape[1]


def working_size(shape: tuple[int, int, int]) -> tuple[int, int]:
    """(H, W) that the network sees of images of this shape: the same proportions, the longer side at most 64."""
    _, height, width = shape
    factor = min(1.0, LONGEST / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def to_bytes(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] as uint8 (N, C, *size) on the CPU: the mean of the pixels that each new one covers.

    Rounded before and after, as a picture saved and resized would be: a generator's samples get the same features
    whether they come as tensors or as files. Raises UserError for NaN and infinity.
    """
    pixels = to_uint8(images)
    if tuple(pixels.shape[2:]) != size:
        pixels = F.adaptive_avg_pool2d(pixels.float(), size).round_().to(torch.uint8)
    return pixels


def from_bytes(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def fit(
    modules: list[nn.Module],
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    rate: float,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Minimise `loss(step)` over the parameters of `modules`: AdamW, one cycle of the learning rate (Smith 2018).

    rate: the learning rate's peak, reached after a fifth of the steps. progress: called with (done, all) steps.
    """
    weights = [weight for module in modules for weight in module.parameters()]
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": 0.05},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},  # norms and biases
    ]
    optimiser = torch.optim.AdamW(groups, lr=rate)
    for module in modules:
        module.train()
    warm = max(1, steps // 5)
    for step in range(steps):
        share = (step + 1) / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (steps - warm))
        for group in optimiser.param_groups:
            group["lr"] = rate * share
        optimiser.zero_grad(set_to_none=True)
        loss(step).backward()
        optimiser.step()
        if progress:
            progress(step + 1, steps)


def shuffled(count: int, batch: int, steps: int, generator: torch.Generator) -> list[Tensor]:
    """Indices (batch,) below `count` for each of the steps: epoch after epoch, what is left over of one falls away."""
    batches: list[Tensor] = []
    while len(batches) < steps:
        order = torch.randperm(count, generator=generator)
        batches += order[: count // batch * batch].split(batch)
    return batches[:steps]


def _halvings(longest: int) -> int:
    return min(max(STRIDES), max(1, int(math.log2(longest / SMALLEST_MAP))))
