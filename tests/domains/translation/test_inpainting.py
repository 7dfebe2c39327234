"""Inpainting: holes are drawn, kept apart from what is known, and filled and judged as the papers say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restored import Photographs, build
from sparring.core.game import Batch, DataSpec, Turn
from sparring.domains import open_domain
from sparring.domains.translation.games.inpainting import finished, mean_within, total_variation, with_holes
from sparring.domains.translation.holes import draw_masks, rectangles, strokes
from sparring.domains.translation.networks.filling import (
    ContextEncoder,
    GatedNetwork,
    PartialBlock,
    PartialUNet,
    closed,
)
from sparring.domains.translation.networks.hole_judges import (
    FeaturePatchDiscriminator,
    GlobalLocalDiscriminator,
    windows,
)
from sparring.errors import UserError
from sparring.recipe import load_recipe

CPU = torch.device("cpu")


@pytest.fixture
def photographs() -> Batch:
    return Photographs().batch(torch.arange(4))


@pytest.mark.parametrize("kind", ["free", "rectangle", "centre"])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_masks_are_holes_of_some_size_and_not_of_all(kind: str, size: tuple[int, int]) -> None:
    masks = draw_masks({kind: 1.0}, 64, size, CPU, torch.Generator().manual_seed(0))
    assert masks.shape == (64, 1, *size) and set(masks.unique().tolist()) == {0.0, 1.0}
    shares = masks.mean((1, 2, 3))
    assert shares.min() > 0 and shares.max() < 0.8
    assert kind == "centre" or len({each.sum().item() for each in masks}) > 10


def test_a_centre_mask_is_the_middle_half() -> None:
    mask = draw_masks({"centre": 1.0}, 1, (8, 12), CPU)[0, 0]
    assert mask.sum() == 4 * 6 and mask[2:6, 3:9].all()


def test_a_stroke_is_connected_and_as_wide_at_every_resolution() -> None:
    small, large = (strokes(16, (side, side), CPU, torch.Generator().manual_seed(3)) for side in (32, 128))
    assert torch.allclose(small.mean((1, 2, 3)), large.mean((1, 2, 3)), atol=0.05)
    assert (
        torch.allclose(F.avg_pool2d(large, 4), small, atol=1.0) and (F.avg_pool2d(large, 4) - small).abs().mean() < 0.1
    )


def test_rectangles_lie_inside() -> None:
    masks = rectangles(200, (16, 16), CPU, torch.Generator().manual_seed(0))
    sides = masks[:, 0].amax(1).sum(1)
    assert sides.min() >= 4 and sides.max() <= 8
    assert torch.equal(masks.sum((1, 2, 3)), sides * masks[:, 0].amax(2).sum(1))


def test_kinds_of_masks_come_as_often_as_they_should() -> None:
    centre = draw_masks({"centre": 1.0}, 1, (16, 16), CPU)
    masks = draw_masks({"free": 1.0, "centre": 3.0}, 400, (16, 16), CPU, torch.Generator().manual_seed(0))
    assert (masks == centre).all(dim=(1, 2, 3)).float().mean() == pytest.approx(0.75, abs=0.07)


@pytest.mark.parametrize("masks", ["{round: 1}", "{free: 0}", "{free: -1}"])
def test_masks_that_cannot_be_are_refused(masks: str) -> None:
    with pytest.raises(UserError, match=r"model\.masks"):
        build("inpaint", f"model.masks={masks}".replace("{free", "{centre: 0, free"))


def test_what_is_known_is_kept_bit_for_bit(photographs: Batch) -> None:
    game = build("inpaint").eval()
    mask = draw_masks({"free": 1.0}, 4, (32, 32), CPU, torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = game.translate(Batch(data=photographs["data"], mask=mask))
    assert torch.equal(made["source"], with_holes(photographs["data"], mask))
    known = (mask == 0).expand(-1, 3, -1, -1)
    assert torch.equal(made["data"][known], photographs["data"][known])
    assert not torch.equal(made["data"][~known], photographs["data"][~known])
    assert (made["input"][(mask == 1).expand(-1, 3, -1, -1)] == 255).all()


def test_what_lies_in_the_hole_does_not_reach_the_generator(photographs: Batch) -> None:
    game = build("inpaint").eval()
    mask = draw_masks({"centre": 1.0}, 4, (32, 32), CPU)
    other = torch.where(mask == 1, torch.zeros(()), photographs["data"])
    with torch.no_grad():
        made, same = (game.translate(Batch(data=each, mask=mask))["data"] for each in (photographs["data"], other))
    assert torch.equal(made, same)


def test_inputs_without_a_mask_are_refused(photographs: Batch) -> None:
    with pytest.raises(UserError, match="mask"):
        build("inpaint").eval().translate(Batch(source=photographs["data"]))


def test_losses_of_inpainting_by_their_formulas(photographs: Batch) -> None:
    game = build(
        "inpaint", "loss.hole=2", "loss.known=3", "loss.variation=5", "loss.l2=7", "loss.adversarial=0"
    ).train()
    losses = game.loss(Turn("generator"), photographs, 0)
    source, real = game.source_of(photographs), photographs["data"]
    mask = source[:, -1:].bool().expand(-1, 3, -1, -1)
    painted = game.generator(source)
    difference = (painted - real).abs()
    assert losses["hole"].item() == pytest.approx(2 * difference[mask].mean().item(), rel=1e-5)
    assert losses["known"].item() == pytest.approx(3 * difference[~mask].mean().item(), rel=1e-5)
    whole = finished(source, painted)
    assert losses["l2"].item() == pytest.approx(7 * F.mse_loss(whole, real).item(), rel=1e-5)
    assert losses["variation"].item() == pytest.approx(5 * total_variation(whole, source[:, -1:]).item(), rel=1e-5)


def test_the_variation_of_a_hole_looks_at_it_and_a_pixel_around() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 3:5, 3:5] = 1
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert total_variation(ramp, mask) == pytest.approx(1.0)
    outside = ramp.clone()
    outside[..., 0, 0] = 99
    assert total_variation(outside, mask) == pytest.approx(1.0)
    assert mean_within(torch.zeros(1, 1, 2, 2), torch.ones(1, 3, 2, 2)) == 0


def test_a_partial_convolution_by_its_formula() -> None:
    torch.manual_seed(0)
    block = PartialBlock(2, 3, 3, 1, "none", nn.Identity())
    x, known = torch.randn(1, 2, 6, 6), torch.ones(1, 2, 6, 6)
    known[..., :4, :4] = 0
    y, seen = block(x, known)
    weight, bias = block.convolution.weight, block.convolution.bias
    # A window with a corner cut out: five of nine places are known.
    window, mask = x[0, :, 3:6, 3:6], known[0, :, 3:6, 3:6]
    expected = (weight * (window * mask)).sum((1, 2, 3)) * 18 / mask.sum() + bias
    assert torch.allclose(y[0, :, 4, 4], expected, atol=1e-5)
    assert (y[0, :, 1, 1] == 0).all() and (seen[0, :, 1, 1] == 0).all() and (seen[0, :, 3, 3] == 1).all()


def test_partial_convolutions_of_all_that_is_known_are_plain_ones() -> None:
    torch.manual_seed(0)
    block = PartialBlock(2, 3, 3, 2, "none", nn.Identity())
    x = torch.randn(2, 2, 8, 8)
    y, _ = block(x, torch.ones_like(x))
    assert torch.allclose(y[..., 1:-1, 1:-1], block.convolution(x)[..., 1:-1, 1:-1], atol=1e-6)


@pytest.mark.parametrize("name", ["partial", "gated", "context"])
@pytest.mark.parametrize("judge", ["feature_patch", "global_local"])
def test_every_pair_of_networks_of_inpainting_plays(name: str, judge: str, photographs: Batch) -> None:
    extra = ", features: 8" if judge == "global_local" else ""
    stages = ", coarse: true" if name == "gated" else ""
    game = build(
        "inpaint", f"model.generator={{name: {name}, width: 2{stages}}}", f"model.discriminator={{name: {judge}, width: 2, depth: 3{extra}}}",
        "loss.coarse=1",
    ).train()  # fmt: skip
    parts: dict[str, Tensor] = {}
    for turn in game.turns(0):
        losses = game.loss(turn, photographs, 0)
        losses.total.backward(inputs=[*game.players()[turn.player].parameters()])
        parts |= losses
    assert all(each.isfinite() for each in parts.values()) and ("coarse" in parts) == (name == "gated")


def test_a_context_encoder_says_which_size_it_paints() -> None:
    network = ContextEncoder(4, (3, 32, 32), width=2)
    with pytest.raises(UserError, match="32×32 pixels alone"):
        network(torch.zeros(1, 4, 64, 32))


def test_a_context_encoder_sees_every_place_from_every_place() -> None:
    torch.manual_seed(0)
    network = ContextEncoder(4, (3, 32, 32), width=4).eval()
    source = torch.rand(1, 4, 32, 32, requires_grad=True)
    network(source)[0, 0, 31, 31].backward()
    assert source.grad is not None and source.grad[0, 0, :4, :4].abs().sum() > 0


@pytest.mark.parametrize("network", [PartialUNet, GatedNetwork])
def test_fillers_take_multiples_of_their_stride(network: type[nn.Module]) -> None:
    made = network(4, (3, 32, 32), width=2).eval()
    sides = (made.stride * 2, made.stride * 3)
    assert made(torch.rand(1, 4, *sides)).shape == (1, 3, *sides)


@pytest.mark.parametrize("sides", [(64, 64), (23, 40), (1, 9)])
def test_a_closed_hole_keeps_what_is_known_and_stays_within_it(sides: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *sides, generator=torch.Generator().manual_seed(0)) + 1
    mask = (torch.rand(2, 1, *sides, generator=torch.Generator().manual_seed(1)) < 0.7).float()
    mask[..., 0, 0] = 0
    made = closed(image * (1 - mask), mask)
    known = mask.expand_as(image) < 0.5
    assert torch.equal(made[known], image[known])
    for own, whole, seen in zip(made, image, known, strict=True):
        assert own.min() >= whole[seen].min() - 1e-5 and own.max() <= whole[seen].max() + 1e-5


def test_a_hole_in_a_slope_is_closed_by_the_slope() -> None:
    slope = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    assert (closed(slope * (1 - mask), mask) - slope).abs().max() < 0.05
    assert not closed(torch.zeros(1, 1, 5, 7), torch.ones(1, 1, 5, 7)).any()  # nothing is known


def test_a_smooth_start_is_painted_upon_and_what_paints_nothing_yet_still_learns() -> None:
    network = GatedNetwork(4, (3, 32, 32), width=4, smooth=True)
    source = torch.rand(1, 4, 32, 32).round()
    smooth = closed(source[:, :-1], source[:, -1:])
    assert (network(source) - smooth).abs().max() > 0
    for stage in (network.coarse, network.fine):
        assert stage is not None
        for weights in stage[-2].parameters():  # the last convolution
            torch.nn.init.zeros_(weights)
    first, second = network.stages(source)
    assert torch.equal(first, smooth) and torch.equal(second, torch.where(source[:, -1:] > 0.5, first, smooth))
    (first - 1).square().mean().backward()
    # A learnt factor of what is painted would fall to 0 and stay there.
    assert network.coarse[-2].weight.grad.norm() > 1e-3


@pytest.mark.parametrize("name", ["inpaint", "inpaint-256"])
def test_what_is_known_reaches_the_last_gate_and_the_loss_the_first(name: str) -> None:
    recipe = load_recipe(name).override(["model.generator.width=8", "model.discriminator.width=8"])
    torch.manual_seed(0)
    network = open_domain("translation").build_game(recipe, DataSpec((3, 64, 64), (), 10, {"paired": False})).generator
    source = torch.rand(2, 4, 64, 64).round()
    made = network(source)
    (made - 1).square().mean().backward()
    painted = made - closed(source[:, :-1], source[:, -1:])
    assert painted.std() > 1e-3
    assert all(weights.grad.norm() > 1e-4 for weights in network.fine[0].parameters())


def test_a_window_is_cut_around_the_hole_and_inside_the_image() -> None:
    images = torch.arange(64.0).view(1, 1, 8, 8).repeat(2, 1, 1, 1)
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, 0, 3:5, 2:4] = 1
    masks[1, 0, 7, 7] = 1
    parts = windows(images, masks, (4, 4))
    assert torch.equal(parts[0], images[0, :, 2:6, 1:5]) and torch.equal(parts[1], images[1, :, 4:, 4:])


def test_discriminators_of_holes_judge_as_they_should() -> None:
    samples, mask = torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32)
    assert FeaturePatchDiscriminator(1, (3, 32, 32), width=4, depth=3)(samples, mask).shape == (2, 16, 4, 4)
    assert GlobalLocalDiscriminator(1, (3, 32, 32), width=4, features=8)(samples, mask).shape == (2, 1)
