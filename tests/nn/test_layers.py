"""The parts that networks are built from."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparring.core.adversarial import mixes_samples
from sparring.errors import UserError
from sparring.nn.attention import MultiHeadAttention, maps, position_code, tokens
from sparring.nn.basis import DiscriminativeBasis, GenerativeBasis
from sparring.nn.condition import Head, append_label
from sparring.nn.conv_recurrent import ConvGRU
from sparring.nn.fusion import FUSIONS
from sparring.nn.layers import doubling, norm_layer
from sparring.nn.mlp import MLP, VectorDiscriminator
from sparring.nn.resample import ladder, resize, rung_kernel
from sparring.nn.residual import InvertedResidual

torch.set_num_threads(1)
SIDES = st.integers(4, 300)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_ladder_of_the_usual_sizes() -> None:
    assert ladder(64, 64) == [(4, 4), (8, 8), (16, 16), (32, 32), (64, 64)]
    assert ladder(28, 28) == [(7, 7), (14, 14), (28, 28)]
    assert ladder(33, 20) == [(5, 5), (9, 5), (17, 10), (33, 20)]
    assert ladder(8, 8, rungs=3) == [(2, 2), (4, 4), (8, 8)]


@given(SIDES, SIDES)
def test_ladder_starts_small_and_each_rung_is_half_of_the_next_or_as_large(height: int, width: int) -> None:
    sizes = ladder(height, width)
    assert sizes[-1] == (height, width) and max(sizes[0]) < 8 and min(sizes[0]) >= 4
    for small, large in pairwise(sizes):
        assert all(few in ((many + 1) // 2, many) for few, many in zip(small, large, strict=True))


def test_ladder_refuses_what_no_network_can_draw() -> None:
    with pytest.raises(UserError, match="at least 4"):
        ladder(3, 64)


@given(st.integers(4, 40), st.integers(4, 40))
def test_convolutions_reach_each_rung_exactly_in_both_directions(height: int, width: int) -> None:
    sizes = ladder(height, width, rungs=2)
    for small, large in pairwise(sizes):
        kernel = rung_kernel(small, large)
        assert nn.Conv2d(1, 1, *kernel)(torch.zeros(1, 1, *large)).shape[2:] == small
        assert nn.ConvTranspose2d(1, 1, *kernel)(torch.zeros(1, 1, *small)).shape[2:] == large


@pytest.mark.parametrize("size", [(8, 8), (4, 4), (5, 3), (16, 16), (15, 11)])
def test_resize_keeps_a_constant_image_and_has_a_second_derivative(size: tuple[int, int]) -> None:
    assert resize(torch.full((1, 1, 8, 8), 3.0), size).allclose(torch.tensor(3.0))
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: resize(x, size).square(), (x,), fast_mode=True)


def test_halving_averages_and_keeps_the_mean() -> None:
    x = torch.randn(2, 3, 12, 16)
    assert resize(x, (6, 8)).mean().isclose(x.mean(), atol=1e-6)


def test_widths_double_up_to_the_cap() -> None:
    assert doubling(64, 4) == [64, 128, 256, 512]
    assert doubling(64, 6) == [64, 128, 256, 512, 512, 512]
    assert doubling(16, 3, max_width=32) == [16, 32, 32]


@pytest.mark.parametrize("norm", ["layer", "instance", "group", "none"])
def test_only_batch_norm_mixes_samples(norm: str) -> None:
    layer = norm_layer(norm, 12)  # type: ignore[arg-type]
    a, b = torch.randn(2, 12, 5, 5), torch.randn(3, 12, 5, 5)
    assert layer(torch.cat([a, b])).allclose(torch.cat([layer(a), layer(b)]), atol=1e-6)
    assert not mixes_samples(layer)
    assert mixes_samples(nn.Sequential(norm_layer("batch", 12)))


def test_label_joins_vectors_as_one_hot_and_maps_as_planes() -> None:
    label = torch.tensor([2, 0])
    assert append_label(torch.zeros(2, 1), label, 3).tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]
    planes = append_label(torch.zeros(2, 1, 4, 5), label, 3)
    assert planes.shape == (2, 4, 4, 5) and planes[0, 3].eq(1).all() and planes[0, :3].eq(0).all()


def test_missing_label_is_refused_and_never_guessed() -> None:
    with pytest.raises(ValueError, match="built for 3 classes"):
        append_label(torch.zeros(2, 1), None, 3)
    with pytest.raises(ValueError, match="built for 3 classes"):
        Head(4, 3)(torch.zeros(2, 4))


def test_projection_head_adds_the_inner_product_with_the_class_embedding() -> None:
    head, features, label = Head(6, 4), torch.randn(3, 6), torch.tensor([3, 1, 1])
    assert head.embedding is not None
    expected = features @ head.linear.weight[0] + head.linear.bias
    expected = expected + torch.stack([head.embedding.weight[y] @ phi for y, phi in zip(label, features, strict=True)])
    assert head(features, label).allclose(expected, atol=1e-6)


def test_inverted_residual_starts_as_the_identity_and_counts_its_groups() -> None:
    block, x = InvertedResidual(8, depth=4, group_size=4), torch.randn(2, 8, 5, 7)
    assert block(x).equal(x)
    assert block.spatial.weight.shape == (16, 4, 3, 3)
    with pytest.raises(UserError, match="does not divide"):
        InvertedResidual(8, depth=4, group_size=5)


def test_inverted_residual_shrinks_with_the_network_s_depth_as_fixup_says() -> None:
    shallow, deep = (InvertedResidual(64, depth=depth).spatial.weight.std() for depth in (1, 16))
    assert (deep / shallow).item() == pytest.approx(16**-0.25, rel=0.02)


def test_bases_keep_unit_variance() -> None:
    made = GenerativeBasis(64, 128, (4, 4))(torch.randn(256, 64))
    assert made.shape == (256, 128, 4, 4) and made.std().item() == pytest.approx(1, rel=0.2)
    read = DiscriminativeBasis(128, (4, 4))(torch.randn(256, 128, 4, 4))
    assert read.shape == (256, 128) and read.std().item() == pytest.approx(1, rel=0.2)


def test_discriminative_basis_is_a_depthwise_convolution() -> None:
    basis, x = DiscriminativeBasis(3, (4, 5)), torch.randn(2, 3, 4, 5)
    expected = nn.functional.conv2d(x, basis.basis[:, None], groups=3).flatten(1)
    assert basis(x).allclose(expected, atol=1e-5)


def test_attention_agrees_with_torch_and_can_be_differentiated_twice() -> None:
    attention = MultiHeadAttention(8, 8, heads=2).double()
    reference = nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        weights = [attention.query.weight, attention.key.weight, attention.value.weight]
        reference.in_proj_weight.copy_(torch.cat(weights))
        reference.in_proj_bias.zero_()[16:].copy_(attention.value.bias)
        reference.out_proj.load_state_dict(attention.out.state_dict())
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, 7, 8, dtype=torch.float64, requires_grad=True)
    assert attention(x, context).allclose(reference(x, context, context)[0])
    assert torch.autograd.gradgradcheck(attention, (x, context), fast_mode=True)


def test_tokens_and_maps_are_each_other_s_inverse() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert maps(tokens(x), (4, 5)).equal(x)


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 10])
def test_position_code_has_the_asked_width(channels: int) -> None:
    assert position_code((3, 5), channels).shape == (15, channels)


def test_position_code_tells_all_places_apart() -> None:
    assert torch.pdist(position_code((8, 8), 16)).min() > 0.1


def test_conv_gru_keeps_its_state_where_the_update_gate_is_shut() -> None:
    cell, x, state = ConvGRU(2, 3), torch.randn(1, 2, 4, 5), torch.randn(1, 3, 4, 5)
    assert cell.gates.bias is not None
    with torch.no_grad():
        cell.gates.bias[:3] = -1e4
    assert cell(x, state).allclose(state)
    assert cell(x).shape == state.shape


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_scale_hears_every_other(fusion: str) -> None:
    channels, sizes = [8, 6, 4], [(3, 2), (5, 4), (9, 7)]
    layer = FUSIONS[fusion](channels, sizes)
    streams = [torch.randn(2, count, *size) for count, size in zip(channels, sizes, strict=True)]
    before = layer(streams)
    assert [x.shape for x in before] == [x.shape for x in streams]
    for source in range(3):
        # A random change: attention normalises a constant shift of all channels away.
        changed = [x + torch.randn_like(x) if index == source else x for index, x in enumerate(streams)]
        differences = [(a - b).abs().max().item() for a, b in zip(layer(changed), before, strict=True)]
        assert min(differences) > 1e-4


def test_attention_s_cost_is_bounded_whatever_the_image() -> None:
    layer = FUSIONS["attention"]([4, 4], [(64, 64), (128, 128)])
    assert sum(buffer.shape[0] for buffer in layer.buffers()) == 2 * (16 * 16 + 8 * 8)


def test_mlp_has_the_widths_given_and_no_norm_in_its_first_layer() -> None:
    mlp = MLP(3, [8, 16], norm="batch", dropout=0.5)
    assert mlp(torch.randn(4, 3)).shape == (4, 16)
    assert [type(layer).__name__ for layer in mlp] == [
        "Linear", "LeakyReLU", "Dropout", "Linear", "BatchNorm1d", "LeakyReLU", "Dropout",
    ]  # fmt: skip


def test_vector_discriminator_judges_code_and_label() -> None:
    network, code = VectorDiscriminator(5, 3, width=8), torch.randn(4, 5)
    features = network.features(code, torch.tensor([0, 1, 2, 0]))
    assert features.shape == (4, network.feature_count)
    assert network(code, torch.tensor([0, 1, 2, 0])).equal(network.score(features))
    assert not network(code, torch.tensor([1, 2, 0, 1])).allclose(network.score(features))
