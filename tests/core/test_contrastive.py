"""The losses of ContraGAN and ReACGAN against their formulas, written as loops over a batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sparring.core.contrastive import CONTRASTS, conditional_contrastive, data_to_data_cross_entropy, same_label, unit
from sparring.errors import UserError

torch.set_num_threads(1)

LABEL = torch.tensor([0, 1, 0, 2, 1, 0])


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Unit embeddings (6, 4) and proxies (6, 4), equal for equal labels, in float64."""
    rng = torch.Generator().manual_seed(0)
    table = unit(torch.randn(3, 4, generator=rng, dtype=torch.float64))
    return unit(torch.randn(6, 4, generator=rng, dtype=torch.float64)), table[LABEL]


def test_2c_is_the_formula_of_contragan(batch: tuple[Tensor, Tensor]) -> None:
    embeddings, proxies = batch
    total = 0.0
    for i in range(6):
        kin = own = math.exp(float(embeddings[i] @ proxies[i]) / 0.7)
        for k in range(6):
            pair = math.exp(float(embeddings[i] @ embeddings[k]) / 0.7)
            own += pair if k != i else 0
            kin += pair if k != i and LABEL[k] == LABEL[i] else 0
        total -= math.log(kin / own) / 6
    found = conditional_contrastive(embeddings, proxies, same_label(LABEL), temperature=0.7)
    assert found.item() == pytest.approx(total, rel=1e-12)


def test_d2d_ce_is_the_formula_of_reacgan(batch: tuple[Tensor, Tensor]) -> None:
    embeddings, proxies = batch
    total = 0.0
    for i in range(6):
        pull = math.exp(min(float(embeddings[i] @ proxies[i]) - 0.8, 0) / 0.5)
        push = sum(
            math.exp(max(float(embeddings[i] @ embeddings[j]) - 0.2, 0) / 0.5) for j in range(6) if LABEL[j] != LABEL[i]
        )
        total -= math.log(pull / (pull + push)) / 6
    found = data_to_data_cross_entropy(embeddings, proxies, same_label(LABEL), temperature=0.5, positive_margin=0.8)
    assert found.item() == pytest.approx(total, rel=1e-12)


def test_easy_samples_have_no_gradient_in_d2d_ce() -> None:
    """Nearer to the proxy than the margin, and farther from other classes: they pull and push no more."""
    embeddings = torch.eye(3, dtype=torch.float64).requires_grad_()
    proxies = torch.eye(3, dtype=torch.float64)
    loss = data_to_data_cross_entropy(embeddings, proxies, same_label(torch.arange(3)), positive_margin=0.9)
    loss.backward()
    assert embeddings.grad is not None and embeddings.grad.abs().max() == 0
    conditional_contrastive(embeddings, proxies, same_label(torch.arange(3))).backward()
    assert embeddings.grad.abs().max() > 0


@pytest.mark.parametrize("name", CONTRASTS)
def test_gradients_are_those_of_finite_differences(name: str, batch: tuple[Tensor, Tensor]) -> None:
    def loss(embeddings: Tensor, proxies: Tensor) -> Tensor:
        return CONTRASTS[name](unit(embeddings), unit(proxies), same_label(LABEL))

    inputs = tuple(value.clone().requires_grad_() for value in batch)
    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.parametrize("name", CONTRASTS)
def test_a_batch_of_one_class_and_of_one_sample_gives_finite_losses(name: str, batch: tuple[Tensor, Tensor]) -> None:
    embeddings, proxies = batch
    for count in (1, 6):
        alike = torch.ones(count, count, dtype=torch.bool)
        assert CONTRASTS[name](embeddings[:count], proxies[:1].expand(count, -1), alike).isfinite()


def test_vectors_are_the_same_label_where_all_of_them_agrees() -> None:
    attributes = torch.tensor([[1.0, 0], [1, 1], [1, 0]])
    assert same_label(attributes).tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    assert same_label(LABEL[:3]).tolist() == same_label(attributes).tolist()


@pytest.mark.parametrize("name", CONTRASTS)
def test_a_temperature_of_zero_is_refused(name: str, batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(UserError, match="temperature must be above 0"):
        CONTRASTS[name](*batch, same_label(LABEL), temperature=0.0)
