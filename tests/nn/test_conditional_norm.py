"""Batch norm whose gain and bias depend on a condition."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from sparring.core.adversarial import mixes_samples
from sparring.core.initialize import initialize
from sparring.core.regularize import spectral_norm
from sparring.nn.batch_norm import WholeBatchNorm, synchronise_batch_norm
from sparring.nn.conditional_norm import ConditionalBatchNorm, FreeEmbedding

torch.set_num_threads(1)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 4, 3, 5, generator=torch.Generator().manual_seed(0))


def awake(norm: ConditionalBatchNorm) -> ConditionalBatchNorm:
    torch.manual_seed(1)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def test_each_class_has_a_gain_and_a_bias_of_its_own_and_all_share_the_statistics(x: torch.Tensor) -> None:
    norm = awake(ConditionalBatchNorm(4, classes=3))
    label = torch.tensor([0, 1, 2, 0, 1, 2])
    plain = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    y = norm(x, label)
    for sample, number in enumerate(label):
        gain, bias = 1 + norm.gain.weight[number], norm.bias.weight[number]
        torch.testing.assert_close(y[sample], gain[:, None, None] * plain[sample] + bias[:, None, None])


def test_a_label_may_be_a_mixture_of_classes(x: torch.Tensor) -> None:
    norm = awake(ConditionalBatchNorm(4, classes=3)).eval()
    one, other = (norm(x, torch.full((6,), number)) for number in (0, 2))
    soft = norm(x, torch.tensor([0.25, 0.0, 0.75]).expand(6, -1))
    torch.testing.assert_close(soft, 0.25 * one + 0.75 * other)


def test_a_one_hot_vector_is_a_row_of_a_table(x: torch.Tensor) -> None:
    table, linear = awake(ConditionalBatchNorm(4, classes=3)), ConditionalBatchNorm(4, inputs=3)
    with torch.no_grad():
        linear.gain.weight.copy_(table.gain.weight.T), linear.bias.weight.copy_(table.bias.weight.T)
    label = torch.tensor([0, 1, 2, 2, 1, 0])
    torch.testing.assert_close(linear(x, torch.eye(3)[label]), table(x, label))


@pytest.mark.parametrize("kind", ["classes", "inputs", "none"])
def test_whatever_is_done_to_batch_norm_is_done_to_it(kind: str) -> None:
    norm = ConditionalBatchNorm(4, **({} if kind == "none" else {kind: 3}))
    assert mixes_samples(norm)
    synchronise_batch_norm(norm)
    assert isinstance(norm.norm, WholeBatchNorm)


def test_tables_start_alike_for_all_classes_whatever_the_initialiser_and_stay_finite_under_spectral_norm(
    x: torch.Tensor,
) -> None:
    norm = ConditionalBatchNorm(4, classes=3)
    initialize(norm, {"name": "orthogonal"})
    spectral_norm(norm)
    outputs = [norm(x, torch.full((6,), number)) for number in range(3)]
    assert outputs[0].isfinite().all()
    assert all(one.equal(other) for one, other in pairwise(outputs))
    assert outputs[0].std().item() == pytest.approx(1, abs=0.02)


def test_spectral_norm_leaves_an_embedding_that_is_free_as_long_as_it_is() -> None:
    free, bound = FreeEmbedding(5, 8), nn.Embedding(5, 8)
    free.weight.data.mul_(7), bound.weight.data.mul_(7)
    before = free.weight.clone()
    spectral_norm(nn.ModuleList([free, bound]))
    assert free.weight.equal(before)
    assert torch.linalg.matrix_norm(bound.weight, 2) < 1.5


def test_a_condition_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="give it a vector"):
        ConditionalBatchNorm(4, inputs=3)(torch.randn(2, 4, 3, 3))
