"""A small segmenter: what can be recognised in pictures, for measuring photographs that were made from label maps."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS, BATCH, RATE = 150, 16, 4e-3


class Segmenter(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] → logits (N, classes, H, W): a U-Net of three halvings."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.down = nn.ModuleList(
            layers(before, after) for before, after in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            layers(deep + side, side) for deep, side in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        x, sides = images, []
        for number, layer in enumerate(self.down):
            x = layer(F.avg_pool2d(x, 2) if number else x)
            sides.append(x)
        sides.pop()
        for layer in self.up:
            side = sides.pop()
            x = layer(torch.cat([F.interpolate(x, size=side.shape[2:]), side], dim=1))
        logits: Tensor = self.classify(x)
        return logits


def layers(before: int, after: int) -> nn.Sequential:
    """Two 3×3 convolutions with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
    )  # fmt: skip


def learn(images: Tensor, maps: Tensor, *, seed: int, kept: Path) -> Segmenter:
    """Trained on images and the classes of their places, −1 where there is none; or as it was kept."""
    torch.manual_seed(seed)
    network = Segmenter(int(maps.max()) + 1)
    if kept.exists():
        network.load_state_dict(torch.load(kept, weights_only=True))
        return network.eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(images), (BATCH,))
        shown, wanted = images[chosen], maps[chosen]
        if torch.rand(()) < 0.5:
            shown, wanted = shown.flip(-1), wanted.flip(-1)
        # Brightness and contrast differ from film to film, and in what a generator makes.
        shown = shown * (0.8 + 0.4 * torch.rand(BATCH, 1, 1, 1)) + 0.2 * torch.randn(BATCH, 1, 1, 1)
        loss = F.cross_entropy(network(shown), wanted, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    torch.save(network.state_dict(), kept)
    return network.eval()


@torch.no_grad()
def scores(network: Segmenter, images: Tensor, maps: Tensor) -> dict[str, float]:
    """`pixels`: the share of places whose class is found. `miou`: intersection over union, the mean over the classes that
    the maps have; places without a class count in neither.
    """
    found = torch.cat([network(part).argmax(1) for part in images.split(32)])
    known = maps >= 0
    unions = []
    for kind in maps[known].unique():
        wanted, got = (maps == kind) & known, (found == kind) & known
        unions.append((wanted & got).sum() / (wanted | got).sum())
    return {"pixels": float((found == maps)[known].float().mean()), "miou": float(torch.stack(unions).mean())}
