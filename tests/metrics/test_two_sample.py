from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from sparring.metrics.two_sample import two_sample

torch.set_num_threads(1)

CLASSIFIERS = ("logistic", "nearest")


def cloud(count: int, seed: int, width: int = 5) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_equal_distributions_cannot_be_told_apart(classifier: str) -> None:
    found = two_sample(cloud(600, seed=0), cloud(600, seed=1), classifier=classifier)
    assert found.accuracy == pytest.approx(0.5, abs=0.06) and found.p_value > 0.05


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_distributions_far_apart_are_told_apart_with_certainty(classifier: str) -> None:
    found = two_sample(cloud(300, seed=0), cloud(300, seed=1) + 8, classifier=classifier)
    assert found.accuracy == found.real_accuracy == found.fake_accuracy == 1
    assert found.p_value < 0.002


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_growing_shift_raises_the_accuracy(classifier: str) -> None:
    found = [two_sample(cloud(500, 0), cloud(500, 1) + shift, classifier=classifier) for shift in (0, 0.5, 1, 2)]
    assert all(near.accuracy < far.accuracy - 0.02 for near, far in pairwise(found))


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_under_equality_small_p_values_are_as_rare_as_they_say(classifier: str) -> None:
    values = []
    for seed in range(30):
        a, b = cloud(100, 2 * seed, width=8), cloud(100, 2 * seed + 1, width=8)
        values.append(two_sample(a, b, classifier=classifier, seed=seed).p_value)
    # 1.5 of 30 are expected below 0.05; 5 or more would have a chance of 2 %.
    assert sum(value < 0.05 for value in values) < 5
    assert np.mean(values) == pytest.approx(0.5, abs=0.2)


def test_nearest_neighbour_left_one_out_is_its_definition() -> None:
    real, fake = cloud(80, seed=2), cloud(80, seed=3) + 0.7
    found = two_sample(real, fake, classifier="nearest")
    both = torch.cat([real, fake]).double()
    nearest = torch.cdist(both, both).fill_diagonal_(torch.inf).argmin(1)
    right = (nearest >= 80) == (torch.arange(160) >= 80)
    assert found.real_accuracy == pytest.approx(float(right[:80].double().mean()))
    assert found.fake_accuracy == pytest.approx(float(right[80:].double().mean()))
    assert found.accuracy == pytest.approx(float(right.double().mean()))


def test_memorised_fakes_have_accuracies_below_chance() -> None:
    real = cloud(300, seed=4)
    found = two_sample(real, real + 1e-3, classifier="nearest")
    assert found.real_accuracy == found.fake_accuracy == 0 and found.p_value < 0.002


def test_collapsed_fakes_are_recognised_and_the_reals_round_them_are_not() -> None:
    # In wide spaces a cloud's points are nearer to its middle than to one another.
    found = two_sample(cloud(200, 5, width=100), 0.1 * cloud(200, 6, width=100), classifier="nearest")
    assert found.fake_accuracy == 1 and found.real_accuracy == 0


def test_sides_of_unequal_count_are_cut_to_one() -> None:
    for classifier in CLASSIFIERS:
        found = two_sample(cloud(900, seed=7), cloud(200, seed=8), classifier=classifier)
        assert found.count == 200 and found.accuracy == pytest.approx(0.5, abs=0.1)
        assert two_sample(cloud(900, 7), cloud(200, 8), classifier=classifier, count=50).count == 50


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_result_depends_on_the_seed_alone(classifier: str) -> None:
    a, b = cloud(300, seed=9), cloud(200, seed=10) + 0.3
    first = two_sample(a, b, classifier=classifier, seed=1)
    np.random.seed(5)
    torch.manual_seed(5)
    assert two_sample(a, b, classifier=classifier, seed=1) == first
    assert any(two_sample(a, b, classifier=classifier, seed=seed) != first for seed in (2, 3, 4))
    untouched = np.random.rand(), float(torch.rand(()))
    np.random.seed(5)
    torch.manual_seed(5)
    assert (np.random.rand(), float(torch.rand(()))) == untouched


def test_too_few_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 5 samples of each side"):
        two_sample(cloud(4, 0), cloud(100, 1))
    with pytest.raises(ValueError, match="at least 2 samples"):
        two_sample(cloud(1, 0), cloud(100, 1), classifier="nearest")
    with pytest.raises(ValueError, match="features must be"):
        two_sample(cloud(10, 0), cloud(10, 1, width=3))
