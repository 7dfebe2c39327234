"""MedGAN: cascaded U-blocks, and losses of content and style."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.translation.games.medgan import MedganGame, content_loss, style_loss
from sparring.domains.translation.networks.casnet import CasNet
from sparring.errors import UserError
from sparring.recipe import load_recipe
from sparring.training.engine import seed_everything

D, G = Turn("discriminator", keep=True), Turn("generator", fresh=False)
SMALL = ("model.generator.width=4", "model.generator.depth=3", "model.discriminator.width=4", "data.size=16")


def make_game(*keys: str) -> MedganGame:
    seed_everything(0)
    spec = DataSpec((1, 16, 16), (), 8, {"paired": True, "input": {"kind": "image", "channels": 1}})
    keys = ("loss.perceptual_network=own", *keys)
    game: Any = open_domain("translation").build_game(load_recipe("medgan").override([*SMALL, *keys]), spec)
    return game.train()


def make_batch(size: tuple[int, int] = (16, 16)) -> Batch:
    rng = torch.Generator().manual_seed(1)
    return Batch({name: torch.rand(3, 1, *size, generator=rng) * 2 - 1 for name in ("data", "source")})


def test_the_cascade_of_the_paper_is_six_networks_of_pix2pix() -> None:
    with torch.device("meta"):
        network = CasNet(1, (1, 256, 256), depth=8)
    # 54.41 million are pix2pix's for three channels; of a block for one, 4,098 less.
    assert [round(sum(p.numel() for p in block.parameters()) / 1e6, 2) for block in network.blocks] == [54.41] * 6
    assert network.stride == 256


def test_every_block_refines_the_image_of_the_one_before() -> None:
    network = CasNet(2, (1, 16, 16), blocks=3, width=4, depth=3)
    source = torch.rand(2, 2, 16, 16)
    image = source
    for block in network.blocks:
        image = block(image)
        assert image.shape == (2, 1, 16, 16)
    assert torch.equal(network(source), image)


def test_blocks_of_a_residual_cascade_add_to_the_image_they_see() -> None:
    network = CasNet(1, (1, 16, 16), blocks=2, width=4, depth=3, residual=True)
    source = torch.rand(2, 1, 16, 16) * 2 - 1
    first = (source + network.blocks[0](source)).clamp(-1, 1)
    assert torch.equal(network(source), (first + network.blocks[1](first)).clamp(-1, 1))
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(network(source), source)
    with pytest.raises(UserError, match=r"model\.generator\.residual: inputs have 3 channels and outputs 1"):
        CasNet(3, (1, 16, 16), blocks=1, width=4, depth=3, residual=True)


def test_content_and_style_are_their_formulas() -> None:
    rng = np.random.default_rng(0)
    real, fake = ([rng.normal(size=(2, d, h, h + 1)) for d, h in ((3, 4), (5, 2))] for _ in range(2))

    def gram(maps: Any) -> Any:
        return np.einsum("dhw,ehw->de", maps, maps) / maps.size

    content = sum(
        np.mean([((a - b) ** 2).sum() / a.size for a, b in zip(x, y, strict=True)])
        for x, y in zip(real, fake, strict=True)
    )
    style = sum(
        np.mean([((gram(a) - gram(b)) ** 2).sum() / (4 * len(a) ** 2) for a, b in zip(x, y, strict=True)])
        for x, y in zip(real, fake, strict=True)
    )  # fmt: skip
    mine, theirs = ([torch.from_numpy(each) for each in side] for side in (fake, real))
    assert content_loss(theirs, mine).item() == pytest.approx(content, rel=1e-5)
    assert style_loss(theirs, mine).item() == pytest.approx(style, rel=1e-5)


def test_every_part_of_the_loss_reaches_every_block() -> None:
    game = make_game()
    losses = game.loss(G, make_batch(), 0)
    assert set(losses) == {"adversarial", "matching", "l1", "content", "style"}
    first = game.generator.blocks[0].down[0][0].weight  # type: ignore[union-attr,index]
    for name, part in losses.items():
        (gradient,) = torch.autograd.grad(part, [first], retain_graph=True)
        assert gradient.abs().sum() > 0, name


def test_the_frozen_network_is_there_for_content_alone_and_is_no_players() -> None:
    game = make_game("loss.style=0", "loss.perceptual=0")
    assert game.perceptual is not None
    mine = {id(p) for player in game.players().values() for p in player.parameters()}
    assert not any(id(p) in mine or p.requires_grad for p in game.perceptual.parameters())
    assert make_game("loss.style=0", "loss.content=0").perceptual is None


def test_inputs_of_any_size_keep_it() -> None:
    game = make_game().eval()
    assert game.translate(make_batch((13, 21)))["data"].shape == (3, 1, 13, 21)


def test_the_recipe_of_the_paper_builds_and_plays_three_turns_of_the_generator() -> None:
    recipe = load_recipe("medgan-256")
    spec = DataSpec((1, 256, 256), (), 8, {"paired": True, "input": {"kind": "image", "channels": 1}})
    with torch.device("meta"):
        game: Any = open_domain("translation").build_game(recipe.override(["loss.perceptual_network=own"]), spec)
    assert len(game.generator.blocks) == 6 and (game.weights.matching, game.weights.l1) == (20, 20)
    with torch.device("cpu"):
        small = make_game("train.turns.generator=3")
    assert [turn.player for turn in small.turns(0)] == ["discriminator"] + ["generator"] * 3
