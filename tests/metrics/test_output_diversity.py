"""The diversity of outputs for one input, on toys whose answer is obvious."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparring.core.game import Batch
from sparring.metrics.output_diversity import feature_distance, output_diversity, sample_diversity


def gap(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs().flatten(1).mean(1)


def test_outputs_that_the_input_decides_have_no_diversity() -> None:
    inputs = torch.randn(5, 3, 4, 4)
    assert output_diversity(torch.stack([inputs] * 3), gap) == 0


def test_it_is_the_mean_over_the_pairs_of_one_input_and_never_compares_two_inputs() -> None:
    inputs = torch.tensor([0.0, 1000.0]).view(2, 1)
    outputs = torch.stack([inputs, inputs + 1, inputs + 3])
    assert output_diversity(outputs, gap) == pytest.approx((1 + 3 + 2) / 3)


def test_random_samples_are_never_compared_with_themselves() -> None:
    samples = torch.tensor([[0.0], [2.0]])
    assert sample_diversity(samples, gap, pairs=50) == 2


def test_the_distance_in_a_feature_space_is_euclidean() -> None:
    class Doubled:
        def __call__(self, samples: Batch) -> Batch:
            return Batch(features=2 * samples["data"].flatten(1))

    one, other = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    distance = feature_distance(Doubled())  # type: ignore[arg-type]
    assert distance(one, other).item() == 10


@pytest.mark.parametrize("measure", [output_diversity, sample_diversity])
def test_one_output_has_nothing_to_be_compared_with(measure: object) -> None:
    with pytest.raises(ValueError, match=r"two|few"):
        measure(torch.zeros(1, 2, 3), gap)  # type: ignore[operator]
