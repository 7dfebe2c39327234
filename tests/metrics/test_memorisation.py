from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sparring.metrics.memorisation import authenticity, copy_share, suspects

torch.set_num_threads(1)


def cloud(count: int, seed: int, width: int = 8) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def train() -> Tensor:
    return cloud(800, seed=0)


@pytest.fixture
def fresh() -> Tensor:
    return cloud(600, seed=1)


def with_copies(train: Tensor, fresh: Tensor, share: float) -> Tensor:
    """Fakes of which a share are training samples with a little noise."""
    count = int(share * len(fresh))
    return torch.cat([train[:count] + 0.01 * cloud(count, seed=2), fresh[count:]])


def test_copies_are_unauthentic_and_strangers_are_authentic(train: Tensor) -> None:
    assert authenticity(train, train.clone()) == 0
    assert authenticity(train, cloud(100, seed=3) + 100) == 1


def test_authenticity_is_alaas_definition(train: Tensor, fresh: Tensor) -> None:
    to_train, among = torch.cdist(fresh.double(), train.double()), torch.cdist(train.double(), train.double())
    spacing = among.fill_diagonal_(torch.inf).amin(1)
    authentic = [to_train[j].min() > spacing[to_train[j].argmin()] for j in range(len(fresh))]
    assert authenticity(train, fresh) == sum(map(bool, authentic)) / len(fresh)


def test_the_nearest_training_sample_decides_by_its_own_spacing() -> None:
    train = torch.tensor([[0.0], [1.0], [10.0], [14.0]])
    # 0.4 off a sample whose neighbour is at 1, 1.5 off it, and 2 off one whose neighbour is at 4: 0.4, 1.5 and 0.5.
    fake = torch.tensor([[-0.4], [2.5], [16.0]])
    found = suspects(train, fake, count=3)
    assert found.fake.tolist() == [0, 2, 1] and found.train.tolist() == [0, 3, 1]
    assert found.ratio.tolist() == pytest.approx([0.4, 0.5, 1.5])
    assert found.distance.tolist() == pytest.approx([0.4, 2.0, 1.5])
    assert authenticity(train, fake) == pytest.approx(1 / 3)


def test_growing_memorisation_lowers_authenticity_and_raises_the_copy_share(train: Tensor, fresh: Tensor) -> None:
    shares = (0, 0.1, 0.3, 0.6, 1)
    fakes = [with_copies(train, fresh, share) for share in shares]
    scores = [authenticity(train, fake) for fake in fakes]
    assert all(low < high for high, low in pairwise(scores)) and scores[-1] == 0
    found = [copy_share(train, fake) for fake in fakes]
    assert [one.copied for one in found] == pytest.approx(shares, abs=0.02)


def test_growing_noise_on_copies_hides_them(train: Tensor) -> None:
    scores = [authenticity(train, train + scale * cloud(800, seed=4)) for scale in (0.01, 0.3, 0.6, 1.5)]
    assert scores == sorted(scores) and scores[-1] > 0.4 + scores[0]


def test_suspects_are_the_copies_each_with_its_original(train: Tensor, fresh: Tensor) -> None:
    fake = fresh.clone()
    originals = torch.tensor([17, 400, 799])
    fake[[5, 50, 500]] = train[originals] + torch.tensor([[0.01], [0.001], [0.0]])
    found = suspects(train, fake, count=3)
    assert found.fake.tolist() == [500, 50, 5]
    assert found.train.tolist() == [799, 400, 17]
    assert found.distance.tolist() == pytest.approx([0, 0.001 * 8**0.5, 0.01 * 8**0.5], rel=1e-3)
    assert len(suspects(train, fake[:2], count=16).fake) == 2


@pytest.mark.parametrize("width", [2, 20, 200])
def test_as_few_new_samples_fall_below_the_threshold_as_expected(width: int) -> None:
    """Of whatever distribution: here of clusters with tails, no two of one size."""
    scales = torch.linspace(0.1, 3, 1500)[:, None]
    found = [
        copy_share(
            cloud(1500, seed, width).pow(3) * scales, cloud(1500, seed + 9, width).pow(3) * scales, expected=0.05
        )
        for seed in (0, 1)
    ]
    for one in found:
        assert one.expected == pytest.approx(0.05, abs=1e-3)
        assert one.share == pytest.approx(0.05, abs=0.025)


def test_threshold_is_the_ratio_of_held_out_training_samples() -> None:
    train = cloud(120, seed=5)
    ratios = []
    for i in range(120):
        rest = torch.cat([train[:i], train[i + 1 :]])
        ratios.append(float(suspects(rest, train[i : i + 1], count=1).ratio))
    assert copy_share(train, cloud(50, seed=6), expected=0.05).threshold == pytest.approx(sorted(ratios)[5], rel=1e-9)


def test_copies_of_a_training_sample_that_occurs_twice_are_found(train: Tensor, fresh: Tensor) -> None:
    doubled = torch.cat([train, train[:300]])
    fake = torch.cat([train[10:11] + 0.001, fresh])
    assert suspects(doubled, fake, count=1).fake.tolist() == [0]
    assert suspects(doubled, fake, count=1).train.tolist() == [10]
    assert authenticity(doubled, fake) == authenticity(train, fake)
    assert copy_share(doubled, fake) == copy_share(train, fake)


def test_too_few_training_samples_are_an_error(train: Tensor) -> None:
    with pytest.raises(ValueError, match="at least 99 different training samples, not 98"):
        copy_share(train[:98], train)
    copy_share(train[:99], train)
    with pytest.raises(ValueError, match="two training samples that differ"):
        authenticity(torch.ones(5, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        copy_share(train, train, expected=1.0)
