from __future__ import annotations

import gzip
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from sparring.metrics import modes as module
from sparring.metrics.modes import kl_floor, mode_counts, mode_coverage

torch.set_num_threads(1)

SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def noise(count: int, seed: int, width: int = 2) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def grid() -> Tensor:
    return torch.cartesian_prod(*[torch.tensor([-4.0, -2, 0, 2, 4])] * 2)


def test_a_perfect_sampler_reaches_all_modes_at_the_floor() -> None:
    truth = torch.randint(25, (2500,), generator=torch.Generator().manual_seed(0))
    found = mode_coverage(grid()[truth] + 0.05 * noise(2500, seed=1), grid(), 0.05)
    assert (found.count, found.modes, found.samples) == (25, 25, 2500)
    assert found.high_quality == pytest.approx(chi2.cdf(9, df=2), abs=0.006)
    assert found.reverse_kl == pytest.approx(found.floor, abs=4 * found.floor_deviation)
    assert found.floor == pytest.approx(24 / (2 * 2500 * chi2.cdf(9, df=2)), rel=0.1)


def test_a_point_is_good_below_three_deviations_of_its_nearest_mode_and_one_makes_a_mode() -> None:
    points = torch.tensor([[0.29, 0.0], [0.31, 0.0], [1.0, 0.29], [1.3, 0.4], [0.0, 0.0]])
    found = mode_coverage(points, SQUARE, 0.1)
    assert found.counts == (2, 1, 0, 0) and found.count == 2
    assert found.high_quality == pytest.approx(3 / 5)
    assert found.reverse_kl == pytest.approx(2 / 3 * math.log(2 / 3 * 4) + 1 / 3 * math.log(1 / 3 * 4))
    assert mode_coverage(points, SQUARE, 0.1, radius=5).counts == (3, 2, 0, 0)


def test_points_on_the_sphere_are_not_good() -> None:
    assert mode_coverage(torch.tensor([[3.0, 0.0]]), torch.zeros(1, 2), 1.0).count == 0


def test_nearest_is_in_mahalanobis_distance_of_each_modes_own_deviations() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    deviation = torch.tensor([[4.0, 1.0], [0.5, 1.0]])
    # 8 is nearer to the second mode, and 2 deviations from the first against 4 from the second.
    assert mode_coverage(torch.tensor([[8.0, 0.0]]), centres, deviation).counts == (1, 0)
    assert mode_coverage(torch.tensor([[0.0, 3.5]]), centres, deviation).count == 0


def test_dropped_modes_lower_the_count_and_raise_the_kl() -> None:
    found = [
        mode_coverage(grid()[torch.arange(2500) % kept] + 0.05 * noise(2500, 2), grid(), 0.05)
        for kept in (25, 20, 10, 1)
    ]
    assert [one.count for one in found] == [25, 20, 10, 1]
    assert [one.reverse_kl for one in found] == pytest.approx(
        [0, *(math.log(25 / kept) for kept in (20, 10, 1))], abs=2e-3
    )


def test_growing_noise_lowers_the_high_quality_share() -> None:
    found = [
        mode_coverage(grid()[torch.arange(1000) % 25] + s * noise(1000, 3), grid(), 0.05) for s in (0.05, 0.1, 0.3)
    ]
    assert all(clean.high_quality > noisy.high_quality + 0.2 for clean, noisy in pairwise(found))


def test_unequal_modes_are_measured_against_their_own_frequencies() -> None:
    labels = torch.tensor([0] * 60 + [1] * 20 + [2] * 10 + [3] * 10)
    points = SQUARE[labels]
    assert mode_coverage(points, SQUARE, 0.1, frequencies=[6, 2, 1, 1]).reverse_kl == pytest.approx(0, abs=1e-12)
    assert mode_coverage(points, SQUARE, 0.1).reverse_kl > 0.2


def test_without_a_good_point_the_kl_is_worse_than_any_collapse() -> None:
    for points in (torch.full((10, 2), 50.0), torch.full((10, 2), torch.nan), torch.full((10, 2), torch.inf)):
        found = mode_coverage(points, SQUARE, 0.1)
        assert (found.count, found.high_quality, found.reverse_kl) == (0, 0.0, math.inf)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = grid()[torch.arange(500) % 25] + 0.1 * noise(500, seed=4)
    whole = mode_coverage(points, grid(), 0.05)
    monkeypatch.setattr(module, "BLOCK", 7 * 50)
    assert mode_coverage(points, grid(), 0.05) == whole


def test_labels_are_counted_against_the_uniform_distribution() -> None:
    found = mode_counts(torch.tensor([0, 0, 0, 2]), 4)
    assert found.counts == (3, 0, 1, 0) and found.count == 2 and found.high_quality == 1
    assert found.reverse_kl == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1))
    assert mode_counts(torch.zeros(9, dtype=torch.long), 1000).reverse_kl == pytest.approx(math.log(1000))


def test_frequencies_move_the_floor_alone_and_a_reference_the_kl() -> None:
    labels = torch.tensor([0] * 700 + [1] * 300)
    plain = mode_counts(labels, 2)
    expected = mode_counts(labels, 2, frequencies=[0.7, 0.3])
    assert expected.reverse_kl == plain.reverse_kl
    assert plain.floor < 0.001 and expected.floor == pytest.approx(plain.reverse_kl, abs=0.005)
    against = mode_counts(labels, 2, reference=[0.7, 0.3])
    assert against.reverse_kl == pytest.approx(0, abs=1e-12) and against.floor < 0.001


def test_floor_of_26000_samples_of_1000_equal_modes_is_the_one_known() -> None:
    floor, deviation, reachable = kl_floor(26_000, torch.ones(1000))
    assert floor == pytest.approx(0.0192, abs=0.0002) and deviation < 0.0015 and reachable == 1000


def test_floor_of_stacked_mnist_is_the_one_known(shared_data: Path) -> None:
    packed = (shared_data / "mnist" / "train-labels-idx1-ubyte.gz").read_bytes()
    digits = np.bincount(np.frombuffer(gzip.decompress(packed)[8:], dtype=np.uint8), minlength=10) / 60_000
    triples = np.einsum("i,j,k->ijk", digits, digits, digits).ravel()
    for samples, known in ((10_000, 0.0554), (26_000, 0.0235), (50_000, 0.0143)):
        floor, _, _ = kl_floor(samples, triples, reference=np.ones(1000))
        assert floor == pytest.approx(known, rel=0.02)


def test_floor_is_the_mean_kl_of_perfect_samplers() -> None:
    rng = torch.Generator().manual_seed(6)
    draws = [mode_counts(torch.randint(50, (400,), generator=rng), 50) for _ in range(25)]
    mean = sum(draw.reverse_kl for draw in draws) / 25
    assert mean == pytest.approx(draws[0].floor, abs=4 * draws[0].floor_deviation / 5)


def test_few_samples_cannot_reach_all_modes() -> None:
    found = mode_counts(torch.arange(1000), 1000)
    assert found.reachable == pytest.approx(1000 * (1 - 0.999**1000), rel=0.01)
    assert found.floor > 0.4 > found.reverse_kl


def test_arguments_that_make_no_sense_are_an_error() -> None:
    with pytest.raises(ValueError, match="not in 0 … 10"):
        mode_counts(torch.tensor([0, 10]), 10)
    with pytest.raises(ValueError, match="must be integers"):
        mode_counts(torch.tensor([0.5]), 10)
    with pytest.raises(ValueError, match="must be integers"):
        mode_counts(torch.zeros(0, dtype=torch.long), 10)
    with pytest.raises(ValueError, match="points must be"):
        mode_coverage(torch.zeros(3, 3), SQUARE, 1.0)
    with pytest.raises(ValueError, match="deviation must be positive"):
        mode_coverage(torch.zeros(3, 2), SQUARE, 0.0)
    with pytest.raises(ValueError, match="4 finite numbers, positive"):
        mode_coverage(torch.zeros(3, 2), SQUARE, 1.0, frequencies=[1, 1, 1, 0])
    with pytest.raises(ValueError, match="2 finite numbers"):
        mode_counts(torch.tensor([0]), 2, frequencies=[1, 1, 1])
