"""Self-attention on maps, and what it looked at."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.core.regularize import spectral_norm
from sparring.nn.self_attention import SelfAttention, attention_at, attention_maps

torch.set_num_threads(1)


def layer(gamma: float = 0.7) -> SelfAttention:
    torch.manual_seed(0)
    layer = SelfAttention(16).double()
    nn.init.constant_(layer.gamma, gamma)
    return layer


def maps(height: int = 4, width: int = 6) -> torch.Tensor:
    return torch.randn(2, 16, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_at_the_start_it_does_nothing_and_learns_to_do_something() -> None:
    attend, x = SelfAttention(16), maps().float()
    y = attend(x)
    assert y.equal(x)
    y.square().sum().backward()
    assert attend.gamma.grad != 0


def test_values_are_those_of_the_sums_over_all_places() -> None:
    attend, x = layer(), maps()
    found = attend(x)
    query, key, value = attend.query(x), attend.key(x), attend.value(x)
    for n, row, column in [(0, 0, 0), (1, 3, 5), (0, 2, 1)]:
        scores, values = [], []
        for top in (0, 2):
            for left in (0, 2, 4):
                place = (n, slice(None), slice(top, top + 2), slice(left, left + 2))
                scores.append(query[n, :, row, column] @ key[place].amax((1, 2)))
                values.append(value[place].amax((1, 2)))
        mixture = torch.stack(scores).softmax(0) @ torch.stack(values)
        expected = x[n, :, row, column] + attend.gamma * attend.out.weight[:, :, 0, 0] @ mixture
        torch.testing.assert_close(found[n, :, row, column], expected)


def test_second_derivatives_are_right() -> None:
    torch.manual_seed(0)
    attend = SelfAttention(4).double()
    nn.init.constant_(attend.gamma, 0.7)
    x = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: attend(x).square().sum(), (x,))


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_maps_are_the_weights_of_the_very_pass(size: tuple[int, int]) -> None:
    network = nn.Sequential(nn.Identity(), layer())
    x = maps(*size)
    with attention_maps(network) as seen:
        y = network(x)
    (weights,) = seen.values()
    assert list(seen) == ["1"]
    assert weights.shape == (2, *size, (size[0] + 1) // 2, (size[1] + 1) // 2)
    torch.testing.assert_close(weights.sum((3, 4)), torch.ones(2, *size, dtype=torch.float64))
    attend = network[1]
    pooled = nn.functional.max_pool2d(attend.value(x), 2, ceil_mode=True)
    torch.testing.assert_close(y, x + attend.gamma * attend.out(torch.einsum("nhwij,ncij->nchw", weights, pooled)))


def test_looking_leaves_no_trace() -> None:
    network = spectral_norm(nn.Sequential(layer(), layer()))
    x = maps()
    torch.manual_seed(5)
    twin = spectral_norm(nn.Sequential(layer(), layer()))
    twin.load_state_dict(network.state_dict())
    plain = [network(x) for _ in range(2)]
    with attention_maps(twin) as seen:
        watched = [twin(x)]
    watched.append(twin(x))
    assert len(seen) == 2
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(plain, watched, strict=True))
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in network.state_dict().items())


def test_it_is_placed_where_the_size_comes_closest() -> None:
    sizes, channels = [(7, 7), (14, 14), (28, 28)], [8, 8, 8]

    def placed(side: int) -> list[int]:
        layers = attention_at(side, sizes, channels)
        return [index for index, each in enumerate(layers) if isinstance(each, SelfAttention)]

    assert placed(16) == placed(14) == [1]
    assert placed(64) == [2]
    assert placed(1) == [0]
    assert placed(0) == []
