"""The generator of pix2pixHD (Wang et al. 2018, sec. 3.2 and 3.4): coarse to fine, and features of instances."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core import chance
from sparring.domains.translation.networks.resnet import MirrorBlock, ResnetGenerator
from sparring.errors import UserError
from sparring.nn.layers import Norm, norm_layer, require_positive

KEPT = 256  # features of instances that are remembered of each class
LOOKS = 10  # among which a class's are drawn (sec. 3.4)
ROUNDS = 10  # of K-means


class EnhancedGenerator(nn.Module):
    """Inputs (N, S, H, W) → images (N, C, H, W) in [-1, 1]; H and W are multiples of `stride`.

    A global generator works at half the size, or a quarter with two enhancers, and each local enhancer doubles that: to
    its own maps of half its size are added those from which what comes before would make its picture (fig. 2).

    width: channels of the global generator's first layer, halved with every enhancer. blocks, down: its residual blocks
    and halvings. enhancers: how many; 0 leaves the global generator alone. enhancer_blocks: residual blocks of each.
    features: numbers that say what an instance looks like (3 in the paper), averaged over it from what an encoder of
    `encoder_width` makes of the target; 0: none. Then inputs are S + features channels, see `looks`.
    level: how many enhancers have a part by now, which the game sets as training goes on.
    """

    level: Tensor

    def __init__(
        self, source: int, shape: tuple[int, int, int],
        *, width: int = 64, blocks: int = 9, down: int = 4, enhancers: int = 1, enhancer_blocks: int = 3,
        norm: Norm = "instance", features: int = 0, encoder_width: int = 16,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(width=width, enhancer_blocks=enhancer_blocks, encoder_width=encoder_width)
        if enhancers < 0 or features < 0:
            raise UserError("model.generator: enhancers and features are 0 or more")
        if width % 2**enhancers:
            raise UserError(f"model.generator.width: {width} cannot be halved {enhancers} times")
        self.source, self.features, self.enhancers_count = source, features, enhancers
        self.stride = 2 ** (down + enhancers)
        self.coarse = ResnetGenerator(source + features, shape, width=width, blocks=blocks, down=down, norm=norm)
        self.enhancers = nn.ModuleList(
            Enhancer(source + features, shape[0], width // 2**number, enhancer_blocks, norm)
            for number in range(1, enhancers + 1)
        )
        self.encoder: ResnetGenerator | None = None
        self.memory: InstanceMemory | None = None
        if features:
            # As the authors' code has it: down and up again, without residual blocks.
            self.encoder = ResnetGenerator(shape[0], (features, *shape[1:]), width=encoder_width, blocks=0, down=down)
            self.memory = InstanceMemory(source + 1, features)
        self.register_buffer("level", torch.tensor(enhancers))

    def forward(self, source: Tensor, level: int | None = None, *, alone: bool = False) -> Tensor:
        """level: so many enhancers, on inputs of that level's size; None: all. alone: only the last of them learns."""
        level = self.enhancers_count if level is None else level
        pyramid = [source]
        for _ in range(level):
            pyramid.append(shrink(pyramid[-1]))
        with torch.no_grad() if alone and level else contextlib.nullcontext():
            maps = self.coarse.maps(pyramid[level])
            for number in range(level - 1):
                maps = self.enhancers[number](pyramid[level - 1 - number], maps)
        if level == 0:
            picture: Tensor = self.coarse.picture(maps)
            return picture
        last = self.enhancers[level - 1]
        made: Tensor = last.picture(last(pyramid[0], maps))  # type: ignore[operator]
        return made


class Enhancer(nn.Module):
    """Inputs (N, S, H, W) and the maps (N, 2·width, H/2, W/2) of what comes before → maps (N, width, H, W)."""

    def __init__(self, source: int, channels: int, width: int, blocks: int, norm: Norm) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(source, width, 7, padding=3, padding_mode="reflect"), norm_layer(norm, width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), norm_layer(norm, 2 * width), nn.ReLU(),
        )  # fmt: skip
        self.up = nn.Sequential(
            *(MirrorBlock(2 * width, norm) for _ in range(blocks)),
            nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1), norm_layer(norm, width), nn.ReLU(),
        )  # fmt: skip
        self.picture = nn.Sequential(nn.Conv2d(width, channels, 7, padding=3, padding_mode="reflect"), nn.Tanh())

    def forward(self, source: Tensor, maps: Tensor) -> Tensor:
        enhanced: Tensor = self.up(self.down(source) + maps)
        return enhanced


class InstanceMemory(nn.Module):
    """What instances of each class have looked like lately: rows of features, from which new ones are drawn.

    The paper clusters the features of the whole training set after the training. Here the last `KEPT` of each class are
    kept while it goes on, so that there is nothing left to do at its end.
    """

    rows: Tensor
    seen: Tensor

    def __init__(self, classes: int, features: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(classes, KEPT, features))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.int64))

    @torch.no_grad()
    def keep(self, features: Tensor, classes: Tensor) -> None:
        """Take in the features (R, F) of instances of classes (R,), in the place of the oldest."""
        order = F.one_hot(classes, len(self.seen))
        rank = (order.cumsum(0) - order)[torch.arange(len(classes)), classes]
        fits = rank < KEPT  # of one class more at once would be written to one place
        at = (self.seen[classes] + rank) % KEPT
        self.rows[classes[fits], at[fits]] = features[fits].to(self.rows.dtype)
        self.seen += order.sum(0)

    def draw(self, classes: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Features (R, F) for instances of classes (R,): one of the centres of what their class looked like.

        A class that was never seen has zeros.
        """
        centres, counts = self.centres()
        share = chance.uniform(len(classes), device=classes.device, rng=rng)
        return centres[classes, (share * counts[classes]).long()]

    def centres(self) -> tuple[Tensor, Tensor]:
        """K-means with 10 centres a class (sec. 3.4), fewer where it was seen less often: (classes, 10, F), and how many."""
        counts = self.seen.clamp(max=LOOKS)
        centres = torch.zeros(len(self.seen), LOOKS, self.rows.shape[2], device=self.rows.device)
        for number, seen in enumerate(self.seen.tolist()):
            if seen:
                found = cluster(self.rows[number, : min(seen, KEPT)], min(seen, LOOKS))
                centres[number, : len(found)] = found
        return centres, counts.clamp(min=1)


def cluster(rows: Tensor, count: int) -> Tensor:
    """The centres (count, F) of K-means on rows (R, F), R at least `count`; from evenly spaced rows, so always the same."""
    centres = rows[torch.arange(count, device=rows.device) * len(rows) // count].clone()
    for _ in range(ROUNDS):
        nearest = torch.cdist(rows, centres).argmin(1)
        total = torch.zeros_like(centres).index_add_(0, nearest, rows)
        members = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(members > 0, total / members.clamp(min=1), centres)
    return centres


def instance_means(maps: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of maps (N, F, H, W) over each region of each sample, and which region is whose place (sec. 3.4).

    regions: numbers (N, H, W). Returns (R, F), and the row of each place, (N, H, W).
    """
    spread = int(regions.max()) + 1
    apart = regions + spread * torch.arange(len(regions), device=regions.device)[:, None, None]
    found, places = apart.unique(return_inverse=True)
    rows = maps.float().permute(0, 2, 3, 1).flatten(0, 2)
    total = rows.new_zeros(len(found), rows.shape[1]).index_add(0, places.flatten(), rows)
    return total / torch.bincount(places.flatten(), minlength=len(found))[:, None], places


def instance_classes(labels: Tensor, places: Tensor, count: int) -> Tensor:
    """The class of each of `count` regions, (count,), of places (N, H, W) with classes (N, H, W)."""
    classes = torch.zeros(count, dtype=torch.int64, device=labels.device)
    # All places of a region have one class, so it does not matter which of them writes last.
    return classes.scatter_(0, places.flatten(), labels.flatten())


def spread_out(rows: Tensor, places: Tensor) -> Tensor:
    """Rows (R, F) at the places (N, H, W) that are theirs: (N, F, H, W)."""
    return rows[places].permute(0, 3, 1, 2)


def shrink(images: Tensor) -> Tensor:
    """Half the size, rounded up, as the authors' code shrinks inputs: means of 3×3 around every other place."""
    return F.avg_pool2d(images, 3, 2, 1, count_include_pad=False)


def shrink_numbers(maps: Tensor) -> Tensor:
    """Numbers (N, …, H, W) at the places that `shrink` keeps."""
    return maps[..., ::2, ::2]


def stages(enhancers: int, begin: float, settle: float) -> Sequence[tuple[float, int, bool]]:
    """The stages of a training: (the share of its steps at which it begins, level, whether its enhancer learns alone).

    begin: the share at which the first enhancer begins; the rest is divided evenly among them. settle: the share of its own
    part in which an enhancer learns alone.
    """
    found: list[tuple[float, int, bool]] = [(0.0, 0, False)] if begin or not enhancers else []
    part = (1 - begin) / max(enhancers, 1)
    for number in range(enhancers):
        start = begin + number * part
        found += [(start, number + 1, True)] if settle else []
        found += [(start + settle * part, number + 1, False)]
    return found
