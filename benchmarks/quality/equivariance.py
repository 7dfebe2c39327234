"""How well images follow when their input is moved: EQ-T and EQ-R of alias-free generators, and of StyleGAN2's layers.

    python benchmarks/quality/equivariance.py [RUN …] [--size 32] [--samples 128]

Without runs, untrained networks: the small presets with their own margin and the paper's, and StyleGAN2's synthesis on the
same Fourier features in place of its constant (configuration B of Karras et al. 2021). Images are scaled to a deviation of ½,
which untrained networks do not have of themselves. RUN: trained ones, measured as `sparring evaluate --metrics equivariance` does.
"""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sparring.domains.image import motion
from sparring.domains.image.networks.stylegan2 import Stylegan2Generator
from sparring.domains.image.networks.stylegan3 import Stylegan3Generator
from sparring.nn.alias_free import FourierFeatures, Signal
from sparring.recipe import load_recipe
from sparring.trained import load

DEVIATION = 0.5


class Scaled(nn.Module):
    """A synthesis whose images have the deviation that data have."""

    def __init__(self, synthesis: nn.Module, codes: Tensor) -> None:
        super().__init__()
        self.synthesis = synthesis
        self.factor = DEVIATION / float(synthesis(codes).std())

    def forward(self, codes: Tensor, transform: Tensor | None = None) -> Tensor:
        return self.synthesis(codes, transform=transform) * self.factor


class OnWaves(nn.Module):
    """StyleGAN2's synthesis on Fourier features in place of its constant."""

    def __init__(self, generator: Stylegan2Generator, size: tuple[int, int], code: int) -> None:
        super().__init__()
        self.synthesis = generator.synthesis
        first = self.synthesis.sizes[0]
        rate = max(first)
        self.features = FourierFeatures(code, len(self.synthesis.constant), Signal(first, rate, rate / 4, rate / 4))
        del self.synthesis.constant

    def forward(self, codes: Tensor, transform: Tensor | None = None) -> Tensor:
        self.synthesis.constant = self.features(codes[:, 0], transform)
        return self.synthesis(codes, "constant")


def figures(game: Any, samples: int) -> dict[str, float]:
    """EQ-T, EQ-T of parts of pixels and EQ-R, in dB."""
    motion.SAMPLES = samples
    with torch.no_grad():
        seen = motion.probe(game, 0)
    return {name: value.number for name, value in motion.measure(seen.rows, seen.rows, 0).items()}


def untrained(generator: nn.Module, synthesis: nn.Module, samples: int) -> dict[str, float]:
    """Figures of a network as it is built, once its layers know their magnitudes."""
    latent = generator.mapping.latent

    def draw(count: int, *, rng: torch.Generator) -> dict[str, Tensor]:
        codes = generator.mapping(torch.randn(count, latent, generator=rng))
        return {"code": codes[:, None].expand(-1, generator.layers, -1)}

    with torch.no_grad():
        generator.eval()
        codes = draw(16, rng=torch.Generator().manual_seed(1))["code"]
        synthesis.train()
        for module in synthesis.modules():
            if hasattr(module, "half_life"):
                module.half_life = 1
        for _ in range(3):
            synthesis(codes)
        synthesis.eval()
        scaled = Scaled(synthesis, codes)
    game = SimpleNamespace(
        generator=SimpleNamespace(movable=True, synthesis=scaled), draw_codes=draw, device=torch.device("cpu")
    )
    return figures(game, samples)


def main() -> None:
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--samples", type=int, default=128)
    given = parser.parse_args()
    print("| network | EQ-T | EQ-T, parts of a pixel | EQ-R |\n|---|---|---|---|")

    def row(name: str, found: dict[str, float]) -> None:
        print(f"| {name} |" + "".join(f" {found[each]:.1f} |" for each in motion.FIGURES), flush=True)

    for run in given.runs:
        trained = load(run)
        row(f"`{run}`, step {trained.step:,}", figures(trained.game, given.samples))
    if given.runs:
        return
    shape = (3, given.size, given.size)
    for recipe in ("stylegan3-t", "stylegan3-r"):
        model = load_recipe(recipe).model
        options = {key: value for key, value in model["generator"].items() if key != "name"}
        for margin in (options["margin"], 10):
            torch.manual_seed(0)
            generator = Stylegan3Generator(shape, model["latent"], 0, **{**options, "margin": margin})
            row(f"`{recipe}`, margin {margin}", untrained(generator, generator.synthesis, given.samples))
    torch.manual_seed(0)
    other = Stylegan2Generator(shape, 64, 0, width=18, max_width=32, code=64, mapping=2)
    row("StyleGAN2's layers on Fourier features", untrained(other, OnWaves(other, shape[1:], 64), given.samples))


if __name__ == "__main__":
    main()
