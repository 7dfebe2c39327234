"""How many parameters the papers' own presets have, beside what was published. Nothing is trained, and no memory taken.

python benchmarks/parameters.py              the table
python benchmarks/parameters.py biggan-128   layer by layer
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from torch import nn

from sparring.core.game import DataSpec, Game
from sparring.domains import open_domain
from sparring.recipe import load_recipe

Counts = tuple[float | None, float | None]

# preset: shape, classes, (generator, discriminator) as published in millions, where that is written
PRESETS: dict[str, tuple[tuple[int, int, int], int, Counts, str]] = {
    "dcgan-64": ((3, 64, 64), 0, (3.576704, 2.765568), "DCGAN's PyTorch example, counted"),
    "dcgan-128": ((3, 128, 128), 0, (None, None), ""),
    "resnet-sngan-32": ((3, 32, 32), 0, (None, None), ""),
    "resnet-sngan-128": ((3, 128, 128), 1000, (None, None), ""),
    "sagan-128": ((3, 128, 128), 1000, (None, None), ""),
    "biggan-128": ((3, 128, 128), 1000, (70.4, 88.0), "Brock et al. 2019, as its authors' PyTorch code counts"),
    "biggan-deep-128": ((3, 128, 128), 1000, (50.4, 34.6), "Brock et al. 2019, appendix B"),
    "progan-1024": ((3, 1024, 1024), 0, (23.1, 23.1), "Karras et al. 2018, table 2"),
    "stylegan2-256": ((3, 256, 256), 0, (24.8, 24.0), "StyleGAN2-ADA's log at half the feature maps"),
    "stylegan3-t-256": ((3, 256, 256), 0, (None, None), ""),
    "stylegan3-r-256": ((3, 256, 256), 0, (None, None), ""),
    "fastgan-256": ((3, 256, 256), 0, (None, None), ""),
    "projected-256": ((3, 256, 256), 0, (None, None), ""),
    "msg-gan-256": ((3, 256, 256), 0, (None, None), ""),
    "lapgan-32": ((3, 32, 32), 10, (None, None), ""),
    "began-128": ((3, 128, 128), 0, (None, None), ""),
    "contragan-32": ((3, 32, 32), 10, (None, None), ""),
    "reacgan-32": ((3, 32, 32), 10, (None, None), ""),
    "r3gan-64": ((3, 64, 64), 0, (None, None), ""),
    "r3gan-256": ((3, 256, 256), 0, (None, None), ""),
    "r3gan-32": ((3, 32, 32), 0, (20.7, 20.7), "Huang et al. 2024, Stacked-MNIST"),
}

# The same of what makes images from images, with the channels of its inputs in place of classes, and keys of the recipe.
TRANSLATIONS: dict[str, tuple[str, int, tuple[int, int, int], tuple[str, ...], Counts, str]] = {
    "pix2pix-256": ("pix2pix-256", 3, (3, 256, 256), (), (54.414, 2.769), "its authors' PyTorch code, counted"),
    "pix2pix-256 resnet": (
        "pix2pix-256", 3, (3, 256, 256), ("model={generator: {name: resnet}}",), (11.383, 2.769),
        "CycleGAN's nine blocks, its authors' PyTorch code with batch norm, counted",
    ),
    "pix2pixhd-1024 global": (
        "pix2pixhd-1024", 36, (3, 512, 1024), ("model.generator.enhancers=0",), (182.5, None), "its authors' code, counted",
    ),
    "pix2pixhd-1024": ("pix2pixhd-1024", 36, (3, 1024, 2048), (), (None, None), ""),
    "spade-256": ("spade-256", 184, (3, 256, 256), (), (97.5, None), "its authors' code says so of COCO-Stuff"),
}  # fmt: skip


def main() -> None:
    """Print the table, or one preset's layers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", choices=[*PRESETS, *TRANSLATIONS])
    preset = parser.parse_args().preset
    if preset:
        print_layers(preset)
        return
    print("| preset | image | classes | G | published | D | published | source |\n|---|---|---|---|---|---|---|---|")
    for name, (shape, classes, published, source) in PRESETS.items():
        counts = [sum(each.numel() for each in moved(player)) for player in players(build(name))]
        cells = [f"{count:,} | {written(told, count)}" for count, told in zip(counts, published, strict=True)]
        image = "×".join(map(str, shape))
        print(f"| `{name}` | {image} | {classes or ''} | {' | '.join(cells)} | {source} |", flush=True)
    print(
        "\n| preset | input channels | image | G | published | D | published | source |\n|---|---|---|---|---|---|---|---|"
    )
    for name, (_, channels, shape, _, published, source) in TRANSLATIONS.items():
        counts = [sum(each.numel() for each in moved(player)) for player in players(build(name))]
        cells = [f"{count:,} | {written(told, count)}" for count, told in zip(counts, published, strict=True)]
        print(f"| `{name}` | {channels} | {'×'.join(map(str, shape))} | {' | '.join(cells)} | {source} |", flush=True)


def build(name: str) -> Game:
    """The preset's game, without memory for its weights."""
    if name in TRANSLATIONS:
        return build_translation(name)
    shape, classes, _, _ = PRESETS[name]
    recipe = load_recipe(name)
    spec = DataSpec(shape, tuple(str(index) for index in range(classes)), count=1_000_000)
    with torch.device("meta"):
        return open_domain(recipe.domain).build_game(recipe, spec)


def build_translation(name: str) -> Game:
    """The same of an entry of `TRANSLATIONS`."""
    preset, channels, shape, keys, _, _ = TRANSLATIONS[name]
    recipe = load_recipe(preset).override(keys)
    facts = {"kind": "image", "channels": channels}
    with torch.device("meta"):
        return open_domain(recipe.domain).build_game(
            recipe, DataSpec(shape, (), 1_000_000, {"paired": True, "input": facts})
        )


def players(game: Game) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator."""
    each = game.players()
    return each["generator"], each["discriminator"]


def moved(player: nn.Module) -> Iterator[nn.Parameter]:
    """What training moves."""
    return (each for each in player.parameters() if each.requires_grad)


def print_layers(name: str) -> None:
    """The arithmetic: every layer with its shape and count."""
    for role, player in zip(("generator", "discriminator"), players(build(name)), strict=True):
        total = sum(each.numel() for each in moved(player))
        print(f"{role}: {total:,}")
        for layer, value in player.named_parameters():
            if value.requires_grad:
                print(f"  {layer:64} {'×'.join(map(str, value.shape)) or '1':>20} {value.numel():>12,}")


def written(told: float | None, count: int) -> str:
    """A published count in millions, and how far ours is from it."""
    return "" if told is None else f"{told:g} M ({count / told / 1e4 - 100:+.1f} %)"


if __name__ == "__main__":
    main()
