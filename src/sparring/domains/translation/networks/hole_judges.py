"""Discriminators of inpainting: of the whole and of the hole (Iizuka et al. 2017), and of features everywhere (Yu et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.core.regularize import spectral_norm
from sparring.nn.layers import Norm, doubling, norm_layer, require_positive

LEAK = 0.2


class GlobalLocalDiscriminator(nn.Module):
    """Images (N, C, H, W) and masks (N, 1, H, W) → one logit, (N, 1) (Iizuka et al. 2017, sec. 3.3 and table 2).

    Halvings of the whole image and, one fewer, of a window of half its sides around the middle of the hole; the features of
    both are joined for the logit. width, depth: of the global one's first layer, and its halvings, 6 for the paper's 256
    pixels; None: to about 4 pixels. features: of each side, 1,024 in the paper.
    """

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 64, depth: int | None = None, features: int = 1024, norm: Norm = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, depth=depth, features=features)
        size = (shape[1], shape[2])
        depth = depth or max(2, min(size).bit_length() - 3)
        self.window = (max(2, size[0] // 2), max(2, size[1] // 2))
        self.whole = judge_of(shape[0], size, width, depth, features, norm)
        self.part = judge_of(shape[0], self.window, width, depth - 1, features, norm)
        self.joined = nn.Sequential(nn.ReLU(), nn.Linear(2 * features, 1))

    def forward(self, samples: Tensor, source: Tensor | None = None) -> Tensor:
        return self.look(samples, source)[0]

    def look(self, samples: Tensor, source: Tensor | None = None) -> tuple[Tensor, list[list[Tensor]]]:
        """Logits, and the maps after each convolution of both."""
        assert source is not None, "the window is where the mask is"
        maps: list[list[Tensor]] = []
        sides = []
        for network, x in ((self.whole, samples), (self.part, windows(samples, source, self.window))):
            own = []
            *layers, last = network.children()
            for layer in layers:
                x = layer(x)
                own.append(x)
            maps.append(own)
            sides.append(last(x))
        return self.joined(torch.cat(sides, dim=1)), maps


def judge_of(channels: int, size: tuple[int, int], width: int, depth: int, features: int, norm: Norm) -> nn.Sequential:
    """5×5 convolutions of stride 2, and a linear layer on all places."""
    widths = doubling(width, depth)
    layers: list[nn.Module] = []
    height, wide = size
    for before, after in zip([channels, *widths], widths, strict=False):
        layers.append(nn.Sequential(nn.Conv2d(before, after, 5, 2, 2), norm_layer(norm, after), nn.ReLU()))
        height, wide = (height + 1) // 2, (wide + 1) // 2
    return nn.Sequential(*layers, nn.Sequential(nn.Flatten(), nn.Linear(widths[-1] * height * wide, features)))


def windows(images: Tensor, masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Parts (N, C, *size) of images (N, C, H, W) around the middle of mass of each mask, as far as the borders let them."""
    count, _, height, width = images.shape
    mass = masks[:, -1].float()
    total = mass.sum((1, 2)).clamp(min=1)
    places = []
    for axis, (side, part) in enumerate(zip((height, width), size, strict=True)):
        line = torch.arange(side, device=images.device, dtype=torch.float32)
        middle = (mass.sum(2 - axis) * line).sum(1) / total
        first = (middle - part / 2 + 0.5).round().clamp(0, side - part).long()
        places.append(first[:, None] + torch.arange(part, device=images.device))
    rows = torch.arange(count, device=images.device)
    # Indices of one place each: (N, h, w, C), since the channels stand between two of them.
    return images[rows[:, None, None], :, places[0][:, :, None], places[1][:, None, :]].permute(0, 3, 1, 2)


class FeaturePatchDiscriminator(nn.Module):
    """Images (N, C, H, W) and masks (N, 1, H, W) → logits (N, 4·width, h, w): SN-PatchGAN (Yu et al. 2019, sec. 3.3).

    `depth` spectrally normalised 5×5 convolutions of stride 2, 6 in the paper, and the hinge loss at every feature of the last map.
    """

    def __init__(self, source: int, shape: tuple[int, int, int], *, width: int = 64, depth: int = 6) -> None:
        super().__init__()
        require_positive(width=width, depth=depth)
        widths = doubling(width, depth, max_width=4 * width)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 5, 2, 2)
            for before, after in zip([source + shape[0], *widths], widths, strict=False)
        )
        spectral_norm(self)

    def forward(self, samples: Tensor, source: Tensor | None = None) -> Tensor:
        return self.look(samples, source)[0]

    def look(self, samples: Tensor, source: Tensor | None = None) -> tuple[Tensor, list[list[Tensor]]]:
        """Logits, and the maps after each layer but the last."""
        x = samples if source is None else torch.cat([samples, source], dim=1)
        maps = []
        for layer in self.layers[:-1]:
            x = nn.functional.leaky_relu(layer(x), LEAK)
            maps.append(x)
        return self.layers[-1](x), [maps]
