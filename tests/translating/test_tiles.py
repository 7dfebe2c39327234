"""Tiles: together they are the picture, whatever its size, and what is translated in them is what is translated whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparring.domains.translation import tiles
from sparring.domains.translation.tiles import (
    Grid,
    bytes_per_pixel,
    choose_tile,
    common_statistics,
    lay,
    translate_tiled,
)
from sparring.errors import UserError

torch.set_num_threads(1)


def as_floats(made: Tensor) -> np.ndarray:
    return made.permute(1, 2, 0).numpy().copy()


def small_network(scale: int = 1) -> nn.Module:
    """Halves once, sees nine pixels to each side, has no norms."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 6, 4, 2, 1), nn.Tanh(), nn.Conv2d(6, 6, 3, padding=1), nn.Tanh(),
        nn.ConvTranspose2d(6, 6, 4, 2, 1), nn.Tanh(),
    ]  # fmt: skip
    layers += [nn.Upsample(scale_factor=scale), nn.Conv2d(6, 3, 3, padding=1)]
    network = nn.Sequential(*layers).eval()
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    return network


sizes = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(height=sizes, width=sizes, tile=st.integers(2, 12), share=st.floats(0, 0.5), stride=st.sampled_from([1, 2, 4]))
def test_tiles_cover_the_picture_overlap_as_asked_and_weigh_one_everywhere(
    height: int, width: int, tile: int, share: float, stride: int
) -> None:
    height, width, tile = height * stride, width * stride, tile * stride
    overlap = int(tile * share)
    grid = lay(height, width, tile, overlap, stride)
    for size, spans in ((height, grid.rows), (width, grid.columns)):
        assert spans[0][0] == 0 and spans[-1][1] == size
        assert all(start % stride == 0 for start, _ in spans) or tile - overlap < stride
        assert all(end - begin >= overlap for (_, end), (begin, _) in itertools.pairwise(spans))
        assert all(begin < later for (begin, _), (later, _) in itertools.pairwise(spans))
    ones = translate_tiled(lambda x: x, lambda r, c: torch.ones(1, 1, r[1] - r[0], c[1] - c[0]), grid, as_floats)
    assert ones.shape == (height, width, 1)
    assert np.abs(ones - 1).max() < 1e-6


@pytest.mark.parametrize("scale", [1, 3])
def test_what_sees_little_is_the_same_in_tiles_and_whole(scale: int) -> None:
    network = small_network(scale)
    picture = torch.rand(1, 3, 150, 94, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = network(picture)[0]
        grid = lay(150, 94, 80, 40, 2)
        assert len(grid) > 4
        tiled = translate_tiled(network, lambda r, c: picture[:, :, slice(*r), slice(*c)], grid, as_floats, scale=scale)
    assert np.abs(tiled - as_floats(whole)).max() < 1e-5  # rounding


def test_without_enough_overlap_the_borders_of_tiles_show() -> None:
    """So that the test above could fail."""
    network = small_network()
    picture = torch.rand(1, 3, 150, 94, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tiled = translate_tiled(
            network, lambda r, c: picture[:, :, slice(*r), slice(*c)], lay(150, 94, 80, 4, 2), as_floats
        )
        assert np.abs(tiled - as_floats(network(picture)[0])).max() > 1e-3


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (100, 0, "multiples of 64: say 64 or 128"),
        (30, 0, "multiples of 64: say 64 or 128"),
        (128, 65, "tiles of 128 overlap by 0 to 64"),
    ],
)
def test_sizes_that_cannot_be_say_which_can(tile: int, overlap: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        lay(500, 500, tile, overlap, 64)


def test_memory_holds_one_row_of_tiles() -> None:
    height, width, tile = 4096, 512, 32
    grid = lay(height, width, tile, 8, 1)

    def run() -> None:
        translate_tiled(lambda x: x, lambda r, c: torch.zeros(1, 1, r[1] - r[0], c[1] - c[0]), grid, as_floats)

    assert bytes_per_pixel(run, 1) < 5 * tile * width * 4 < height * width * 4 / 10


def test_bytes_are_counted_at_their_peak() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 1, bias=False), nn.ReLU(), nn.Conv2d(8, 2, 1, bias=False))
    picture = torch.zeros(1, 1, 32, 32)
    with torch.no_grad():
        # At most two maps of 8 channels are alive, before and after the ReLU.
        assert bytes_per_pixel(lambda: network(picture), 32 * 32) == pytest.approx(2 * 8 * 4)


def test_a_picture_is_cut_when_its_activations_exceed_the_budget() -> None:
    cost = 1024.0
    fits = int((tiles.BUDGET / cost) ** 0.5)
    assert choose_tile(fits, fits, cost, 1) is None
    tile = choose_tile(2 * fits, fits, cost, 64)
    assert tile is not None and tile % 64 == 0 and tile * tile * cost <= tiles.BUDGET < (tile + 64) ** 2 * cost
    assert choose_tile(8192, 8192, 1e6, 256) == 256, "no tile is smaller than the generator takes"


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)])
def test_with_common_statistics_a_tile_is_a_part_of_the_whole(norm: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), norm, nn.ReLU(), nn.Conv2d(4, 4, 1), norm.__class__(*arguments(norm)))
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 1, 32)
    quarters = torch.cat([half for each in picture.chunk(2, 2) for half in each.chunk(2, 3)])
    with torch.no_grad():
        whole = network(picture)
        assert (network(quarters[:1]) - whole[..., :16, :16]).abs().max() > 0.1
        with common_statistics([network], lambda: network(quarters)) as norms:
            assert norms == 2
            assert torch.allclose(network(quarters[:1]), whole[..., :16, :16], atol=1e-5)
        assert torch.equal(network(picture), whole), "afterwards the network is what it was"


def arguments(norm: nn.Module) -> tuple[int, ...]:
    return (norm.num_groups, norm.num_channels) if isinstance(norm, nn.GroupNorm) else (4,)


def test_patches_are_spread_over_the_picture_and_cost_no_more_than_a_tile() -> None:
    grid = lay(1000, 2000, 256, 64, 4)
    patches = grid.patches(4)
    assert len(patches) == 16
    assert sum((bottom - top) * (right - left) for (top, bottom), (left, right) in patches) <= 256**2
    assert {(0, 64), (936, 1000)} <= {rows for rows, _ in patches}
    assert Grid(((0, 256), (128, 384)), ((0, 256),)).patches(256) == [((64, 320), (0, 256))]


def test_seams_lie_in_the_middle_of_overlaps() -> None:
    assert Grid(((0, 64), (48, 112), (96, 160)), ((0, 64),)).seams == ([56, 104], [])
